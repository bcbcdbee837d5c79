"""The Beta distribution: what is believed of a rate when so many of so many succeeded. Pure."""

from collections.abc import Callable
from math import exp, expm1, hypot, lgamma, log, log1p, sqrt
from typing import Final, NamedTuple

#: Terms of the continued fraction, which has converged long before; halvings of an interval.
_TERMS: Final = 10_000
_HALVINGS: Final = 60
_CLOSE: Final = 1e-15
_TINY: Final = 1e-300
#: Draws until one is taken. Two of three are; only a source without chance comes to the end.
_DRAWS: Final = 100


class Interval(NamedTuple):
    """From where to where."""

    low: float
    high: float


def cumulative(x: float, a: float, b: float) -> float:
    """Return the probability that a rate of Beta(a, b) is at most *x*: the regularized incomplete
    beta function."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    # The fraction converges fast on this side of the mean, and both sides make one.
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _apart(1 + term * d)
            c = _apart(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return value


def _apart(value: float) -> float:
    """Return *value*, not so near to 0 that nothing can be divided by it."""
    return value if abs(value) > _TINY else _TINY


def quantile(share: float, a: float, b: float) -> float:
    """Return the rate under which a *share* of Beta(a, b) lies."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if cumulative(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def interval(a: float, b: float, share: float = 0.95) -> Interval:
    """Return where at least a *share* of Beta(a, b) lies: its middle, and all of it down to 0 or up
    to 1 where nothing is as likely as that, as after no success (or nothing else) so far.

    What was seen, so many of so many, is inside, as Jeffreys' interval has it.
    """
    tail = (1 - share) / 2
    low = quantile(tail, a, b) if a > 1 else 0.0
    return Interval(low, quantile(1 - tail, a, b) if b > 1 else 1.0)


def difference(
    one: tuple[float, float], other: tuple[float, float], share: float = 0.95
) -> Interval:
    """Return where a *share* of what one rate is above another lies, both of them Beta.

    The ends of the two intervals are joined as sides of a right triangle (MOVER), around what is
    most likely: what was seen.
    """
    (low, high), (other_low, other_high) = interval(*one, share), interval(*other, share)
    rate, other_rate = _mode(*one), _mode(*other)
    apart = rate - other_rate
    return Interval(
        apart - hypot(rate - low, other_high - other_rate),
        apart + hypot(high - rate, other_rate - other_low),
    )


def _mode(a: float, b: float) -> float:
    """Return the likeliest rate of Beta(a, b), both 1 at least and not both of them 1."""
    return (a - 1) / (a + b - 2)


def sample(a: float, b: float, fraction: Callable[[], float]) -> float:
    """Return a rate drawn from Beta(a, b), both 1 at least, by an even *fraction* of [0, 1)."""
    least, most = min(a, b), max(a, b)
    # Of the smaller one 1 the distribution can be turned around.
    drawn = _cheng(least, most, fraction) if least > 1 else -expm1(log1p(-fraction()) / most)
    return drawn if a <= b else 1 - drawn


def _cheng(least: float, most: float, fraction: Callable[[], float]) -> float:
    """Return a rate drawn by Cheng's method BB (1978): about three fractions, whatever is drawn."""
    whole = least + most
    slope = sqrt((2 * least * most - whole) / (whole - 2))
    w = least
    for _ in range(_DRAWS):
        u, z = 1 - fraction(), 1 - fraction()
        v = log(u / (1 - u)) if u < 1 else 0.0
        w = least * exp(v / slope)
        bend = (least + slope) * v / slope - log(4)
        if bend + whole * log(whole / (most + w)) >= log(u * u * z):
            break
    return w / (most + w)
