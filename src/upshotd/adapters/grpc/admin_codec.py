"""What AdminService shows, as messages of the contract."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import audience_pb2, event_pb2, outcome_pb2, provider_pb2, service_pb2
from upshotd.adapters.grpc import audience_codec, suppression_codec, template_codec, workflow_codec
from upshotd.adapters.grpc.structs import shallow, struct
from upshotd.adapters.grpc.times import timestamp
from upshotd.application.admin import ProfileView, RunView
from upshotd.application.audience_admin import Member, Shown
from upshotd.application.filling import Stage
from upshotd.application.health import Health
from upshotd.application.ports import OutcomeCount
from upshotd.application.shelf import Kept
from upshotd.application.workflows import DefinedWorkflow
from upshotd.domain.audience import Audience
from upshotd.domain.breaker import State
from upshotd.domain.errors import Violation
from upshotd.domain.event import RejectedEvent
from upshotd.domain.explanation import Explanation
from upshotd.domain.message import Message
from upshotd.domain.state import KeptEvent
from upshotd.domain.template import Template
from upshotd.domain.values import plain


def violations(found: Iterable[Violation]) -> list[service_pb2.Violation]:
    """Return faults or warnings."""
    return [service_pb2.Violation(field=v.field, description=v.description) for v in found]


def workflow_version(defined: DefinedWorkflow) -> pb.WorkflowVersion:
    """Return one version of a workflow."""
    shown = pb.WorkflowVersion(
        workflow=workflow_codec.message(defined.workflow),
        version=defined.workflow.version,
        create_time=timestamp(defined.create_us),
        archived=defined.archived,
    )
    task = defined.task
    if task is not None:
        policy = service_pb2.InFlightPolicy.ValueType(task.policy)
        shown.in_flight.CopyFrom(
            pb.InFlight(policy=policy, moved=task.moved, pinned=task.pinned, done=task.done)
        )
    return shown


def template_version(kept: Kept[Template]) -> pb.TemplateVersion:
    """Return one version of a template."""
    return pb.TemplateVersion(
        template=template_codec.message(kept.thing),
        version=kept.version,
        create_time=timestamp(kept.create_us),
    )


def audience_version(kept: Kept[Audience]) -> audience_pb2.AudienceVersion:
    """Return one version of an audience."""
    return audience_pb2.AudienceVersion(
        audience=audience_codec.message(kept.thing),
        version=kept.version,
        create_time=timestamp(kept.create_us),
    )


def audience_shown(shown: Shown) -> audience_pb2.AudienceVersion:
    """Return one version of an audience, and how it stands."""
    message = audience_version(shown.kept)
    message.members = shown.members
    filling = shown.filling
    if filling is not None:
        progress = audience_pb2.AudienceProgress(
            done=filling.stage is Stage.DONE,
            events=filling.events,
            people=filling.people,
            moved=filling.moved,
        )
        message.progress.CopyFrom(progress)
    return message


def audience_member(member: Member) -> audience_pb2.AudienceMember:
    """Return what an audience says of one person."""
    profile, row = member.profile, member.membership
    anonymous_ids = () if profile.user_id else profile.anonymous_ids
    return audience_pb2.AudienceMember(
        user_id=profile.user_id,
        anonymous_id=anonymous_ids[0] if anonymous_ids else "",
        member=row.member,
        since_time=_moment(row.since_us or None),
        reason=member.reason,
        due_time=_moment(row.due_us),
    )


def run(view: RunView, *, full: bool) -> pb.Run:
    """Return a run and whose it is; its timeline and what its steps left only when *full*."""
    run, profile = view.run, view.profile
    user_id = profile.user_id if profile else ""
    anonymous_ids = profile.anonymous_ids if profile and not user_id else ()
    message = pb.Run(
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        workflow_version=run.workflow_version,
        state=pb.RunState.ValueType(run.state),
        reason=run.reason,
        user_id=user_id,
        anonymous_id=anonymous_ids[0] if anonymous_ids else "",
        event_id=run.event_id,
        step_id=run.step_id,
        due_time=_moment(run.due_us),
        start_time=timestamp(run.start_us),
        end_time=_moment(run.end_us),
        cancellation_key=run.cancellation_key,
    )
    if full:
        for entry in run.timeline:
            message.timeline.add(
                time=timestamp(entry.time_us),
                step_id=entry.step_id,
                what=entry.what,
                detail=entry.detail,
            )
        message.steps.CopyFrom(shallow({key: plain(left) for key, left in run.steps.items()}))
    return message


def explanation(explanation: Explanation) -> service_pb2.Explanation:
    """Return what a workflow made of an event."""
    return service_pb2.Explanation(
        workflow_id=explanation.workflow_id,
        version=explanation.version,
        started=bool(explanation.run_id),
        reason=explanation.reason,
        detail=explanation.detail,
        run_id=explanation.run_id,
    )


def event(kept: KeptEvent) -> pb.GetEventResponse:
    """Return an event and what workflows made of it."""
    stored = kept.stored
    shown = pb.GetEventResponse(
        event=event_pb2.Event.FromString(stored.payload),
        receive_time=timestamp(stored.receive_us),
        event_time=timestamp(stored.event_us),
        explanations=map(explanation, kept.explanations),
    )
    shown.event.event_id = stored.event_id
    return shown


def message(message: Message, *, full: bool) -> pb.Message:
    """Return a message; its content only when *full*."""
    shown = pb.Message(
        message_id=message.message_id,
        run_id=message.run_id,
        step_id=message.step_id,
        workflow_id=message.workflow_id,
        workflow_version=message.workflow_version,
        channel=outcome_pb2.Channel.ValueType(message.channel),
        state=pb.MessageState.ValueType(message.state),
        reason=message.reason,
        detail=message.detail,
        provider=message.provider,
        provider_message_id=message.provider_message_id,
        recipient=message.recipient,
        attempt=message.attempt,
        possible_duplicate=message.possible_duplicate,
        create_time=timestamp(message.create_us),
        due_time=_moment(message.due_us),
        facts={word: timestamp(us) for word, us in message.facts.items()},
        ask=message.ask or "",
    )
    if full and message.content is not None:
        parts = {name: part for name, part in message.content._asdict().items() if part}
        if "attachments" in parts:
            parts["attachments"] = [one._asdict() for one in parts["attachments"]]
        shown.content.CopyFrom(struct(parts))
    return shown


def profile(view: ProfileView) -> pb.Profile:
    """Return a person, what is held back from them and the audiences they are in."""
    profile = view.profile
    return pb.Profile(
        profile_id=profile.profile_id,
        user_id=profile.user_id,
        anonymous_ids=profile.anonymous_ids,
        traits=shallow(plain(profile.traits)),
        contact=dict(profile.contact),
        group_ids=profile.group_ids,
        create_time=timestamp(profile.create_us) if profile.create_us else None,
        erase_time=timestamp(profile.erase_us) if profile.erase_us else None,
        suppressions=[suppression_codec.message(held) for held in view.suppressions],
        audience_ids=view.audience_ids,
    )


def rejected_event(rejected: RejectedEvent) -> pb.RejectedEvent:
    """Return an event that was refused."""
    return pb.RejectedEvent(
        event_id=rejected.event_id,
        receive_time=timestamp(rejected.receive_us),
        reason=rejected.reason,
        violations=violations(rejected.violations),
        payload=rejected.payload,
    )


def outcome_count(count: OutcomeCount) -> pb.OutcomeCount:
    """Return how many outcomes there were of one kind."""
    return pb.OutcomeCount(
        workflow_id=count.workflow_id,
        step_id=count.step_id,
        channel=outcome_pb2.Channel.ValueType(count.channel),
        kind=outcome_pb2.OutcomeKind.ValueType(count.kind),
        count=count.count,
    )


def provider(health: Health) -> provider_pb2.Provider:
    """Return a provider, and whether it is asked."""
    breaker = health.breaker
    opened, rests = breaker.since_us, health.state is State.OPEN
    return provider_pb2.Provider(
        provider=health.provider,
        channels=map(outcome_pb2.Channel.ValueType, health.channels),
        state=provider_pb2.BreakerState.ValueType(health.state),
        failures=breaker.failures,
        detail=breaker.detail,
        open_time=None if opened is None else timestamp(opened),
        probe_time=timestamp(breaker.until_us) if rests else None,
    )


def _moment(us: int | None) -> Timestamp | None:
    return None if us is None else timestamp(us)
