"""digest: collects the runs of one person that come to it, and goes on as one.

An open digest is nothing but the active runs that stand at the step with the same key. One of
them, the one that came last, has the timer. So an item is there once, a run that is canceled takes
its item along, and whoever remains goes on. Between replicas, who opens a digest writes the row of
the profile, and who joins, leaves or closes one writes the row of the run with the timer: two that
do so in the same moment are decided one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from enum import IntEnum
from operator import itemgetter
from typing import TYPE_CHECKING

from upshotd.domain.errors import ConditionError
from upshotd.domain.names import event_names, instant, microseconds
from upshotd.domain.run import Run, RunState
from upshotd.domain.steps.move import NEXT, End, Hold, Move
from upshotd.domain.values import replace
from upshotd.domain.window import Window, next_inside

if TYPE_CHECKING:
    from upshotd.domain.draft import Draft
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step

#: How a run ends whose item another one took along.
DIGESTED = "DIGESTED"
#: Most items, collected and kept, where the workflow says nothing.
ITEMS_DEFAULT = 100
_PROPERTIES = frozenset({"properties"})


class Keep(IntEnum):
    """Which items come first; the contract's numbers."""

    FIRST = 1
    LAST = 2
    HIGHEST = 3
    LOWEST = 4


@dataclass(frozen=True, slots=True)
class Digest:
    """Collects until one of its limits; at least one of the spans or the schedule is set."""

    #: Microseconds without another one.
    window_us: int | None = None
    #: Microseconds from the first one.
    max_window_us: int | None = None
    #: CEL for a key that is collected apart; empty: one digest for the person.
    key: str = ""
    max_items: int = ITEMS_DEFAULT
    keep: Keep = Keep.FIRST
    #: Most items that are kept.
    keep_count: int = ITEMS_DEFAULT
    #: CEL for a number or text over an item's event; for HIGHEST and LOWEST.
    by: str = ""
    #: The next time that is inside.
    schedule: Window | None = None
    #: Of the schedule; empty: the person's.
    time_zone: str = ""

    def close_us(self, first_us: int, last_us: int, zone: tzinfo) -> int:
        """Return when a digest closes whose first and last run came at these times."""
        ends = []
        if self.schedule is not None:
            ends.append(microseconds(next_inside(self.schedule, zone, instant(first_us))))
        if self.window_us is not None:
            ends.append(last_us + self.window_us)
        if self.max_window_us is not None:
            ends.append(first_us + self.max_window_us)
        return min(ends)


def enter(step: Step, digest: Digest, journey: Journey) -> Move:
    """Open a digest or join the open one; the run that makes it full closes it."""
    try:
        key = journey.key(digest.key)
    except ConditionError as error:
        return End("NO_KEY", RunState.FAILED, f"{digest.key}: {error}")
    others = _others(step, journey, key)
    journey.leave(step.step_id, open=True, key=key)
    journey.note("collected", f"{len(others) + 1} of {digest.max_items}")
    if len(others) + 1 >= digest.max_items:
        return _close(step, digest, journey, others)
    draft = journey.draft
    if not others:
        draft.put_profile(journey.profile)  # nobody else opens one in the same moment
    for other in others:
        if other.due_us is not None:
            draft.put_run(replace(other, due_us=None))
    first_us = others[0].enter_us if others else journey.now_us
    close_us = digest.close_us(first_us, journey.now_us, _zone(digest, journey))
    if close_us <= journey.now_us:  # the schedule is open
        return _close(step, digest, journey, others)
    return Hold(close_us)


def due(step: Step, digest: Digest, journey: Journey) -> Move:
    """Close the digest, unless its time has moved since the timer was set."""
    key = str(journey.steps.get(step.step_id, {}).get("key", ""))
    others = _others(step, journey, key)
    came = sorted([journey.enter_us, *(other.enter_us for other in others)])
    close_us = digest.close_us(came[0], came[-1], _zone(digest, journey))
    if close_us > journey.now_us:
        return Hold(close_us)
    return _close(step, digest, journey, others)


def _zone(digest: Digest, journey: Journey) -> tzinfo:
    return journey.draft.definitions.zone(journey.profile, digest.time_zone)


def pass_on(draft: Draft, left: Run) -> None:
    """Give the timer of a run that *left* the digest it stood in to another one there."""
    at = left.steps.get(left.step_id, {})
    if left.due_us is None or not at.get("open"):
        return
    for run in draft.active_runs(left.profile_id):
        if _stands_with(run, left, str(at.get("key", ""))):
            draft.put_run(replace(run, due_us=left.due_us))
            return


def _stands_with(run: Run, other: Run, key: str) -> bool:
    """Return whether *run* stands in the digest that *other* is at."""
    at = run.steps.get(run.step_id, {})
    return (
        run.run_id != other.run_id
        and run.step_id == other.step_id
        and run.workflow_id == other.workflow_id
        and run.workflow_version == other.workflow_version
        and at.get("open") is True
        and at.get("key") == key
    )


def _others(step: Step, journey: Journey, key: str) -> list[Run]:
    """Return the other runs of the digest, those that came first in front."""
    here = replace(journey.run, step_id=step.step_id)
    runs = journey.draft.active_runs(here.profile_id)
    return sorted((run for run in runs if _stands_with(run, here, key)), key=_came)


def _came(run: Run) -> tuple[int, str]:
    return run.enter_us, run.run_id


def _close(step: Step, digest: Digest, journey: Journey, others: list[Run]) -> Move:
    """Let the first run go on with all items; the others end."""
    me = replace(journey.run, enter_us=journey.enter_us)
    first, *rest = sorted([me, *others], key=_came)
    items = _items(digest, journey, [first, *rest])
    text = f"{len(rest) + 1} together, in run {first.run_id}"
    # What goes on may start a run that comes here again: it must not find this digest open.
    journey.leave(step.step_id, open=False)
    journey.save()
    for run in rest:
        if run is not me:
            journey.of(run).end(RunState.COMPLETED, DIGESTED, text)
    going_on = journey if first is me else journey.of(first)
    going_on.leave(step.step_id, open=False, items=items, count=len(rest) + 1)
    going_on.note("digested", f"{len(rest) + 1} together")
    if first is me:
        return NEXT
    going_on.save()
    going_on.follow(NEXT)
    return End(DIGESTED, detail=text)


def _items(digest: Digest, journey: Journey, runs: list[Run]) -> list[dict[str, object]]:
    """Return the items that are kept, in their order."""
    match digest.keep:
        case Keep.FIRST:
            kept = runs[: digest.keep_count]
        case Keep.LAST:
            kept = runs[-digest.keep_count :]
        case Keep.HIGHEST | Keep.LOWEST:
            kept = _ranked(digest, journey, runs)[: digest.keep_count]
    return [_item(journey.draft, run) for run in kept]


def _ranked(digest: Digest, journey: Journey, runs: list[Run]) -> list[Run]:
    """Return *runs* by their value, numbers before texts; those without one come last."""
    values = [(_value(digest.by, journey, run), run) for run in runs]
    down = digest.keep is Keep.HIGHEST
    numbers = [(value, run) for value, run in values if isinstance(value, int | float)]
    texts = [(value, run) for value, run in values if isinstance(value, str)]
    numbers.sort(key=itemgetter(0), reverse=down)
    texts.sort(key=itemgetter(0), reverse=down)
    unknown = [run for value, run in values if value is None]
    return [run for _, run in (*numbers, *texts)] + unknown


def _value(by: str, journey: Journey, run: Run) -> str | int | float | None:
    event = journey.draft.trigger_event(run.event_id)
    names = {**journey.names(), "event": event_names(event, journey.plan.parts)}
    try:
        value = journey.draft.definitions.conditions.value(by, names)
    except ConditionError:
        return None
    return value if isinstance(value, str | int | float) else None


def _item(draft: Draft, run: Run) -> dict[str, object]:
    """Return what templates see of one item: its event, and when it happened."""
    event = draft.trigger_event(run.event_id)
    if event is None:
        return {"id": run.event_id, "name": "", "properties": {}, "time": ""}
    shown = event_names(event, _PROPERTIES)
    at = instant(event.event_us).isoformat()
    return {"id": event.event_id, "name": event.name, "properties": shown["properties"], "time": at}
