"""Plays histories from seeds, and holds each to the invariants.

    python -m tests.simulation --seeds 300             the seeds 0 to 299
    python -m tests.simulation --first 300 --seeds 50  the seeds 300 to 349
    python -m tests.simulation --only 17 --trace       one of them, with everything that happened

A seed that fails is printed and added to tests/simulation/seeds.txt, which is played first every
time. Exits with 1 when an invariant did not hold, or when a history was not the same twice.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from tests.simulation.faults import FAULTS
from tests.simulation.world import Report, play

KEPT = Path(__file__).with_name("seeds.txt")


def kept_seeds() -> list[int]:
    """Return the seeds that failed once."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def keep(report: Report) -> None:
    """Add a seed to those that are always played."""
    if report.seed not in kept_seeds():
        with KEPT.open("a") as file:
            file.write(f"{report.seed} {report.findings[0][:100]}\n")


def _play(seed: int) -> Report:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return play(seed)


def _played(seeds: list[int], jobs: int) -> Iterator[Report]:
    if jobs == 1:
        yield from map(_play, seeds)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_play, seeds, chunksize=4)


def told(reports: Iterable[Report], began_s: float) -> int:
    """Say what was seen; the number of seeds that failed."""
    faults: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    failed = []
    for report in reports:
        faults.update(report.faults)
        sums.update(seeds=1, events=report.events, commits=report.commits, sends=report.sends)
        sums.update(virtual_s=round(report.virtual_s))
        if report.findings:
            failed.append(report)
            keep(report)
            print(f"seed {report.seed}: {report.findings[0]}", flush=True)
    print(f"histories          {sums['seeds']:>10,}")
    print(f"virtual time       {sums['virtual_s'] / 3600:>10,.0f} h")
    print(f"events             {sums['events']:>10,}")
    print(f"commits            {sums['commits']:>10,}")
    print(f"messages taken     {sums['sends']:>10,}")
    print(f"faults             {sum(faults.values()):>10,}")
    print("  " + ", ".join(f"{name} {faults[name]:,}" for name in FAULTS))
    print(f"violations         {len(failed):>10,}")
    print(f"took               {time.perf_counter() - began_s:>10,.0f} s")
    return len(failed)


def _twice(seeds: list[int], jobs: int) -> int:
    """Play all once more; the number of histories that differ."""
    first = {report.seed: report.trace for report in _played(seeds, jobs)}
    second = {report.seed: report.trace for report in _played(seeds[::-1], jobs)}
    differing = sorted(seed for seed in seeds if first[seed] != second[seed])
    print(f"played twice       {len(seeds):>10,}, {len(differing)} differ {differing[:10]}")
    return len(differing)


def _traced(seed: int) -> int:
    lines: list[str] = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    report = play(seed, lines)
    print("\n".join(lines))
    print("\n".join(report.findings) or "All invariants hold.", report.trace)
    return len(report.findings)


def main() -> int:
    """Play what is asked for."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=300, help="how many [300]")
    parser.add_argument("--first", type=int, default=0, help="the first one [0]")
    parser.add_argument("--only", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--twice", type=int, default=20, help="of them, how many twice [20]")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes [all cores]"
    )
    given = parser.parse_args()
    if given.only is not None and given.trace:
        return 1 if _traced(given.only) else 0
    seeds = list(range(given.first, given.first + given.seeds))
    seeds = [given.only] if given.only is not None else [*kept_seeds(), *seeds]
    failed = told(_played(seeds, given.jobs), time.perf_counter())
    failed += _twice(seeds[: given.twice], given.jobs) if given.twice else 0
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of a history.
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
