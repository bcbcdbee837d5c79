"""The rows of one workspace, and the indexes over them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from upshotd.adapters.memory.due import MEMBERSHIP, MESSAGE
from upshotd.adapters.memory.log import Log
from upshotd.application.ports import StoredWorkflow, Subscription
from upshotd.domain.audience import Membership
from upshotd.domain.event import RejectedEvent
from upshotd.domain.explanation import Explanation
from upshotd.domain.message import Message
from upshotd.domain.outcome import Engagement
from upshotd.domain.profile import Group, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Identity, ProviderKey, StartedRun, StoredEvent
from upshotd.domain.trial import Tally, TallyKey

#: Ids by what they are found by; a dictionary keeps them in order of insertion.
Index: TypeAlias = dict[str, dict[str, None]]


@dataclass(frozen=True, slots=True)
class EventRow:
    """An accepted event."""

    stored: StoredEvent
    #: The group it speaks of; empty where it speaks of none.
    group_id: str
    started: tuple[StartedRun, ...]
    refused: tuple[Explanation, ...]
    #: Whose it was when it came; merges leave it.
    profile_id: str


@dataclass(slots=True)
class Tables:
    """Everything of one workspace."""

    log: Log
    events: dict[str, EventRow] = field(default_factory=dict)
    rejected: dict[str, RejectedEvent] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    identities: dict[Identity, str] = field(default_factory=dict)
    identities_of: dict[str, dict[Identity, None]] = field(default_factory=dict)
    #: By profile_id, then by scope.
    suppressions: dict[str, dict[str, Suppression]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    #: The profile_ids of each group.
    group_members: Index = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    runs_of: Index = field(default_factory=dict)
    #: Active ones only.
    runs_by_cancellation_key: Index = field(default_factory=dict)
    #: What only one run may have, and which has it: `commit.unique_keys`.
    unique: dict[tuple[str, ...], str] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    messages_of_run: Index = field(default_factory=dict)
    #: Messages that ask for a decision, by the profile_id of who is asked.
    asks: Index = field(default_factory=dict)
    provider_messages: dict[ProviderKey, str] = field(default_factory=dict)
    #: By `addresses.answering`.
    messages_to: Index = field(default_factory=dict)
    #: Every engagement id that was taken, recorded or pending, and when it came (us).
    engagements: dict[str, int] = field(default_factory=dict)
    #: By what they wait for, then by engagement_id.
    pending: dict[ProviderKey, dict[str, Engagement]] = field(default_factory=dict)
    tallies: dict[TallyKey, Tally] = field(default_factory=dict)
    #: Versions of each workflow, oldest first.
    workflows: dict[str, tuple[StoredWorkflow, ...]] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    #: By profile_id, then by audience_id.
    memberships: dict[str, dict[str, Membership]] = field(default_factory=dict)

    def due_us(self, kind: str, key: str) -> int | None:
        """Return when the timer of a row is due, by what it is of; None without one."""
        if kind == MEMBERSHIP:
            profile_id, _, audience_id = key.partition(" ")
            row = self.memberships.get(profile_id, {}).get(audience_id)
            return row.due_us if row is not None else None
        return self.messages[key].due_us if kind == MESSAGE else self.runs[key].due_us

    def newest_to(self, recipient: str) -> str:
        """Return the newest message whose answers come from there; empty where there is none."""
        return max(self.messages_to.get(recipient, ()), default="")

    def runs_of_profile(self, profile_id: str) -> Iterator[Run]:
        """Yield all runs of a person, in order of start."""
        for run_id in sorted(self.runs_of.get(profile_id, ())):
            yield self.runs[run_id]
