"""Segment's own Python SDK, with nothing changed but its host."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from segment.analytics import Client

from tests.integration.edge_world import World, as_dict, world
from upshot.v1 import admin_pb2, admin_pb2_grpc, service_pb2, service_pb2_grpc, workflow_pb2
from upshotd import app
from upshotd.config import Settings
from upshotd.config_network import Address, Network

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def tell_everything(client: Any, when: datetime | None = WHEN) -> None:
    """Make each kind of call once."""
    client.identify("ana", {"email": "ana@home.example", "plan": "pro"}, timestamp=when)
    client.track("ana", "Trial Started", {"seats": 3}, message_id="m-track", timestamp=when)
    client.group("ana", "acme", {"size": 12})
    client.page("ana", "Docs", "Home", {"url": "https://shop.example/"})
    client.screen(anonymous_id="anon-1", name="Start")
    client.alias("anon-1", "ana")


async def run(work: Callable[[], object]) -> None:
    """Run the SDK, which blocks, beside the edge."""
    await asyncio.to_thread(work)


def check_everything(there: World) -> None:
    calls = {event.WhichOneof("call"): as_dict(event) for event in there.server.events}
    assert list(calls) == ["identify", "track", "group", "page", "screen", "alias"]
    assert all(call["event_id"] for call in calls.values())
    assert all(call["context"]["library"]["name"] == "analytics-python" for call in calls.values())
    assert all("event_time" in call and "sent_time" in call for call in calls.values())
    assert calls["identify"]["identify"]["traits"]["email"] == "ana@home.example"
    assert calls["identify"]["event_time"] == "2026-01-01T00:00:00Z"
    assert calls["track"]["event_id"] == "m-track"
    assert calls["track"]["track"] == {"event": "Trial Started", "properties": {"seats": 3}}
    assert calls["group"]["group"] == {"group_id": "acme", "traits": {"size": 12}}
    assert calls["page"]["page"]["name"] == "Home"
    assert calls["page"]["page"]["category"] == "Docs"
    assert calls["screen"]["anonymous_id"] == "anon-1"
    assert "user_id" not in calls["screen"]
    assert calls["screen"]["screen"] == {"name": "Start"}
    assert calls["alias"]["alias"] == {"previous_id": "anon-1"}
    assert calls["alias"]["user_id"] == "ana"
    assert set(there.server.credentials) == {"Bearer write-key"}


@pytest.mark.parametrize("packed", [False, True])
async def test_the_sdk_delivers_in_batches(packed: bool) -> None:
    lost: list[object] = []
    async with world() as there:
        client = Client(
            "write-key", host=there.url, gzip=packed, on_error=lambda error, _: lost.append(error)
        )
        await run(lambda: (tell_everything(client), client.shutdown()))
        check_everything(there)
    assert lost == []


@pytest.mark.parametrize("packed", [False, True])
async def test_the_sdk_delivers_call_by_call(packed: bool) -> None:
    async with world() as there:
        client = Client("write-key", host=there.url, gzip=packed, sync_mode=True)
        await run(lambda: tell_everything(client))
        assert [len(request) for request in there.server.requests] == [1] * 6
        check_everything(there)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_the_sdk_repeats_what_the_server_could_not_take(code: grpc.StatusCode) -> None:
    lost: list[object] = []
    async with world() as there:
        refused = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def refuse_once() -> None:
            while not there.server.credentials:
                await asyncio.sleep(0.005)
            there.server.refusal = None
            refused.set()

        there.server.refusal = (code, 1)
        watching = loop.create_task(refuse_once())
        client = Client("write-key", host=there.url, on_error=lambda error, _: lost.append(error))
        await run(lambda: (client.track("ana", "x", message_id="m-1"), client.shutdown()))
        await watching
        assert refused.is_set()
        assert [event.event_id for event in there.server.events] == ["m-1"]
        assert len(there.server.credentials) == 2
    assert lost == []


WELCOME = workflow_pb2.Workflow(
    workflow_id="welcome",
    trigger=workflow_pb2.Trigger(track=workflow_pb2.TrackTrigger(event="Trial Started")),
    steps=[workflow_pb2.Step(step_id="done", exit=workflow_pb2.Exit())],
)


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
        client = Client("any-key", host=f"http://{running.http_address}", gzip=True)
        # Everything twice: the ids of what was told once more are new, m-track's is not.
        await run(
            # Now: what is a year old starts nothing any more.
            lambda: (
                tell_everything(client, None),
                tell_everything(client, None),
                client.shutdown(),
            )
        )
        profile = (await admin.GetProfile(admin_pb2.GetProfileRequest(user_id="ana"))).profile
        runs = (await admin.ListRuns(admin_pb2.ListRunsRequest(user_id="ana"))).runs
        rejected = await admin.ListRejectedEvents(admin_pb2.ListRejectedEventsRequest())
    assert profile.traits["plan"] == "pro"
    assert list(profile.anonymous_ids) == ["anon-1"]
    assert [(r.workflow_id, r.event_id) for r in runs] == [("welcome", "m-track")]
    assert list(rejected.rejected_events) == []
