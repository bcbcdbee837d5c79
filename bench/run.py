"""Every figure beside a reference measured in the same minutes; exits with 1 below a floor.

    run.py                    all figures, less than 3 minutes on two cores
    run.py --quick            smaller rounds: to see that it works, not how fast it is
    run.py --only stream      one figure (journeys, unary, stream; may be repeated)

Ours and the reference take turns, and the median of the rounds counts. All of it runs on this
machine: client, server and reference share its cores.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

import journeys
import stream
import unary
from figures import Figure, rounds_told, table
from serving import upshot_serve

NAMES = ("journeys", "unary", "stream")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much one round does."""

    #: People, and with that journeys.
    people: int
    #: Calls of the unary figure.
    calls: int
    #: Least outcomes in the log that is streamed.
    outcomes: int


_WHOLE = Sizes(people=6_000, calls=8_000, outcomes=216_000)
_QUICK = Sizes(people=1_000, calls=1_000, outcomes=6_000)


def main() -> int:
    """Run the figures that are asked for; 0 when every floor is kept."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_rounds, default=5, help="rounds of each figure [5]")
    parser.add_argument("--quick", action="store_true", help="smaller rounds")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this figure")
    parser.add_argument("--directory", type=Path, help="where files are written [a temporary one]")
    given = parser.parse_args()
    sizes = _QUICK if given.quick else _WHOLE
    with tempfile.TemporaryDirectory(prefix="upshot-bench-", dir=given.directory) as directory:
        run = _run(given.only or NAMES, Path(directory), given.rounds, sizes)
        figures = uvloop.run(run)
    print(table(figures))
    print(f"Medians of {given.rounds} rounds on {os.cpu_count()} cores.")
    return 0 if all(figure.ok for figure in figures) else 1


def _rounds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


async def _run(names: Sequence[str], directory: Path, rounds: int, sizes: Sizes) -> list[Figure]:
    figures = []
    async with upshot_serve(directory) as server:
        await journeys.identify(server, sizes.people)
        for name in NAMES:
            if name not in names:
                continue
            match name:
                case "journeys":
                    figure = await journeys.measure(server, directory, rounds, sizes.people)
                case "unary":
                    figure = await unary.measure(
                        server, directory, rounds, sizes.calls, sizes.people
                    )
                case _:
                    figure = await stream.measure(
                        server, directory, rounds, sizes.outcomes, sizes.people
                    )
            print(rounds_told(figure), flush=True)
            figures.append(figure)
    return figures


if __name__ == "__main__":
    sys.exit(main())
