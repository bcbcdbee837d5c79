"""The `ErasedRows` of a SQL database: pages are read beside the writer, and written if need be."""

from collections.abc import Callable, Collection, Mapping

from upshotd.adapters.storage import erasing, reading
from upshotd.adapters.storage.postgresql import PostgresqlDatabase
from upshotd.adapters.storage.sqlite import SqliteDatabase
from upshotd.adapters.storage.tail import Tail
from upshotd.adapters.storage.writing import partition_of
from upshotd.application.erased import Clear


class SqlErasedRows:
    """Events, refused events and the log of a database."""

    def __init__(
        self,
        database: SqliteDatabase | PostgresqlDatabase,
        tail: Tail,
        partitions: Callable[[], int],
    ) -> None:
        """*tail* is what readers of the log have in memory, *partitions* tells of how many."""
        self._database = database
        self._tail = tail
        self._partitions = partitions

    async def returned(self, workspace_id: str, profile_ids: Collection[str]) -> set[str]:
        found = await self._database.read(
            lambda c: reading.profile_map(c, workspace_id, set(profile_ids))
        )
        return {profile_id for profile_id, profile in found.items() if not profile.erased}

    def partition_of(self, profile_id: str) -> int:
        return partition_of(profile_id, self._partitions())

    async def erase_events(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        changes, last = await self._database.read(
            lambda c: erasing.event_page(c, workspace_id, until_us, after, limit)
        )
        if changes:
            await self._database.write(lambda c: erasing.empty_events(c, workspace_id, changes))
        return last

    async def erase_outcomes(
        self, workspace_id: str, partition: int, after: int, limit: int, clear: Clear
    ) -> int | None:
        place = (workspace_id, partition, after)
        changes, last = await self._database.read(
            lambda c: erasing.outcome_page(c, place, limit, clear)
        )
        if changes:
            await self._database.write(
                lambda c: erasing.rewrite_outcomes(c, workspace_id, partition, changes)
            )
            self._tail.clear()
        return last

    async def erase_rejected(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        changes, last = await self._database.read(
            lambda c: erasing.rejected_page(c, workspace_id, until_us, after, limit)
        )
        if changes:
            await self._database.write(lambda c: erasing.rewrite_rejected(c, workspace_id, changes))
        return last

    async def erased(self) -> None:
        """Empty what SQLite keeps of older pages; PostgreSQL's own vacuum does that there."""
        if isinstance(self._database, SqliteDatabase):
            await self._database.truncate_log()
