"""Failing where `make chaos` does not: while tables are made, and between Segment and a cursor."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests import postgres, stores
from tests.integration.relay_world import NAME, World, outcomes
from tests.servers import Server, ServerDied
from upshot.v1 import event_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters.failing import EXIT_CODE, VARIABLE

MIGRATIONS = [
    "migration.before=raise",
    "migration.before=disk-full",
    "migration.after=exit",
    "migration.after=disk-full",
]


@asynccontextmanager
async def empty(kind: str, folder: Path) -> AsyncIterator[str]:
    """Where a server makes its tables: `stores.place` gives a PostgreSQL that has them."""
    if kind == "sqlite":
        yield str(folder / "upshot.db")
        return
    name = f"upshot_empty_{folder.name}"
    await postgres.execute(f'CREATE DATABASE "{name}"')
    try:
        yield postgres.named(name)
    finally:
        await postgres.drop(name)


@pytest.mark.parametrize("kind", stores.DURABLE)
@pytest.mark.timeout(120)
async def test_a_server_that_fails_while_it_makes_its_tables_makes_them_when_it_is_started_again(
    kind: str, tmp_path: Path
) -> None:
    async with empty(kind, tmp_path) as where:
        with Server(tmp_path, database=where) as server:
            for failpoints in MIGRATIONS:
                server.environ[VARIABLE] = failpoints
                with pytest.raises(ServerDied):
                    await server.started()
                assert "failpoint.hit" in server.said()
            del server.environ[VARIABLE]
            await server.started()
            async with grpc.aio.insecure_channel(server.address) as channel:
                event = event_pb2.Event(event_id="e", user_id="ana")
                event.track.event = "Signed Up"
                request = pb.IngestRequest(events=[event])
                response = await UpshotServiceStub(channel).Ingest(request)
            assert response.results[0].state == pb.INGEST_STATE_ACCEPTED


async def relay(world: World, failpoints: str) -> int:
    """Run `upshot relay segment --once`; return its exit code."""
    command = ["-m", "upshotd", "relay", "segment", "--once", "--server", world.address]
    command += ["--endpoint", world.endpoint]
    environ = {**os.environ, "UPSHOT_SEGMENT_WRITE_KEY": "key", VARIABLE: failpoints}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        return await process.wait()


@pytest.mark.timeout(120)
async def test_a_relay_that_fails_before_it_stores_its_cursor_posts_the_same_again(
    world: World,
) -> None:
    codes, log = [], outcomes(12)
    for number, action in enumerate(("exit", "raise", "disk-full", "pause(0.2)")):
        world.server.append(*log[3 * number : 3 * number + 3])
        world.segment.taken.clear()
        codes.append(await relay(world, f"relay.posted={action}"))
        new = [outcome.outcome_id for outcome in log[3 * number : 3 * number + 3]]
        assert world.segment.taken == new
        if codes[-1]:
            assert world.server.places[NAME] == 3 * number, "nothing is stored that was not posted"
            assert await relay(world, "") == 0
            assert world.segment.taken == [*new, *new], "the same, under the same messageIds"
        assert world.server.places[NAME] == 3 * number + 3
    assert codes[0] == EXIT_CODE
    assert codes[3] == 0
    assert 0 not in codes[1:3]
