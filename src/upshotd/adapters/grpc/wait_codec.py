"""Wait steps: of the contract <-> of the domain, but for the steps inside of them."""

from typing import assert_never

from upshot.v1 import engagement_pb2
from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc import audience_codec
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.wait import (
    AudienceWait,
    EngagementWait,
    EventWait,
    Wait,
    WaitCondition,
)

#: Stands where a text is missing together with what holds it, which has been told already.
_HARMLESS_TEXT = "-"


def wait(message: pb.Wait, path: str, reading: Reading) -> Wait:
    """Return the wait at *path*; faults go into *reading*."""
    conditions: tuple[WaitCondition, ...]
    source = message.WhichOneof("condition")
    match source:
        case "engagement":
            conditions = (_engagement(message.engagement, f"{path}.engagement", reading),)
        case "event":
            conditions = (_event(message.event, f"{path}.event", reading),)
        case "audience":
            conditions = (_audience(message.audience, f"{path}.audience", reading),)
        case "any_of":
            below = f"{path}.any_of.conditions"
            conditions = tuple(
                _condition(item, f"{below}[{index}]", reading)
                for index, item in enumerate(message.any_of.conditions)
            )
        case None:
            conditions = ()  # the domain says what is missing
    timeout_us = reading.span_us(message.timeout, f"{path}.timeout")
    return Wait(conditions, timeout_us, any_of=source == "any_of")


def _condition(message: pb.WaitFor, path: str, reading: Reading) -> WaitCondition:
    match message.WhichOneof("condition"):
        case "engagement":
            return _engagement(message.engagement, f"{path}.engagement", reading)
        case "event":
            return _event(message.event, f"{path}.event", reading)
        case "audience":
            return _audience(message.audience, f"{path}.audience", reading)
        case None:
            text = "one of engagement, event, audience is required"
            reading.missing(message, path, "condition", text)
            return EventWait(_HARMLESS_TEXT)


def _engagement(message: pb.EngagementWait, path: str, reading: Reading) -> EngagementWait:
    kinds = tuple(
        reading.enum(EngagementKind, kind, f"{path}.kinds[{index}]", EngagementKind.UNSPECIFIED)
        for index, kind in enumerate(message.kinds)
    )
    return EngagementWait(message.step_id, kinds, message.include_machine)


def _event(message: pb.EventWait, path: str, reading: Reading) -> EventWait:
    if message.since not in pb.WaitSince.values():
        reading.fault(f"{path}.since", f"{message.since} is no value this server knows")
    return EventWait(
        event=message.event,
        condition=message.condition,
        since_run_started=message.since == pb.WAIT_SINCE_RUN_STARTED,
    )


def _audience(message: pb.AudienceWait, path: str, reading: Reading) -> AudienceWait:
    return AudienceWait(
        audience_codec.change(message.audience_id, message.transition, path, reading)
    )


def message(wait: Wait) -> pb.Wait:
    """Return *wait* as a message, without the steps inside of it."""
    written = pb.Wait(timeout=duration(wait.timeout_us))
    conditions = [_condition_message(condition) for condition in wait.conditions]
    if wait.any_of or len(conditions) != 1:
        written.any_of.CopyFrom(pb.AnyOfWait(conditions=conditions))
    else:
        name = conditions[0].WhichOneof("condition")
        getattr(written, str(name)).CopyFrom(getattr(conditions[0], str(name)))
    return written


def _condition_message(condition: WaitCondition) -> pb.WaitFor:
    match condition:
        case EngagementWait(step_id, kinds, include_machine):
            engagement = pb.EngagementWait(
                step_id=step_id,
                kinds=[engagement_pb2.EngagementKind.ValueType(kind) for kind in kinds],
                include_machine=include_machine,
            )
            return pb.WaitFor(engagement=engagement)
        case EventWait(event, text, since_run_started):
            since = pb.WAIT_SINCE_RUN_STARTED if since_run_started else pb.WAIT_SINCE_ENTRY
            return pb.WaitFor(event=pb.EventWait(event=event, condition=text, since=since))
        case AudienceWait(change):
            number = audience_codec.transition_number(change.transition)
            moved = pb.AudienceWait(audience_id=change.audience_id, transition=number)
            return pb.WaitFor(audience=moved)
        case _:
            assert_never(condition)
