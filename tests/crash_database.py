"""What the database remembers of a crash story: of a SQLite file, or of a PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from tests.crash_audit import Logged, Message, Run
from upshot.v1 import outcome_pb2, service_pb2

_QUERIES = {
    "event_ids": "SELECT event_id FROM events",
    "runs": "SELECT run_id, r.event_id, start_us, e.event_us, state, due_us "
    "FROM runs r LEFT JOIN events e USING (workspace_id, event_id)",
    "messages": "SELECT message_id, run_id, due_us FROM messages",
    "outcomes": "SELECT partition, position, body FROM outcomes ORDER BY partition, position",
    "heads": "SELECT partition, head FROM outcome_heads",
    "counts": "SELECT kind, SUM(count) FROM outcome_counts GROUP BY kind",
    "tally": "SELECT COALESCE(SUM(exposures), 0), COALESCE(SUM(successes), 0) FROM tallies",
    "rejected": "SELECT COUNT(*) FROM rejected_events",
}


def read_database(database: str) -> dict[str, Any]:
    """Return the fields of a History that are in *database*, a path or an address."""
    if database.startswith("postgresql"):
        # Whoever asks has an event loop, and waits.
        with ThreadPoolExecutor(1) as thread:
            found = thread.submit(asyncio.run, _postgresql(database)).result()
    else:
        found = _sqlite(database)
    return {
        "event_ids": tuple(event_id for (event_id,) in found["event_ids"]),
        "runs": tuple(Run(*row) for row in found["runs"]),
        "messages": tuple(Message(*row) for row in found["messages"]),
        "outcomes": tuple(_logged(*row) for row in found["outcomes"]),
        "heads": dict(found["heads"]),
        "counts": {_kind(kind): int(count) for kind, count in found["counts"]},
        "tally": tuple(map(int, found["tally"][0])),
        "rejected": found["rejected"][0][0],
        "integrity": ", ".join(text for (text,) in found.get("integrity", [("ok",)])),
    }


def count_outcomes(database: str) -> int:
    """Return how many outcomes were ever appended."""
    return sum(read_database(database)["heads"].values())


def _sqlite(path: str) -> dict[str, Sequence[Any]]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        database.execute("BEGIN")
        queries = _QUERIES | {"integrity": "PRAGMA integrity_check"}
        return {name: database.execute(sql).fetchall() for name, sql in queries.items()}
    finally:
        database.close()


async def _postgresql(address: str) -> dict[str, Sequence[Any]]:
    database = await asyncpg.connect(address)
    try:
        async with database.transaction(isolation="repeatable_read", readonly=True):
            return {name: await database.fetch(sql) for name, sql in _QUERIES.items()}
    finally:
        await database.close()


def _logged(partition: int, position: int, body: bytes) -> Logged:
    (outcome,) = service_pb2.StreamOutcomesResponse.FromString(body).outcomes
    return Logged(
        partition,
        position,
        outcome.outcome_id,
        _kind(outcome.kind),
        outcome.run_id,
        outcome.message_id,
        outcome.occur_time.ToMicroseconds(),
    )


def _kind(number: int) -> str:
    return outcome_pb2.OutcomeKind.Name(number).removeprefix("OUTCOME_KIND_")
