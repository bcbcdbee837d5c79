"""What people and the scheduler look at: due timers, single rows, lists with the newest first.

Lists by workflow or state go through rows from the newest back: no index, because each would cost
every write of the loop.
"""

from collections.abc import Collection
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    exists,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from upshotd.adapters.storage import rows
from upshotd.adapters.storage.bulk import Lookup, fetch, findable, on_postgresql
from upshotd.adapters.storage.tables import (
    asks,
    audience_members,
    events,
    group_members,
    identities,
    messages,
    profiles,
    rejected_events,
    runs,
    suppressions,
)
from upshotd.application.ports import Due, MessageFilter, RunFilter
from upshotd.domain.event import RejectedEvent
from upshotd.domain.message import Message
from upshotd.domain.profile import Listed, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Identity, IdKind, KeptEvent

_IDENTITIES = Lookup(identities, ("identity", "profile_id"), "identity")
_PROFILES = Lookup(profiles, rows.PROFILE_COLUMNS, "profile_id")
_SUPPRESSIONS = Lookup(suppressions, rows.SUPPRESSION_COLUMNS, "profile_id")
#: The id is the first column of every row, the scope of a suppression the second.
_id, _scope = itemgetter(0), itemgetter(1)


#: Tables with timers, and the keys of their rows.
_TIMERS = (
    (runs, ("run_id",)),
    (messages, ("message_id",)),
    (audience_members, ("profile_id", "audience_id")),
)


def _due(timer: Due) -> tuple[int, str]:
    return timer.due_us, timer.key


def _columns(table: Table, names: tuple[str, ...]) -> Select[Any]:
    return select(*(table.c[name] for name in names))


# -- due -----------------------------------------------------------------------------------------


def due(connection: Connection, now_us: int, limit: int) -> list[Due]:
    """Return what is due, earliest first."""
    found = []
    for table, keys in _TIMERS:
        columns = ("due_us", "workspace_id", *keys)
        query = (
            select(*(table.c[name] for name in columns))
            .where(table.c.due_us.is_not(None), table.c.due_us <= now_us)
            .order_by(table.c.due_us, *(table.c[key] for key in keys))
            .limit(limit)
        )
        timers = [
            Due(workspace_id, due_us, **dict(zip(keys, names, strict=True)))
            for due_us, workspace_id, *names in fetch(connection, table, columns, query)
        ]
        found.append(sorted(timers, key=_due))
    return list(islice(merge(*found, key=_due), limit))


def next_due(connection: Connection) -> int | None:
    """Return the earliest due time of all."""
    found = [
        connection.execute(
            select(func.min(table.c.due_us)).where(table.c.due_us.is_not(None))
        ).scalar()
        for table, _ in _TIMERS
    ]
    return min((due_us for due_us in found if due_us is not None), default=None)


def _place(key: Column[str], few: bool) -> ColumnElement[str]:
    """Return what orders a list by *key*.

    Where an index leaves only *few* rows, sorting them is cheaper than going through the key; an
    expression instead of the column keeps the database from choosing the key for its order.
    """
    return key + "" if few else key


# -- runs and messages ---------------------------------------------------------------------------


def run(connection: Connection, workspace_id: str, run_id: str) -> Run | None:
    """Return one run."""
    query = _columns(runs, rows.RUN_COLUMNS)
    query = query.where(runs.c.workspace_id == workspace_id, runs.c.run_id == run_id)
    found = fetch(connection, runs, rows.RUN_COLUMNS, query)
    return rows.run_of(found[0]) if found else None


def run_list(
    connection: Connection, workspace_id: str, chosen: RunFilter, before: str, limit: int
) -> list[Run]:
    """Return runs, newest first."""
    query = _columns(runs, rows.RUN_COLUMNS).where(runs.c.workspace_id == workspace_id)
    place = _place(runs.c.run_id, bool(chosen.profile_id))
    if before:
        query = query.where(place < before)
    if chosen.workflow_id:
        query = query.where(runs.c.workflow_id == chosen.workflow_id)
    if chosen.profile_id:
        query = query.where(runs.c.profile_id == chosen.profile_id)
    if chosen.state is not None:
        query = query.where(runs.c.state == int(chosen.state))
    query = query.order_by(place.desc()).limit(limit)
    found = fetch(connection, runs, rows.RUN_COLUMNS, query)
    return [rows.run_of(row) for row in sorted(found, key=_id, reverse=True)]


def event(connection: Connection, workspace_id: str, event_id: str) -> KeptEvent | None:
    """Return one accepted event."""
    query = _columns(events, rows.EVENT_COLUMNS)
    query = query.where(events.c.workspace_id == workspace_id, events.c.event_id == event_id)
    found = fetch(connection, events, rows.EVENT_COLUMNS, query)
    return rows.kept_event_of(found[0]) if found else None


def message(connection: Connection, workspace_id: str, message_id: str) -> Message | None:
    """Return one message."""
    query = _columns(messages, rows.MESSAGE_COLUMNS)
    table = messages.c
    query = query.where(table.workspace_id == workspace_id, table.message_id == message_id)
    found = fetch(connection, messages, rows.MESSAGE_COLUMNS, query)
    return rows.message_of(found[0]) if found else None


def message_list(
    connection: Connection, workspace_id: str, chosen: MessageFilter, before: str, limit: int
) -> list[Message]:
    """Return messages, newest first; those of a person as `_messages_to` says."""
    table = messages.c
    query = _columns(messages, rows.MESSAGE_COLUMNS).where(table.workspace_id == workspace_id)
    place = _place(table.message_id, bool(chosen.run_id or chosen.profile_id))
    if before:
        query = query.where(place < before)
    if chosen.run_id:
        query = query.where(table.run_id == chosen.run_id)
    if chosen.workflow_id:
        query = query.where(table.workflow_id == chosen.workflow_id)
    if chosen.profile_id:
        query = query.where(table.message_id.in_(_messages_to(workspace_id, chosen.profile_id)))
    query = query.order_by(place.desc()).limit(limit)
    found = fetch(connection, messages, rows.MESSAGE_COLUMNS, query)
    return [rows.message_of(row) for row in sorted(found, key=_id, reverse=True)]


def _messages_to(workspace_id: str, profile_id: str) -> CompoundSelect[Any]:
    """Return the ids of messages to a person: of the person's runs, but for what these have asked
    others, and what the runs of others have asked the person."""
    made = messages.alias("made")
    here = (runs.c.workspace_id == workspace_id, made.c.workspace_id == workspace_id)
    theirs = select(runs.c.run_id).where(here[0], runs.c.profile_id == profile_id)
    asked = (asks.c.workspace_id == workspace_id, asks.c.profile_id == made.c.profile_id)
    to_others = exists().where(*asked, asks.c.message_id == made.c.message_id)
    own = select(made.c.message_id).where(here[1], made.c.run_id.in_(theirs), ~to_others)
    # Of a reviewer who was erased no row says any more that it was theirs.
    own = own.where(made.c.profile_id != "")
    by_others = select(asks.c.message_id).where(
        asks.c.workspace_id == workspace_id, asks.c.profile_id == profile_id
    )
    return union_all(own, by_others)


# -- people and refused events -------------------------------------------------------------------


def profile(
    connection: Connection, workspace_id: str, identity: Identity
) -> tuple[Profile, list[Suppression]] | None:
    """Return a person by an id from outside, with what is held back."""
    named = _IDENTITIES.rows(connection, workspace_id, (rows.identity_key(identity),))
    if not named:
        return None
    ((_, profile_id),) = named
    (row,) = _PROFILES.rows(connection, workspace_id, (profile_id,))
    held = _SUPPRESSIONS.rows(connection, workspace_id, (profile_id,))
    return rows.profile_of(row), [rows.suppression_of(row) for row in sorted(held, key=_scope)]


def profile_map(
    connection: Connection, workspace_id: str, profile_ids: Collection[str]
) -> dict[str, Profile]:
    """Return people by our own ids."""
    found = map(rows.profile_of, _PROFILES.rows(connection, workspace_id, profile_ids))
    return {profile.profile_id: profile for profile in found}


def user_map(
    connection: Connection, workspace_id: str, user_ids: Collection[str]
) -> dict[str, Profile]:
    """Return people by their user ids."""
    keys = {rows.identity_key((IdKind.USER, user_id)): user_id for user_id in user_ids}
    named = _IDENTITIES.rows(connection, workspace_id, list(keys)) if keys else []
    people = profile_map(connection, workspace_id, [who for _, who in named]) if named else {}
    return {keys[key]: people[who] for key, who in named if who in people}


def profile_page(
    connection: Connection, workspace_id: str, after: str, limit: int
) -> list[Profile]:
    """Return people by our ids, with ids above *after*."""
    table = profiles.c
    query = _columns(profiles, rows.PROFILE_COLUMNS)
    query = query.where(table.workspace_id == workspace_id, table.profile_id > after)
    query = query.order_by(table.profile_id).limit(limit)
    found = fetch(connection, profiles, rows.PROFILE_COLUMNS, query)
    return [rows.profile_of(row) for row in sorted(found, key=_id)]


def group_member_page(
    connection: Connection, workspace_id: str, group_id: str, after: str, limit: int
) -> list[str]:
    """Return members of a group by our ids, with ids above *after*."""
    if not findable(connection, [group_id]):
        return []
    table = group_members.c
    query = select(table.profile_id).where(
        table.workspace_id == workspace_id, table.group_id == group_id, table.profile_id > after
    )
    found = connection.execute(query.order_by(table.profile_id).limit(limit))
    return list(found.scalars())


def suppression_list(
    connection: Connection, workspace_id: str, after: str, limit: int
) -> list[Listed]:
    """Return what is held back, by owner and scope."""
    owner, _, scope = after.partition(" ")
    table = suppressions.c
    query = _columns(suppressions, rows.SUPPRESSION_COLUMNS).where(
        table.workspace_id == workspace_id,
        tuple_(table.profile_id, table.scope) > tuple_(literal(owner), literal(scope)),
    )
    query = query.order_by(table.profile_id, table.scope).limit(limit)
    found = fetch(connection, suppressions, rows.SUPPRESSION_COLUMNS, query)
    if not on_postgresql(connection):  # whose rows come in the order of the query, its own
        found.sort(key=itemgetter(0, 1))
    return [Listed(row[0], rows.suppression_of(row)) for row in found]


def rejected_list(
    connection: Connection, workspace_id: str, before: str, limit: int
) -> list[RejectedEvent]:
    """Return refused events, newest first."""
    table = rejected_events.c
    query = _columns(rejected_events, rows.REJECTED_COLUMNS).where(
        table.workspace_id == workspace_id
    )
    if before:
        query = query.where(table.rejection_id < before)
    query = query.order_by(table.rejection_id.desc()).limit(limit)
    found = fetch(connection, rejected_events, rows.REJECTED_COLUMNS, query)
    return [rows.rejected_of(row) for row in sorted(found, key=_id, reverse=True)]
