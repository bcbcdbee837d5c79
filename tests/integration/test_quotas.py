"""Quotas of keys, over the wire: what is beyond them is refused, and comes again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from tests.integration.cli_world import command
from tests.integration.test_keys import CONFIG, ROOT, Guarded, bearer
from tests.wire import refused
from upshot.v1 import admin_pb2, event_pb2, key_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd import app
from upshotd.config import load

INGEST, ADMIN = key_pb2.SCOPE_INGEST, key_pb2.SCOPE_ADMIN


@asynccontextmanager
async def guarded(database: Path, **more: object) -> AsyncIterator[Guarded]:
    given = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "database": str(database)}
    given |= {"auth.required": True, "auth.root_key": ROOT, **more}
    async with (
        app.run(load(CONFIG, {}, given), {}) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
    ):
        yield Guarded(running, channel)


@pytest.fixture
async def there(database: Path) -> AsyncIterator[Guarded]:
    async with guarded(database) as found:
        yield found


async def made(there: Guarded, scope: int, rate: int) -> str:
    return (await there.create(ROOT, scope, workspace_id="acme", rate=rate)).secret


def events(*ids: str) -> pb.IngestRequest:
    track = event_pb2.Track(event="X")
    return pb.IngestRequest(
        events=[event_pb2.Event(event_id=one, user_id="u", track=track) for one in ids]
    )


async def ingest(there: Guarded, key: str, *ids: str) -> list[Any]:
    stub: Any = UpshotServiceStub(there.channel)
    return list((await stub.Ingest(events(*ids), metadata=bearer(key))).results)


async def test_events_beyond_the_quota_are_refused_and_told_when_to_come(there: Guarded):
    key = await made(there, INGEST, 5)
    assert len(await ingest(there, key, *(f"e{n}" for n in range(12)))) == 12
    stub: Any = UpshotServiceStub(there.channel)
    code, info, _ = await refused(stub.Ingest(events("f"), metadata=bearer(key)))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert info.metadata == {"quota": "5/s", "key_id": key.split("_")[1]}
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ingest(there, key, "f")
    assert "5 events or calls a second" in (raised.value.details() or "")
    other = await made(there, INGEST, 5)
    assert len(await ingest(there, other, "f")) == 1, "each key has its own"


async def test_what_is_known_already_is_not_counted(there: Guarded):
    key = await made(there, INGEST, 5)
    (await ingest(there, await made(there, INGEST, 0), "e1", "e2", "e3", "e4"))
    for _ in range(3):
        results = await ingest(there, key, "e1", "e2", "e3", "e4")
        assert {result.state for result in results} == {pb.INGEST_STATE_DUPLICATE}
    assert len(await ingest(there, key, "e5")) == 1


async def test_other_calls_count_one_by_one(there: Guarded):
    key = await made(there, ADMIN, 3)
    admin: Any = AdminServiceStub(there.channel)
    codes = []
    for _ in range(5):
        try:
            await admin.ListRuns(admin_pb2.ListRunsRequest(), metadata=bearer(key))
            codes.append("OK")
        except grpc.aio.AioRpcError as error:
            codes.append(error.code().name)
    assert codes[:3] == ["OK"] * 3
    assert codes[4] == "RESOURCE_EXHAUSTED"
    stub: Any = UpshotServiceStub(there.channel)
    stream = stub.StreamOutcomes(pb.StreamOutcomesRequest(), metadata=bearer(key))
    code, info, _ = await refused(stream.read())
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")


async def test_keys_without_one_have_that_of_the_settings(database: Path):
    async with guarded(database, **{"auth.rate": "2/s"}) as there:
        plain, own = await made(there, INGEST, 0), await made(there, INGEST, 1000)
        await ingest(there, plain, "a", "b", "c")
        code, info, _ = await refused(ingest(there, plain, "d"))
        assert (code, info.metadata["quota"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "2/s")
        for number in range(20):
            await ingest(there, own, f"o{number}")


async def test_segment_is_asked_to_come_again_and_all_of_a_large_batch_goes_in(there: Guarded):
    key = await made(there, INGEST, 1000)
    calls = [
        {"type": "track", "event": "X", "userId": "u", "messageId": f"m{number}"}
        for number in range(2_100)
    ]
    url = f"http://{there.app.http_address}/v1/batch"
    headers = {"Authorization": aiohttp.encode_basic_auth(key, "")}
    statuses = []
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while 200 not in statuses:
            async with session.post(url, json={"batch": calls}, headers=headers) as response:
                statuses.append(response.status)
                if response.status == 429:
                    assert 1 <= int(response.headers["Retry-After"]) <= 2
                    assert "1000/s" in (await response.json())["error"]
                    await asyncio.sleep(float(response.headers["Retry-After"]))
    assert 429 in statuses
    assert len(statuses) <= 4, "what went in before is not counted again"


async def test_the_command_line_makes_and_shows_them(there: Guarded):
    server = {"UPSHOT_SERVER": there.app.grpc_address, "UPSHOT_KEY": ROOT}
    words = ("keys", "create", "--workspace", "acme", "--scope", "ingest")
    await command(server, *words, "--rate", "100/s")
    listed, _ = await command(server, "keys", "list", "--workspace", "acme")
    assert "100/s" in listed
    _, err = await command(server, *words, "--rate", "100", code=2)
    assert "as 100/s" in err
