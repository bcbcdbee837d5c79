"""One run on its way: from step to step until it holds or ends. Used inside one decision."""

from collections.abc import Mapping
from typing import assert_never

from upshotd.domain import messages, outgoing
from upshotd.domain.draft import Draft
from upshotd.domain.errors import ConditionError
from upshotd.domain.event import Event
from upshotd.domain.explanation import (
    ACTIVE,
    CONDITION_FAILED,
    CONDITION_FALSE,
    COOLDOWN,
    NO_KEY,
    RAN_BEFORE,
    STARTED,
    Explanation,
    with_values,
)
from upshotd.domain.message import MessageState
from upshotd.domain.names import instant, names, run_names
from upshotd.domain.outcome import Outcome, OutcomeKind, event_name
from upshotd.domain.plan import Plan
from upshotd.domain.profile import Profile
from upshotd.domain.run import Run, RunState, TimelineEntry
from upshotd.domain.steps import digest
from upshotd.domain.steps.kinds import enter
from upshotd.domain.steps.move import End, Hold, Into, Move, Next
from upshotd.domain.values import replace
from upshotd.domain.workflow import ReentryMode, Step

#: Entries of a timeline; what comes after is not noted, but for how it ended.
TIMELINE_MAX = 1000
_LAST = frozenset({"decided", "ended"})
#: Characters of an entry's detail.
DETAIL_MAX = 1000

_END_KINDS = {
    RunState.COMPLETED: OutcomeKind.RUN_COMPLETED,
    RunState.CANCELED: OutcomeKind.RUN_CANCELED,
    RunState.FAILED: OutcomeKind.RUN_FAILED,
}


class Journey:
    """A run being moved. It is written to the draft by `save`, once."""

    __slots__ = ("_names", "_run", "draft", "due_us", "enter_us", "now_us", "planned_us", "step_id",
                 "steps", "timeline")  # fmt: skip

    def __init__(self, draft: Draft, run: Run, known: dict[str, object] | None = None) -> None:
        self.draft = draft
        self._run = run
        self.step_id = run.step_id
        self.enter_us = run.enter_us
        self.due_us = run.due_us
        #: The time of the decision.
        self.now_us = draft.now_us
        #: When what moves it was to come: earlier than now where a timer is late.
        self.planned_us = draft.now_us
        self.steps: dict[str, Mapping[str, object]] = dict(run.steps)
        self.timeline = list(run.timeline)
        self._names: dict[str, object] | None = None
        if known is not None:
            # The names its start was decided on, made complete by the run's own.
            self._names = {
                **known,
                "run": run_names(run, self.plan.parts),
                "steps": self.steps,
            }

    @property
    def run(self) -> Run:
        """The run as it was before this decision moved it."""
        return self._run

    @property
    def plan(self) -> Plan:
        """The plan of the version it is on. Ending a run does not need it."""
        return self.draft.plan(self._run)

    @property
    def profile(self) -> Profile:
        """Whose run it is."""
        return self.draft.profile(self._run.profile_id)

    @property
    def changed(self) -> bool:
        """Whether it noted or left anything that is not saved."""
        return len(self.timeline) != len(self._run.timeline) or self.steps != self._run.steps

    # what steps use

    def note(self, what: str, detail: str = "", step_id: str | None = None) -> None:
        """Note in the timeline what happened at the step, and why."""
        if len(self.timeline) < TIMELINE_MAX or what in _LAST:
            at = self.step_id if step_id is None else step_id
            self.timeline.append(TimelineEntry(self.now_us, at, what, detail[:DETAIL_MAX]))

    def note_once(self, what: str, detail: str) -> None:
        """Note what may come with every event, the first time at this step only."""
        entry = (self.step_id, what, detail[:DETAIL_MAX])
        if not any(noted[1:] == entry for noted in self.timeline):
            self.note(what, detail)

    def leave(self, step_id: str, **values: object) -> None:
        """Add to what a step leaves for later conditions and templates."""
        self.steps[step_id] = {**self.steps.get(step_id, {}), **values}

    def names(self) -> dict[str, object]:
        """Return what conditions and templates of this run may name."""
        if self._names is None:
            event = self.draft.trigger_event(self._run.event_id)
            group = self.draft.group(event.group_of) if event is not None else None
            parts = self.plan.parts
            profile, inside = self.profile, self.draft.audiences(self._run.profile_id)
            self._names = names(
                event, parts, profile, group, self.now_us, self._run, self.steps, inside
            )
        return self._names

    def forget_names(self) -> None:
        """Make the names anew when they are asked for: the profile has changed."""
        self._names = None

    def key(self, source: str) -> str:
        """Return the value of a key of this run, empty without one; raises ConditionError."""
        return key_of(self.draft, source, self.names()) if source else ""

    def of(self, run: Run) -> "Journey":
        """Return another run of this person, to be moved in the same decision."""
        return Journey(self.draft, run)

    def holds(self, condition: str) -> bool:
        """Return whether *condition* holds; why it could not be evaluated is noted."""
        verdict = self.draft.definitions.conditions.holds(condition, self.names())
        if verdict.note:
            self.note_once("condition_failed", f"{condition}: {verdict.note}")
        return verdict.holds

    def because(self, condition: str) -> str:
        """Return *condition* with the values that it was evaluated on."""
        values = self.draft.definitions.conditions.values(condition, self.names())
        return with_values(condition, values)

    def outcome(
        self,
        kind: OutcomeKind,
        *,
        event: str = "",
        step_id: str = "",
        message_id: str = "",
        reason: str = "",
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Append an outcome about the run."""
        run, profile = self._run, self.profile
        self.draft.append(
            Outcome(
                outcome_id=self.draft.ids.next(),
                kind=kind,
                event=event or event_name(kind),
                occur_us=self.now_us,
                record_us=self.now_us,
                profile_id=profile.profile_id,
                user_id=profile.user_id,
                anonymous_id=profile.anonymous_id,
                workflow_id=run.workflow_id,
                workflow_version=run.workflow_version,
                run_id=run.run_id,
                step_id=step_id,
                message_id=message_id,
                reason=reason,
                properties=properties or {},
                event_id=run.event_id,
                variant=self.plan.variants.get(step_id, "") if step_id else "",
            )
        )

    def start_other(self, plan: Plan, step_id: str) -> Explanation | None:
        """Start a run of *plan* for the same person and event, and return what became of that.

        None when the event is no longer kept.
        """
        event = self.draft.trigger_event(self._run.event_id)
        if event is None:
            return None
        key = f"{self._run.run_id}/{step_id}"
        return start(self.draft, plan, self._run.profile_id, event, key, self._run.depth + 1)

    # moving

    def begin(self) -> None:
        """Enter the first step, and go on from there."""
        self.follow(self._enter(self.plan.workflow.steps[0]))

    def follow(self, move: Move) -> None:
        """Go where *move* says from the present step, and on until the run holds or ends."""
        while True:
            match move:
                case Next():
                    target = self.plan.following[self.step_id]
                case Into():
                    target = self.plan.into(move.steps, self.step_id)
                case Hold():
                    self.due_us = move.due_us
                    self.save()
                    return
                case End():
                    self.end(move.state, move.reason, move.detail)
                    return
                case _:
                    assert_never(move)
            if target is None:
                self.end(RunState.COMPLETED)
                return
            move = self._enter(self.plan.steps[target])

    def _enter(self, step: Step) -> Move:
        self.step_id = step.step_id
        self.enter_us = self.now_us
        self.due_us = None
        if step.condition and not self.holds(step.condition):
            self.note("skipped", self.because(step.condition))
            return Next()
        return enter(step, self)

    def end(self, state: RunState, reason: str = "", detail: str = "") -> None:
        """End the run, and say so in the log."""
        why = f"{reason}: {detail}" if state is RunState.FAILED and detail else detail
        self.note("ended", why or reason or state.name, step_id="")
        self._drop_open_messages()
        self.outcome(_END_KINDS[state], reason=reason)
        left = None
        if self.due_us is not None and reason != digest.DIGESTED:  # it may be that of a digest
            left = replace(self._run, step_id=self.step_id, due_us=self.due_us, steps=self.steps)
        self.step_id, self.due_us = "", None
        self.save(state, reason)
        if left is not None:
            digest.pass_on(self.draft, left)

    def _drop_open_messages(self) -> None:
        """An attempt that has not begun is not begun any more."""
        for message in outgoing.made(self, self.step_id):
            if message.state is MessageState.RETRYING:
                messages.suppress(self.draft, message, "RUN_ENDED")

    def save(self, state: RunState = RunState.ACTIVE, reason: str = "") -> None:
        """Write the run to the draft."""
        active = state is RunState.ACTIVE
        self._run = replace(
            self._run,
            state=state,
            reason=reason,
            step_id=self.step_id,
            enter_us=self.enter_us,
            due_us=self.due_us,
            end_us=None if active else self.now_us,
            holds_active=self._run.holds_active and active,
            steps=self.steps,
            timeline=tuple(self.timeline),
        )
        self.draft.put_run(self._run)


def resume(draft: Draft, run_id: str) -> Journey | None:
    """Return a run as it is by now as a journey; None when it has ended.

    What moves one run may change another one: to end it, or to give it the timer of a digest.
    """
    run = draft.run(run_id)
    return Journey(draft, run) if run is not None and run.active else None


# -- starting ----------------------------------------------------------------------------------


def start(
    draft: Draft, plan: Plan, profile_id: str, event: Event, start_key: str, depth: int = 0
) -> Explanation:
    """Start a run unless its trigger's condition or re-entry forbids; return what was found."""
    workflow = plan.workflow
    group = draft.group(event.group_of)
    profile, inside = draft.profile(profile_id), draft.audiences(profile_id)
    known = names(event, plan.parts, profile, group, draft.now_us, audiences=inside)
    condition, conditions = workflow.trigger.condition, draft.definitions.conditions
    if condition:
        verdict = conditions.holds(condition, known)
        if verdict.note:
            return considered(plan, CONDITION_FAILED, f"{condition}: {verdict.note}")
        if not verdict.holds:
            values = conditions.values(condition, known)
            return considered(plan, CONDITION_FALSE, with_values(condition, values))
    try:
        key, cancellation_key = "", ""
        if workflow.reentry.key:
            key = key_of(draft, workflow.reentry.key, known)
        if workflow.cancellation_key:
            cancellation_key = key_of(draft, workflow.cancellation_key, known)
    except ConditionError as error:
        return considered(plan, NO_KEY, str(error))
    barred = _barred(draft, plan, profile_id, key)
    if barred is not None:
        return barred
    run = Run(
        run_id=draft.ids.next(),
        workflow_id=workflow.workflow_id,
        workflow_version=workflow.version,
        profile_id=profile_id,
        event_id=event.event_id,
        start_key=start_key,
        start_us=draft.now_us,
        reentry_key=key,
        holds_active=workflow.reentry.mode is ReentryMode.ONCE_ACTIVE,
        holds_ever=workflow.reentry.mode is ReentryMode.ONCE_EVER,
        cancellation_key=cancellation_key,
        depth=depth,
    )
    draft.changes.last_starts[run.workflow_id, profile_id, key] = draft.now_us
    # A start that was decided before its person was erased is refused.
    draft.changes.consents[profile_id] = draft.profile(profile_id).row_version
    journey = Journey(draft, run, known)
    journey.note("started", f"by {event.type} {event.name}".rstrip())
    journey.outcome(OutcomeKind.RUN_STARTED)
    draft.put_run(run)
    journey.begin()
    return considered(plan, STARTED, run_id=run.run_id)


def considered(plan: Plan, reason: str, detail: str = "", run_id: str = "") -> Explanation:
    """Return what the workflow of *plan* made of an event."""
    workflow = plan.workflow
    return Explanation(workflow.workflow_id, workflow.version, reason, detail[:DETAIL_MAX], run_id)


def key_of(draft: Draft, source: str, known: Mapping[str, object]) -> str:
    """Return the value of a key, cut to 255 characters; raises ConditionError."""
    return str(draft.definitions.conditions.value(source, known))[:255]


def _barred(draft: Draft, plan: Plan, profile_id: str, key: str) -> Explanation | None:
    """Return why re-entry forbids a start now; None when it does not."""
    workflow, reentry = plan.workflow, plan.workflow.reentry
    entry = (workflow.workflow_id, profile_id, key)
    last = draft.changes.last_starts.get(entry, draft.state.last_starts.get(entry))
    if reentry.mode is ReentryMode.ONCE_EVER and last is not None:
        return considered(plan, RAN_BEFORE, f"at {instant(last).isoformat()}")
    if reentry.cooldown_us and last is not None and draft.now_us < last + reentry.cooldown_us:
        until = instant(last + reentry.cooldown_us).isoformat()
        return considered(plan, COOLDOWN, f"until {until}")
    if reentry.mode is ReentryMode.ONCE_ACTIVE:
        for run in draft.active_runs(profile_id):
            if run.workflow_id == workflow.workflow_id and run.reentry_key == key:
                return considered(plan, ACTIVE, f"run {run.run_id}")
    return None
