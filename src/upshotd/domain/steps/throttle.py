"""throttle: lets through only so many runs of one person, or of everybody, in a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from upshotd.domain.errors import ConditionError
from upshotd.domain.names import instant
from upshotd.domain.passes import live
from upshotd.domain.run import RunState
from upshotd.domain.steps.move import NEXT, End, Hold, Into, Move
from upshotd.domain.values import replace

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.profile import Profile
    from upshotd.domain.workflow import Step

#: Counts that are kept at once of a person, or of a throttle of everybody; a key that would be one
#: more is refused.
COUNTS_MAX = 1_000


class ThrottleScope(IntEnum):
    """Whose runs are counted together; the contract's numbers."""

    USER = 1
    WORKSPACE = 2


@dataclass(frozen=True, slots=True)
class Throttle:
    """Lets `most` pass in any stretch of the period; the others take other steps, and end."""

    most: int
    #: How long a run that passed is counted, in microseconds.
    period_us: int
    #: CEL for a key that is counted apart; empty: one count.
    key: str = ""
    on_throttled: tuple[Step, ...] = ()
    scope: ThrottleScope = ThrottleScope.USER


def shared(workflow_id: str, step_id: str) -> str:
    """Return the name of the row in which the runs of everybody are counted.

    It is kept among the profiles, so that the same locks and versions hold.
    """
    return f"count:{workflow_id}/{step_id}"


def enter(step: Step, throttle: Throttle, journey: Journey) -> Move:
    """Go on and be counted, or take the steps of those that do not pass.

    The count is part of the profile, or of a row for everybody, which is written with it: two runs
    never take one place.
    """
    counter = _counter(step, throttle, journey)
    if counter is None:
        return Hold(journey.now_us)  # the version came a moment ago: once more, with it loaded
    try:
        name = f"{journey.run.workflow_id}/{step.step_id}/{journey.key(throttle.key)}"
    except ConditionError as error:
        return End("NO_KEY", RunState.FAILED, f"{throttle.key}: {error}")
    counts = live(counter.passes, journey.now_us)
    counted = counts.get(name, ())
    if len(counted) >= throttle.most:
        return _throttled(step, throttle, journey, min(counted))
    if name not in counts and len(counts) >= COUNTS_MAX:
        return End("TOO_MANY_KEYS", RunState.FAILED, f"{COUNTS_MAX} counts are kept already")
    counts[name] = (*counted, journey.now_us + throttle.period_us)
    journey.draft.put_profile(replace(counter, passes=counts))
    journey.leave(step.step_id, throttled=False)
    journey.note("passed", f"{len(counted) + 1} of {throttle.most}")
    return NEXT


def _counter(step: Step, throttle: Throttle, journey: Journey) -> Profile | None:
    """Return the row that has the count; None where it is not loaded."""
    if throttle.scope is ThrottleScope.USER:
        return journey.profile
    return journey.draft.counter(shared(journey.run.workflow_id, step.step_id))


def _throttled(step: Step, throttle: Throttle, journey: Journey, free_us: int) -> Move:
    journey.leave(step.step_id, throttled=True)
    again = instant(free_us).isoformat()
    journey.note("throttled", f"{throttle.most} have passed; the next one may at {again}")
    return Into(throttle.on_throttled) if throttle.on_throttled else End("THROTTLED")
