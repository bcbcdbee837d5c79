"""What the use cases need of time and of a store, as protocols; adapters implement them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from upshotd.application.audience_rows import AudienceRows
from upshotd.application.erased import ErasedRows
from upshotd.application.outcome_page import OutcomeRead
from upshotd.domain.event import RejectedEvent
from upshotd.domain.ids import Ids
from upshotd.domain.message import Channel, Message
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.profile import Listed, Profile, Suppression
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Changes, Identity, KeptEvent, State, Wanted
from upshotd.domain.trial import Tally, TallyKey

__all__ = ["Ids"]  # re-exported

# -- time ----------------------------------------------------------------------------------


class Clock(Protocol):
    """The one source of time. In a lab the wall clock plus an offset."""

    def now_us(self) -> int:
        """Return the time, in microseconds since 1970 UTC. Never goes back."""

    def monotonic_us(self) -> int:
        """Return microseconds of a clock that never jumps, for leases and time limits."""

    async def sleep(self, duration_us: int) -> None:
        """Sleep real (monotonic) time."""


# -- the store ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A timer whose time has come: of a run, a message, or what an audience says of a person."""

    workspace_id: str
    due_us: int
    #: Exactly one of the two is set, or the two after them are.
    run_id: str = ""
    message_id: str = ""
    audience_id: str = ""
    profile_id: str = ""

    @property
    def key(self) -> str:
        """Which row it is: by this, timers of one moment follow each other."""
        if self.audience_id:
            return f"{self.profile_id} {self.audience_id}"
        return self.run_id or self.message_id


@dataclass(frozen=True, slots=True)
class StoredWorkflow:
    """One stored version of a definition."""

    workflow_id: str
    version: int
    definition: bytes
    create_us: int


#: Returns for a new version the name and the value of a setting to write with it, or None.
Task: TypeAlias = Callable[[int], tuple[str, str] | None]


def no_task(_version: int) -> None:
    """Nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Defined:
    """What a definition became."""

    version: int
    unchanged: bool


@dataclass(frozen=True, slots=True)
class PartitionSpan:
    """What a partition holds: positions `earliest` to `head`; empty: head = earliest - 1."""

    #: Oldest position that is kept; 1 before anything was pruned.
    earliest: int
    #: Newest position; 0 before the first outcome.
    head: int


@dataclass(frozen=True, slots=True)
class OutcomeFilter:
    """Lets through outcomes that match every set that is not empty."""

    kinds: frozenset[OutcomeKind] = frozenset()
    workflow_ids: frozenset[str] = frozenset()
    user_ids: frozenset[str] = frozenset()
    channels: frozenset[Channel] = frozenset()

    @property
    def open(self) -> bool:
        """Whether everything passes."""
        return not (self.kinds or self.workflow_ids or self.user_ids or self.channels)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A durable place in the log. `positions` has one entry for each partition it covers."""

    name: str
    positions: Mapping[int, int]
    create_us: int
    #: When it was last committed; `create_us` before that.
    commit_us: int


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many outcomes of one kind."""

    workflow_id: str
    step_id: str
    channel: Channel
    kind: OutcomeKind
    count: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; empty fields let all through."""

    workflow_id: str = ""
    profile_id: str = ""
    state: RunState | None = None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages; empty fields let all through."""

    run_id: str = ""
    workflow_id: str = ""
    profile_id: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """Until when rows are kept: what is older than each instant (microseconds) goes."""

    #: Events without an active run, and their dedupe keys; engagement ids.
    events_us: int
    #: Outcomes; the log's earliest position moves.
    outcomes_us: int
    #: Rejected events and pending engagements.
    rejected_us: int


class Store(Protocol):
    """Durable rows. Every method is one transaction of its own, and completes or rolls back
    whole even when its caller is canceled. Raises Unavailable when the database cannot be
    reached and ResourceExhausted when it is full."""

    async def open(self) -> None:
        """Connect, migrate, and take the lock where only one process may write."""

    async def close(self) -> None:
        """Wait for running transactions and release everything."""

    # the loop

    async def load(self, workspace_id: str, wanted: Wanted) -> State:
        """Return the state that *wanted* asks for, complete as `State` says."""

    async def commit(self, batch: Sequence[Changes]) -> None:
        """Write *batch* in one transaction; outcomes get contiguous positions, last.

        Raises Conflict when a row has moved on since it was loaded, ConstraintFailure when a
        unique key is taken, LeaseLost when this process was taken for dead; nothing is written
        then.
        """

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        """Return up to *limit* timers due at *now_us*, earliest first, claimed for this process.

        What another live process has claimed, or is sending, is left to it.
        """

    async def next_due(self) -> int | None:
        """Return the earliest due time of all, in microseconds."""

    # replicas

    @property
    def shared(self) -> bool:
        """Whether other processes may use the same rows at the same time."""

    async def join(self, owner: str) -> None:
        """Become *owner* of work, with a lease; again, under another name, after LeaseLost.

        Where only one process can have the store, all that was being sent is due at once: whoever
        sent it is dead.
        """

    async def leave(self) -> None:
        """Give the lease back: others need not wait until it runs out."""

    def holds_lease(self) -> bool:
        """Return whether nobody can have taken this process for dead by now."""

    async def log_size(self) -> int:
        """Return a number that grows with every log: what other processes append shows in it."""

    # definitions

    async def define(
        self,
        workspace_id: str,
        workflow_id: str,
        definition: bytes,
        expected_version: int | None,
        create_us: int,
        task: Task = no_task,
    ) -> Defined:
        """Store a version unless it equals the current one; with the setting that *task* gives.

        An empty definition archives the workflow. Raises VersionMismatch when *expected_version*
        (0: none exists) is not current.
        """

    async def workspaces(self) -> list[str]:
        """Return the workspaces in which something is defined."""

    async def current_workflows(self, workspace_id: str) -> list[StoredWorkflow]:
        """Return the current version of every workflow, by id."""

    async def workflow(
        self, workspace_id: str, workflow_id: str, version: int
    ) -> StoredWorkflow | None:
        """Return one version; 0 is the current one."""

    async def workflow_versions(
        self, workspace_id: str, workflow_id: str, before: int | None, limit: int
    ) -> list[StoredWorkflow]:
        """Return versions, newest first, below *before*."""

    # the log

    async def log_epoch(self) -> str:
        """Return the id of this log: another after a restore, another in another database."""

    @property
    def partitions(self) -> int:
        """The number of partitions, fixed for a log."""

    async def spans(self, workspace_id: str) -> dict[int, PartitionSpan]:
        """Return what each partition holds, all partitions named."""

    async def read_outcomes(
        self,
        workspace_id: str,
        partition: int,
        after: int,
        limit: int,
        chosen: OutcomeFilter,
        batch: int,
    ) -> OutcomeRead:
        """Return outcomes after a position, looking at up to *limit*, in pages of *batch*."""

    async def outcome_time(self, workspace_id: str, partition: int, position: int) -> int | None:
        """Return when the first outcome at or after *position* was recorded, in microseconds."""

    async def subscription(self, workspace_id: str, name: str) -> Subscription | None:
        """Return one subscription."""

    async def subscriptions(self, workspace_id: str) -> list[Subscription]:
        """Return all, by name."""

    async def change_subscription(
        self, workspace_id: str, name: str, change: Callable[[Subscription | None], Subscription]
    ) -> Subscription:
        """Store what *change* makes of a subscription (None: there is none), and return it.

        Nobody else changes it in between, in whatever process; *change* may be called again.
        """

    async def delete_subscription(self, workspace_id: str, name: str) -> bool:
        """Forget one; False when there was none."""

    # looking in

    async def run(self, workspace_id: str, run_id: str) -> Run | None:
        """Return one run."""

    async def runs(
        self, workspace_id: str, chosen: RunFilter, before: str, limit: int
    ) -> list[Run]:
        """Return runs, newest first, with ids below *before* (empty: from the newest)."""

    async def event(self, workspace_id: str, event_id: str) -> KeptEvent | None:
        """Return one accepted event."""

    async def message(self, workspace_id: str, message_id: str) -> Message | None:
        """Return one message."""

    async def messages(
        self, workspace_id: str, chosen: MessageFilter, before: str, limit: int
    ) -> list[Message]:
        """Return messages, newest first, with ids below *before* (empty: from the newest)."""

    async def profile(
        self, workspace_id: str, identity: Identity
    ) -> tuple[Profile, list[Suppression]] | None:
        """Return a person by an id from outside."""

    async def profile_page(self, workspace_id: str, after: str, limit: int) -> list[Profile]:
        """Return people by our ids, with ids above *after*."""

    async def profiles(self, workspace_id: str, profile_ids: set[str]) -> dict[str, Profile]:
        """Return people by our own ids."""

    async def users(self, workspace_id: str, user_ids: set[str]) -> dict[str, Profile]:
        """Return people by their user ids."""

    async def group_members(
        self, workspace_id: str, group_id: str, after_profile_id: str, count: int
    ) -> list[str]:
        """Return up to *count* members of a group, by profile_id, with ids above the given one."""

    async def suppressions(self, workspace_id: str, after: str, limit: int) -> list[Listed]:
        """Return all that is held back by `Listed.key`, with keys above *after*."""

    async def rejected_events(
        self, workspace_id: str, before: str, limit: int
    ) -> list[RejectedEvent]:
        """Return refused events, newest first, with rejection ids below *before*."""

    async def counts(
        self, workspace_id: str, start_us: int, end_us: int, workflow_id: str
    ) -> list[OutcomeCount]:
        """Return counts over whole hours, `start_us <= hour < end_us`."""

    async def tallies(
        self, workspace_id: str, experiments: Collection[str]
    ) -> dict[TallyKey, Tally]:
        """Return what came of all variants of *experiments*, by `trial.name_of`."""

    @property
    def erased_rows(self) -> ErasedRows:
        """What is looked through for erased people."""

    @property
    def audience_rows(self) -> AudienceRows:
        """What audiences know of people, and what they are filled from."""

    # housekeeping

    async def setting(self, name: str) -> str | None:
        """Return a value this installation keeps: the lab's offset, the key of links."""

    async def settings(self, prefix: str) -> dict[str, str]:
        """Return the values whose names begin with *prefix*."""

    async def drop_setting(self, name: str) -> None:
        """Forget a value."""

    async def put_setting(self, name: str, value: str) -> None:
        """Keep a value."""

    async def settle_setting(self, name: str, value: str) -> str:
        """Return the value that is kept; *value* becomes it where there is none yet."""

    async def prune(self, retention: Retention, limit: int) -> int:
        """Delete up to *limit* rows of each kind that are past retention; return how many went."""
