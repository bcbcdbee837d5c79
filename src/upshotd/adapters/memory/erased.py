"""The `ErasedRows` of dictionaries."""

from collections.abc import Callable, Collection, Mapping

from upshotd.adapters.memory.log import partition_of
from upshotd.adapters.memory.tables import EventRow, Tables
from upshotd.application.erased import Clear
from upshotd.domain.erasure import without_payload


class MemoryErasedRows:
    """Events, refused events and the log of all workspaces; a page is everything."""

    def __init__(self, tables: Callable[[str], Tables], partitions: int) -> None:
        self._tables = tables
        self._partitions = partitions

    async def returned(self, workspace_id: str, profile_ids: Collection[str]) -> set[str]:
        profiles = self._tables(workspace_id).profiles
        return {p for p in profile_ids if p in profiles and not profiles[p].erased}

    def partition_of(self, profile_id: str) -> int:
        return partition_of(profile_id, self._partitions)

    async def erase_events(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        events = self._tables(workspace_id).events
        for event_id, row in events.items():
            if row.stored.receive_us <= until_us.get(row.profile_id, -1):
                events[event_id] = EventRow(
                    row.stored._replace(payload=b""), "", (), (), row.profile_id
                )
        return None

    async def erase_outcomes(
        self, workspace_id: str, partition: int, after: int, limit: int, clear: Clear
    ) -> int | None:
        self._tables(workspace_id).log.rewrite(partition, clear)
        return None

    async def erase_rejected(
        self, workspace_id: str, until_us: Mapping[str, int], after: str, limit: int
    ) -> str | None:
        refused = self._tables(workspace_id).rejected
        for rejection_id, rejected in refused.items():
            refused[rejection_id] = without_payload(rejected, until_us) or rejected
        return None

    async def erased(self) -> None:
        """Do nothing: nothing is kept beside the rows."""
