"""Workflows of the contract <-> workflows of the domain.

Reading never stops at a fault: what is missing is replaced by something harmless, so that faults
of form and faults of meaning are told in one answer. Writing gives the canonical form: defaults are
written out and maps are sorted, so that equal definitions are equal bytes.
"""

from google.protobuf.message import Message

from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc import audience_codec, step_codec
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.audience import Change
from upshotd.domain.errors import FailedPrecondition, Violation
from upshotd.domain.event import EventType
from upshotd.domain.message import Purpose
from upshotd.domain.schedule import Schedule
from upshotd.domain.values import replace
from upshotd.domain.workflow import (
    MAX_AGE_DEFAULT_US,
    ExitRule,
    Reentry,
    ReentryMode,
    Trigger,
    Workflow,
)

#: Largest definition, serialized, in bytes.
DEFINITION_BYTES_MAX = 512 * 1024
_SOURCES = ", ".join(f.name for f in pb.Trigger.DESCRIPTOR.oneofs_by_name["source"].fields)


def workflow(message: pb.Workflow) -> tuple[Workflow, tuple[Violation, ...]]:
    """Return the workflow, as far as *message* says one, and every fault of its form by path.

    Faults of meaning are the domain's to find in what is returned.
    """
    size = message.ByteSize()
    if size > DEFINITION_BYTES_MAX:
        text = f"{size} bytes serialized; at most {DEFINITION_BYTES_MAX} are taken"
        unread = Workflow(message.workflow_id, Trigger(None), (step_codec.HARMLESS_STEP,))
        return unread, (Violation("workflow", text),)
    reading = Reading()
    reading.unknown_fields(message, "workflow")
    steps = tuple(
        step_codec.step(step, f"workflow.steps[{index}]", reading)
        for index, step in enumerate(message.steps)
    )
    purpose = Purpose.PRODUCT
    if message.purpose:
        purpose = reading.enum(Purpose, message.purpose, "workflow.purpose", purpose)
    read = Workflow(
        workflow_id=message.workflow_id,
        trigger=_trigger(message.trigger, reading),
        steps=steps,
        display_name=message.display_name,
        reentry=_reentry(message.reentry, reading),
        exits=tuple(
            _exit(rule, f"workflow.exits[{index}]", reading)
            for index, rule in enumerate(message.exits)
        ),
        topic=message.topic,
        purpose=purpose,
        cancellation_key=message.cancellation_key,
        labels=dict(message.labels),
    )
    return read, tuple(reading.violations)


def encode_workflow(workflow: Workflow) -> bytes:
    """Return the canonical encoding of *workflow*, without its version."""
    return message(workflow).SerializeToString(deterministic=True)


def decode_workflow(definition: bytes, version: int) -> Workflow:
    """Return the workflow of a stored definition.

    Raises FailedPrecondition when a newer server stored it and this one cannot run all of it.
    """
    stored = pb.Workflow.FromString(definition)
    read, violations = workflow(stored)
    if violations:
        first = violations[0]
        text = f"workflow {read.workflow_id!r}, version {version}, is of a newer server"
        raise FailedPrecondition(f"{text}: {first.field}: {first.description}")
    return replace(read, version=version)


def message(workflow: Workflow) -> pb.Workflow:
    """Return *workflow* as a message, without its version."""
    reentry = workflow.reentry
    written = pb.Workflow(
        workflow_id=workflow.workflow_id,
        display_name=workflow.display_name,
        trigger=_trigger_message(workflow.trigger),
        steps=[step_codec.message(step) for step in workflow.steps],
        reentry=pb.Reentry(mode=pb.ReentryMode.ValueType(reentry.mode), key=reentry.key),
        exits=[_exit_message(rule) for rule in workflow.exits],
        topic=workflow.topic,
        purpose=pb.Purpose.ValueType(workflow.purpose),
        cancellation_key=workflow.cancellation_key,
        labels=workflow.labels,
    )
    if reentry.cooldown_us:
        written.reentry.cooldown.CopyFrom(duration(reentry.cooldown_us))
    return written


def _trigger(message: pb.Trigger, reading: Reading) -> Trigger:  # noqa: C901
    kind: EventType | None = None
    schedule: Schedule | None = None
    change: Change | None = None
    match message.WhichOneof("source"):
        case "track":
            kind = EventType.TRACK
        case "identify":
            kind = EventType.IDENTIFY
        case "group":
            kind = EventType.GROUP
        case "page":
            kind = EventType.PAGE
        case "screen":
            kind = EventType.SCREEN
        case "schedule":
            kind = EventType.SCHEDULED
            timed = message.schedule
            schedule = Schedule(timed.cron, timed.time_zone, timed.audience_id)
        case "audience":
            kind, path = EventType.AUDIENCE, "workflow.trigger.audience"
            meant = message.audience
            change = audience_codec.change(meant.audience_id, meant.transition, path, reading)
        case "invoke":
            kind = None
        case None:
            reading.missing(message, "workflow.trigger", "source", f"one of {_SOURCES} is required")
    max_age_us = MAX_AGE_DEFAULT_US
    if message.HasField("max_age"):
        max_age_us = reading.span_us(message.max_age, "workflow.trigger.max_age")
    return Trigger(
        type=kind,
        event=change.audience_id if change is not None else _name(message),
        condition=message.condition,
        max_age_us=max_age_us,
        include_own_outcomes=message.track.include_own_outcomes,
        schedule=schedule,
        transition=change.transition if change is not None else None,
    )


def _name(message: pb.Trigger) -> str:
    return message.track.event or message.page.name or message.screen.name


def _trigger_message(trigger: Trigger) -> pb.Trigger:
    written = pb.Trigger(condition=trigger.condition, max_age=duration(trigger.max_age_us))
    source: Message
    match trigger.type:
        case EventType.TRACK:
            source = written.track
            written.track.event = trigger.event
            written.track.include_own_outcomes = trigger.include_own_outcomes
        case EventType.IDENTIFY:
            source = written.identify
        case EventType.GROUP:
            source = written.group
        case EventType.PAGE:
            source = written.page
            written.page.name = trigger.event
        case EventType.SCREEN:
            source = written.screen
            written.screen.name = trigger.event
        case EventType.SCHEDULED:
            source = written.schedule
            assert trigger.schedule is not None
            written.schedule.cron = trigger.schedule.cron
            written.schedule.time_zone = trigger.schedule.time_zone
            written.schedule.audience_id = trigger.schedule.audience_id
        case EventType.AUDIENCE:
            source = written.audience
            written.audience.audience_id = trigger.event
            written.audience.transition = audience_codec.transition_number(trigger.transition)
        case None:
            source = written.invoke
        case other:
            raise ValueError(f"{other} starts nothing")
    source.SetInParent()
    return written


def _reentry(message: pb.Reentry, reading: Reading) -> Reentry:
    mode = ReentryMode.ONCE_ACTIVE
    if message.mode:
        mode = reading.enum(ReentryMode, message.mode, "workflow.reentry.mode", mode)
    cooldown_us = reading.span_us(message.cooldown, "workflow.reentry.cooldown")
    return Reentry(mode=mode, key=message.key, cooldown_us=cooldown_us)


def _exit(message: pb.ExitRule, path: str, reading: Reading) -> ExitRule:
    if not message.HasField("audience"):
        return ExitRule(event=message.track.event, condition=message.condition)
    source, at = message.audience, f"{path}.audience"
    change = audience_codec.change(source.audience_id, source.transition, at, reading)
    return ExitRule(condition=message.condition, audience=change)


def _exit_message(rule: ExitRule) -> pb.ExitRule:
    if rule.audience is None:
        return pb.ExitRule(track=pb.TrackExit(event=rule.event), condition=rule.condition)
    number = audience_codec.transition_number(rule.audience.transition)
    left = pb.AudienceExit(audience_id=rule.audience.audience_id, transition=number)
    return pb.ExitRule(audience=left, condition=rule.condition)
