"""What people and the scheduler look at: due timers, single rows, lists with the newest first.

Lists by workflow or state go through rows from the newest back: no index, because each would cost
every write of the loop.
"""

from collections.abc import Collection
from heapq import merge
from itertools import islice

from sqlalchemy import Connection, Select, Table, func, select

from upshotd.adapters.storage import rows
from upshotd.adapters.storage.bulk import Lookup
from upshotd.adapters.storage.tables import (
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
from upshotd.domain.profile import Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import Identity

_PROFILES = Lookup(
    f"SELECT {', '.join(rows.PROFILE_COLUMNS)} FROM profiles "  # noqa: S608 - own words
    "WHERE workspace_id = :workspace AND profile_id IN (:keys)"
)


def _columns(table: Table, names: tuple[str, ...]) -> Select[rows.Row]:
    return select(*(table.c[name] for name in names))


# -- due -----------------------------------------------------------------------------------------


def due(connection: Connection, now_us: int, limit: int) -> list[Due]:
    """Return what is due, earliest first."""
    found = []
    for table, key in ((runs, "run_id"), (messages, "message_id")):
        query = (
            select(table.c.due_us, table.c.workspace_id, table.c[key])
            .where(table.c.due_us.is_not(None), table.c.due_us <= now_us)
            .order_by(table.c.due_us)
            .limit(limit)
        )
        found.append(
            [
                Due(workspace_id, due_us, **{key: name})
                for due_us, workspace_id, name in connection.execute(query)
            ]
        )
    return list(islice(merge(*found, key=lambda timer: timer.due_us), limit))


def next_due(connection: Connection) -> int | None:
    """Return the earliest due time of all."""
    found = [
        connection.execute(
            select(func.min(table.c.due_us)).where(table.c.due_us.is_not(None))
        ).scalar()
        for table in (runs, messages)
    ]
    return min((due_us for due_us in found if due_us is not None), default=None)


# -- runs and messages ---------------------------------------------------------------------------


def run(connection: Connection, workspace_id: str, run_id: str) -> Run | None:
    """Return one run."""
    query = _columns(runs, rows.RUN_COLUMNS)
    row = connection.execute(
        query.where(runs.c.workspace_id == workspace_id, runs.c.run_id == run_id)
    ).one_or_none()
    return None if row is None else rows.run_of(row)


def run_list(
    connection: Connection, workspace_id: str, chosen: RunFilter, before: str, limit: int
) -> list[Run]:
    """Return runs, newest first."""
    query = _columns(runs, rows.RUN_COLUMNS).where(runs.c.workspace_id == workspace_id)
    if before:
        query = query.where(runs.c.run_id < before)
    if chosen.workflow_id:
        query = query.where(runs.c.workflow_id == chosen.workflow_id)
    if chosen.profile_id:
        query = query.where(runs.c.profile_id == chosen.profile_id)
    if chosen.state is not None:
        query = query.where(runs.c.state == int(chosen.state))
    found = connection.execute(query.order_by(runs.c.run_id.desc()).limit(limit))
    return [rows.run_of(row) for row in found]


def message(connection: Connection, workspace_id: str, message_id: str) -> Message | None:
    """Return one message."""
    query = _columns(messages, rows.MESSAGE_COLUMNS)
    row = connection.execute(
        query.where(messages.c.workspace_id == workspace_id, messages.c.message_id == message_id)
    ).one_or_none()
    return None if row is None else rows.message_of(row)


def message_list(
    connection: Connection, workspace_id: str, chosen: MessageFilter, before: str, limit: int
) -> list[Message]:
    """Return messages, newest first; those of a person are those of the person's runs."""
    table = messages.c
    query = _columns(messages, rows.MESSAGE_COLUMNS).where(table.workspace_id == workspace_id)
    if before:
        query = query.where(table.message_id < before)
    if chosen.run_id:
        query = query.where(table.run_id == chosen.run_id)
    if chosen.workflow_id:
        query = query.where(table.workflow_id == chosen.workflow_id)
    if chosen.profile_id:
        theirs = select(runs.c.run_id).where(
            runs.c.workspace_id == workspace_id, runs.c.profile_id == chosen.profile_id
        )
        query = query.where(table.run_id.in_(theirs))
    found = connection.execute(query.order_by(table.message_id.desc()).limit(limit))
    return [rows.message_of(row) for row in found]


# -- people and refused events -------------------------------------------------------------------


def profile(
    connection: Connection, workspace_id: str, identity: Identity
) -> tuple[Profile, list[Suppression]] | None:
    """Return a person by an id from outside, with what is held back."""
    named = select(identities.c.profile_id).where(
        identities.c.workspace_id == workspace_id,
        identities.c.identity == rows.identity_key(identity),
    )
    row = connection.execute(
        _columns(profiles, rows.PROFILE_COLUMNS).where(
            profiles.c.workspace_id == workspace_id,
            profiles.c.profile_id == named.scalar_subquery(),
        )
    ).one_or_none()
    if row is None:
        return None
    found = rows.profile_of(row)
    held = connection.execute(
        _columns(suppressions, rows.SUPPRESSION_COLUMNS)
        .where(
            suppressions.c.workspace_id == workspace_id,
            suppressions.c.profile_id == found.profile_id,
        )
        .order_by(suppressions.c.scope)
    )
    return found, [rows.suppression_of(row) for row in held]


def profile_map(
    connection: Connection, workspace_id: str, profile_ids: Collection[str]
) -> dict[str, Profile]:
    """Return people by our own ids."""
    found = map(rows.profile_of, _PROFILES.rows(connection, workspace_id, profile_ids))
    return {profile.profile_id: profile for profile in found}


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
    found = connection.execute(query.order_by(table.rejection_id.desc()).limit(limit))
    return [rows.rejected_of(row) for row in found]
