"""Whom a stimulus is about and whom changes touch: two batches that share nobody are disjoint.

Deciding reads rows of the people, groups and ids it is about, and nothing else. So a batch may be
decided while a disjoint one is being committed: it does not matter which of the two loads of a row
it saw. Ids of different kinds share one set; two that are equal by chance cost a wait, no more.
"""

from collections.abc import Iterator
from typing import TypeAlias, assert_never

from upshotd.application.batch import provider_key_of, wanted_identities
from upshotd.domain import addresses
from upshotd.domain.approval import reviewers
from upshotd.domain.event import Event
from upshotd.domain.fetching import Found
from upshotd.domain.outcome import Engagement
from upshotd.domain.state import Changes, Identity, State
from upshotd.domain.stimulus import (
    AudienceDue,
    AudienceFill,
    CancelRequested,
    EngagementArrived,
    EraseRequested,
    EventArrived,
    FetchSettled,
    MessageDue,
    MigrateRequested,
    PreferenceSet,
    RunBroke,
    RunDue,
    SendSettled,
    Stimulus,
    SuppressionSet,
)

#: An id of ours, one from outside, an identity, or a message as its provider names it.
Key: TypeAlias = str | tuple[str, str]


def touched(changes: Changes) -> set[Key]:
    """Return everything that *changes* write about."""
    keys: set[Key] = set(changes.events)
    keys.update(accepted.profile_id for accepted in changes.events.values())
    keys.update(changes.profiles, changes.groups, changes.identities)
    keys.update(changes.identities.values())
    for merge in changes.merges:
        keys.update((merge.from_profile_id, merge.into_profile_id))
    for run in changes.runs.values():
        keys.add(run.profile_id)
        if run.cancellation_key:
            keys.add(run.cancellation_key)
    for message in changes.messages.values():
        keys.update((message.profile_id, (message.provider, message.provider_message_id)))
        answering = addresses.answering(message)
        if answering:
            keys.add(answering)
    keys.update(changes.engagements, changes.pending, changes.applied_pending)
    keys.update((e.provider, e.provider_message_id) for e in changes.pending.values())
    keys.update(profile_id for profile_id, _ in changes.suppressions)
    keys.update(profile_id for profile_id, _ in changes.memberships)
    return keys


def about(stimulus: Stimulus, state: State) -> Iterator[Key]:  # noqa: C901, PLR0912
    """Yield whom *stimulus* is about, as far as *state*, which was loaded for it, knows."""
    match stimulus:
        case EventArrived():
            yield from _event(stimulus.event, state)
        case EngagementArrived():
            yield from _engagement(stimulus.engagement, state)
        case SendSettled():
            yield from _message(stimulus.message_id, state)
            key = provider_key_of(stimulus)
            if key is not None:
                yield key
        case MessageDue():
            yield from _message(stimulus.message_id, state)
        case RunDue() | RunBroke() | MigrateRequested():
            yield from _run(stimulus.run_id, state)
        case FetchSettled():
            yield from _run(stimulus.run_id, state)
            yield from stimulus.result.profile_ids if isinstance(stimulus.result, Found) else ()
        case PreferenceSet() | EraseRequested():
            yield from _identity(stimulus.identity, state)
        case AudienceDue():
            yield stimulus.profile_id
        case AudienceFill():
            yield from (stimulus.profile_id, *stimulus.former_ids)
        case SuppressionSet(owner=owner):
            yield from (owner,) if isinstance(owner, str) else _identity(owner, state)
        case CancelRequested():
            yield stimulus.cancellation_key
            for run_id in state.by_cancellation_key.get(stimulus.cancellation_key, ()):
                yield from _run(run_id, state)
            yield from _run(stimulus.run_id, state)
        case _:
            assert_never(stimulus)


def _identity(identity: Identity, state: State) -> Iterator[Key]:
    yield identity
    if identity in state.identities:
        yield state.identities[identity]


def _event(event: Event, state: State) -> Iterator[Key]:
    yield event.event_id
    if event.group_of:
        yield event.group_of
    for identity in wanted_identities(event):
        yield from _identity(identity, state)


def _engagement(engagement: Engagement, state: State) -> Iterator[Key]:
    yield engagement.engagement_id
    if engagement.message_id:
        yield from _message(engagement.message_id, state)
        return
    if engagement.recipient:
        yield engagement.recipient
        yield from _message(state.by_recipient.get(engagement.recipient, ""), state)
        return
    key = (engagement.provider, engagement.provider_message_id)
    yield key
    yield from _message(state.provider_messages.get(key, ""), state)


def _message(message_id: str, state: State) -> Iterator[Key]:
    message = state.messages.get(message_id)
    if message is not None:
        yield message.profile_id
        yield from _run(message.run_id, state)


def _run(run_id: str, state: State) -> Iterator[Key]:
    run = state.runs.get(run_id)
    if run is not None:
        yield run.profile_id
        yield from reviewers(run)
