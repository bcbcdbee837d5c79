"""Work in the background that rests between two looks, and is woken when there is something new."""

import asyncio

from upshotd.application.ports import Clock


class Waking:
    """A rest that others can end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the rest, or the next one."""
        self._woken.set()

    def begin(self) -> None:
        """Forget who woke: what is done from now on sees what they meant."""
        self._woken.clear()

    async def rest(self, at_most_us: int) -> None:
        """Return when woken since `begin`, or when the time is over."""
        waking = asyncio.ensure_future(self._woken.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(at_most_us))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()
