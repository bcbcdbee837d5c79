"""wait: until something comes, or the timeout. Resolves exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, assert_never

from upshotd.domain import messages, outgoing
from upshotd.domain.audience import Change, Transition
from upshotd.domain.message import Message, MessageState
from upshotd.domain.names import event_names
from upshotd.domain.outcome import ABOUT_APPROVALS, CHOICES, HUMAN, EngagementKind, OutcomeKind
from upshotd.domain.steps.move import Hold, Into, Move
from upshotd.domain.values import replace

if TYPE_CHECKING:
    from upshotd.domain.event import Event
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class EngagementWait:
    """Engagement with the message of an earlier send step of this run."""

    step_id: str
    kinds: tuple[EngagementKind, ...]
    #: Whether prefetching by software counts.
    include_machine: bool = False


@dataclass(frozen=True, slots=True)
class EventWait:
    """A track event of the same profile."""

    event: str
    #: CEL over that event; empty holds.
    condition: str = ""
    #: Whether events since the start of the run count, not only since entry.
    since_run_started: bool = False


@dataclass(frozen=True, slots=True)
class AudienceWait:
    """The person comes into an audience, or leaves it; at once where it is so already."""

    change: Change


WaitCondition: TypeAlias = EngagementWait | EventWait | AudienceWait


@dataclass(frozen=True, slots=True)
class Wait:
    """Waits for the first of its conditions, at most for the timeout."""

    conditions: tuple[WaitCondition, ...]
    #: Microseconds from entering the step.
    timeout_us: int
    on_match: tuple[Step, ...] = ()
    on_timeout: tuple[Step, ...] = ()
    #: Empty means the steps of `on_timeout`.
    on_undeliverable: tuple[Step, ...] = ()
    #: Whether it was written as any_of; only paths of faults and the written form care.
    any_of: bool = False


def fact(kind: EngagementKind, *, machine: bool) -> str:
    """Return under which word an engagement is kept on a message and its step: `opened`."""
    word = kind.name.lower()
    return f"machine_{word}" if machine else word


def enter(step: Step, wait: Wait, journey: Journey) -> Move:
    """Resolve at once by what is known already, else hold until the timeout."""
    known = _known(step, wait, journey)
    if known is not None:
        return known
    journey.note("waiting")
    return Hold(journey.now_us + wait.timeout_us)


def moved(step: Step, wait: Wait, journey: Journey) -> Move:
    """Wait for what this version waits for, until its timeout from when the run came here."""
    return _known(step, wait, journey) or Hold(journey.enter_us + wait.timeout_us)


def _known(step: Step, wait: Wait, journey: Journey) -> Move | None:
    """Return how the wait resolves by what is known already, or None."""
    for condition in wait.conditions:
        came = _came_before(step, condition, journey)
        if came:
            return _match(step, wait, journey, f"{came} before the wait")
    return undeliverable(step, wait, journey) if unreachable(wait, journey.steps) else None


def engaged(
    step: Step, wait: Wait, journey: Journey, message: Message, kind: EngagementKind, machine: bool
) -> Move | None:
    """Return where an engagement with *message* takes the run; None when it goes on waiting."""
    for condition in wait.conditions:
        if isinstance(condition, EngagementWait) and condition.step_id == message.step_id:
            counts = condition.include_machine or not machine
            if kind in condition.kinds and counts:
                return _match(step, wait, journey, f"{condition.step_id} {kind.name.lower()}")
    return undeliverable(step, wait, journey) if unreachable(wait, journey.steps) else None


def happened(step: Step, wait: Wait, journey: Journey, event: Event) -> Move | None:
    """Return where *event* takes the run; None when it goes on waiting."""
    for condition in wait.conditions:
        if isinstance(condition, EventWait) and met(condition, journey, event):
            return _match(step, wait, journey, event.name)
    return None


def met(condition: EventWait, journey: Journey, event: Event) -> bool:
    """Return whether *event* is what *condition* waits for."""
    return condition.event == event.name and holds(condition.condition, journey, event)


def holds(condition: str, journey: Journey, event: Event) -> bool:
    """Return whether *condition* holds for a run and *event*; empty holds."""
    if not condition:
        return True
    names = {**journey.names(), "event": event_names(event, journey.plan.parts)}
    verdict = journey.draft.definitions.conditions.holds(condition, names)
    if verdict.note:
        journey.note_once("condition_failed", f"{condition}: {verdict.note}")
    return verdict.holds


def changed(step: Step, wait: Wait, journey: Journey, change: Change) -> Move | None:
    """Return where a *change* of an audience takes the run; None when it goes on waiting."""
    if any(isinstance(one, AudienceWait) and one.change == change for one in wait.conditions):
        return _match(step, wait, journey, f"{change.transition.name} {change.audience_id}")
    return None


def timed_out(step: Step, wait: Wait, journey: Journey) -> Move:
    """Go the way of the timeout; messages that nobody engaged with are ignored."""
    for condition in wait.conditions:
        if isinstance(condition, EngagementWait) and HUMAN.intersection(condition.kinds):
            ignore(journey, condition.step_id)
    journey.leave(step.step_id, timed_out=True)
    journey.note("timed_out")
    return Into(wait.on_timeout)


def undeliverable(step: Step, wait: Wait, journey: Journey) -> Move:
    """Go on at once: what is waited for cannot come any more."""
    journey.leave(step.step_id, undeliverable=True)
    journey.note("undeliverable", "nobody can engage with the message: goes on at once")
    return Into(wait.on_undeliverable or wait.on_timeout)


def unreachable(wait: Wait, steps: Mapping[str, Mapping[str, object]]) -> bool:
    """Return whether every condition is engagement with a message that never reached anybody."""
    for condition in wait.conditions:
        match condition:
            case EventWait() | AudienceWait():
                return False
            case EngagementWait():
                left = steps.get(condition.step_id, {})
                if left.get("message_id") and not left.get("undeliverable"):
                    return False
            case _:
                assert_never(condition)
    return True


def _came_before(step: Step, condition: WaitCondition, journey: Journey) -> str:
    """Return what met *condition* before the wait was reached; empty when nothing did."""
    match condition:
        case EngagementWait():
            left = journey.steps.get(condition.step_id, {})
            for kind in condition.kinds:
                words = [fact(kind, machine=False)]
                words += [fact(kind, machine=True)] if condition.include_machine else []
                if any(left.get(word) for word in words):
                    return f"{condition.step_id} {words[0]}"
            return ""
        case EventWait():
            seen = journey.steps.get(step.step_id, {}).get("seen", ())
            known = isinstance(seen, list | tuple) and _key(condition) in seen
            return condition.event if known else ""
        case AudienceWait(change):
            inside = journey.draft.inside(change.audience_id, journey.run.profile_id)
            met = inside is (change.transition is Transition.ENTER)
            return f"{change.transition.name} {change.audience_id}" if met else ""
        case _:
            assert_never(condition)


def remember(step: Step, wait: Wait, journey: Journey, event: Event) -> None:
    """Remember *event* for a wait not reached yet that counts from the start of the run."""
    left = journey.steps.get(step.step_id, {}).get("seen", ())
    seen = left if isinstance(left, list) else []
    for condition in wait.conditions:
        if not isinstance(condition, EventWait) or not condition.since_run_started:
            continue
        if _key(condition) not in seen and met(condition, journey, event):
            seen = [*seen, _key(condition)]
            journey.leave(step.step_id, seen=seen)


def _key(condition: EventWait) -> str:
    return f"{condition.event} {condition.condition}".rstrip()


def _match(step: Step, wait: Wait, journey: Journey, what: str) -> Move:
    journey.leave(step.step_id, matched=True, timed_out=False)
    journey.note("matched", what)
    return Into(wait.on_match)


def touched(message: Message) -> bool:
    """Return whether a person did anything with *message*; to unsubscribe is not to ignore."""
    kinds = HUMAN | CHOICES | ABOUT_APPROVALS
    return any(fact(kind, machine=False) in message.facts for kind in kinds)


def ignore(journey: Journey, step_id: str) -> None:
    """Record MESSAGE_IGNORED, once for a message that was accepted and that no person touched."""
    for message in outgoing.made(journey, step_id):
        known = "ignored" in message.facts or touched(message)
        if known or message.state is not MessageState.ACCEPTED:
            continue
        facts = {**message.facts, "ignored": journey.now_us}
        message = replace(message, facts=facts)
        journey.draft.put_message(message)
        messages.append(journey.draft, message, OutcomeKind.MESSAGE_IGNORED)
        journey.leave(step_id, ignored=True)
