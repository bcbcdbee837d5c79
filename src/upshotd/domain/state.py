"""What a decision reads and what it writes: `State` is loaded for a batch, `Changes` is committed.

Both are of one workspace. Rows carry the version they were loaded with; the store writes them
with the next one and refuses a row that has moved on meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from upshotd.domain import addresses
from upshotd.domain.audience import Membership
from upshotd.domain.event import Event, RejectedEvent
from upshotd.domain.explanation import STARTED, Explanation
from upshotd.domain.fetching import Fetch
from upshotd.domain.message import Message
from upshotd.domain.outcome import Engagement, Outcome
from upshotd.domain.profile import Erasure, Group, Merge, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.trial import Tally, TallyKey
from upshotd.domain.values import replace


class IdKind(StrEnum):
    """Which of Segment's two ids names a person."""

    USER = "user"
    ANONYMOUS = "anonymous"


#: How a person is named from outside.
Identity: TypeAlias = tuple[IdKind, str]


def identity_of(profile: Profile) -> Identity:
    """Return how a profile is named from outside: by the known id, else an anonymous one."""
    if profile.user_id:
        return IdKind.USER, profile.user_id
    return IdKind.ANONYMOUS, profile.anonymous_ids[0]


#: A message as its provider names it: (provider, provider_message_id).
ProviderKey: TypeAlias = tuple[str, str]
#: What re-entry looks at: (workflow_id, profile_id, reentry_key).
EntryKey: TypeAlias = tuple[str, str, str]


class StartedRun(NamedTuple):
    """A run that an event started."""

    workflow_id: str
    version: int
    run_id: str


class StoredEvent(NamedTuple):
    """An event as the store keeps it."""

    event_id: str
    #: Encoded by the contract's codec.
    payload: bytes
    receive_us: int
    event_us: int


class KeptEvent(NamedTuple):
    """An event as people may look it up."""

    stored: StoredEvent
    started: tuple[StartedRun, ...]
    #: Workflows that listened to it and did not start.
    refused: tuple[Explanation, ...]

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """What every workflow that listened to it made of it."""
        started = (
            Explanation(run.workflow_id, run.version, STARTED, run_id=run.run_id)
            for run in self.started
        )
        return (*started, *self.refused)


@dataclass(slots=True)
class Wanted:
    """What a batch needs to be loaded. Each id brings what hangs on it, as `State` says."""

    event_ids: set[str] = field(default_factory=set)
    identities: set[Identity] = field(default_factory=set)
    group_ids: set[str] = field(default_factory=set)
    run_ids: set[str] = field(default_factory=set)
    message_ids: set[str] = field(default_factory=set)
    #: Of the wanted messages, those whose rendered content is needed too.
    content_ids: set[str] = field(default_factory=set)
    provider_keys: set[ProviderKey] = field(default_factory=set)
    #: Addresses that answers came from, by their keys in `addresses`: the newest message to each.
    recipients: set[str] = field(default_factory=set)
    engagement_ids: set[str] = field(default_factory=set)
    cancellation_keys: set[str] = field(default_factory=set)
    #: Workflows with a cooldown or ONCE_EVER: the starts of the profiles in them.
    entry_workflow_ids: set[str] = field(default_factory=set)
    #: Addresses whose place on the suppression list is needed, by their keys in `addresses`.
    addresses: set[str] = field(default_factory=set)
    #: Rows in which the runs of everybody are counted.
    counters: frozenset[str] = frozenset()
    #: Experiments whose tallies decide, by `trial.name_of`.
    experiments: frozenset[str] = frozenset()
    #: People by our own ids.
    profile_ids: set[str] = field(default_factory=set)
    #: Whether what audiences know of people is needed; of these it is, also if they are nobody.
    memberships: bool = False
    former_ids: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """How many ids are asked for."""
        return (
            len(self.event_ids)
            + len(self.identities)
            + len(self.group_ids)
            + len(self.run_ids)
            + len(self.message_ids)
            + len(self.provider_keys)
            + len(self.recipients)
            + len(self.engagement_ids)
            + len(self.cancellation_keys)
            + len(self.addresses)
            + len(self.profile_ids)
        )


@dataclass(slots=True)
class State:
    """Everything a batch of decisions may read.

    Complete in this sense: for each identity, run and message wanted, the profile with its
    suppressions, its identities, all its active runs, the messages of those runs (their content
    only where it is wanted: a store may leave it out, and keeps it when such a message is written
    again) and the events and groups (of those events) that started them. What is not here does
    not exist.
    """

    #: Accepted before: event_id -> the runs it started then.
    seen: dict[str, tuple[StartedRun, ...]] = field(default_factory=dict)
    identities: dict[Identity, str] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    #: By profile_id or the key of an address, then by scope.
    suppressions: dict[str, dict[str, Suppression]] = field(default_factory=dict)
    #: Addresses whose suppressions are among them, by their keys: those that the people and the
    #: wanted messages had when they were loaded. None: every address, or there is no list yet.
    addresses: set[str] | None = None
    #: Rows of counts that were looked for, they stand among the profiles. None: all.
    counters: frozenset[str] | None = None
    #: What came of wanted experiments; others may have counted since.
    tallies: dict[TallyKey, Tally] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    #: Active runs by profile_id, in order of start.
    active: dict[str, dict[str, None]] = field(default_factory=dict)
    #: Active runs by cancellation key.
    by_cancellation_key: dict[str, list[str]] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    provider_messages: dict[ProviderKey, str] = field(default_factory=dict)
    #: By `addresses.answering`, the newest of its messages.
    by_recipient: dict[str, str] = field(default_factory=dict)
    #: Recorded before.
    engagement_ids: set[str] = field(default_factory=set)
    #: Engagements that came before the message was known by its provider's id.
    pending: dict[ProviderKey, tuple[Engagement, ...]] = field(default_factory=dict)
    #: Latest start by (workflow, profile, key), for wanted workflows only.
    last_starts: dict[EntryKey, int] = field(default_factory=dict)
    #: What audiences know of people, by profile_id, then by audience_id; where it is wanted.
    memberships: dict[str, dict[str, Membership]] = field(default_factory=dict)
    #: Trigger events of the runs.
    events: dict[str, StoredEvent] = field(default_factory=dict)
    #: Grows with every version defined in the workspace: the sum of all current versions.
    definitions_revision: int = 0

    def addresses_of(self, wanted: Wanted) -> set[str]:
        """Return the keys of the addresses that deciding may ask about: those that are wanted, of
        the people that are loaded, and that wanted messages went to."""
        found = set(wanted.addresses)
        for profile in self.profiles.values():
            found.update(addresses.keys(profile.contact))
        named = {*wanted.message_ids, *self.provider_messages.values()}
        for message in (self.messages[name] for name in named & self.messages.keys()):
            found.update(addresses.forms(addresses.key(message.channel, message.recipient)))
        return found

    def put_run(self, run: Run) -> None:
        """Put *run* where reads will find it."""
        self.runs[run.run_id] = run
        active = self.active.setdefault(run.profile_id, {})
        if run.active:
            active[run.run_id] = None
        else:
            active.pop(run.run_id, None)

    def absorb(self, changes: "Changes") -> None:
        """Make *changes* visible to the next decision of the batch."""
        for accepted in changes.events.values():
            self.seen[accepted.event.event_id] = accepted.started
            event = accepted.event
            self.events[event.event_id] = StoredEvent(
                event.event_id, event.payload, event.receive_us, event.event_us
            )
        self.identities.update(changes.identities)
        for merge in changes.merges:
            self._move(merge)
        self.profiles.update(changes.profiles)
        self.groups.update(changes.groups)
        for run in changes.runs.values():
            if run.cancellation_key and run.run_id not in self.runs:
                self.by_cancellation_key.setdefault(run.cancellation_key, []).append(run.run_id)
            self.put_run(run)
        for merge in changes.merges:
            self._sort_active(merge.into_profile_id)
        self._absorb_messages(changes)
        for (profile_id, scope), suppression in changes.suppressions.items():
            held = self.suppressions.setdefault(profile_id, {})
            if suppression is None:
                held.pop(scope, None)
            else:
                held[scope] = suppression
        self.last_starts.update(changes.last_starts)
        _add(self.tallies, changes.tallies)
        for (profile_id, audience_id), membership in changes.memberships.items():
            if membership is None:
                self.memberships.get(profile_id, {}).pop(audience_id, None)
            else:
                self.memberships.setdefault(profile_id, {})[audience_id] = membership

    def _absorb_messages(self, changes: "Changes") -> None:
        for message in changes.messages.values():
            self.messages[message.message_id] = message
            if message.provider_message_id:
                key = (message.provider, message.provider_message_id)
                self.provider_messages[key] = message.message_id
            answering = addresses.answering(message)
            if answering:
                newest = self.by_recipient.get(answering, "")
                self.by_recipient[answering] = max(newest, message.message_id)
        self.engagement_ids.update(changes.engagements)
        for engagement in changes.pending.values():
            self.engagement_ids.add(engagement.engagement_id)
            key = (engagement.provider, engagement.provider_message_id)
            self.pending[key] = (*self.pending.get(key, ()), engagement)
        for key in changes.applied_pending:
            self.pending.pop(key, None)

    def _move(self, merge: Merge) -> None:
        """Give everything of the merged profile to the other, also what has ended."""
        moved = {"profile_id": merge.into_profile_id}
        for run in self.runs.values():
            if run.profile_id == merge.from_profile_id:
                self.runs[run.run_id] = replace(run, **moved)
        for message in self.messages.values():
            if message.profile_id == merge.from_profile_id:
                self.messages[message.message_id] = replace(message, **moved)
        self.profiles.pop(merge.from_profile_id, None)
        held = self.suppressions.pop(merge.from_profile_id, {})
        known = self.suppressions.get(merge.into_profile_id, {})
        self.suppressions[merge.into_profile_id] = {**held, **known}
        self.active.pop(merge.from_profile_id, None)

    def _sort_active(self, profile_id: str) -> None:
        runs = [self.runs[run_id] for run_id in self.active.get(profile_id, ())]
        runs.sort(key=lambda run: (run.start_us, run.run_id))
        self.active[profile_id] = {run.run_id: None for run in runs}


class AcceptedEvent(NamedTuple):
    """An event to keep, whose it is and what it started."""

    event: Event
    profile_id: str
    started: tuple[StartedRun, ...] = ()
    #: Workflows that listen to it and did not start.
    refused: tuple[Explanation, ...] = ()


@dataclass(slots=True)
class Changes:
    """Everything a decision, or a batch of them, writes; committed in one transaction."""

    workspace_id: str
    events: dict[str, AcceptedEvent] = field(default_factory=dict)
    rejected: list[RejectedEvent] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    identities: dict[Identity, str] = field(default_factory=dict)
    #: Applied before the rows: everything of one profile moves to another.
    merges: list[Merge] = field(default_factory=list)
    #: Applied after the rows, by profile_id: whatever the store has of them goes.
    erasures: dict[str, Erasure] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    #: Recorded: engagement_id -> (engagement, message_id).
    engagements: dict[str, tuple[Engagement, str]] = field(default_factory=dict)
    #: Kept until the provider's id is known, by engagement_id.
    pending: dict[str, Engagement] = field(default_factory=dict)
    #: Pending engagements that were applied now and go.
    applied_pending: list[ProviderKey] = field(default_factory=list)
    #: Whose consent a send or a start relies on, or who is merged, and the row version of the
    #: profile by which it was found. The store refuses it where the row has moved on: whoever opts
    #: out writes it, and so does whoever erases.
    consents: dict[str, int] = field(default_factory=dict)
    #: By (profile_id or the key of an address, scope); None removes it.
    suppressions: dict[tuple[str, str], Suppression | None] = field(default_factory=dict)
    #: What audiences know, by (profile_id, audience_id); None forgets it. Not versioned: whoever
    #: writes it writes the profile.
    memberships: dict[tuple[str, str], Membership | None] = field(default_factory=dict)
    #: Who is in a group from now on (True) or no longer, by (group_id, profile_id). Not versioned:
    #: it is what the profile says, looked up from the group, and written with the profile.
    group_members: dict[tuple[str, str], bool] = field(default_factory=dict)
    #: In the order in which they will stand in the log.
    outcomes: list[Outcome] = field(default_factory=list)
    #: Not stored (the runs are): what is asked once this is committed.
    fetches: list[Fetch] = field(default_factory=list)
    #: Added to what the store has, whatever others have added meanwhile.
    tallies: dict[TallyKey, Tally] = field(default_factory=dict)
    #: Not stored (the runs are): what a later decision of the batch must see.
    last_starts: dict[EntryKey, int] = field(default_factory=dict)

    def extend(self, later: "Changes") -> None:
        """Add the changes of a later decision; where both write a row the later one counts."""
        self.events.update(later.events)
        self.rejected += later.rejected
        self.profiles.update(later.profiles)
        self.identities.update(later.identities)
        for merge in later.merges:
            self.profiles.pop(merge.from_profile_id, None)
            # The merge has written which of both counts; an earlier one must not come over it.
            for key in [key for key in self.suppressions if key[0] == merge.from_profile_id]:
                del self.suppressions[key]
        self.merges += later.merges
        self.erasures.update(later.erasures)
        self.groups.update(later.groups)
        self.runs.update(later.runs)
        self.messages.update(later.messages)
        self.engagements.update(later.engagements)
        self.pending.update(later.pending)
        self.applied_pending += later.applied_pending
        self.consents.update(later.consents)
        self.suppressions.update(later.suppressions)
        self.memberships.update(later.memberships)
        self.group_members.update(later.group_members)
        self.outcomes += later.outcomes
        self.fetches += later.fetches
        self.last_starts.update(later.last_starts)
        _add(self.tallies, later.tallies)

    @property
    def earliest_us(self) -> int | None:
        """The earliest of the timers that are set, in microseconds; None without one."""
        dues = [run.due_us for run in self.runs.values() if run.due_us is not None]
        dues += [m.due_us for m in self.messages.values() if m.due_us is not None]
        if self.memberships:
            kept = (row for row in self.memberships.values() if row is not None)
            dues += [row.due_us for row in kept if row.due_us is not None]
        # Runs that have asked somebody who is erased.
        dues += [gone.erase_us for gone in self.erasures.values()]
        return min(dues, default=None)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (
            self.events
            or self.rejected
            or self.profiles
            or self.identities
            or self.merges
            or self.groups
            or self.runs
            or self.messages
            or self.engagements
            or self.pending
            or self.applied_pending
            or self.suppressions
            or self.memberships
            or self.group_members
            or self.outcomes
        )


def _add(tallies: dict[TallyKey, Tally], more: Mapping[TallyKey, Tally]) -> None:
    for key, tally in more.items():
        tallies[key] = tallies[key].plus(tally) if key in tallies else tally
