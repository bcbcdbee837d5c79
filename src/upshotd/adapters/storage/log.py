"""The outcome log as readers see it, and the subscriptions to it."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    func,
    select,
    update,
)

from upshotd.adapters.storage.bulk import into, marks
from upshotd.adapters.storage.rows import Row, dump, load
from upshotd.adapters.storage.tables import outcome_counts, outcome_heads, outcomes, subscriptions
from upshotd.application.outcome_page import OutcomePage, OutcomeRead
from upshotd.application.ports import (
    OutcomeCount,
    OutcomeFilter,
    PartitionSpan,
    Subscription,
)
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind


def _joins_bytes() -> bool:
    """Return whether SQLite joins bytes as they are; older versions end at the first zero."""
    some = "SELECT x'6100ff' AS body UNION ALL SELECT x'0062'"
    query = f"SELECT CAST(group_concat(body, '') AS BLOB) FROM ({some})"  # noqa: S608
    with closing(sqlite3.connect(":memory:")) as connection:
        return bool(connection.execute(query).fetchone()[0] == b"a\0\xff\0b")


_BODIES = (
    "CAST(group_concat(body, '') AS BLOB)" if _joins_bytes() else "group_concat(hex(body), '')"
)
#: The usual read, and the busiest, of SQLite: everything behind a position, in pages that are ready
#: to go out. Positions are contiguous, so a page is a range of them. One statement is one snapshot.
#: Its values are workspace, partition, position, most to look at, most of a page; its rows where
#: a page begins and ends, and its bodies joined (or their hexadecimal digits). SQLite goes by the
#: key, so that they are in order.
PAGES = f"""
WITH RECURSIVE
span(first, last) AS MATERIALIZED (
  SELECT max(?3, earliest - 1), min(head, max(?3, earliest - 1) + ?4)
  FROM outcome_heads WHERE workspace_id = ?1 AND partition = ?2 AND head > ?3),
page(first, last) AS (
  SELECT first, last FROM span UNION ALL SELECT first + ?5, last FROM page WHERE first + ?5 < last)
SELECT first, min(first + ?5, last), (
  SELECT {_BODIES} FROM outcomes
  WHERE workspace_id = ?1 AND partition = ?2
  AND position > first AND position <= min(first + ?5, last))
FROM page
"""  # noqa: S608
#: The same of PostgreSQL, row by row: its driver reads rows in one go.
_ALL_POSTGRESQL = (
    "SELECT position, body FROM outcomes "
    "WHERE workspace_id = $1 AND partition = $2 AND position > $3 AND position <= $4"
)


def spans(connection: Connection, workspace_id: str, partitions: int) -> dict[int, PartitionSpan]:
    """Return what each partition holds, also of those that are empty."""
    heads = outcome_heads.c
    found = connection.execute(
        select(heads.partition, heads.earliest, heads.head).where(
            heads.workspace_id == workspace_id
        )
    )
    known = {partition: PartitionSpan(earliest, head) for partition, earliest, head in found}
    return {partition: known.get(partition, PartitionSpan(1, 0)) for partition in range(partitions)}


def size(connection: Connection) -> int:
    """Return how much was ever appended to all logs together."""
    return int(
        connection.execute(select(func.coalesce(func.sum(outcome_heads.c.head), 0))).scalar_one()
    )


def read_of(pages: Iterable[tuple[int, int, bytes | str | None]], after: int) -> OutcomeRead:
    """Return the read behind *after* that found the rows of `PAGES`."""
    begin, through, found = None, after, []
    for first, through, body in pages:
        begin = first if begin is None else begin
        if body:  # there is none where nothing is kept
            joined = bytes.fromhex(body) if isinstance(body, str) else body
            found.append(OutcomePage(joined, through))
    return OutcomeRead(found, after if begin is None else begin, through)


def read(
    connection: Connection,
    place: tuple[str, int, int],
    limit: int,
    chosen: OutcomeFilter,
    batch: int,
) -> OutcomeRead:
    """Return what passes *chosen* behind a (workspace, partition, position), on a snapshot.

    Positions are contiguous, so looking is counting.
    """
    workspace_id, partition, after = place
    span = connection.exec_driver_sql(_span_text(connection), (workspace_id, partition)).fetchone()
    if span is None or span[1] <= after:
        return OutcomeRead((), after, after)
    earliest, head = span
    begin = max(after, earliest - 1)
    through = min(head, begin + limit)
    if chosen.open:
        # Of PostgreSQL: SQLite has `PAGES` for it.
        found = connection.exec_driver_sql(
            _ALL_POSTGRESQL, (workspace_id, partition, begin, through)
        )
    else:
        found = connection.execute(_chosen(workspace_id, partition, begin, through, chosen))
    rows = [(position, body) for position, body in found]
    rows.sort(key=itemgetter(0))
    return OutcomeRead.of(rows, begin, through, batch)


def _chosen(
    workspace_id: str, partition: int, after: int, through: int, chosen: OutcomeFilter
) -> Select[Any]:
    table = outcomes.c
    return select(table.position, table.body).where(
        table.workspace_id == workspace_id,
        table.partition == partition,
        table.position > after,
        table.position <= through,
        *_passing(chosen),
    )


def _span_text(connection: Connection) -> str:
    first, second = marks(connection, 1, 1), marks(connection, 2, 1)
    where = f"workspace_id = {first} AND partition = {second}"
    return f"SELECT earliest, head FROM outcome_heads WHERE {where}"  # noqa: S608


def _passing(chosen: OutcomeFilter) -> list[ColumnElement[bool]]:
    table = outcomes.c
    conditions: list[ColumnElement[bool]] = []
    if chosen.kinds:
        conditions.append(table.kind.in_(sorted(int(kind) for kind in chosen.kinds)))
    if chosen.workflow_ids:
        conditions.append(table.workflow_id.in_(sorted(chosen.workflow_ids)))
    if chosen.user_ids:
        conditions.append(table.user_id.in_(sorted(chosen.user_ids)))
    if chosen.channels:
        conditions.append(table.channel.in_(sorted(int(channel) for channel in chosen.channels)))
    return conditions


def record_time(
    connection: Connection, workspace_id: str, partition: int, position: int
) -> int | None:
    """Return when the first outcome at or after *position* was recorded."""
    table = outcomes.c
    return connection.execute(
        select(table.record_us)
        .where(
            table.workspace_id == workspace_id,
            table.partition == partition,
            table.position >= position,
        )
        .order_by(table.position)
        .limit(1)
    ).scalar()


def counts(
    connection: Connection, workspace_id: str, start_us: int, end_us: int, workflow_id: str
) -> list[OutcomeCount]:
    """Return counts over whole hours."""
    table = outcome_counts.c
    key = (table.workflow_id, table.step_id, table.channel, table.kind)
    query = (
        select(*key, func.sum(table["count"]))
        .where(table.workspace_id == workspace_id)
        .where(table.hour_us >= start_us, table.hour_us < end_us)
        .group_by(*key)
        .order_by(*key)
    )
    if workflow_id:
        query = query.where(table.workflow_id == workflow_id)
    return [
        OutcomeCount(workflow, step, Channel(channel), OutcomeKind(kind), int(count))
        for workflow, step, channel, kind, count in connection.execute(query)
    ]


# -- subscriptions -------------------------------------------------------------------------------

_COLUMNS = (
    subscriptions.c.name,
    subscriptions.c.positions,
    subscriptions.c.create_us,
    subscriptions.c.commit_us,
)


def _subscription_of(row: Row) -> Subscription:
    name, positions, create_us, commit_us = row
    places = {int(partition): position for partition, position in load(positions).items()}
    return Subscription(name, places, create_us, commit_us)


def subscription(
    connection: Connection, workspace_id: str, name: str, *, lock: bool = False
) -> Subscription | None:
    """Return one subscription; with *lock* nobody else changes it until the transaction ends."""
    table = subscriptions.c
    query = select(*_COLUMNS).where(table.workspace_id == workspace_id, table.name == name)
    # SQLite has one writer, and its dialect leaves the lock out.
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _subscription_of(row)


def all_subscriptions(connection: Connection, workspace_id: str) -> list[Subscription]:
    """Return all, by name."""
    table = subscriptions.c
    found = connection.execute(
        select(*_COLUMNS).where(table.workspace_id == workspace_id).order_by(table.name)
    )
    return [_subscription_of(row) for row in found]


def change_subscription(
    connection: Connection,
    workspace_id: str,
    name: str,
    change: Callable[[Subscription | None], Subscription],
) -> Subscription:
    """Store what *change* makes of a subscription, and return it."""
    held = subscription(connection, workspace_id, name, lock=True)
    made = change(held)
    key = {"workspace_id": workspace_id, "name": name}
    if held is None and not _inserted(connection, key, made):
        # Another replica has made it meanwhile, and its transaction is over.
        return change_subscription(connection, workspace_id, name, change)
    if held is not None:
        table = subscriptions.c
        connection.execute(
            update(subscriptions)
            .where(table.workspace_id == workspace_id, table.name == name)
            .values(_values(made))
        )
    return made


def _inserted(connection: Connection, key: dict[str, str], made: Subscription) -> bool:
    new = into(connection, subscriptions).values({**key, **_values(made)})
    return connection.execute(new.on_conflict_do_nothing()).rowcount > 0


def _values(held: Subscription) -> dict[str, object]:
    positions = {str(partition): position for partition, position in held.positions.items()}
    return {
        "positions": dump(positions),
        "create_us": held.create_us,
        "commit_us": held.commit_us,
    }


def delete_subscription(connection: Connection, workspace_id: str, name: str) -> bool:
    """Forget one; False when there was none."""
    table = subscriptions.c
    gone = connection.execute(
        delete(subscriptions).where(table.workspace_id == workspace_id, table.name == name)
    )
    return gone.rowcount > 0
