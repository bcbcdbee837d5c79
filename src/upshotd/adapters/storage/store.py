"""The `Store` in a SQL database: every method is one transaction, a function of another file."""

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from upshotd.adapters.storage import (
    definitions,
    leases,
    loading,
    log,
    pruning,
    reading,
    writing,
)
from upshotd.adapters.storage.audiences import SqlAudienceRows
from upshotd.adapters.storage.erased import SqlErasedRows
from upshotd.adapters.storage.postgresql import PostgresqlDatabase, url_of
from upshotd.adapters.storage.replica import Replica
from upshotd.adapters.storage.sqlite import SqliteDatabase
from upshotd.adapters.storage.tail import TAIL_BYTES, Tail
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.ports import (
    Defined,
    Due,
    MessageFilter,
    OutcomeCount,
    OutcomeFilter,
    PartitionSpan,
    Retention,
    RunFilter,
    StoredWorkflow,
    Subscription,
    Task,
    no_task,
)
from upshotd.domain.errors import Conflict, InvalidArgument, Unavailable, UpshotError
from upshotd.domain.event import RejectedEvent
from upshotd.domain.message import Message
from upshotd.domain.profile import Listed, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Changes, Identity, KeptEvent, State, Wanted
from upshotd.domain.trial import Tally, TallyKey

__all__ = ["SqlStore"]

#: What the address of a PostgreSQL begins with.
POSTGRESQL = ("postgresql://", "postgresql+asyncpg://", "postgres://")
#: Partitions of a new log on PostgreSQL: replicas that append to different ones do not wait.
PARTITIONS = 16
DEFINE_ATTEMPTS = 5
#: Ids of a load that is done sooner than it takes to hand it to another thread and back.
SMALL = 32
#: How long a process that says nothing is taken for alive, in microseconds.
LEASE_US = 15_000_000
_SQLITE = ("sqlite+aiosqlite:///", "sqlite+pysqlite:///", "sqlite:///")


def path_of(url_or_path: str | Path) -> Path:
    """Return the file that *url_or_path* names; raises InvalidArgument for other databases."""
    named = str(url_or_path)
    for prefix in _SQLITE:
        named = named.removeprefix(prefix)
    if "://" in named or ":memory:" in named or not named:
        raise InvalidArgument("the database must be a path, sqlite:///path or postgresql://...")
    return Path(named)


def _database_of(url_or_path: str | Path) -> SqliteDatabase | PostgresqlDatabase:
    named = str(url_or_path)
    if named.startswith(POSTGRESQL):
        return PostgresqlDatabase(url_of(named))
    return SqliteDatabase(path_of(named))


class SqlStore:
    """The store in a SQL database: one SQLite file, or a PostgreSQL."""

    def __init__(
        self,
        url_or_path: str | Path,
        *,
        encode_outcome: writing.Encode,
        partitions: int | None = None,
        lease_us: int = LEASE_US,
        told_time: Callable[[int], None] = lambda _: None,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        """Name the database; *partitions* of a new log are 1 on SQLite and 16 on PostgreSQL.

        On SQLite the last *tail_bytes* of the log are kept in memory for its readers. On PostgreSQL
        a process has a lease of *lease_us*, and *told_time* hears the database's clock, in
        microseconds, from another thread.
        """
        self._database = _database_of(url_or_path)
        self._replica = (
            Replica(self._database, lease_us, told_time)
            if isinstance(self._database, PostgresqlDatabase)
            else None
        )
        self._encode = encode_outcome
        self._tail = Tail(tail_bytes)
        self._partitions = partitions or (1 if self._replica is None else PARTITIONS)
        self._epoch = ""
        self._audience_rows = SqlAudienceRows(self._database)
        self._erased_rows = SqlErasedRows(self._database, self._tail, lambda: self._partitions)

    async def open(self) -> None:
        """Take the lock, migrate, and read what is fixed for this log.

        Raises FailedPrecondition when another process has the file.
        """
        await self._database.open()
        try:
            await self._settle()
        except BaseException:
            await self.close()
            raise

    async def _settle(self) -> None:
        settle = definitions.settled
        wanted = str(self._partitions)
        kept = await self._database.write(lambda c: settle(c, "log.partitions", wanted))
        # A log keeps the number it began with: it decides where a person's outcomes are.
        self._partitions = int(kept)
        epoch = secrets.token_hex(8)
        self._epoch = await self._database.write(lambda c: settle(c, "log.epoch", epoch))

    async def close(self) -> None:
        """Wait for running transactions and release everything."""
        if self._replica is not None:
            with suppress(UpshotError):  # the lease runs out by itself
                await self._replica.leave()
        await self._database.close()

    # the loop

    async def load(self, workspace_id: str, wanted: Wanted) -> State:
        return await self._database.load(
            lambda c: loading.load(c, workspace_id, wanted), small=wanted.size <= SMALL
        )

    async def commit(self, batch: Sequence[Changes]) -> None:
        encode, partitions = self._encode, self._partitions
        owner = self._replica.owner if self._replica is not None else ""
        try:
            appended = await self._database.write(
                lambda c: writing.commit(c, batch, encode, partitions, owner)
            )
        except BaseException:
            self._tail.clear()  # it may have been committed all the same
            raise
        if not self.shared:
            self._tail.append(appended)

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        if self._replica is None:
            return await self._database.load(lambda c: reading.due(c, now_us, limit), small=False)
        owner = self._replica.owner
        return await self._database.write(lambda c: leases.claim(c, owner, now_us, limit))

    async def next_due(self) -> int | None:
        return await self._database.load(reading.next_due, small=True)

    # replicas

    @property
    def shared(self) -> bool:
        """PostgreSQL is; a SQLite file is locked."""
        return self._replica is not None

    async def join(self, owner: str) -> None:
        if self._replica is not None:
            await self._replica.join(owner)
        else:
            # The lock on the file says that no other process is sending.
            await self._database.write(leases.end_all)

    async def leave(self) -> None:
        if self._replica is not None:
            await self._replica.leave()

    def holds_lease(self) -> bool:
        return self._replica is None or self._replica.holds()

    async def log_size(self) -> int:
        return await self._database.read(log.size)

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
        stored = StoredWorkflow(workflow_id, 0, definition, create_us)
        for _ in range(DEFINE_ATTEMPTS):
            with suppress(Conflict):  # another replica defined it in the same moment
                return await self._database.write(
                    lambda c: definitions.define(c, workspace_id, stored, expected_version, task)
                )
        raise Unavailable("others define the same workflow again and again")

    async def workspaces(self) -> list[str]:
        return await self._database.read(definitions.workspaces)

    async def current_workflows(self, workspace_id: str) -> list[StoredWorkflow]:
        return await self._database.read(lambda c: definitions.current(c, workspace_id))

    async def workflow(
        self, workspace_id: str, workflow_id: str, version: int
    ) -> StoredWorkflow | None:
        return await self._database.read(
            lambda c: definitions.workflow(c, workspace_id, workflow_id, version)
        )

    async def workflow_versions(
        self, workspace_id: str, workflow_id: str, before: int | None, limit: int
    ) -> list[StoredWorkflow]:
        return await self._database.read(
            lambda c: definitions.versions(c, workspace_id, workflow_id, before, limit)
        )

    # the log

    async def log_epoch(self) -> str:
        return self._epoch

    @property
    def partitions(self) -> int:
        """The number of partitions this log began with."""
        return self._partitions

    async def spans(self, workspace_id: str) -> dict[int, PartitionSpan]:
        return await self._database.read(lambda c: log.spans(c, workspace_id, self._partitions))

    async def read_outcomes(
        self,
        workspace_id: str,
        partition: int,
        after: int,
        limit: int,
        chosen: OutcomeFilter,
        batch: int,
    ) -> OutcomeRead:
        place = (workspace_id, partition, after)
        if isinstance(self._database, SqliteDatabase) and chosen.open:
            at_end = self._tail.read(place, limit, batch)
            if at_end is not None:
                return at_end
            rows = await self._database.fetch(log.PAGES, (*place, limit, batch))
            return log.read_of(rows, after)
        return await self._database.read(lambda c: log.read(c, place, limit, chosen, batch))

    async def outcome_time(self, workspace_id: str, partition: int, position: int) -> int | None:
        return await self._database.read(
            lambda c: log.record_time(c, workspace_id, partition, position)
        )

    async def subscription(self, workspace_id: str, name: str) -> Subscription | None:
        return await self._database.read(lambda c: log.subscription(c, workspace_id, name))

    async def subscriptions(self, workspace_id: str) -> list[Subscription]:
        return await self._database.read(lambda c: log.all_subscriptions(c, workspace_id))

    async def change_subscription(
        self, workspace_id: str, name: str, change: Callable[[Subscription | None], Subscription]
    ) -> Subscription:
        return await self._database.write(
            lambda c: log.change_subscription(c, workspace_id, name, change)
        )

    async def delete_subscription(self, workspace_id: str, name: str) -> bool:
        return await self._database.write(lambda c: log.delete_subscription(c, workspace_id, name))

    # looking in

    async def run(self, workspace_id: str, run_id: str) -> Run | None:
        return await self._database.read(lambda c: reading.run(c, workspace_id, run_id))

    async def runs(
        self, workspace_id: str, chosen: RunFilter, before: str, limit: int
    ) -> list[Run]:
        return await self._database.read(
            lambda c: reading.run_list(c, workspace_id, chosen, before, limit)
        )

    async def event(self, workspace_id: str, event_id: str) -> KeptEvent | None:
        return await self._database.read(lambda c: reading.event(c, workspace_id, event_id))

    async def message(self, workspace_id: str, message_id: str) -> Message | None:
        return await self._database.read(lambda c: reading.message(c, workspace_id, message_id))

    async def messages(
        self, workspace_id: str, chosen: MessageFilter, before: str, limit: int
    ) -> list[Message]:
        return await self._database.read(
            lambda c: reading.message_list(c, workspace_id, chosen, before, limit)
        )

    async def profile(
        self, workspace_id: str, identity: Identity
    ) -> tuple[Profile, list[Suppression]] | None:
        return await self._database.read(lambda c: reading.profile(c, workspace_id, identity))

    async def profile_page(self, workspace_id: str, after: str, limit: int) -> list[Profile]:
        return await self._database.read(
            lambda c: reading.profile_page(c, workspace_id, after, limit)
        )

    async def profiles(self, workspace_id: str, profile_ids: set[str]) -> dict[str, Profile]:
        return await self._database.read(
            lambda c: reading.profile_map(c, workspace_id, profile_ids)
        )

    async def users(self, workspace_id: str, user_ids: set[str]) -> dict[str, Profile]:
        return await self._database.read(lambda c: reading.user_map(c, workspace_id, user_ids))

    async def group_members(
        self, workspace_id: str, group_id: str, after_profile_id: str, count: int
    ) -> list[str]:
        return await self._database.read(
            lambda c: reading.group_member_page(c, workspace_id, group_id, after_profile_id, count)
        )

    async def suppressions(self, workspace_id: str, after: str, limit: int) -> list[Listed]:
        return await self._database.read(
            lambda c: reading.suppression_list(c, workspace_id, after, limit)
        )

    async def rejected_events(
        self, workspace_id: str, before: str, limit: int
    ) -> list[RejectedEvent]:
        return await self._database.read(
            lambda c: reading.rejected_list(c, workspace_id, before, limit)
        )

    async def counts(
        self, workspace_id: str, start_us: int, end_us: int, workflow_id: str
    ) -> list[OutcomeCount]:
        return await self._database.read(
            lambda c: log.counts(c, workspace_id, start_us, end_us, workflow_id)
        )

    async def tallies(
        self, workspace_id: str, experiments: Collection[str]
    ) -> dict[TallyKey, Tally]:
        return await self._database.read(lambda c: loading.tallies_of(c, workspace_id, experiments))

    @property
    def erased_rows(self) -> SqlErasedRows:
        """What is looked through for erased people."""
        return self._erased_rows

    @property
    def audience_rows(self) -> SqlAudienceRows:
        """What audiences know of people, and what they are filled from."""
        return self._audience_rows

    # housekeeping

    async def setting(self, name: str) -> str | None:
        return await self._database.read(lambda c: definitions.setting(c, name))

    async def settings(self, prefix: str) -> dict[str, str]:
        return await self._database.read(lambda c: definitions.all_settings(c, prefix))

    async def put_setting(self, name: str, value: str) -> None:
        await self._database.write(lambda c: definitions.put_setting(c, name, value))

    async def drop_setting(self, name: str) -> None:
        await self._database.write(lambda c: definitions.drop_setting(c, name))

    async def settle_setting(self, name: str, value: str) -> str:
        return await self._database.write(lambda c: definitions.settled(c, name, value))

    async def prune(self, retention: Retention, limit: int) -> int:
        gone = await self._database.write(lambda c: pruning.prune(c, retention, limit))
        self._tail.clear()
        return gone
