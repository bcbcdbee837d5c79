"""A batch of stimuli of one workspace: what to load for it, and the decisions in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import structlog

from upshotd.application.codec import Codec
from upshotd.domain.addresses import forms
from upshotd.domain.definitions import Definitions
from upshotd.domain.engine import Decision, decide
from upshotd.domain.erasure import ERASED
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event, EventType, RejectedEvent
from upshotd.domain.fetching import Found
from upshotd.domain.ids import Ids
from upshotd.domain.message import OPEN, Accepted, Deferred, MessageState
from upshotd.domain.outcome import Engagement
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes, Identity, IdKind, ProviderKey, State, Wanted
from upshotd.domain.stimulus import (
    Answer,
    AudienceDue,
    AudienceFill,
    CancelRequested,
    EngagementArrived,
    EngagementResult,
    EngagementState,
    EraseRequested,
    EventArrived,
    FetchSettled,
    FillResult,
    IngestResult,
    IngestState,
    MessageDue,
    MigrateRequested,
    MigrateResult,
    PreferenceResult,
    PreferenceSet,
    RunBroke,
    RunDue,
    SendSettled,
    Stimulus,
    SuppressionSet,
)
from upshotd.domain.values import replace

log = structlog.get_logger()


def wanted(stimuli: Sequence[Stimulus], definitions: Definitions) -> Wanted:
    """Return what deciding on *stimuli* may read."""
    want = Wanted()
    for stimulus in stimuli:
        _want(want, stimulus)
    want.entry_workflow_ids = {
        plan.workflow.workflow_id for plan in definitions.current.values() if plan.counts_starts
    }
    want.memberships = bool(definitions.audiences)
    want.counters = frozenset().union(*(plan.counters for plan in definitions.plans.values()))
    want.experiments = frozenset().union(*(p.experiments for p in definitions.plans.values()))
    return want


def versions(state: State, stimuli: Sequence[Stimulus]) -> set[tuple[str, int]]:
    """Return the versions that deciding *stimuli* on *state* may ask for."""
    found = {(run.workflow_id, run.workflow_version) for run in state.runs.values()}
    found |= {(m.workflow_id, m.workflow_version) for m in state.messages.values()}
    for profile in state.profiles.values():
        found.update((trial.workflow_id, trial.version) for trial in profile.trials)
    for stimulus in stimuli:
        if isinstance(stimulus, MigrateRequested) and stimulus.run_id in state.runs:
            found.add((state.runs[stimulus.run_id].workflow_id, stimulus.version))
    return found


def _want(want: Wanted, stimulus: Stimulus) -> None:  # noqa: C901, PLR0912
    match stimulus:
        case EventArrived():
            _want_event(want, stimulus.event)
        case EngagementArrived():
            _want_engagement(want, stimulus.engagement)
        case SendSettled():
            _want_settled(want, stimulus)
        case MessageDue():
            want.message_ids.add(stimulus.message_id)
            want.content_ids.add(stimulus.message_id)
        case RunDue() | RunBroke() | MigrateRequested():
            want.run_ids.add(stimulus.run_id)
        case FetchSettled():
            want.run_ids.add(stimulus.run_id)
            if isinstance(stimulus.result, Found):
                want.profile_ids.update(stimulus.result.profile_ids)
        case PreferenceSet() | EraseRequested():
            want.identities.add(stimulus.identity)
        case AudienceDue():
            want.profile_ids.add(stimulus.profile_id)
        case AudienceFill():
            want.profile_ids.add(stimulus.profile_id)
            want.former_ids.update((stimulus.profile_id, *stimulus.former_ids))
        case SuppressionSet(owner=owner):
            if isinstance(owner, str):
                want.addresses.update(forms(owner))
            else:
                want.identities.add(owner)
        case CancelRequested():
            if stimulus.run_id:
                want.run_ids.add(stimulus.run_id)
            else:
                want.cancellation_keys.add(stimulus.cancellation_key)
        case _:
            assert_never(stimulus)


def _want_engagement(want: Wanted, engagement: Engagement) -> None:
    want.engagement_ids.add(engagement.engagement_id)
    if engagement.message_id:
        want.message_ids.add(engagement.message_id)
    elif engagement.recipient:
        want.recipients.add(engagement.recipient)
        want.addresses.update(forms(engagement.recipient))
    else:
        want.provider_keys.add((engagement.provider, engagement.provider_message_id))


def _want_settled(want: Wanted, settled: SendSettled) -> None:
    want.message_ids.add(settled.message_id)
    if isinstance(settled.result, Deferred):  # another provider may be asked at once
        want.content_ids.add(settled.message_id)
    key = provider_key_of(settled)
    if key is not None:
        want.provider_keys.add(key)


def provider_key_of(settled: SendSettled) -> ProviderKey | None:
    """Return how the provider names the message from now on, if it told."""
    result = settled.result
    if isinstance(result, Accepted) and result.provider_message_id:
        return settled.provider, result.provider_message_id
    return None


def _want_event(want: Wanted, event: Event) -> None:
    want.event_ids.add(event.event_id)
    want.identities.update(wanted_identities(event))
    group_id = event.group_of
    if group_id:
        want.group_ids.add(group_id)


def wanted_identities(event: Event) -> list[Identity]:
    """Return all ids by which *event* may name a person."""
    found: list[Identity] = []
    if event.user_id:
        found.append((IdKind.USER, event.user_id))
    if event.anonymous_id:
        found.append((IdKind.ANONYMOUS, event.anonymous_id))
    if event.previous_id:
        found.append((IdKind.ANONYMOUS, event.previous_id))
        found.append((IdKind.USER, event.previous_id))
    return found


@dataclass(slots=True)
class Decided:
    """What a batch of one workspace writes and answers."""

    changes: Changes
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decider:
    """Decides stimuli one after the other, each on the state the ones before it left."""

    workspace_id: str
    definitions: Definitions
    state: State
    now_us: int
    codec: Codec
    ids: Ids
    #: The engine's `decide`; tests put one that breaks in its place.
    step: Callable[..., Decision] = decide

    def decide(self, stimuli: Sequence[Stimulus]) -> Decided:
        """Return the changes and answers of *stimuli*; one that breaks is set aside alone."""
        decided = Decided(Changes(self.workspace_id))
        for stimulus in stimuli:
            decision = self._one(stimulus)
            if not decision.changes.empty:
                self.state.absorb(decision.changes)
                decided.changes.extend(decision.changes)
            decided.answers.append(decision.answer)
        return decided

    def set_aside(self, stimulus: Stimulus) -> Decision:
        """Return what becomes of a stimulus that cannot be decided, or not be stored.

        What came from outside is refused; a run of ours is ended, visibly.
        """
        incident_id = self.ids.next()
        kind = type(stimulus).__name__
        log.error("decision.set_aside", incident_id=incident_id, stimulus=kind)
        run_id = _run_of(self.state, stimulus)
        if run_id:
            message_id = stimulus.message_id if isinstance(stimulus, MessageDue) else ""
            return self._fail_run(stimulus, RunBroke(run_id, incident_id, message_id))
        decision = Decision(Changes(self.workspace_id), _refusal(stimulus, incident_id))
        if isinstance(stimulus, AudienceDue):
            self._still(stimulus, decision.changes)
        self._keep_rejected(decision, stimulus)
        return decision

    def _still(self, due: AudienceDue, changes: Changes) -> None:
        """Take its moment from a membership that cannot be judged: it would come for ever."""
        row = self.state.memberships.get(due.profile_id, {}).get(due.audience_id)
        if row is not None:
            key = (due.profile_id, due.audience_id)
            changes.memberships[key] = replace(row, due_us=None)

    def _one(self, stimulus: Stimulus) -> Decision:
        try:
            decision = self._step(stimulus)
        except Exception:
            # A bug of ours, or of a library: it may cost this one stimulus and nothing else.
            log.exception("decision.broke", stimulus=type(stimulus).__name__)
            return self.set_aside(stimulus)
        if decision.answer is not None:
            self._keep_rejected(decision, stimulus)
        if decision.changes.memberships:
            self._encode(decision.changes)
        return decision

    def _encode(self, changes: Changes) -> None:
        """Encode the events by which workflows hear of audiences: the engine knows no encoding."""
        for event_id, accepted in changes.events.items():
            if accepted.event.type is EventType.AUDIENCE:
                encoded = self.codec.audience_event(accepted.event)
                changes.events[event_id] = accepted._replace(event=encoded)

    def _step(self, stimulus: Stimulus) -> Decision:
        return self.step(
            self.workspace_id, self.definitions, self.state, stimulus, self.now_us, self.ids
        )

    def _fail_run(self, stimulus: Stimulus, broke: RunBroke) -> Decision:
        """End the run; an answer of a provider is then recorded without moving it."""
        try:
            decision = self._step(broke)
        except Exception:
            log.exception("run.not_told", incident_id=broke.incident_id)
            return Decision(self._stilled(broke))
        if isinstance(stimulus, SendSettled):
            self.state.absorb(decision.changes)
            decision.changes.extend(self._step(stimulus).changes)
        return decision

    def _stilled(self, broke: RunBroke) -> Changes:
        """Return the run and message as ended, without an outcome: not even that can be made.

        Their timers would come again and again.
        """
        changes = Changes(self.workspace_id)
        run = self.state.runs.get(broke.run_id)
        if run is not None and run.active:
            changes.runs[run.run_id] = replace(
                run,
                state=RunState.FAILED,
                reason="INTERNAL",
                step_id="",
                due_us=None,
                end_us=self.now_us,
                holds_active=False,
            )
        message = self.state.messages.get(broke.message_id)
        if message is not None and message.state in OPEN:
            changes.messages[message.message_id] = replace(
                message, state=MessageState.UNDELIVERABLE, reason="INTERNAL", due_us=None, owner=""
            )
        return changes

    def _keep_rejected(self, decision: Decision, stimulus: Stimulus) -> None:
        """Keep a refused event where people can see it: SDKs never look at answers."""
        answer = decision.answer
        if not isinstance(answer, IngestResult) or answer.state is not IngestState.REJECTED:
            return
        assert isinstance(stimulus, EventArrived)
        # What a person left behind does not come back as a refused event.
        erased = answer.reason == ERASED
        payload = "" if erased else self.codec.event_json(stimulus.event.payload)
        rejected = RejectedEvent(
            rejection_id=self.ids.next(),
            event_id=stimulus.event.event_id,
            receive_us=stimulus.event.receive_us,
            reason=answer.reason,
            violations=answer.violations,
            payload=payload,
        )
        decision.changes.rejected.append(rejected)


def _refusal(stimulus: Stimulus, incident_id: str) -> Answer:
    if isinstance(stimulus, EventArrived):
        fault = Violation("event", f"could not be decided; incident {incident_id}")
        event_id = stimulus.event.event_id
        return IngestResult(event_id, IngestState.REJECTED, "INTERNAL", (fault,))
    if isinstance(stimulus, EngagementArrived):
        return EngagementResult(EngagementState.REJECTED, "INTERNAL")
    if isinstance(stimulus, MigrateRequested):
        return MigrateResult(older=True)
    if isinstance(stimulus, AudienceFill):
        return FillResult()
    if isinstance(stimulus, PreferenceSet):
        return PreferenceResult("INTERNAL")
    return None


def _run_of(state: State, stimulus: Stimulus) -> str:
    """Return the run a stimulus moves; empty for one that comes from outside."""
    match stimulus:
        case RunDue() | FetchSettled():
            return stimulus.run_id
        case SendSettled() | MessageDue():
            message = state.messages.get(stimulus.message_id)
            return message.run_id if message is not None else ""
        case _:
            return ""
