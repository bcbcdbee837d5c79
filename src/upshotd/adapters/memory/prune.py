"""Forgets what is past retention."""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from upshotd.adapters.memory.tables import Tables
from upshotd.application.ports import Retention

V = TypeVar("V")


def prune(tables: Tables, retention: Retention, limit: int) -> int:
    """Delete up to *limit* rows of each kind that are too old; return how many went."""
    in_use = {run.event_id for run in tables.runs.values() if run.active}
    gone = _drop(
        tables.events,
        lambda row: (
            row.stored.receive_us < retention.events_us and row.stored.event_id not in in_use
        ),
        limit,
    )
    gone += _drop(tables.rejected, lambda row: row.receive_us < retention.rejected_us, limit)
    gone += _pending(tables, retention.rejected_us, limit)
    gone += _engagements(tables, retention.events_us, limit)
    return gone + tables.log.prune(retention.outcomes_us, limit)


def _drop(table: dict[str, V], old: Callable[[V], bool], limit: int) -> int:
    keys = tuple(islice((key for key, row in table.items() if old(row)), limit))
    for key in keys:
        del table[key]
    return len(keys)


def _pending(tables: Tables, before_us: int, limit: int) -> int:
    """Drop what waited too long, with its id: it never acted."""
    old = [
        (key, engagement_id)
        for key, held in tables.pending.items()
        for engagement_id, engagement in held.items()
        if engagement.occur_us < before_us
    ]
    for key, engagement_id in old[:limit]:
        del tables.pending[key][engagement_id], tables.engagements[engagement_id]
    return len(old[:limit])


def _engagements(tables: Tables, before_us: int, limit: int) -> int:
    """Forget the ids of what was recorded; what still waits keeps its own."""
    waiting = {engagement_id for held in tables.pending.values() for engagement_id in held}
    old = [
        engagement_id
        for engagement_id, came_us in tables.engagements.items()
        if came_us < before_us and engagement_id not in waiting
    ]
    for engagement_id in old[:limit]:
        del tables.engagements[engagement_id]
    return len(old[:limit])
