"""Erasing a person. Pure: what goes at once stands in the changes, the rest is found by `Erasure`.

What is left is a tombstone: a profile without anything but its ids, and messages that nobody can
engage with. It is what stops whatever comes late.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final

from upshotd.domain import addresses, membership
from upshotd.domain.approval import Approval, reviewers
from upshotd.domain.draft import Draft
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event, EventType, RejectedEvent
from upshotd.domain.journey import Journey
from upshotd.domain.message import OPEN, Message, MessageState
from upshotd.domain.messages import suppress
from upshotd.domain.outcome import Outcome, OutcomeKind, event_name
from upshotd.domain.profile import Erasure, Profile
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import IdKind
from upshotd.domain.values import replace

#: The reason of everything that ends because its person was erased.
ERASED: Final = "ERASED"


def erase(draft: Draft, profile: Profile) -> None:
    """Leave a tombstone of *profile*, end what runs for it and say so in the log."""
    who = profile.profile_id
    for message in _messages(draft, who):
        if message.state in OPEN:
            suppress(draft, message._replace(recipient=""), ERASED)
        draft.put_message(tombstone(message))
    for run in tuple(draft.active_runs(who)):
        Journey(draft, run).end(RunState.CANCELED, ERASED)
    membership.forget(draft, who)
    for group_id in profile.group_ids:
        draft.put_group_member(group_id, who, member=False)
    draft.append(_outcome(draft, profile))
    draft.put_profile(
        Profile(
            who,
            user_id=profile.user_id,
            anonymous_ids=profile.anonymous_ids,
            erase_us=draft.now_us,
            row_version=profile.row_version,
        )
    )
    gone = Erasure(
        who,
        (who, *profile.former_ids),
        profile.user_id,
        profile.anonymous_ids,
        tuple(addresses.keys(profile.contact)),
        draft.now_us,
    )
    draft.changes.erasures[who] = gone
    _wake(draft, gone)


def _wake(draft: Draft, gone: Erasure) -> None:
    """Wake the runs that wait for the person, as far as they are loaded: the store wakes those that
    it has by then, and finds none that has asked in this batch."""
    known = {**draft.state.runs, **draft.changes.runs}
    for run in known.values():
        awake = woken(run, gone)
        if awake is not None:
            draft.put_run(awake)


def refusal(draft: Draft, event: Event) -> tuple[str, tuple[Violation, ...]]:
    """Return why *event* comes too late for the person it is about; an empty word otherwise."""
    if event.type is EventType.DELETE:
        return "", ()
    for kind, value in (
        (IdKind.USER, event.user_id),
        (IdKind.ANONYMOUS, event.anonymous_id),
        (IdKind.ANONYMOUS, event.previous_id),
    ):
        profile_id = draft.state.identities.get((kind, value)) if value else None
        profile = draft.state.profiles.get(profile_id) if profile_id else None
        if profile is not None and profile.erase_us and event.event_us <= profile.erase_us:
            return ERASED, (Violation("event", "the person was erased after it happened"),)
    return "", ()


def returned(draft: Draft, profile: Profile) -> Profile:
    """Return the person; one who was erased and does something again begins anew."""
    if profile.erased:
        profile = replace(profile, create_us=draft.now_us)
        draft.put_profile(profile)
    return profile


def emptied(run: Run) -> Run:
    """Return an ended run without anything personal; it belongs to nobody."""
    return replace(
        run,
        profile_id="",
        reentry_key="",
        cancellation_key="",
        holds_active=False,
        holds_ever=False,
        steps={},
        timeline=(),
    )


def woken(run: Run, gone: Erasure) -> Run | None:
    """Return a run of somebody else that waits for the person to decide, as due at once: its timer
    finds who is left to ask. None for any other run.

    One that waits for an answer looks at them again when it comes. It is returned as it is, to be
    written all the same: what was decided on it before the erasure is decided again.
    """
    if not run.active or gone.profile_id not in reviewers(run):
        return None
    waits = Approval.of(run.steps[run.step_id]).phase
    # What was due before, and has not been looked at since, is not put off.
    at_once = min(run.due_us or gone.erase_us, gone.erase_us)
    return run if waits else replace(run, due_us=at_once)


def tombstone(message: Message) -> Message:
    """Return a message without anything personal, that nobody can engage with any more."""
    return message._replace(
        profile_id="",
        state=MessageState.SUPPRESSED,
        reason=ERASED,
        recipient="",
        content=None,
        detail="",
        due_us=None,
        owner="",
        facts={},
    )


def used(erasure: Erasure, messages: Iterable[Message]) -> set[str]:
    """Return the addresses, by their keys on the list, that the person had or was written to."""
    # What their runs have asked others went to addresses of these.
    theirs = (one for one in messages if not one.ask or one.profile_id == erasure.profile_id)
    named = {addresses.key(message.channel, message.recipient) for message in theirs}
    found = {*named, *erasure.addresses}
    return {listed for listed in found if listed and addresses.hidden(listed) != listed}


def without_payload(rejected: RejectedEvent, until_us: Mapping[str, int]) -> RejectedEvent | None:
    """Return a refused event without what it said, if it names one of these people.

    *until_us* maps ids to the time until which it must have come. None for nothing to do.
    """
    named = (one for one in until_us if json.dumps(one) in rejected.payload)
    if all(rejected.receive_us > until_us[one] for one in named):
        return None
    return replace(rejected, payload="")


def _messages(draft: Draft, profile_id: str) -> list[Message]:
    known = {**draft.state.messages, **draft.changes.messages}
    return [message for message in known.values() if message.profile_id == profile_id]


def _outcome(draft: Draft, profile: Profile) -> Outcome:
    kind = OutcomeKind.PROFILE_ERASED
    return Outcome(
        outcome_id=draft.ids.next(),
        kind=kind,
        event=event_name(kind),
        occur_us=draft.now_us,
        record_us=draft.now_us,
        profile_id=profile.profile_id,
        user_id=profile.user_id,
        anonymous_id=profile.anonymous_id,
    )
