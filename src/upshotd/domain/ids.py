"""Where ids and jitter come from; made outside, so that decisions stay pure."""

from typing import Protocol


class Ids(Protocol):
    """Makes ids and the only randomness there is."""

    def next(self) -> str:
        """Return a new id, time-prefixed (UUIDv7), greater than every one before it."""

    def fraction(self) -> float:
        """Return a number in [0, 1), for jitter."""
