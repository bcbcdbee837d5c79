"""Who comes into an audience and who leaves it, and what follows: in the decision that makes it so.

Whatever is written of a person's memberships comes with a write of the person's row, and whatever
is found by them relies on that row: two replicas that learn different things of one person at once
do not decide beside each other.
"""

from collections.abc import Collection, Mapping
from typing import Final

from upshotd.domain import judging, messages, reacting
from upshotd.domain.audience import Happening, Membership, Transition
from upshotd.domain.audiences import AudiencePlan
from upshotd.domain.draft import Draft
from upshotd.domain.event import Event, EventType
from upshotd.domain.journey import start
from upshotd.domain.message import Message
from upshotd.domain.profile import Merge, Profile
from upshotd.domain.stimulus import AudienceFill, FillResult
from upshotd.domain.values import replace

#: How often, in one decision, what audiences started may move people into audiences again.
ROUNDS: Final = 8
_NOTHING: Mapping[str, tuple[Happening, ...]] = {}


# -- what happens --------------------------------------------------------------------------------


def happened(draft: Draft, profile: Profile, event: Event) -> None:
    """Let the audiences know of an event that was applied to *profile*."""
    audiences = draft.definitions.audiences
    if not audiences:
        return
    who, conditions = profile.profile_id, draft.definitions.conditions
    counting = audiences.by_event.get(event.name, ()) if event.type is EventType.TRACK else ()
    new = {plan.audience_id: plan.done(event, conditions) for plan in counting}
    plans = audiences.plans.values() if _anew(draft, who) else (*counting, *_reading(draft, who))
    draft.judged[who] = profile
    for plan in dict.fromkeys(plans):
        judging.judge(draft, plan, who, new.get(plan.audience_id, _NOTHING))
    for merge in draft.changes.merges:
        _come_along(draft, merge)


def settle(draft: Draft) -> None:
    """Follow up what the decision has changed of people and messages, until nothing moves."""
    if not draft.definitions.audiences:
        return
    for _ in range(ROUNDS):
        _look(draft)
        entered, draft.entered = draft.entered, []
        if not entered:
            return
        for event, profile_id in entered:
            _start(draft, event, profile_id)
    # Nothing starts any more, but who is where in the end is true.
    _look(draft)


def due(draft: Draft, audience_id: str, profile_id: str) -> None:
    """Look at somebody again for whom time alone may have changed the answer."""
    plan = draft.definitions.audiences.plans.get(audience_id)
    row = draft.membership(audience_id, profile_id)
    if row is None or row.due_us is None or row.due_us > draft.now_us:
        return
    if profile_id not in draft.state.profiles:
        draft.drop_membership(audience_id, profile_id)
        return
    if plan is None:
        judging.put(draft, replace(row, due_us=None))
        return
    judging.judge(draft, plan, profile_id, _NOTHING)


def fill(draft: Draft, told: AudienceFill) -> FillResult:
    """Take what somebody did before an audience was defined; the last time judge them."""
    plan = draft.definitions.audiences.plans.get(told.audience_id)
    if plan is None or plan.audience.version != told.version:
        return FillResult(stale=True)
    who, state = told.profile_id, draft.state
    row = draft.membership(told.audience_id, who)
    if who not in state.profiles:
        _of_nobody(draft, plan, row, told)
        return FillResult()
    if state.profiles[who].erased:
        if row is not None:
            draft.drop_membership(told.audience_id, who)
        return FillResult()
    # An event from before they were erased, that is not emptied yet, is not theirs any more.
    since_us = 0 if told.last else state.profiles[who].erase_us
    theirs = (
        (key, [one for one in some if one[0] > since_us]) for key, some in told.happened.items()
    )
    happening = {key: tuple(some) for key, some in theirs if some}
    for former_id in told.former_ids:
        former = draft.membership(told.audience_id, former_id)
        if former is not None:
            happening = judging.joined(plan, happening, former.happened)
            draft.drop_membership(told.audience_id, former_id)
    before = row is not None and row.member
    # With who became this person meanwhile more has come, which is looked at in the end.
    all_of_it = plan.filled or told.former_ids == state.profiles[who].former_ids
    complete = told.last and all_of_it
    # Of whom all is known already nothing new is found: what changes is of this moment.
    known = judging.current(plan, row)
    found = known is None or not known.ready
    judging.judge(draft, plan, who, happening, backfill=found, complete=complete)
    row = draft.membership(told.audience_id, who)
    return FillResult(moved=(row is not None and row.member) is not before)


def _of_nobody(
    draft: Draft, plan: AudiencePlan, row: Membership | None, told: AudienceFill
) -> None:
    """Keep what somebody did who is another person now, until that one is looked at."""
    if told.last:
        if row is not None:
            draft.drop_membership(told.audience_id, told.profile_id)
        return
    row = judging.current(plan, row) or judging.blank(plan, told.profile_id, ready=False)
    known = judging.joined(plan, row.happened, told.happened)
    draft.put_membership(replace(row, happened=known, ready=False))


def join(draft: Draft, merge: Merge) -> None:
    """Give what is remembered of a person to the one that they turn out to be."""
    for plan in draft.definitions.audiences.plans.values():
        rows = {
            who: judging.current(plan, draft.membership(plan.audience_id, who))
            for who in (merge.from_profile_id, merge.into_profile_id)
        }
        gone, kept = rows[merge.from_profile_id], rows[merge.into_profile_id]
        if gone is None and kept is None and (plan.filled or not plan.engaged):
            continue  # before that nobody may have looked at the messages of the stranger
        # Once everybody was looked at, what is remembered of a stranger is all there is.
        ready = _ready(draft, plan, merge.into_profile_id, kept) and (
            plan.filled or _ready(draft, plan, merge.from_profile_id, gone)
        )
        kept = kept or judging.blank(plan, merge.into_profile_id, ready=ready)
        both = judging.joined(plan, kept.happened, gone.happened if gone is not None else _NOTHING)
        judging.put(draft, replace(kept, happened=both, ready=ready))
        if draft.membership(plan.audience_id, merge.from_profile_id) is not None:
            draft.drop_membership(plan.audience_id, merge.from_profile_id)


def _ready(draft: Draft, plan: AudiencePlan, profile_id: str, row: Membership | None) -> bool:
    """Return whether all is known that somebody did before an audience was defined."""
    if row is not None:
        return row.ready
    return plan.filled or profile_id not in draft.state.profiles


def _come_along(draft: Draft, merge: Merge) -> None:
    """Let the runs of a person who turns out to be another one know of the audiences in which the
    other one was already, or never was."""
    run_ids, into = draft.state.active.get(merge.from_profile_id, {}), merge.into_profile_id
    for plan in draft.definitions.audiences.plans.values() if run_ids else ():
        row = draft.membership(plan.audience_id, into)
        inside, ready = (row.member, row.ready) if row is not None else (False, plan.filled)
        # Of what has just changed all runs have heard.
        unchanged = inside is _was_in(draft, plan, into)
        if ready and unchanged and inside is not _was_in(draft, plan, merge.from_profile_id):
            judging.come_along(draft, plan, into, run_ids)


def _was_in(draft: Draft, plan: AudiencePlan, profile_id: str) -> bool:
    """Return whether a person was in an audience before this decision."""
    row = draft.state.memberships.get(profile_id, {}).get(plan.audience_id)
    return row is not None and row.member


def forget(draft: Draft, profile_id: str) -> None:
    """Leave nothing of somebody who is erased."""
    known = [*draft.state.memberships.get(profile_id, ())]
    for audience_id in (*known, *(a for who, a in draft.changes.memberships if who == profile_id)):
        draft.drop_membership(audience_id, profile_id)


# -- who is looked at ----------------------------------------------------------------------------


def _anew(draft: Draft, profile_id: str) -> bool:
    """Return whether everything about the person is to be looked at: they are new, or two."""
    before = draft.state.profiles.get(profile_id)
    merged = any(merge.into_profile_id == profile_id for merge in draft.changes.merges)
    return before is None or before.erased or merged


def _reading(draft: Draft, profile_id: str) -> tuple[AudiencePlan, ...]:
    """Return the audiences that read what has changed of a person."""
    before = draft.judged.get(profile_id) or draft.state.profiles.get(profile_id)
    now = draft.profile(profile_id)
    if before is now or (before is not None and _read(before) == _read(now)):
        return ()
    return draft.definitions.audiences.reading


def _read(profile: Profile) -> tuple[object, ...]:
    ids = (profile.user_id, profile.anonymous_ids)
    # Written out: true equals 1 here, and not in a condition.
    return (repr(profile.traits), profile.contact, profile.group_ids, ids)


def _look(draft: Draft) -> None:
    """Let the audiences know of messages, and of people for as long as runs that go on by it change
    them."""
    _messages(draft)
    while _people(draft):
        pass


def _people(draft: Draft) -> bool:
    """Let the audiences know of people who have changed; return whether there were any."""
    looked = False
    for who, profile in tuple(draft.changes.profiles.items()):
        if not profile.is_person:
            continue
        fresh = _anew(draft, who) and who not in draft.judged
        audiences = draft.definitions.audiences
        plans = audiences.plans.values() if fresh else _reading(draft, who)
        draft.judged[who] = profile
        for plan in plans:
            judging.judge(draft, plan, who, _NOTHING)
        looked = looked or bool(plans)
    return looked


def _messages(draft: Draft) -> None:
    """Let the audiences know of new facts of messages."""
    if not draft.definitions.audiences.engaged:
        return
    for message in tuple(draft.changes.messages.values()):
        before = draft.heard.get(message.message_id)
        if before is None:
            known = draft.state.messages.get(message.message_id)
            before = frozenset(known.facts) if known is not None else frozenset()
        words = message.facts.keys() - before
        draft.heard[message.message_id] = frozenset(message.facts)
        if words and message.profile_id:
            _told(draft, message, words)


def _told(draft: Draft, message: Message, words: Collection[str]) -> None:
    for plan in draft.definitions.audiences.engaged:
        new = plan.told(message, words)
        if new:
            judging.judge(draft, plan, messages.whose(draft, message), new)


def _start(draft: Draft, event: Event, profile_id: str) -> None:
    """Start the workflows that listen to a change."""
    transition = Transition[str(event.properties["transition"])]
    # Trigger events are read through the draft, so the event stands there before runs start.
    reacting.keep(draft, event, profile_id, ())
    found = [
        start(draft, plan, profile_id, event, event.event_id)
        for plan in draft.definitions.listeners(event)
        if plan.workflow.trigger.transition is transition
    ]
    reacting.keep(draft, event, profile_id, found)
