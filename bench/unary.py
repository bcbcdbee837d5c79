"""Unary Ingest of an event that no workflow listens to, against an empty grpc.aio echo."""

from pathlib import Path

from client import INGEST, check_accepted, timed_calls
from events import calls, unheard
from figures import Figure
from references import ECHO
from serving import Server, reference

FLOOR, AIM = 0.50, 0.75
_IN_FLIGHT = 64


def _requests(name: str, count: int, people: int) -> list[bytes]:
    return calls([unheard(f"{name}-{n}", n % people) for n in range(count)], per_call=1)


async def measure(server: Server, directory: Path, rounds: int, count: int, people: int) -> Figure:
    """Measure in turns; requests are of the same bytes for both."""
    ours, echoes = [], []
    async with reference(directory, "echo") as echo:
        warm = _requests("unary-warm", count // 10, people)
        await timed_calls(echo, ECHO, warm, _IN_FLIGHT)
        await timed_calls(server, INGEST, warm, _IN_FLIGHT)
        for number in range(rounds):
            requests = _requests(f"unary-{number}", count, people)
            sample, _ = await timed_calls(echo, ECHO, requests, _IN_FLIGHT)
            echoes.append(sample)
            sample, responses = await timed_calls(server, INGEST, requests, _IN_FLIGHT)
            ours.append(sample)
            check_accepted(responses)
    return Figure("unary", "single events", FLOOR, tuple(ours), tuple(echoes), AIM)
