"""Waiting that the order to stop cuts short."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

T = TypeVar("T")
Sleep = Callable[[int], Awaitable[None]]

#: Doublings after which a pause stays as long as it is allowed to be.
_DOUBLINGS_MAX: Final = 20


class Stopped(Exception):
    """The relay has been told to stop."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How pauses between attempts grow: doubled each time, then any part of it (full jitter)."""

    #: The first pause at most, in microseconds.
    first_us: int
    #: Every pause at most, in microseconds.
    longest_us: int

    def pause_us(self, attempt: int, fraction: float, at_least_us: int = 0) -> int:
        """Return the pause after *attempt* (from 1), and no less than *at_least_us*."""
        most_us = min(self.first_us << min(attempt - 1, _DOUBLINGS_MAX), self.longest_us)
        return max(round(most_us * fraction), at_least_us)


class Pauses:
    """Sleeps and waits until the relay is told to stop; then raises Stopped."""

    def __init__(self, sleep: Sleep, fraction: Callable[[], float], stop: asyncio.Event) -> None:
        """*sleep* takes microseconds, *fraction* returns a number in [0, 1)."""
        self._sleep = sleep
        self._fraction = fraction
        self._stop = stop

    def check(self) -> None:
        """Raise Stopped if it is time to."""
        if self._stop.is_set():
            raise Stopped

    def length_us(self, backoff: Backoff, attempt: int, at_least_us: int = 0) -> int:
        """Return how long to sleep after *attempt*, in microseconds."""
        return backoff.pause_us(attempt, self._fraction(), at_least_us)

    async def sleep(self, duration_us: int) -> None:
        """Sleep, or raise Stopped as soon as it is time to."""
        await self.until_stopped(self._sleep(duration_us))

    async def until_stopped(self, waited: Awaitable[T]) -> T:
        """Return what *waited* returns; cancel it and raise Stopped when that comes first."""
        work = asyncio.ensure_future(waited)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return work.result()
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
