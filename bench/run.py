"""Every figure beside a reference measured in the same minutes; exits with 1 below a floor.

    run.py                    all figures, less than 10 minutes on two cores
    run.py --quick            smaller rounds: to see that it works, not how fast it is
    run.py --only stream      one figure (may be repeated)
    run.py --json FILE        the same for programs

Ours and the reference take turns, and the median of the rounds counts. All of it runs on this
machine: client, server and reference share its cores. A floor is what holds today; an aim is what
is still to be reached.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import uvloop

import crowd
import ignored
import journeys
import latency
import lateness
import stream
import unary
import waiting
from figures import Bound, Figure, table
from serving import Server, upshot_serve

Found: TypeAlias = Figure | Bound | list[Bound]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much one round does."""

    #: People, and with that journeys.
    people: int
    #: Calls of the unary figure.
    calls: int
    #: Least outcomes in the log that is streamed.
    outcomes: int
    #: Runs that wait.
    waiting: int
    #: Runs that fall due together.
    due: int


_WHOLE = Sizes(people=6_000, calls=8_000, outcomes=216_000, waiting=waiting.MANY, due=lateness.RUNS)
_QUICK = Sizes(people=1_000, calls=1_000, outcomes=6_000, waiting=20_000, due=1_000)


@dataclass(frozen=True, slots=True)
class Run:
    """What a figure is measured with."""

    server: Server
    directory: Path
    rounds: int
    sizes: Sizes


#: Each on a server that is the same for all of them, unless it starts its own.
FIGURES: dict[str, Callable[[Run], Awaitable[Found]]] = {
    "journeys": lambda r: journeys.measure(r.server, r.directory, r.rounds, r.sizes.people),
    "journeys-pg": lambda r: journeys.measure_postgresql(r.directory, r.rounds, r.sizes.people),
    "ignored": lambda r: ignored.measure(r.server, r.directory, r.rounds, r.sizes.people),
    "unary": lambda r: unary.measure(
        r.server, r.directory, r.rounds, r.sizes.calls, r.sizes.people
    ),
    "stream": lambda r: stream.measure(
        r.server, r.directory, r.rounds, r.sizes.outcomes, r.sizes.people
    ),
    "latency": lambda r: latency.measure(r.server, r.directory, r.sizes.people),
    "crowd": lambda r: crowd.measure(r.server, r.rounds, r.sizes.people // 6),
    "lateness": lambda r: lateness.measure(r.server, r.sizes.people, r.sizes.due),
    "waiting": lambda r: waiting.measure(r.directory, r.sizes.waiting),
}


def main() -> int:
    """Run the figures that are asked for; 0 when every floor is kept."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_rounds, default=5, help="rounds of each figure [5]")
    parser.add_argument("--quick", action="store_true", help="smaller rounds")
    parser.add_argument("--only", action="append", choices=FIGURES, help="only this figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--directory", type=Path, help="where files are written [a temporary one]")
    given = parser.parse_args()
    sizes = _QUICK if given.quick else _WHOLE
    with tempfile.TemporaryDirectory(prefix="upshot-bench-", dir=given.directory) as directory:
        run = _run(given.only or tuple(FIGURES), Path(directory), given.rounds, sizes)
        figures = uvloop.run(run)
    print(table(figures))
    print(f"Medians of {given.rounds} rounds on {os.cpu_count()} cores.")
    if given.json is not None:
        given.json.write_text(json.dumps([figure.plain for figure in figures], indent=1) + "\n")
    return 0 if all(figure.ok for figure in figures) else 1


def _rounds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


async def _run(
    names: Sequence[str], directory: Path, rounds: int, sizes: Sizes
) -> list[Figure | Bound]:
    figures: list[Figure | Bound] = []
    for name, measure in FIGURES.items():
        if name not in names:
            continue
        # A log of its own for each: what one figure leaves is not what another one measures.
        place = directory / name
        place.mkdir()
        async with upshot_serve(place) as server:
            await journeys.identify(server, sizes.people)
            found = await measure(Run(server, place, rounds, sizes))
        some = found if isinstance(found, list) else [found]
        for figure in some:
            print(figure.told, flush=True)
        figures += some
    return figures


if __name__ == "__main__":
    sys.exit(main())
