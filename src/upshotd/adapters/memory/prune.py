"""Forgets what is past retention."""

from collections.abc import Callable, Iterator
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
    waiting = {engagement_id for held in tables.pending.values() for engagement_id in held}
    for engagement_id in _older(tables.engagements, retention.events_us, waiting, limit):
        del tables.engagements[engagement_id]
        gone += 1
    return gone + tables.log.prune(retention.outcomes_us, limit)


def _drop(table: dict[str, V], old: Callable[[V], bool], limit: int) -> int:
    keys = tuple(islice((key for key, row in table.items() if old(row)), limit))
    for key in keys:
        del table[key]
    return len(keys)


def _pending(tables: Tables, before_us: int, limit: int) -> int:
    """Drop what waited too long; its id stays known for as long as those of the others."""
    gone = 0
    for key, held in tuple(tables.pending.items()):
        gone += _drop(held, lambda engagement: engagement.occur_us < before_us, limit - gone)
        if not held:
            del tables.pending[key]
    return gone


def _older(
    engagements: dict[str, int], before_us: int, waiting: set[str], limit: int
) -> Iterator[str]:
    old = (
        engagement_id
        for engagement_id, occur_us in engagements.items()
        if occur_us < before_us and engagement_id not in waiting
    )
    yield from tuple(islice(old, limit))
