"""Events that no workflow listens to, in calls of 100, against two raw rows for each."""

from pathlib import Path

from client import INGEST, check_accepted, timed_calls
from events import PER_CALL, calls, unheard
from figures import Figure, Sample
from references import raw_sqlite
from serving import Server

FLOOR, AIM = 0.08, 0.20
#: The event and its dedupe key.
_TABLES = 2
_IN_FLIGHT = 8
_EVENTS = 20_000


async def measure(server: Server, directory: Path, rounds: int, people: int) -> Figure:
    """Measure in turns."""
    ours, reference = [], []
    for number in range(rounds):
        reference.append(raw_sqlite(directory / "raw.db", _EVENTS, _TABLES))
        events = [unheard(f"ignored-{number}-{n}", n % people) for n in range(_EVENTS)]
        sample, responses = await timed_calls(server, INGEST, calls(events), _IN_FLIGHT)
        check_accepted(responses)
        ours.append(Sample(sample.count * PER_CALL, sample.wall_s, sample.cpu_s))
    return Figure("ignored", "ignored events", FLOOR, tuple(ours), tuple(reference), AIM)
