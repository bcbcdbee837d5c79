"""delay: lets time pass."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING

from upshotd.domain.errors import ConditionError
from upshotd.domain.names import instant, microseconds
from upshotd.domain.run import RunState
from upshotd.domain.steps.move import NEXT, End, Hold, Move
from upshotd.domain.window import Window, next_inside

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey

#: Farthest moment a run may wait for, in microseconds from entering the step.
WAIT_MAX_US = 400 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class Delay:
    """Lets time pass; exactly one of the five is set. A moment in the past continues at once."""

    #: Microseconds from entering the step.
    duration_us: int | None = None
    #: A fixed instant, in microseconds.
    until_us: int | None = None
    #: CEL for a timestamp; empty: none.
    until: str = ""
    #: The next time that is inside.
    window: Window | None = None
    #: Of the window; empty: the person's.
    time_zone: str = ""
    #: A moment within so many microseconds, another for each run.
    spread_us: int | None = None


def enter(delay: Delay, journey: Journey) -> Move:
    """Hold until the moment; go on when it is past; fail when there is none."""
    return _until(delay, journey, journey.now_us)


def moved(delay: Delay, journey: Journey) -> Move:
    """Hold until the moment as it is now, counted from when the run came to the step."""
    return _until(delay, journey, journey.enter_us)


def _until(delay: Delay, journey: Journey, from_us: int) -> Move:
    try:
        due_us = _moment(delay, journey, from_us)
    except ConditionError as error:
        return End("NO_MOMENT", RunState.FAILED, f"{delay.until}: {error}")
    if due_us <= journey.now_us:
        when = "is now" if due_us == journey.now_us else "is past"
        journey.note("delayed", f"{instant(due_us).isoformat()} {when}: goes on at once")
        return NEXT
    if due_us > journey.now_us + WAIT_MAX_US:
        text = f"{instant(due_us).isoformat()} is more than 400 days ahead"
        return End("NO_MOMENT", RunState.FAILED, text)
    journey.note("delayed", f"until {instant(due_us).isoformat()}")
    return Hold(due_us)


def resume(journey: Journey) -> Move:
    """Go on: the moment has come."""
    journey.note("went_on", "the moment has come")
    return NEXT


def _share(journey: Journey) -> float:
    """Return a number from 0 to 1, evenly spread over runs and the same for one of them."""
    name = f"{journey.run.run_id}/{journey.step_id}".encode()
    return int.from_bytes(blake2b(name, digest_size=6).digest()) / 2**48


def _moment(delay: Delay, journey: Journey, from_us: int) -> int:
    if delay.duration_us is not None:
        return from_us + delay.duration_us
    if delay.until_us is not None:
        return delay.until_us
    if delay.spread_us is not None:
        return from_us + int(delay.spread_us * _share(journey))
    if delay.window is not None:
        zone = journey.draft.definitions.zone(journey.profile, delay.time_zone)
        return microseconds(next_inside(delay.window, zone, instant(from_us)))
    value = journey.draft.definitions.conditions.value(delay.until, journey.names())
    if not isinstance(value, datetime):
        raise ConditionError(f"is {type(value).__name__}, not a timestamp")
    return microseconds(value)
