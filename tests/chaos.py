"""kill -9 under load, again and again, then an audit: `python tests/chaos.py --cycles 50`.

Exits with 1 when anything was lost, doubled, early, or out of order. `--seed` chooses when the
kills fall and what the clients send; what the machine does in between it does not choose.
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
from pathlib import Path

# Run as a script, too.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.crash import CLIENTS, Crash
from tests.crash_audit import RULES, History, audit


def main() -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description="kill -9 under load, again and again.")
    parser.add_argument("--cycles", type=int, default=50, help="kills [50]")
    parser.add_argument("--seed", type=int, default=None, help="when the kills fall [random]")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}, {options.cycles} cycles, {CLIENTS} clients", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="upshot-chaos-"))
    began = time.monotonic()
    crash = Crash(folder, options.cycles, seed, told=_told)
    history = asyncio.run(crash.run())
    findings = audit(history)
    print(report(crash, history, time.monotonic() - began))
    if findings:
        print("\n".join(["", f"VIOLATIONS, see {folder}:", *findings]))
        return 1
    shutil.rmtree(folder)
    print(f"\nAll {len(RULES)} rules hold.")
    return 0


def _told(cycle: int, seconds: float) -> None:
    print(f"  kill {cycle:>3}: serving again after {seconds:4.1f} s", flush=True)


def report(crash: Crash, history: History, took_s: float) -> str:
    """Return the figures as a table."""
    states = Counter(ack.state for ack in history.acks)
    repeats = len(history.calls) - len({call.webhook_id for call in history.calls})
    streams = [stream for stream in history.validator.streams if stream.responses]
    waits = crash.recoveries_s or [0.0]
    rows: list[tuple[str, object]] = [
        ("kills", len(crash.recoveries_s)),
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
