"""Memberships as rows, and the `AudienceRows` of a SQL database."""

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from upshotd.adapters.storage import rows
from upshotd.adapters.storage.bulk import Insert, Lookup, fetch, on_postgresql
from upshotd.adapters.storage.postgresql import PostgresqlDatabase
from upshotd.adapters.storage.rows import Row, dump
from upshotd.adapters.storage.sqlite import SqliteDatabase
from upshotd.adapters.storage.tables import audience_members, events, messages, runs
from upshotd.domain.audience import Membership
from upshotd.domain.message import Message
from upshotd.domain.profile import Erasure
from upshotd.domain.state import StoredEvent

COLUMNS = ("profile_id", "audience_id", "member", "ready", "due_us", "body")
MEMBERSHIPS = Lookup(audience_members, COLUMNS, "profile_id")
#: Not versioned: whoever writes one writes the profile. The claim has led to this.
WRITE = Insert(
    audience_members,
    COLUMNS,
    "ON CONFLICT (workspace_id, profile_id, audience_id) DO UPDATE SET member = excluded.member, "
    "ready = excluded.ready, due_us = excluded.due_us, body = excluded.body, claim_owner = ''",
)
_EVENT_COLUMNS = ("event_id", "profile_id", "payload", "receive_us", "event_us")
_RUNS_OF = Lookup(runs, ("run_id", "profile_id"), "profile_id")
_MESSAGES_OF = Lookup(messages, rows.MESSAGE_STATE_COLUMNS, "run_id")
_first = itemgetter(0)


def row_of(membership: Membership) -> Row:
    """Return *membership* in the order of `COLUMNS`."""
    m = membership
    body = dump([m.version, m.since_us, m.reason, m.happened])
    return (m.profile_id, m.audience_id, int(m.member), int(m.ready), m.due_us, body)


def membership_of(row: Row) -> Membership:
    """Return the membership of a row."""
    profile_id, audience_id, member, ready, due_us, body = row
    version, since_us, reason, happened = body
    return Membership(
        audience_id,
        profile_id,
        version,
        member=bool(member),
        since_us=since_us,
        reason=reason,
        happened={
            key: tuple([(time_us, name) for time_us, name in some])
            for key, some in happened.items()
        },
        due_us=due_us,
        ready=bool(ready),
    )


def forget(connection: Connection, workspace_id: str, gone: Erasure) -> None:
    """Delete what audiences know of a person, and of those who became that person."""
    table = audience_members.c
    connection.execute(
        delete(audience_members).where(
            table.workspace_id == workspace_id, table.profile_id.in_(gone.profile_ids)
        )
    )


class SqlAudienceRows:
    """Memberships, events and messages of a database, read beside the writer."""

    def __init__(self, database: SqliteDatabase | PostgresqlDatabase) -> None:
        self._database = database

    async def members(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        query = _of(workspace_id, audience_id).where(audience_members.c.member == 1)
        return await self._page(query, after, limit)

    async def member_count(self, workspace_id: str, audience_id: str) -> int:
        table = audience_members.c
        query = select(func.count()).where(
            table.workspace_id == workspace_id, table.audience_id == audience_id, table.member == 1
        )
        counted: int | None = await self._database.read(lambda c: c.execute(query).scalar())
        return counted or 0

    async def membership(
        self, workspace_id: str, audience_id: str, profile_id: str
    ) -> Membership | None:
        found = await self.memberships_of(workspace_id, (profile_id,))
        named = [one for one in found.get(profile_id, ()) if one.audience_id == audience_id]
        return named[0] if named else None

    async def memberships_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Membership]]:
        rows = await self._database.read(lambda c: MEMBERSHIPS.rows(c, workspace_id, profile_ids))
        found: dict[str, list[Membership]] = {}
        for membership in map(membership_of, rows):
            found.setdefault(membership.profile_id, []).append(membership)
        return found

    async def unready(
        self, workspace_id: str, audience_id: str, after: str, limit: int
    ) -> list[Membership]:
        query = _of(workspace_id, audience_id).where(audience_members.c.ready == 0)
        return await self._page(query, after, limit)

    async def _page(self, query: Select[Any], after: str, limit: int) -> list[Membership]:
        profile_id = audience_members.c.profile_id
        query = query.where(profile_id > after).order_by(profile_id).limit(limit)
        found = await self._database.read(lambda c: fetch(c, audience_members, COLUMNS, query))
        return [membership_of(row) for row in sorted(found, key=_first)]

    async def event_page(
        self, workspace_id: str, after: str, limit: int
    ) -> list[tuple[str, StoredEvent]]:
        table = events.c
        query = (
            select(*(table[name] for name in _EVENT_COLUMNS))
            .where(table.workspace_id == workspace_id, table.event_id > after)
            .order_by(table.event_id)
            .limit(limit)
        )
        found = await self._database.read(lambda c: _in_order(c, query))
        return [
            (profile_id, StoredEvent(event_id, payload, receive_us, event_us))
            for event_id, profile_id, payload, receive_us, event_us in found
        ]

    async def messages_of(
        self, workspace_id: str, profile_ids: Collection[str]
    ) -> dict[str, list[Message]]:
        return await self._database.read(lambda c: _messages_of(c, workspace_id, list(profile_ids)))


def _of(workspace_id: str, audience_id: str) -> Select[Any]:
    table = audience_members.c
    return select(*(table[name] for name in COLUMNS)).where(
        table.workspace_id == workspace_id, table.audience_id == audience_id
    )


def _in_order(connection: Connection, query: Select[Any]) -> list[Row]:
    """Return events in the order of the query; PostgreSQL's may be another one than ours."""
    found = fetch(connection, events, _EVENT_COLUMNS, query)
    return found if on_postgresql(connection) else sorted(found, key=_first)


def _messages_of(
    connection: Connection, workspace_id: str, profile_ids: Sequence[str]
) -> dict[str, list[Message]]:
    """Return messages by the people whose runs they are of."""
    their_runs = _RUNS_OF.rows(connection, workspace_id, profile_ids)
    whose: dict[str, str] = {row[0]: row[1] for row in their_runs}
    found: dict[str, list[Message]] = {profile_id: [] for profile_id in profile_ids}
    for row in _MESSAGES_OF.rows(connection, workspace_id, list(whose)):
        message = rows.message_of(row)
        found[whose[message.run_id]].append(message)
    return found
