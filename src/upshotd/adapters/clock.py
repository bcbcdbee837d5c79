"""Time, ids and randomness of the real world. Nothing else asks the machine for them."""

import asyncio
import os
import random
import time
from collections.abc import Callable


class SystemClock:
    """The machine's clocks, made safe against steps back."""

    def __init__(self) -> None:
        self._latest_us = 0
        #: Between another clock, which is followed, and the monotonic one; None: the machine's own.
        self._ahead_us: int | None = None

    def follow(self, now_us: int) -> None:
        """Go by another clock, which says *now_us* now: the database's, which all replicas share.

        From here on steps of this machine's own clock change nothing. May be called by any thread.
        """
        self._ahead_us = now_us - self.monotonic_us()

    def now_us(self) -> int:
        """Return the time, in microseconds since 1970 UTC; the latest again after a step back."""
        if self._ahead_us is None:
            now_us = time.time_ns() // 1000
        else:
            now_us = self.monotonic_us() + self._ahead_us
        if now_us > self._latest_us:
            self._latest_us = now_us
        return self._latest_us

    def monotonic_us(self) -> int:
        """Return microseconds of a clock that never jumps."""
        return time.monotonic_ns() // 1000

    async def sleep(self, duration_us: int) -> None:
        """Sleep real time; not at all for a duration that is not positive."""
        await asyncio.sleep(max(duration_us, 0) / 1_000_000)


class LabClock(SystemClock):
    """The wall clock plus an offset that only grows. Limits and sleeps stay real."""

    def __init__(self, offset_us: int = 0) -> None:
        super().__init__()
        self._offset_us = offset_us

    @property
    def offset_us(self) -> int:
        """How far it is ahead of the wall clock, in microseconds."""
        return self._offset_us

    def now_us(self) -> int:
        """Return the laboratory's time, in microseconds since 1970 UTC."""
        return super().now_us() + self._offset_us

    def advance_to(self, now_us: int) -> None:
        """Make it this late; an earlier time changes nothing."""
        self._offset_us += max(now_us - self.now_us(), 0)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class UuidIds:
    """UUIDv7 text, each greater than the one before, also when the wall clock steps back.

    Within a millisecond they count up from a random start; 73 random bits keep the ids of
    several processes apart.
    """

    def __init__(self, now_ms: Callable[[], int] = _wall_ms) -> None:
        self._now_ms = now_ms
        self._ms = -1
        self._prefix = ""
        self._tail = 0
        self._random = random.Random(os.urandom(32))

    def next(self) -> str:
        """Return a new id, time-prefixed, greater than every one before it."""
        ms = self._now_ms()
        if ms > self._ms:
            self._turn(ms)
        self._tail += 1
        return f"{self._prefix}{self._tail:012x}"

    def _turn(self, ms: int) -> None:
        """Begin another millisecond."""
        self._ms = ms
        # Not from the system each time: that costs a call and Python's lock. Ids are no secrets.
        drawn = self._random.getrandbits(80)
        # Half the range is left to count up in.
        self._tail = drawn & 0x7FFF_FFFF_FFFF
        high, drawn = drawn >> 48 & 0xFFF, drawn >> 60
        variant = 0x8000 | drawn & 0x3FFF
        self._prefix = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7{high:03x}-{variant:04x}-"

    def fraction(self) -> float:
        """Return a number in [0, 1), for jitter."""
        return self._random.random()
