"""Goals of experiments that are reached: each trial is counted once, and then closed."""

from collections.abc import Callable

from upshotd.domain.draft import Draft
from upshotd.domain.event import Event
from upshotd.domain.journey import Journey
from upshotd.domain.message import Message
from upshotd.domain.names import names
from upshotd.domain.outcome import Engagement
from upshotd.domain.plan import Plan
from upshotd.domain.profile import Profile
from upshotd.domain.steps.experiment import EngagementGoal, EventGoal, Experiment, Goal, label
from upshotd.domain.trial import Tally, Trial, name_of, open_at
from upshotd.domain.values import replace


def happened(draft: Draft, profile: Profile, event: Event) -> None:
    """Close the trials of *profile* whose goal *event* is; what the event has led to since does not
    come before it."""
    profile_id = profile.profile_id

    def reached(trial: Trial, goal: Goal) -> str:
        if not isinstance(goal, EventGoal) or trial not in profile.trials:
            return ""
        return event.name if _met(draft, profile_id, trial, goal, event) else ""

    _close(draft, profile_id, reached)


def engaged(draft: Draft, profile_id: str, message: Message, engagement: Engagement) -> None:
    """Close the trials whose goal *engagement* with *message* is."""
    plan = draft.definitions.plans.get((message.workflow_id, message.workflow_version))
    if plan is None or message.step_id not in plan.variants:
        return
    variant = plan.variants[message.step_id]

    def reached(trial: Trial, goal: Goal) -> str:
        theirs = trial.run_id == message.run_id and label(*trial[3:5]) == variant
        if not theirs or not isinstance(goal, EngagementGoal):
            return ""
        counts = goal.include_machine or not engagement.machine
        kind = engagement.kind
        return f"{message.step_id} {kind.name.lower()}" if counts and kind in goal.kinds else ""

    _close(draft, profile_id, reached)


def _close(draft: Draft, profile_id: str, reached: Callable[[Trial, Goal], str]) -> None:
    """Count a success for each open trial of which *reached* says what did it, and close it."""
    profile = draft.profile(profile_id)
    done: dict[Trial, str] = {}
    for trial in open_at(profile.trials, draft.now_us):
        goal = _goal(draft, trial)
        what = reached(trial, goal) if goal is not None else ""
        if what:
            done[trial] = what
    if not done:
        return
    for trial, what in done.items():
        name = name_of(trial.workflow_id, trial.step_id)
        draft.count(name, trial.variant_id, Tally(successes=1))
        _note(draft, trial, what)
    still_open = tuple(trial for trial in profile.trials if trial not in done)
    draft.put_profile(replace(draft.profile(profile_id), trials=still_open))


def _goal(draft: Draft, trial: Trial) -> Goal | None:
    plan = draft.definitions.plans.get((trial.workflow_id, trial.version))
    step = plan.steps.get(trial.step_id) if plan is not None else None
    if step is None or not isinstance(step.kind, Experiment) or step.kind.optimize is None:
        return None
    return step.kind.optimize.goal


def _met(draft: Draft, profile_id: str, trial: Trial, goal: EventGoal, event: Event) -> bool:
    """Return whether *event* is the goal; what happened before the trial did not come of it."""
    if goal.event != event.name or event.event_us < trial.start_us:
        return False
    if not goal.condition:
        return True
    plan = draft.definitions.plans[trial.workflow_id, trial.version]
    known = _names(draft, profile_id, plan, trial, event)
    return draft.definitions.conditions.holds(goal.condition, known).holds


def _names(
    draft: Draft, profile_id: str, plan: Plan, trial: Trial, event: Event
) -> dict[str, object]:
    """Return what the condition of a goal may name; of the run, which may have ended, its ids."""
    group = draft.group(event.group_of)
    profile, inside = draft.profile(profile_id), draft.audiences(profile_id)
    known = names(event, plan.parts, profile, group, draft.now_us, audiences=inside)
    run = {"id": trial.run_id, "workflow_id": trial.workflow_id, "version": trial.version}
    return {**known, "run": {**run, "key": trial.key}}


def _note(draft: Draft, trial: Trial, what: str) -> None:
    """Note it in the timeline of a run that is still under way."""
    run = draft.run(trial.run_id)
    if run is not None and run.active:
        journey = Journey(draft, run)
        journey.note("goal_reached", f"{trial.variant_id}: {what}", trial.step_id)
        journey.save()
