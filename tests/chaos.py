"""Crash stories over real processes, each followed by an audit: `python tests/chaos.py`.

    chaos.py                             all stories, 50 kills on SQLite, less than 25 minutes
    chaos.py --cycles 200                more of everything
    chaos.py --only kills --only away    some of them
    chaos.py --only provider             10 000 journeys past a provider in a bad mood

Exits with 1 when anything was lost, doubled, early, or out of order, or when a recovery took too
long. `--seed` chooses when trouble comes and what the clients send; what the machine does in
between it does not choose.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a script, too.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import journeys, postgres
from tests.crash import CLIENTS, Crash
from tests.crash_audit import RULES, History, audit
from tests.crash_failing import Failing, cells
from tests.crash_scenarios import DatabaseAway, Network, Pauses, Rolling

#: Of replicas here, in seconds.
LEASE_S = 2.0
#: The story of the far end, and its journeys for each of `--cycles`.
PROVIDER, JOURNEYS = "provider", 200
#: How often the server of that story is killed.
KILLS = 10


@dataclass(frozen=True)
class Story:
    """One crash story."""

    name: str
    what: str
    make: Callable[..., Crash]
    #: Share of `--cycles`.
    share: float = 1.0
    replicas: int = 1
    #: Whether it is told on PostgreSQL.
    shared: bool = True
    #: Longest recovery, in seconds.
    recovery_s: float = 5.0


def _failing_shared(*arguments: Any, **fields: Any) -> Failing:
    """The story of the failpoints, with those that only several servers pass."""
    return Failing(*arguments, cells=cells(shared=True), **fields)


STORIES = (
    Story("kills", "kill -9, one server on SQLite", Crash, shared=False, recovery_s=3.0),
    Story("points", "every failpoint in every way, SQLite", Failing, shared=False),
    Story("points-pg", "every failpoint in every way, PostgreSQL", _failing_shared),
    Story("kills-pg", "kill -9, one server on PostgreSQL", Crash),
    Story("replicas", "kill -9, one of three on PostgreSQL", Crash, replicas=3),
    Story("pauses", "SIGSTOP for 0.5, 1, 3 leases, one of three", Pauses, 0.5, replicas=3),
    Story("away", "PostgreSQL stopped at once and started, three servers", DatabaseAway, 0.5, 3),
    Story("rolling", "SIGTERM and a new start, one of three after the other", Rolling, 0.3, 3),
    Story(
        "network",
        "slow, cut, reset or swallowed between one of three and PostgreSQL",
        Network,
        0.4,
        3,
    ),
)


def main() -> int:
    """Run the program; return its exit code."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*(story.name for story in STORIES), PROVIDER]
    parser.add_argument("--cycles", type=int, default=50, help="kills of a story [50]")
    parser.add_argument("--only", action="append", choices=names, help="this story; repeatable")
    parser.add_argument("--seed", type=int, default=None, help="when trouble comes [random]")
    parser.add_argument("--lease", type=float, default=LEASE_S, help="of a replica, in seconds [2]")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    chosen = [story for story in STORIES if story.name in (options.only or names)]
    print(f"seed {seed}, {CLIENTS} clients", flush=True)
    codes = [
        _tell(story, max(1, round(options.cycles * story.share)), seed, options.lease)
        for story in chosen
    ]
    if PROVIDER in (options.only or names):
        codes.append(_tell_of_the_far_end(options.cycles * JOURNEYS, seed))
    return max(codes)


def _tell(story: Story, cycles: int, seed: int, lease_s: float) -> int:
    print(f"\n== {story.name}: {story.what}, {cycles} times", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"upshot-chaos-{story.name}-"))
    began = time.monotonic()
    crash, history = asyncio.run(_run(story, folder, cycles, seed, lease_s))
    findings = audit(history)
    if isinstance(crash, Failing):
        missed = sorted(set(crash.cells) - crash.hit)
        findings += [f"{name}={action} was never reached" for name, action in missed]
    slowest = max(crash.recoveries_s, default=0.0)
    if slowest > story.recovery_s:
        findings.append(f"a recovery took {slowest:.1f} s; {story.recovery_s:g} s are allowed")
    print(report(crash, history, time.monotonic() - began))
    return _judged(findings, folder, len(RULES))


def _tell_of_the_far_end(number: int, seed: int) -> int:
    print(f"\n== {PROVIDER}: {number} journeys past a provider in a bad mood", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"upshot-chaos-{PROVIDER}-"))
    told = journeys.travel(folder, number, seed, kills=KILLS, say=lambda text: print(f"  {text}"))
    found = asyncio.run(told)
    print(journeys.report(found))
    return _judged(journeys.audit(found), folder, len(journeys.RULES))


def _judged(findings: list[str], folder: Path, rules: int) -> int:
    if findings:
        print("\n".join(["", f"VIOLATIONS, see {folder}:", *findings]), flush=True)
        return 1
    shutil.rmtree(folder)
    print(f"All {rules} rules hold.", flush=True)
    return 0


async def _run(
    story: Story, folder: Path, cycles: int, seed: int, lease_s: float
) -> tuple[Crash, History]:
    fields: dict[str, Any] = {"told": _told, "replicas": story.replicas}
    if not story.shared:
        crash = story.make(folder, cycles, seed, **fields)
        return crash, await crash.run()
    server = postgres.OwnServer()
    fields |= {"database": server.address, "lease_s": lease_s}
    if story.make is DatabaseAway:
        fields["server"] = server
    crash = story.make(folder, cycles, seed, **fields)
    return crash, await crash.run()


def _told(cycle: int, seconds: float) -> None:
    print(f"  {cycle:>3}: serving again after {seconds:4.1f} s", flush=True)


def report(crash: Crash, history: History, took_s: float) -> str:
    """Return the figures as a table."""
    states = Counter(ack.state for ack in history.acks)
    repeats = len(history.calls) - len({call.webhook_id for call in history.calls})
    streams = [stream for stream in history.validator.streams if stream.responses]
    waits = crash.recoveries_s or [0.0]
    rows: list[tuple[str, object]] = [
        ("events acknowledged", f"{states['ACCEPTED']} and {states['DUPLICATE']} repeats"),
        ("calls cut off and repeated", crash.unanswered),
        ("runs", len(history.runs)),
        ("messages at the provider", f"{len(history.calls) - repeats} and {repeats} repeats"),
        ("outcomes", f"{len(history.outcomes)} over {len(streams)} streams"),
        ("from due to sent, p50 / max", _lateness(history)),
        ("serving again, p50 / max", f"{statistics.median(waits):.1f} / {max(waits):.1f} s"),
        ("took", f"{took_s:.0f} s"),
    ]
    return "\n".join(f"{name:<28}{value}" for name, value in rows)


def _lateness(history: History) -> str:
    """From due to sent, by the server's clock; kills and restarts are in it."""
    due = {r.run_id: r.event_us + history.sent.get(r.event_id, 0) for r in history.runs}
    late = [
        (outcome.occur_us - due[outcome.run_id]) / 1e6
        for outcome in history.outcomes
        if outcome.kind == "MESSAGE_SENT" and outcome.run_id in due
    ]
    return f"{statistics.median(late):.2f} / {max(late):.1f} s" if late else "none"


if __name__ == "__main__":
    sys.exit(main())
