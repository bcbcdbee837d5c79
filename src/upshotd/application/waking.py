"""Work in the background that rests between two looks, and is woken when there is something new."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from upshotd.application.ports import Clock
from upshotd.domain.errors import UpshotError

log = structlog.get_logger()


class Waking:
    """A rest that others can end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the rest, or the next one."""
        self._woken.set()

    async def forever(
        self, look: Callable[[], Awaitable[int | None]], failed: str, most_us: int
    ) -> None:
        """Look, and rest: until woken, until when *look* says, at most *most_us* microseconds.

        A look that fails is logged as *failed*, and repeated after a rest.
        """
        while True:
            # What is looked at from now on is what whoever woke has meant.
            self._woken.clear()
            pause_us = most_us
            try:
                next_us = await look()
            except UpshotError as error:
                log.warning(failed, reason=error.reason)
            else:
                if next_us is not None:
                    pause_us = min(max(next_us - self._clock.now_us(), 0), most_us)
            await self._rest(pause_us)

    async def _rest(self, at_most_us: int) -> None:
        waking = asyncio.ensure_future(self._woken.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(at_most_us))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()
