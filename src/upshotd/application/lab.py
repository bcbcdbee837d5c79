"""Time travel: the clock jumps from timer to timer, and everything due happens on the way."""

from dataclasses import dataclass
from typing import Protocol

from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, Store
from upshotd.application.schedules import Schedules
from upshotd.domain.errors import InvalidArgument, Unavailable, Violation

#: Farthest jump, in microseconds.
ADVANCE_MAX_US = 400 * 86_400_000_000
#: Name of the setting that keeps the clock's place across restarts.
OFFSET_SETTING = "lab_offset_us"


class MovableClock(Clock, Protocol):
    """A clock that can be moved forward."""

    @property
    def offset_us(self) -> int:
        """How far it is ahead of the wall clock, in microseconds."""

    def advance_to(self, now_us: int) -> None:
        """Make it this late; an earlier time changes nothing."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """Where the clock is now."""

    now_us: int
    #: Timers of runs, and of people in audiences, that fired on the way.
    fired_timers: int


class Lab:
    """Moves the clock of a lab."""

    def __init__(self, store: Store, clock: MovableClock, loop: Loop, schedules: Schedules) -> None:
        self._store = store
        self._schedules = schedules
        #: When the next schedule comes, in microseconds.
        self._next_us: int | None = None
        self._clock = clock
        self._loop = loop

    async def restore(self) -> None:
        """Put the clock where it was before the restart."""
        kept = await self._store.setting(OFFSET_SETTING)
        if kept is not None:
            self._clock.advance_to(self._clock.now_us() + int(kept))

    async def advance(self, duration_us: int) -> Advanced:
        """Move the clock; returns when nothing is due any more.

        Raises InvalidArgument for a duration below 0 or above 400 days, Unavailable when draining.
        """
        if not 0 <= duration_us <= ADVANCE_MAX_US:
            fault = Violation("duration", "must be between 0 and 400 days")
            raise InvalidArgument(fault.description, (fault,))
        fired = self._loop.fired
        target_us = self._clock.now_us() + duration_us
        await self._settle()
        while (due_us := await self._next_due()) is not None and due_us <= target_us:
            if self._loop.draining:  # timers rest, so this would never end
                raise Unavailable("the server is going down", reason="DRAINING")
            await self._move(due_us)
        await self._move(target_us)
        return Advanced(self._clock.now_us(), self._loop.fired - fired)

    async def _next_due(self) -> int | None:
        """Return when the next timer is due or the next schedule comes."""
        found = (await self._store.next_due(), self._next_us)
        return min((due_us for due_us in found if due_us is not None), default=None)

    async def _move(self, now_us: int) -> None:
        """Remember the place, then go there: nothing is committed in a time that a crash undoes."""
        offset_us = self._clock.offset_us + max(now_us - self._clock.now_us(), 0)
        await self._store.put_setting(OFFSET_SETTING, str(offset_us))
        self._clock.advance_to(now_us)
        await self._settle()

    async def _settle(self) -> None:
        self._loop.poke()
        await self._loop.quiet()
        self._next_us = await self._schedules.fire()
        self._loop.poke()
        await self._loop.quiet()
