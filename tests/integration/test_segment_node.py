"""Segment's own SDK for Node, with nothing changed but its host and its write key."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.edge_world import World, as_dict, world
from tests.integration.test_segment_sdk import WELCOME
from upshot.v1 import admin_pb2, admin_pb2_grpc, service_pb2, service_pb2_grpc
from upshotd import app
from upshotd.config import Settings
from upshotd.config_network import Address, Network

_PROGRAM = Path(__file__).parents[1] / "segment_node" / "tell.cjs"
_MODULES = Path(sys.prefix) / "segment-node" / "node_modules"

pytestmark = pytest.mark.skipif(
    not (_MODULES / "@segment" / "analytics-node").exists(),
    reason="@segment/analytics-node is not installed: `make test` installs it, and node",
)


async def tell(url: str, scenario: str) -> list[dict[str, Any]]:
    """Run the SDK to its end; return each answer that it got. Nothing may have failed."""
    # node of the machine, else that of the wheel beside this Python.
    path = f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"
    process = await asyncio.create_subprocess_exec(
        *("node", str(_PROGRAM), url, scenario),
        env={**os.environ, "PATH": path, "NODE_PATH": str(_MODULES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(45):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    *answers, last = map(json.loads, out.splitlines())
    assert last == {"failed": []}
    return answers


async def test_the_sdk_delivers_each_kind_of_call() -> None:
    async with world() as there:
        await tell(there.url, "everything")
        calls = {event.WhichOneof("call"): as_dict(event) for event in there.server.events}
        events = [event.event_id for event in there.server.events]
        assert set(there.server.credentials) == {"Bearer write-key"}
    assert list(calls) == ["identify", "track", "group", "page", "screen", "alias"]
    assert len(set(events)) == 6
    assert all(events)
    assert all(
        call["context"]["library"]["name"] == "@segment/analytics-node" for call in calls.values()
    )
    assert all("event_time" in call and "sent_time" in call for call in calls.values())
    assert calls["identify"]["identify"]["traits"]["email"] == "ana@home.example"
    assert calls["identify"]["event_time"] == "2026-01-01T00:00:00Z"
    # The messageId is the SDK's own where none is given.
    assert calls["track"]["event_id"] == "m-track"
    assert calls["identify"]["event_id"].startswith("node-next-")
    assert calls["track"]["track"] == {"event": "Trial Started", "properties": {"seats": 3}}
    assert calls["group"]["group"] == {"group_id": "acme", "traits": {"size": 12}}
    assert calls["page"]["page"]["name"] == "Home"
    assert calls["page"]["page"]["category"] == "Docs"
    assert calls["screen"]["anonymous_id"] == "anon-1"
    assert "user_id" not in calls["screen"]
    assert calls["screen"]["screen"] == {"name": "Start"}
    assert calls["alias"]["alias"] == {"previous_id": "anon-1"}
    assert calls["alias"]["user_id"] == "ana"


async def test_the_sdk_delivers_in_batches_and_flushes_the_rest() -> None:
    async with world() as there:
        answers = await tell(there.url, "many")
        sizes = [len(request) for request in there.server.requests]
        ids = {event.event_id for event in there.server.events}
    assert sorted(sizes) == [10, 20, 20]
    assert ids == {f"m-{n}" for n in range(50)}
    assert [answer["status"] for answer in answers] == [200, 200, 200]


async def refused_once(there: World, code: grpc.StatusCode) -> None:
    """Let the first Ingest end with *code*, and those after it go well."""
    there.server.refusal = (code, 1)
    while not there.server.credentials:
        await asyncio.sleep(0.005)
    there.server.refusal = None


@pytest.mark.parametrize(
    ("code", "status"),
    [(grpc.StatusCode.UNAVAILABLE, 503), (grpc.StatusCode.RESOURCE_EXHAUSTED, 429)],
)
async def test_the_sdk_repeats_what_the_server_could_not_take(
    code: grpc.StatusCode, status: int
) -> None:
    async with world() as there:
        watching = asyncio.create_task(refused_once(there, code))
        answers = await tell(there.url, "one")
        await watching
        events = [event.event_id for event in there.server.events]
    # Under the same messageId, which the SDK made once.
    assert answers == [{"status": status, "ids": ["m-1"]}, {"status": 200, "ids": ["m-1"]}]
    assert events == ["m-1"]


async def test_what_the_sdk_delivers_becomes_profiles_and_runs(tmp_path: Path) -> None:
    settings = Settings(
        network=Network(Address("127.0.0.1", 0), Address("127.0.0.1", 0)),
        database=str(tmp_path / "upshot.db"),
    )
    async with (
        app.run(settings, {}) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
    ):
        service = service_pb2_grpc.UpshotServiceStub(channel)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        await service.DefineWorkflow(service_pb2.DefineWorkflowRequest(workflow=WELCOME))
        await tell(f"http://{running.http_address}", "twice")
        profile = (await admin.GetProfile(admin_pb2.GetProfileRequest(user_id="ana"))).profile
        runs = (await admin.ListRuns(admin_pb2.ListRunsRequest(user_id="ana"))).runs
        rejected = await admin.ListRejectedEvents(admin_pb2.ListRejectedEventsRequest())
    assert profile.traits["plan"] == "pro"
    assert list(profile.anonymous_ids) == ["anon-1"]
    # m-track was told twice, and counts once.
    assert [(r.workflow_id, r.event_id) for r in runs] == [("welcome", "m-track")]
    assert list(rejected.rejected_events) == []
