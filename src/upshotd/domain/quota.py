"""A quota: so much a second, as a bucket of tokens that fills again."""

import re
from typing import Final, NamedTuple

#: Most that a quota lets through, a second.
RATE_MAX: Final = 1_000_000
_TOKEN: Final = 1_000_000
_RATE = re.compile(r"([1-9][0-9]{0,6})/s")


class Bucket(NamedTuple):
    """What is left of a quota. It holds what one second lets through, and may owe some."""

    #: Millionths of tokens at `as_of_us`, so that nothing is rounded; below 0 it owes.
    left: int
    as_of_us: int


def take(bucket: Bucket | None, now_us: int, amount: int, rate: int) -> tuple[Bucket, int]:
    """Return the bucket without *amount*, and 0; or as it is, and the microseconds to wait.

    *rate* is a second's fill; None is a full bucket. Whoever comes while there is at least one
    token gets all they ask for: what is more than there was is owed, and the next ones wait. So
    nothing is too large ever to pass, and on average no more than *rate* does.
    """
    left = rate * _TOKEN
    if bucket is not None:
        left = min(left, bucket.left + (now_us - bucket.as_of_us) * rate)
    if left < _TOKEN:
        return Bucket(left, now_us), -((left - _TOKEN) // rate)
    return Bucket(left - amount * _TOKEN, now_us), 0


def given_back(bucket: Bucket, amount: int, rate: int) -> Bucket:
    """Return the bucket with *amount* that was taken for nothing."""
    return bucket._replace(left=min(rate * _TOKEN, bucket.left + amount * _TOKEN))


def rate_of(text: str) -> int:
    """Return the rate that `100/s` says; raises ValueError."""
    match = _RATE.fullmatch(text.replace(" ", ""))
    rate = int(match[1]) if match else 0
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"must be a number a second, as 100/s, up to {RATE_MAX}/s")
    return rate
