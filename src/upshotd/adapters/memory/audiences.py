"""The `AudienceRows` of dictionaries."""

from collections.abc import Callable, Collection, Iterator

from upshotd.adapters.memory.tables import Tables
from upshotd.domain.audience import Membership
from upshotd.domain.message import Message
from upshotd.domain.state import StoredEvent


class MemoryAudienceRows:
    """Memberships, events and messages of all workspaces."""

    def __init__(self, tables: Callable[[str], Tables]) -> None:
        self._tables = tables

    async def members(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        found = (row for row in self._rows(workspace_id, audience_id) if row.member)
        return [row for row in found if row.profile_id > after][:limit]

    async def member_count(self, workspace_id: str, audience_id: str) -> int:
        return sum(row.member for row in self._rows(workspace_id, audience_id))

    async def membership(
        self, workspace_id: str, audience_id: str, profile_id: str
    ) -> Membership | None:
        return self._tables(workspace_id).memberships.get(profile_id, {}).get(audience_id)

    async def memberships_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Membership]]:
        known = self._tables(workspace_id).memberships
        return {one: list(known[one].values()) for one in profile_ids if known.get(one)}

    async def unready(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        found = (row for row in self._rows(workspace_id, audience_id) if not row.ready)
        return [row for row in found if row.profile_id > after][:limit]

    def _rows(self, workspace_id: str, audience_id: str) -> Iterator[Membership]:
        for _, rows in sorted(self._tables(workspace_id).memberships.items()):
            if audience_id in rows:
                yield rows[audience_id]

    async def event_page(
        self, workspace_id: str, after: str, limit: int
    ) -> list[tuple[str, StoredEvent]]:
        events = self._tables(workspace_id).events
        keys = sorted(key for key in events if key > after)[:limit]
        return [(events[key].profile_id, events[key].stored) for key in keys]

    async def messages_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Message]]:
        tables = self._tables(workspace_id)
        return {
            profile_id: [
                tables.messages[message_id]._replace(content=None)
                for run_id in tables.runs_of.get(profile_id, ())
                for message_id in tables.messages_of_run.get(run_id, ())
            ]
            for profile_id in profile_ids
        }
