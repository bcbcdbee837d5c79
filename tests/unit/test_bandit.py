"""Thompson sampling proven in simulated populations: where the sends go, and what is known then.

One fraction after the other from a seed: nothing here can turn out otherwise on another day.
"""

import random
from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import pytest

from upshotd.domain.bandit import choose
from upshotd.domain.beta import Interval, cumulative, difference, interval, quantile, sample
from upshotd.domain.steps.experiment import EXPLORE_DEFAULT
from upshotd.domain.trial import Tally

RUNS, SENDS, LAST = 100, 5_000, 1_000
#: Sends that are under way, or decided in one batch: a success is known so many sends later.
LATE = 50


class Population(NamedTuple):
    """What came of one run through a population."""

    #: Which variant each send took.
    sends: list[int]
    tallies: list[Tally]

    def share(self, variant: int, last: int = SENDS) -> float:
        """Return how many of the *last* sends took a variant."""
        return self.sends[-last:].count(variant) / last


def population(seed: int, rates: Sequence[float], explore: float = EXPLORE_DEFAULT) -> Population:
    """Return what comes of sends to people who react at these *rates*."""
    fraction, people = random.Random(seed).random, random.Random(-seed - 1)
    tallies = [Tally() for _ in rates]
    sends: list[int] = []
    reacted: list[bool] = []
    for at in range(SENDS + LATE):
        if at < SENDS:
            variant, _ = choose(tallies, explore, fraction)
            tallies[variant] = tallies[variant].plus(Tally(exposures=1))
            sends.append(variant)
            reacted.append(people.random() < rates[variant])
        if at >= LATE and reacted[at - LATE]:
            known = sends[at - LATE]
            tallies[known] = tallies[known].plus(Tally(successes=1))
    return Population(sends, tallies)


def covered(found: Sequence[Population], variant: int, rate: float) -> int:
    """Return in how many populations the interval of a variant has the true *rate*."""
    tallies = [one.tallies[variant] for one in found]
    intervals = [interval(1 + t.successes, 1 + t.exposures - t.successes) for t in tallies]
    return sum(low <= rate <= high for low, high in intervals)


def test_of_4_and_8_percent_the_better_variant_gets_four_of_five_sends() -> None:
    found = [population(seed, (0.04, 0.08)) for seed in range(RUNS)]
    won = sum(one.share(1, LAST) >= 0.8 for one in found)
    assert won >= 95, won
    # The other one is still tried.
    assert min(one.share(0, LAST) for one in found) > 0.02
    assert all(sum(tally.exposures for tally in one.tallies) == SENDS for one in found)
    for variant, rate in enumerate((0.04, 0.08)):
        assert covered(found, variant, rate) >= 90


def test_of_two_equal_variants_neither_starves() -> None:
    found = [population(seed, (0.06, 0.06)) for seed in range(RUNS)]
    for last in (SENDS, LAST):
        fair = sum(0.2 <= one.share(1, last) <= 0.8 for one in found)
        assert fair >= 90, (last, fair)
    for variant in (0, 1):
        assert covered(found, variant, 0.06) >= 90


def test_the_uplift_is_where_its_interval_says() -> None:
    chance = random.Random(5)
    hits = 0
    for _ in range(RUNS):
        treated = sum(chance.random() < 0.08 for _ in range(1_000))
        control = sum(chance.random() < 0.05 for _ in range(300))
        low, high = difference((1 + treated, 1_001 - treated), (1 + control, 301 - control))
        hits += low <= 0.03 <= high
    assert hits >= 90


def test_all_of_the_sends_may_be_left_to_chance() -> None:
    found = population(1, (0.0, 0.5, 0.1), explore=1.0)
    assert all(0.3 < found.share(variant) < 0.37 for variant in range(3))


@pytest.mark.parametrize(
    ("a", "b"), [(1, 1), (2, 3), (1, 6), (6, 1), (1.25, 40), (40, 1.25), (100, 2000.5), (11, 240)]
)
def test_draws_are_spread_as_the_distribution_is(a: float, b: float) -> None:
    """By Kolmogorov and Smirnov; 1 of 1000 honest draws would differ so much."""
    chance = random.Random(1)
    drawn = sorted(sample(a, b, chance.random) for _ in range(4_000))
    places = [cumulative(x, a, b) for x in drawn]
    apart = max(abs(place - (at + 0.5) / 4_000) for at, place in enumerate(places))
    assert apart < 1.95 / 4_000**0.5


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 0.999999999999])
@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 7), (7, 1), (1.25, 3), (300, 5_000)])
def test_a_source_without_chance_ends_all_the_same(value: float, a: float, b: float) -> None:
    assert 0 <= sample(a, b, lambda: value) <= 1


@pytest.mark.parametrize(
    ("x", "a", "b", "known"),
    [
        (0.0, 2, 3, 0.0),
        (1.0, 2, 3, 1.0),
        (0.3, 1, 1, 0.3),
        (0.5, 2, 3, 0.6875),
        # 1 - 0.9^21 - 21 * 0.1 * 0.9^20
        (0.1, 2, 20, 1 - 0.9**21 - 21 * 0.1 * 0.9**20),
        # 1 - 0.99^1000
        (0.01, 1, 1_000, 1 - 0.99**1_000),
        # Of a half, by symmetry, whatever the size.
        (0.5, 0.5, 0.5, 0.5),
        (0.5, 4_000, 4_000, 0.5),
        # Abramowitz and Stegun 26.5: arcsine, 2/pi * asin(sqrt(0.1)).
        (0.1, 0.5, 0.5, 0.20483276469913347),
    ],
)
def test_the_incomplete_beta_function_has_known_values(
    x: float, a: float, b: float, known: float
) -> None:
    assert cumulative(x, a, b) == pytest.approx(known, abs=1e-10)
    assert cumulative(1 - x, b, a) == pytest.approx(1 - known, abs=1e-10)


@pytest.mark.parametrize(
    ("share", "a", "b", "known"),
    [
        (0.5, 1, 1, 0.5),
        (0.025, 1, 101, 1 - 0.975 ** (1 / 101)),
        (0.95, 7, 1, 0.95 ** (1 / 7)),
        (0.5, 2, 3, 0.38572756813238945),
    ],
)
def test_quantiles_have_known_values(share: float, a: float, b: float, known: float) -> None:
    assert quantile(share, a, b) == pytest.approx(known, abs=1e-12)
    assert cumulative(quantile(share, a, b), a, b) == pytest.approx(share, abs=1e-12)


def test_before_anything_is_known_a_rate_may_be_anywhere() -> None:
    assert interval(1, 1) == Interval(0, 1)


def test_what_was_seen_is_inside_of_what_is_believed() -> None:
    for exposures in (1, 2, 3, 10, 30, 1_000):
        for successes in {0, 1, exposures // 2, exposures - 1, exposures}:
            belief = (1 + successes, 1 + exposures - successes)
            low, high = interval(*belief)
            assert low <= successes / exposures <= high, belief
            assert (low == 0, high == 1) == (successes == 0, successes == exposures)
            for other in ((1, 1 + exposures), (1 + exposures, 1), (2, exposures)):
                apart = successes / exposures - (other[0] - 1) / exposures
                low, high = difference(belief, other)
                assert low <= apart <= high, (belief, other)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("sends", [10, 40, 200])
def test_few_sends_are_believed_no_more_than_they_say(rate: float, sends: int) -> None:
    """What the interval promises, summed over everything that can come of so many sends."""
    inside = 0.0
    for successes in range(sends + 1):
        low, high = interval(1 + successes, 1 + sends - successes)
        chance = comb(sends, successes) * rate**successes * (1 - rate) ** (sends - successes)
        inside += chance * (low <= rate <= high)
    assert inside >= 0.9, inside
