"""Who works on a database: leases of processes, and what those that are gone were sending.

A process has one lease for all its work. Whoever sees that it ran out deletes its row, under a lock
that waits for commits of that process; from then on nothing of it can commit (`fence`), and what it
was sending is due at once. What an ended lease means is decided by the engine, as ever.
"""

from typing import cast

from sqlalchemy import Connection, bindparam, delete, select, update

from upshotd.adapters.storage.rows import load
from upshotd.adapters.storage.tables import audience_members, messages, replicas, runs
from upshotd.application.ports import Due
from upshotd.domain.errors import LeaseLost
from upshotd.domain.message import MessageState

#: Where a message's document has its state.
_STATE = 3
#: Any moment that is past.
_LONG_AGO_US = 1

#: The database's clock, in microseconds: of the moment, not of the transaction's begin.
_NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_JOIN = f"INSERT INTO replicas (owner, until_us) VALUES ($1, {_NOW_US} + $2)"  # noqa: S608
_BEAT = f"UPDATE replicas SET until_us = {_NOW_US} + $2 WHERE owner = $1 RETURNING until_us - $2"  # noqa: S608
# Commits of the process hold this lock, so that its row can be kept alive, but not deleted.
_FENCE = "SELECT 1 FROM replicas WHERE owner = $1 FOR KEY SHARE"
_EXPIRED = f"DELETE FROM replicas WHERE until_us < {_NOW_US} AND owner <> $1 RETURNING owner"  # noqa: S608


def join(connection: Connection, owner: str, lease_us: int) -> None:
    """Begin a lease."""
    connection.exec_driver_sql(_JOIN, (owner, lease_us))


def beat(connection: Connection, owner: str, lease_us: int) -> int:
    """Extend a lease, and return the database's time. Raises LeaseLost when it was taken over."""
    now_us = connection.exec_driver_sql(_BEAT, (owner, lease_us)).scalar()
    if now_us is None:
        raise LeaseLost("another replica has taken over")
    return cast(int, now_us)


def fence(connection: Connection, owner: str) -> None:
    """Let nobody take over before the transaction ends. Raises LeaseLost when somebody has."""
    if connection.exec_driver_sql(_FENCE, (owner,)).first() is None:
        raise LeaseLost("another replica has taken over")


def leave(connection: Connection, owner: str) -> None:
    """End a lease at once."""
    connection.execute(delete(replicas).where(replicas.c.owner == owner))
    _release(connection, [owner])


def take_over(connection: Connection, owner: str) -> list[str]:
    """End all leases that ran out, but that of *owner*; return whose they were."""
    gone = [row[0] for row in connection.exec_driver_sql(_EXPIRED, (owner,))]
    if gone:
        _release(connection, gone)
    return gone


def _release(connection: Connection, owners: list[str]) -> None:
    """Make due what they were sending. Timers they had claimed are free without their row."""
    table = messages.c
    connection.execute(
        update(messages)
        .where(table.claim_owner.in_(owners), table.due_us.is_not(None))
        .values(due_us=_LONG_AGO_US)
    )


# -- claims --------------------------------------------------------------------------------------


def _claim(table: str, *keys: str) -> str:
    key = ", ".join(keys)
    free = (
        "claim_owner = '' OR claim_owner = $1 "  # noqa: S608
        f"OR NOT EXISTS (SELECT 1 FROM replicas WHERE owner = {table}.claim_owner)"
    )
    found = (
        f"SELECT workspace_id, {key} FROM {table} WHERE due_us <= $2 AND ({free}) "  # noqa: S608
        f"ORDER BY due_us, {key} LIMIT $3 FOR UPDATE SKIP LOCKED"
    )
    return (
        f"UPDATE {table} SET claim_owner = $1 WHERE (workspace_id, {key}) IN ({found}) "  # noqa: S608
        f"RETURNING workspace_id, due_us, {key}"
    )


_CLAIM_RUNS = _claim(runs.name, "run_id")
_CLAIM_MESSAGES = _claim(messages.name, "message_id")
_CLAIM_MEMBERSHIPS = _claim(audience_members.name, "profile_id", "audience_id")


def claim(connection: Connection, owner: str, now_us: int, limit: int) -> list[Due]:
    """Claim up to *limit* timers, earliest first; those beyond it are claimed, and come again.

    A claim is forgotten when its row is written, and free when its owner has no lease.
    """
    asked = (owner, now_us, limit)
    runs_due = connection.exec_driver_sql(_CLAIM_RUNS, asked).all()
    messages_due = connection.exec_driver_sql(_CLAIM_MESSAGES, asked).all()
    found = [Due(place, due_us, run_id=key) for place, due_us, key in runs_due]
    found += [Due(place, due_us, message_id=key) for place, due_us, key in messages_due]
    members_due = connection.exec_driver_sql(_CLAIM_MEMBERSHIPS, asked).all()
    found += [
        Due(place, due_us, profile_id=profile_id, audience_id=audience_id)
        for place, due_us, profile_id, audience_id in members_due
    ]
    found.sort(key=lambda due: (due.due_us, due.key))
    return found[:limit]


# -- one process ---------------------------------------------------------------------------------


def end_all(connection: Connection) -> int:
    """End the lease of every message that is being sent; return how many there were.

    For a store that only one process can have open, and only when it begins: whoever held a lease
    is dead then, and nobody need wait until it runs out.
    """
    table = messages.c
    key = (table.workspace_id, table.message_id)
    found = connection.execute(select(*key, table.body).where(table.due_us.is_not(None)))
    held = [
        {"held_workspace_id": workspace_id, "held_message_id": message_id}
        for workspace_id, message_id, body in found
        if load(body)[_STATE] == MessageState.SENDING
    ]
    if held:
        connection.execute(
            update(messages)
            .where(
                table.workspace_id == bindparam("held_workspace_id"),
                table.message_id == bindparam("held_message_id"),
            )
            .values(due_us=_LONG_AGO_US),
            held,
        )
    return len(held)
