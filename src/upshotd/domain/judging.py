"""Whether a person belongs to an audience, and what follows from it. Pure."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from upshotd.domain import audience_words, reacting
from upshotd.domain.audience import (
    Change,
    Facts,
    Happening,
    Membership,
    Transition,
    evaluate,
    key_of,
)
from upshotd.domain.audiences import AudiencePlan, facts_of
from upshotd.domain.draft import Draft
from upshotd.domain.event import Event, EventType
from upshotd.domain.explanation import with_values
from upshotd.domain.journey import Journey
from upshotd.domain.language import Conditions
from upshotd.domain.names import profile_names
from upshotd.domain.outcome import Outcome, OutcomeKind, event_name
from upshotd.domain.profile import Profile
from upshotd.domain.run import Run
from upshotd.domain.steps import wait
from upshotd.domain.steps.move import Move
from upshotd.domain.steps.wait import Wait
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule

#: Why an outcome was written of somebody who belonged to the audience before it was defined.
BACKFILLED: Final = "BACKFILLED"


def judge(
    draft: Draft,
    plan: AudiencePlan,
    profile_id: str,
    new: Mapping[str, tuple[Happening, ...]],
    *,
    backfill: bool = False,
    complete: bool = False,
) -> None:
    """Remember what is *new* of a person, and find out whether they belong to the audience.

    With *complete* all is known that happened before it was defined.
    """
    profile = draft.profile(profile_id)
    draft.changes.consents.setdefault(profile_id, profile.row_version)
    before = draft.membership(plan.audience_id, profile_id)
    row = current(plan, before)
    if row is None:
        row = blank(plan, profile_id, ready=plan.filled or _is_new(draft, profile_id))
    was = row.member
    row = replace(
        row, happened=joined(plan, row.happened, new), ready=row.ready or complete, due_us=None
    )
    if row.ready:
        row = _judged(draft, plan, profile, row)
    # Who has no row is not ready before everybody was looked at: a new person has one.
    if row.empty and (plan.filled or backfill):
        if before is not None:
            draft.put_profile(profile)
            draft.drop_membership(plan.audience_id, profile_id)
    elif row != before:
        put(draft, row)
    if row.member is not was:
        _moved(draft, plan, profile, row, backfill=backfill)


def _judged(draft: Draft, plan: AudiencePlan, profile: Profile, row: Membership) -> Membership:
    """Return *row* as its person is judged now."""
    known = facts_of(draft.definitions.conditions, profile, row.happened)
    verdict = evaluate(plan.audience.rule, known, draft.now_us)
    row = replace(row, due_us=verdict.due_us)
    if verdict.member is row.member:
        return row
    why = reason(plan, draft.definitions.conditions, known, draft.now_us)
    return replace(row, member=verdict.member, since_us=draft.now_us, reason=why)


def reason(plan: AudiencePlan, conditions: Conditions, known: Facts, at_us: int) -> str:
    """Return why an audience says what it says, for people."""
    named = {"traits": known.profile.traits, "profile": profile_names(known.profile)}

    def shown(source: str) -> str:
        note = conditions.holds(source, named).note
        said = with_values(source, conditions.values(source, named))
        return f"{said}: {note}" if note else said

    return audience_words.why(plan.audience.rule, known, at_us, shown)


def _is_new(draft: Draft, profile_id: str) -> bool:
    """Return whether nothing happened to the person before this decision."""
    before = draft.state.profiles.get(profile_id)
    merged = any(merge.into_profile_id == profile_id for merge in draft.changes.merges)
    return (before is None or before.erased) and not merged


def blank(plan: AudiencePlan, profile_id: str, *, ready: bool) -> Membership:
    """Return the membership of somebody of whom nothing is remembered."""
    return Membership(plan.audience_id, profile_id, plan.audience.version, ready=ready)


def current(plan: AudiencePlan, row: Membership | None) -> Membership | None:
    """Return *row* for this version of the audience: what another one remembered is not enough."""
    if row is None or row.version == plan.audience.version:
        return row
    known = {key: some for key, some in row.happened.items() if key in plan.keys}
    return replace(row, version=plan.audience.version, happened=known, due_us=None, ready=False)


def joined(
    plan: AudiencePlan,
    known: Mapping[str, tuple[Happening, ...]],
    new: Mapping[str, tuple[Happening, ...]],
) -> dict[str, tuple[Happening, ...]]:
    """Return what is remembered once *new* is added to what is *known*."""
    both = dict(known)
    for rule in plan.behaviour if new else ():
        key = key_of(rule)
        if key in new:
            both[key] = rule.often.added(known.get(key, ()), new[key])
    return both


def put(draft: Draft, row: Membership) -> None:
    """Write a membership, and the person with it."""
    draft.put_profile(draft.profile(row.profile_id))
    draft.put_membership(row)


# -- what follows --------------------------------------------------------------------------------


def _moved(
    draft: Draft, plan: AudiencePlan, profile: Profile, row: Membership, *, backfill: bool
) -> None:
    """Say that somebody came in or left; runs end and go on by it, and will start.

    Whom a backfill finds belonged to it already: nothing starts for them.
    """
    transition = Transition.ENTER if row.member else Transition.LEAVE
    change = Change(plan.audience_id, transition)
    kind = OutcomeKind.AUDIENCE_USER_MATCHED if row.member else OutcomeKind.AUDIENCE_USER_UNMATCHED
    draft.append(
        Outcome(
            outcome_id=draft.ids.next(),
            kind=kind,
            event=event_name(kind),
            occur_us=draft.now_us,
            record_us=draft.now_us,
            profile_id=profile.profile_id,
            user_id=profile.user_id,
            anonymous_id=profile.anonymous_id,
            reason=BACKFILLED if backfill else "",
            properties={"audience_id": plan.audience_id, "reason": row.reason},
        )
    )
    event = _event(draft, profile, change, row.reason)
    _tell(draft, change, event, lambda: draft.active_runs(profile.profile_id))
    if not backfill and draft.definitions.listeners(event):
        draft.entered.append((event, profile.profile_id))


def come_along(draft: Draft, plan: AudiencePlan, profile_id: str, run_ids: Collection[str]) -> None:
    """Let runs know which were of somebody else until now, of whom the audience said the contrary:
    for them the person has come in, or left."""
    profile, row = draft.profile(profile_id), draft.membership(plan.audience_id, profile_id)
    inside, happened = (row.member, row.happened) if row is not None else (False, {})
    change = Change(plan.audience_id, Transition.ENTER if inside else Transition.LEAVE)
    conditions = draft.definitions.conditions
    why = reason(plan, conditions, facts_of(conditions, profile, happened), draft.now_us)
    event = _event(draft, profile, change, why)
    _tell(
        draft,
        change,
        event,
        lambda: (run for run in draft.active_runs(profile_id) if run.run_id in run_ids),
    )


def _tell(draft: Draft, change: Change, event: Event, runs: Callable[[], Iterator[Run]]) -> None:
    """End and move the runs that wait for *change*."""
    what = f"{change.transition.name} {change.audience_id}"
    reacting.leave(draft, runs(), what, lambda journey, rule: _exits(journey, rule, change, event))
    reacting.go_on(draft, runs(), lambda journey: _resumes(journey, change))


def _event(draft: Draft, profile: Profile, change: Change, text: str) -> Event:
    """Return the event by which a workflow hears of it."""
    return Event(
        draft.ids.next(),
        EventType.AUDIENCE,
        profile.user_id,
        profile.anonymous_id,
        name=change.audience_id,
        properties={
            "audience_id": change.audience_id,
            "transition": change.transition.name,
            "reason": text,
        },
        receive_us=draft.now_us,
        event_us=draft.now_us,
    )


def _exits(journey: Journey, rule: ExitRule, change: Change, event: Event) -> bool:
    return rule.audience == change and wait.holds(rule.condition, journey, event)


def _resumes(journey: Journey, change: Change) -> Move | None:
    step = journey.plan.steps[journey.step_id]
    return wait.changed(step, step.kind, journey, change) if isinstance(step.kind, Wait) else None
