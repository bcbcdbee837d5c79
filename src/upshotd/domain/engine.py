"""The heart: one stimulus, what was loaded, the time; out comes what to write. Pure."""

from typing import NamedTuple, assert_never

from upshotd.domain import (
    choices,
    erasure,
    goals,
    identity,
    membership,
    merging,
    messages,
    migration,
    reacting,
    sending,
)
from upshotd.domain.definitions import Definitions
from upshotd.domain.draft import Draft
from upshotd.domain.engagement import engage
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event, EventType, faults
from upshotd.domain.explanation import NO_KEY, OWN_OUTCOME, TOO_OLD, Explanation
from upshotd.domain.ids import Ids
from upshotd.domain.journey import Journey, considered, resume, start
from upshotd.domain.message import OPEN, MessageState
from upshotd.domain.names import instant
from upshotd.domain.plan import Plan
from upshotd.domain.profile import Profile
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Changes, State
from upshotd.domain.steps import kinds, wait
from upshotd.domain.steps.move import Move
from upshotd.domain.steps.wait import Wait
from upshotd.domain.stimulus import (
    Answer,
    AudienceDue,
    AudienceFill,
    CancelRequested,
    CancelResult,
    EngagementArrived,
    EraseRequested,
    EraseResult,
    EventArrived,
    FetchSettled,
    IngestResult,
    IngestState,
    MessageDue,
    MigrateRequested,
    PreferenceSet,
    RunBroke,
    RunDue,
    SendSettled,
    Stimulus,
    SuppressionSet,
)
from upshotd.domain.workflow import ExitRule


class Decision(NamedTuple):
    """What to write, and what to answer whoever caused it."""

    changes: Changes
    answer: Answer = None


def decide(  # noqa: C901, PLR0912
    workspace_id: str,
    definitions: Definitions,
    state: State,
    stimulus: Stimulus,
    now_us: int,
    ids: Ids,
) -> Decision:
    """Return what follows from *stimulus*. Reads nothing but its arguments, changes none."""
    draft = Draft(workspace_id, definitions, state, now_us, ids)
    answer: Answer = None
    match stimulus:
        case EventArrived():
            answer = _event(draft, stimulus.event)
        case EngagementArrived():
            answer = engage(draft, stimulus.engagement)
        case SendSettled():
            sending.settle(draft, stimulus)
        case FetchSettled():
            _fetched(draft, stimulus)
        case RunDue():
            _run_due(draft, stimulus.run_id)
        case MessageDue():
            message = draft.message(stimulus.message_id)
            if message is not None:
                sending.due(draft, message)
        case CancelRequested():
            answer = _cancel(draft, stimulus)
        case PreferenceSet():
            answer = choices.prefer(draft, stimulus)
        case SuppressionSet():
            answer = choices.hold(draft, stimulus)
        case EraseRequested():
            erasure.erase(draft, identity.named(draft, stimulus.identity))
            answer = EraseResult(now_us)
        case MigrateRequested():
            answer = migration.migrate(draft, stimulus)
        case AudienceDue():
            membership.due(draft, stimulus.audience_id, stimulus.profile_id)
        case AudienceFill():
            answer = membership.fill(draft, stimulus)
        case RunBroke():
            _broke(draft, stimulus)
        case _:
            assert_never(stimulus)
    membership.settle(draft)
    return Decision(draft.changes, answer)


# -- events ------------------------------------------------------------------------------------


def _event(draft: Draft, event: Event) -> IngestResult:
    """Profile, audiences, goals, exits, waits, starts: in this order."""
    seen = draft.state.seen.get(event.event_id)
    if seen is not None:
        return IngestResult(event.event_id, IngestState.DUPLICATE, started=seen)
    reason, violations = faults(event)
    if not reason:
        reason, violations = identity.refusal(draft, event)
    if not reason:
        reason, violations = erasure.refusal(draft, event)
    if reason:
        return IngestResult(event.event_id, IngestState.REJECTED, reason, violations)
    profile = identity.resolve(draft, event)
    for merge in draft.changes.merges:
        merging.move_runs(draft, merge)
        membership.join(draft, merge)
    if event.type is EventType.DELETE:
        return _delete(draft, event, profile)
    profile = erasure.returned(draft, profile)
    profile, warnings = identity.apply(draft, event, profile)
    # Trigger events are read through the draft, so the event stands there before runs start.
    reacting.keep(draft, event, profile.profile_id, ())
    membership.happened(draft, profile, event)
    resumed: tuple[str, ...] = ()
    own = event.own
    if event.type is EventType.TRACK and not own:
        resumed = _tracked(draft, profile, event)
    found = [
        _considered(draft, plan, profile.profile_id, event, own)
        for plan in draft.definitions.listeners(event)
    ]
    if not found:
        return IngestResult(
            event.event_id, IngestState.ACCEPTED, violations=warnings, resumed=resumed
        )
    accepted = reacting.keep(draft, event, profile.profile_id, found)
    return IngestResult(
        event.event_id,
        IngestState.ACCEPTED,
        violations=(*warnings, *_without_key(accepted.refused)),
        started=accepted.started,
        resumed=resumed,
        explanations=tuple(found),
    )


def _delete(draft: Draft, event: Event, profile: Profile) -> IngestResult:
    """Erase the person; of the event itself its id alone is kept."""
    erasure.erase(draft, profile)
    bare = Event(event.event_id, event.type, receive_us=event.receive_us, event_us=event.event_us)
    reacting.keep(draft, bare, profile.profile_id, ())
    return IngestResult(event.event_id, IngestState.ACCEPTED)


def _tracked(draft: Draft, profile: Profile, event: Event) -> tuple[str, ...]:
    """Let goals, runs and waits of a person see a track event; return the runs that went on."""
    if profile.trials:
        goals.happened(draft, profile, event)
    who = profile.profile_id
    runs, name = draft.active_runs(who), event.name
    reacting.leave(draft, runs, name, lambda journey, rule: _exits(journey, rule, event))
    return reacting.go_on(draft, draft.active_runs(who), lambda journey: _resumes(journey, event))


def _exits(journey: Journey, rule: ExitRule, event: Event) -> bool:
    return wait.met(wait.EventWait(rule.event, rule.condition), journey, event)


def _resumes(journey: Journey, event: Event) -> Move | None:
    """Return where *event* takes a run; remember it for waits that will want it."""
    for step in journey.plan.remembering:
        if isinstance(step.kind, Wait) and step.step_id != journey.step_id:
            wait.remember(step, step.kind, journey, event)
    step = journey.plan.steps[journey.step_id]
    if not isinstance(step.kind, Wait):
        return None
    return wait.happened(step, step.kind, journey, event)


def _considered(draft: Draft, plan: Plan, profile_id: str, event: Event, own: bool) -> Explanation:
    """Start a workflow that listens to *event*, unless something is against it."""
    trigger = plan.workflow.trigger
    if own and not trigger.include_own_outcomes:
        return considered(plan, OWN_OUTCOME)
    if draft.now_us - event.event_us > trigger.max_age_us:
        happened = instant(event.event_us).isoformat()
        return considered(plan, TOO_OLD, f"it happened at {happened}")
    return start(draft, plan, profile_id, event, event.event_id)


def _without_key(refused: tuple[Explanation, ...]) -> tuple[Violation, ...]:
    """Return warnings about workflows that cannot say whether they start."""
    return tuple(
        Violation("event", f"{e.workflow_id} not started: a key has no value: {e.detail}")
        for e in refused
        if e.reason == NO_KEY
    )


# -- timers, cancellations, incidents ----------------------------------------------------------


def _run_due(draft: Draft, run_id: str) -> None:
    run = draft.run(run_id)
    if run is None or not run.active or run.due_us is None or run.due_us > draft.now_us:
        return
    journey = Journey(draft, run)
    journey.planned_us = run.due_us
    journey.follow(kinds.due(journey.plan.steps[run.step_id], journey))


def _fetched(draft: Draft, settled: FetchSettled) -> None:
    """Go on with an answer, where the run still waits for it."""
    run = draft.run(settled.run_id)
    if run is None or not run.active or run.step_id != settled.step_id:
        return
    journey = Journey(draft, run)
    step = journey.plan.steps[run.step_id]
    move = kinds.fetched(step, journey, settled.attempt, settled.result)
    if move is not None:
        journey.follow(move)


def _cancel(draft: Draft, request: CancelRequested) -> CancelResult:
    if request.run_id:
        run = draft.run(request.run_id)
        if run is None:
            return CancelResult(known=False)
        wanted: list[Run] = [run]
    else:
        ids = draft.state.by_cancellation_key.get(request.cancellation_key, ())
        wanted = [run for run_id in ids if (run := draft.run(run_id)) is not None]
    canceled = [run for run in wanted if run.active]
    for run in canceled:
        journey = resume(draft, run.run_id)
        assert journey is not None, "none of them ends another one"
        journey.end(RunState.CANCELED, "CANCELED")
    return CancelResult(tuple(run.run_id for run in canceled))


def _broke(draft: Draft, incident: RunBroke) -> None:
    """Set a run aside that no decision can move: visible, and blocking nothing."""
    run = draft.run(incident.run_id)
    text = f"incident {incident.incident_id}"
    if run is not None and run.active:
        journey = Journey(draft, run)
        journey.end(RunState.FAILED, "INTERNAL", text)
    message = draft.message(incident.message_id)
    if message is not None and message.state in OPEN:
        messages.finish(draft, message, MessageState.UNDELIVERABLE, "INTERNAL", text)
