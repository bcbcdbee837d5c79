"""Deletes what is past retention, a little at a time."""

from sqlalchemy import Column, Connection, Table, and_, delete, exists, select, tuple_, update

from upshotd.adapters.storage.tables import (
    engagements,
    events,
    outcome_heads,
    outcomes,
    pending_engagements,
    rejected_events,
    runs,
)
from upshotd.application.ports import Retention
from upshotd.domain.run import RunState


def prune(connection: Connection, retention: Retention, limit: int) -> int:
    """Delete up to *limit* rows of each kind; return how many went."""
    active = and_(runs.c.workspace_id == events.c.workspace_id, runs.c.state == RunState.ACTIVE)
    # Two questions, for two indexes: runs that the event started, and runs enrolled from those.
    started = exists().where(active, runs.c.start_key == events.c.event_id)
    enrolled = exists().where(
        active, runs.c.event_id == events.c.event_id, runs.c.start_key != runs.c.event_id
    )
    kept = (~started, ~enrolled)
    gone = _oldest(connection, events, events.c.receive_us, retention.events_us, limit, *kept)
    for table, until_us in (
        (engagements, retention.events_us),
        (pending_engagements, retention.rejected_us),
    ):
        gone += _oldest(connection, table, table.c.record_us, until_us, limit)
    refused = rejected_events.c.receive_us
    gone += _oldest(connection, rejected_events, refused, retention.rejected_us, limit)
    return gone + _outcomes(connection, retention.outcomes_us, limit)


def _oldest(
    connection: Connection,
    table: Table,
    time: Column[int],
    until_us: int,
    limit: int,
    *conditions: object,
) -> int:
    key = tuple(table.primary_key.columns)
    oldest = select(*key).where(time < until_us, *conditions).order_by(time).limit(limit)  # type: ignore[arg-type]
    found = [tuple(row) for row in connection.execute(oldest)]
    for at in range(0, len(found), 500):
        connection.execute(delete(table).where(tuple_(*key).in_(found[at : at + 500])))
    return len(found)


def _outcomes(connection: Connection, until_us: int, limit: int) -> int:
    """Delete the oldest of each partition, in order: what is left has no gap."""
    gone = 0
    heads, table = outcome_heads.c, outcomes.c
    for head in connection.execute(select(heads.workspace_id, heads.partition)).all():
        place = (table.workspace_id == head.workspace_id, table.partition == head.partition)
        oldest = connection.execute(
            select(table.position, table.record_us)
            .where(*place)
            .order_by(table.position)
            .limit(limit - gone)
        )
        last, count = 0, 0
        for position, record_us in oldest:
            if record_us >= until_us:
                break
            last, count = position, count + 1
        if count:
            connection.execute(delete(outcomes).where(*place, table.position <= last))
            connection.execute(
                update(outcome_heads)
                .where(heads.workspace_id == head.workspace_id, heads.partition == head.partition)
                .values(earliest=last + 1)
            )
            gone += count
    return gone
