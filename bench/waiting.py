"""What a million waiting runs cost: memory, the start, an idle process, and finding what is due."""

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path

from client import INGEST, call_all, channel_to, check_accepted, define
from events import calls, order, person, unheard
from figures import Bound
from serving import Server, upshot_serve
from upshot.v1 import workflow_pb2
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.storage.store import SqlStore

MANY, SOME, FEW = 1_000_000, 100_000, 10_000
DUE = 500
LIMIT_MIB, LIMIT_IDLE, LIMIT_START_S, LIMIT_CLAIM = 60.0, 1.0, 1.5, 1.5
_IDLE_S = 8.0
_CLAIMS = 15


async def measure(directory: Path, many: int = MANY) -> list[Bound]:
    """Fill three files and look at a server on each."""
    empty = await _filled(directory / "one", 1)
    some = await _filled(directory / "some", min(SOME, many))
    full = await _filled(directory / "many", many)
    few = await _filled(directory / "few", min(FEW, many))
    base_mib, base_s = await _started(empty)
    mib, start_s = await _started(full)
    idle = await _idle(some)
    few_s, many_s = await _claim_s(few), await _claim_s(full)
    runs = f"with {many:,} waiting runs"
    claimed = f"of {DUE} due, {many:,} waiting: times that of {FEW:,}"
    return [
        Bound("memory", f"more {runs}", mib - base_mib, LIMIT_MIB, "MiB", base_mib),
        Bound("start", f"to the first answer {runs}", start_s, LIMIT_START_S, "s", base_s),
        Bound("idle", f"CPU with {min(SOME, many):,} waiting runs", idle, LIMIT_IDLE, "%"),
        Bound("claim", claimed, many_s / few_s, LIMIT_CLAIM, f"x {few_s * 1e3:.1f} ms"),
    ]


def _waiting() -> workflow_pb2.Workflow:
    workflow = workflow_pb2.Workflow(workflow_id="bench")
    workflow.trigger.track.event = "Order Completed"
    workflow.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
    workflow.steps.add(step_id="pause").delay.duration.FromSeconds(300 * 86_400)
    return workflow


async def _filled(directory: Path, count: int) -> Path:
    """Let one run wait, and copy its row until there are *count*."""
    directory.mkdir(exist_ok=True)
    async with upshot_serve(directory) as server, channel_to(server) as channel:
        await define(channel, _waiting())
        check_accepted(await call_all(channel, INGEST, calls([person(0), order("first", 0)]), 1))
    connection = sqlite3.connect(directory / "upshot.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
    changed = {
        **{name: f"{name} || '-' || n" for name in ("run_id", "start_key", "profile_id")},
        "due_us": "due_us + n",
    }
    selected = ", ".join(changed.get(name, name) for name in columns)
    connection.execute(
        "WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?) "
        f"INSERT INTO runs ({', '.join(columns)}) SELECT {selected} FROM counted, "
        "(SELECT * FROM runs LIMIT 1) WHERE ? > 1",
        (count - 1, count),
    )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return directory


async def _started(directory: Path) -> tuple[float, float]:
    """Return the memory of a server after its first answer (MiB), and when that came (seconds)."""
    begin = time.perf_counter()
    async with upshot_serve(directory) as server, channel_to(server) as channel:
        request = calls([unheard(f"start-{begin}", 0)])
        check_accepted(await call_all(channel, INGEST, request, 1))
        took_s = time.perf_counter() - begin
        await asyncio.sleep(1.0)
        return server.rss_mib(), took_s


async def _idle(directory: Path) -> float:
    """Return the CPU of a server that nobody asks anything, in percent of one core."""
    async with upshot_serve(directory) as server:
        await asyncio.sleep(2.0)
        return await _used(server)


async def _used(server: Server) -> float:
    before_s = server.cpu_s()
    await asyncio.sleep(_IDLE_S)
    return 100 * (server.cpu_s() - before_s) / _IDLE_S


async def _claim_s(directory: Path) -> float:
    """Return how long it takes to find `DUE` timers, the median, in seconds."""
    connection = sqlite3.connect(directory / "upshot.db")
    connection.execute(
        "UPDATE runs SET due_us = 1 WHERE run_id IN (SELECT run_id FROM runs LIMIT ?)", (DUE,)
    )
    connection.commit()
    connection.close()
    codec = ContractCodec()
    store = SqlStore(directory / "upshot.db", encode_outcome=codec.encode_outcome)
    await store.open()
    took = []
    for _ in range(_CLAIMS):
        begin = time.perf_counter()
        found = await store.claim(time.time_ns() // 1000, DUE)
        took.append(time.perf_counter() - begin)
        assert len(found) == DUE
    await store.close()
    return statistics.median(took)
