"""Which variant to try next, by what came of those before: Thompson sampling. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from upshotd.domain.beta import sample
from upshotd.domain.trial import Tally

#: How much of the evidence counts when shares are moved. With all of it one of two equal variants
#: would starve by chance; decision 0027 has the numbers.
TEMPER: Final = 0.25


def choose(
    tallies: Sequence[Tally], explore: float, fraction: Callable[[], float]
) -> tuple[int, bool]:
    """Return which variant is to be tried, and whether that was left to chance alone.

    A share of *explore* is; otherwise a rate is drawn for each, from what is believed of it, and
    the highest one is taken.
    """
    chance = fraction()
    if chance < explore:
        return int(chance / explore * len(tallies)), True
    drawn = [_drawn(tally, fraction) for tally in tallies]
    return drawn.index(max(drawn)), False


def _drawn(tally: Tally, fraction: Callable[[], float]) -> float:
    failures = tally.exposures - tally.successes
    return sample(1 + TEMPER * tally.successes, 1 + TEMPER * failures, fraction)
