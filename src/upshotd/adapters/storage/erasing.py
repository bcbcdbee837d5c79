"""Erased people: what goes with the erasure itself, and what is looked for afterwards.

Rows of an erased person are emptied, never deleted: who has loaded one of them would write it
again as a new row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, select, update

from upshotd.adapters.storage import audiences, definitions, rows
from upshotd.adapters.storage.bulk import Insert, Lookup, fetch, upsert
from upshotd.adapters.storage.tables import (
    asks,
    events,
    messages,
    outcomes,
    rejected_events,
    runs,
    suppressions,
)
from upshotd.application import erased
from upshotd.domain import addresses, erasure
from upshotd.domain.errors import Conflict
from upshotd.domain.event import RejectedEvent
from upshotd.domain.profile import Erasure
from upshotd.domain.run import RunState

_RUNS_OF = Lookup(runs, rows.RUN_COLUMNS, "profile_id", lock="UPDATE")
_RUNS = upsert(
    runs,
    rows.RUN_COLUMNS,
    ("workspace_id", "run_id"),
    ("profile_id", "reentry_key", "cancellation_key", "holds_active", "holds_ever", "due_us")
    + ("body",),
)
_MESSAGES_OF = Lookup(messages, rows.MESSAGE_STATE_COLUMNS, "run_id", lock="UPDATE")
# Requests to decide stand in the runs of others.
_ASKS = Lookup(asks, rows.ASK_COLUMNS, "profile_id")
_RUNS_ASKING = Lookup(
    runs, rows.RUN_COLUMNS, "run_id", f" AND state = {RunState.ACTIVE.value}", lock="UPDATE"
)
_REQUESTS = Lookup(messages, rows.MESSAGE_STATE_COLUMNS, "message_id", lock="UPDATE")
_MESSAGES = upsert(
    messages,
    (*rows.MESSAGE_COLUMNS, "claim_owner", "recipient"),
    ("workspace_id", "message_id"),
    ("profile_id", "due_us", "claim_owner", "recipient", "body", "content"),
)
_HELD = Lookup(suppressions, rows.SUPPRESSION_COLUMNS, "profile_id")
_HIDDEN = Insert(
    suppressions,
    rows.SUPPRESSION_COLUMNS,
    "ON CONFLICT (workspace_id, profile_id, scope) DO NOTHING",
)

#: A row that is rewritten: its key in the table, and what it gets.
Change = dict[str, Any]


def erase(connection: Connection, workspace_id: str, gone: Erasure) -> None:
    """Empty everything that is found by the person: runs, messages, addresses on the list."""
    found = _RUNS_OF.rows(connection, workspace_id, [gone.profile_id])
    runs_of = {row[0]: rows.run_of(row) for row in found}
    if any(run.active for run in runs_of.values()):
        raise Conflict("a run has begun since the person was loaded")
    emptied = [rows.run_row(erasure.emptied(runs_of[run_id])) for run_id in sorted(runs_of)]
    _write(connection, workspace_id, _RUNS, emptied)
    found = _MESSAGES_OF.rows(connection, workspace_id, sorted(runs_of)) if runs_of else []
    found = [*found, *_requests(connection, workspace_id, gone)]
    written = {row[0]: rows.message_of(row) for row in found}
    tombstones = [rows.message_row(erasure.tombstone(written[name])) for name in sorted(written)]
    _write(connection, workspace_id, _MESSAGES, tombstones)
    audiences.forget(connection, workspace_id, gone)
    _hide(connection, workspace_id, sorted(erasure.used(gone, written.values())))
    definitions.put_setting(connection, *erased.task(workspace_id, gone))


def _requests(connection: Connection, workspace_id: str, gone: Erasure) -> list[rows.Row]:
    """Return what the person was asked by for a decision; the runs that wait for it are woken.

    Who asks somebody holds their row, and so does who erases them: none can be added meanwhile.
    """
    found = _ASKS.rows(connection, workspace_id, [gone.profile_id])
    if not found:
        return []
    asking = _RUNS_ASKING.rows(connection, workspace_id, sorted({run_id for *_, run_id in found}))
    woken = (erasure.woken(rows.run_of(row), gone) for row in asking)
    _write(connection, workspace_id, _RUNS, [rows.run_row(run) for run in woken if run is not None])
    requests = _REQUESTS.rows(connection, workspace_id, sorted(name for _, name, _ in found))
    theirs = (asks.c.workspace_id == workspace_id, asks.c.profile_id == gone.profile_id)
    connection.execute(delete(asks).where(*theirs))
    return requests


def _write(
    connection: Connection, workspace_id: str, insert: Insert, found: Sequence[rows.Row]
) -> None:
    if insert.run(connection, workspace_id, found) != len(found):
        raise Conflict(f"rows of {insert.table} have moved on since they were read")


def _hide(connection: Connection, workspace_id: str, listed: Sequence[str]) -> None:
    """Keep what is held back from addresses under their hashes."""
    held = _HELD.rows(connection, workspace_id, listed) if listed else []
    if not held:
        return
    _HIDDEN.run(connection, workspace_id, [(addresses.hidden(row[0]), *row[1:]) for row in held])
    connection.execute(
        delete(suppressions).where(
            suppressions.c.workspace_id == workspace_id,
            suppressions.c.profile_id.in_([row[0] for row in held]),
        )
    )


# -- what is looked for --------------------------------------------------------------------------


def event_page(
    connection: Connection,
    workspace_id: str,
    until_us: Mapping[str, int],
    after: str,
    limit: int,
) -> tuple[list[Change], str | None]:
    """Return the events to empty among the next ones, and the id of the last one looked at."""
    found = connection.execute(
        select(events.c.event_id, events.c.profile_id, events.c.receive_us)
        .where(events.c.workspace_id == workspace_id, events.c.event_id > after)
        .order_by(events.c.event_id)
        .limit(limit)
    ).all()
    changes = [
        {"at_event": event_id}
        for event_id, profile_id, receive_us in found
        if receive_us <= until_us.get(profile_id, -1)
    ]
    return changes, found[-1][0] if found else None


def empty_events(connection: Connection, workspace_id: str, changes: Sequence[Change]) -> None:
    """Empty events: only that they came, and when, is kept."""
    at = and_(events.c.workspace_id == workspace_id, events.c.event_id == bindparam("at_event"))
    nothing = {"payload": b"", "group_id": "", "started": None}
    connection.execute(update(events).where(at).values(nothing), list(changes))


def outcome_page(
    connection: Connection,
    place: tuple[str, int, int],
    limit: int,
    clear: Callable[[bytes], bytes | None],
) -> tuple[list[Change], int | None]:
    """Return the outcomes to rewrite among the next ones, and the last position looked at."""
    workspace_id, partition, after = place
    found = connection.execute(
        select(outcomes.c.position, outcomes.c.body)
        .where(
            outcomes.c.workspace_id == workspace_id,
            outcomes.c.partition == partition,
            outcomes.c.position > after,
        )
        .order_by(outcomes.c.position)
        .limit(limit)
    ).all()
    changes = [
        {"at_position": position, "to_body": cleared}
        for position, body in found
        if (cleared := clear(bytes(body))) is not None
    ]
    return changes, found[-1][0] if found else None


def rewrite_outcomes(
    connection: Connection, workspace_id: str, partition: int, changes: Sequence[Change]
) -> None:
    """Rewrite outcomes at their places."""
    at = and_(
        outcomes.c.workspace_id == workspace_id,
        outcomes.c.partition == partition,
        outcomes.c.position == bindparam("at_position"),
    )
    connection.execute(update(outcomes).where(at).values(body=bindparam("to_body")), list(changes))


def rejected_page(
    connection: Connection,
    workspace_id: str,
    until_us: Mapping[str, int],
    after: str,
    limit: int,
) -> tuple[list[Change], str | None]:
    """Return the refused events to empty among the next ones, and the last id looked at."""
    table = rejected_events.c
    query = (
        select(*(table[name] for name in rows.REJECTED_COLUMNS))
        .where(table.workspace_id == workspace_id, table.rejection_id > after)
        .order_by(table.rejection_id)
        .limit(limit)
    )
    page = fetch(connection, rejected_events, rows.REJECTED_COLUMNS, query)
    found = [rows.rejected_of(row) for row in page]
    changes = [
        {"at_rejection": emptied.rejection_id, "to_body": rows.rejected_row(emptied)[2]}
        for emptied in _emptied(found, until_us)
    ]
    return changes, max((one.rejection_id for one in found), default=None)


def rewrite_rejected(connection: Connection, workspace_id: str, changes: Sequence[Change]) -> None:
    """Rewrite refused events."""
    table = rejected_events
    at = and_(
        table.c.workspace_id == workspace_id, table.c.rejection_id == bindparam("at_rejection")
    )
    connection.execute(update(table).where(at).values(body=bindparam("to_body")), list(changes))


def _emptied(
    found: Iterable[RejectedEvent], until_us: Mapping[str, int]
) -> Iterable[RejectedEvent]:
    for rejected in found:
        emptied = erasure.without_payload(rejected, until_us)
        if emptied is not None:
            yield emptied
