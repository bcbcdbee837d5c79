"""The whole loop of a push: to real far ends of FCM and Notify, and back from the app."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from tests.contract.http_worlds import TWILIO_ACCOUNT
from tests.contract.provider_worlds import Mood
from tests.contract.push_worlds import (
    NOTIFY_SERVICE,
    FcmWorld,
    NotifyWorld,
    account_json,
    fcm_error,
)
from tests.servers import Server
from tests.wire import (
    DAY_S,
    PATIENCE_S,
    Watch,
    Wire,
    connected,
    identify,
    kinds,
    opened,
    running,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, engagement_pb2, event_pb2, key_pb2, service_pb2
from upshot.v1.key_pb2_grpc import KeyServiceStub

ROOT = "root-" + "r" * 40
FCM = """
[providers.push]
kind = "fcm"
service_account_env = "FCM_ACCOUNT"
base_url = "http://127.0.0.1:{port}"
token_url = "http://127.0.0.1:{port}/token"
[providers.texts]
kind = "null"
[channels]
push = "push"
sms = "texts"
"""
NOTIFY = """
public_url = "https://up.example"
[providers.push]
kind = "twilio_notify"
account_sid = "{account}"
auth_token = "token"
service_sid = "{service}"
base_url = "http://127.0.0.1:{port}"
[channels]
push = "push"
"""


@pytest.fixture
async def fcm() -> AsyncIterator[FcmWorld]:
    world = FcmWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


@pytest.fixture
async def notify() -> AsyncIterator[NotifyWorld]:
    world = NotifyWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


def push(step_id: str = "tell", **more: object) -> dict[str, Any]:
    content = {"title": "Hello {{ traits.name }}", "body": "It is here", "data": {"order": "1042"}}
    return {"step_id": step_id, "send": {"channel": "CHANNEL_PUSH", "push": content, **more}}


def using(event_id: str, token: str) -> event_pb2.Event:
    """What an app sends by Segment's SDK: it carries the token of the device."""
    event = track(event_id, "App Opened")
    event.context.update({"device": {"token": token}})
    return event


async def bearer(wire: Wire) -> list[tuple[str, str]]:
    """Make a key of scope engage, as an app would have it."""
    request = key_pb2.CreateKeyRequest(workspace_id="default", scopes=[key_pb2.SCOPE_ENGAGE])
    root = [("authorization", f"Bearer {ROOT}")]
    made = await KeyServiceStub(wire.channel).CreateKey(request, metadata=root)
    return [("authorization", f"Bearer {made.secret}")]


async def test_the_app_tells_by_the_id_that_came_with_the_push(
    database: Path, fcm: FcmWorld, watched_stream: Watch
) -> None:
    toml, secrets = FCM.format(port=fcm.port), {"FCM_ACCOUNT": account_json()}
    async with running(database, toml, secrets, **{"auth.root_key": ROOT}) as wire:
        await wire.define(workflow("parcel", "Parcel Near", push(), opened("tell")))
        await wire.ingest(identify("i", name="Ana"), using("a", "phone"), using("b", "tablet"))
        await wire.ingest(track("go", "Parcel Near"))
        await wire.advance()
        stream = watched_stream(wire)
        sent = await stream.until_kind("MESSAGE_SENT")
        assert sorted(one.recipients[0] for one in fcm.ledger) == ["phone", "tablet"]
        assert {one.subject for one in fcm.ledger} == {"Hello Ana"}

        data = fcm.ledger[0].headers
        assert data == {"order": "1042", "upshot_message_id": sent.message_id}
        key = await bearer(wire)
        fact = engagement_pb2.Engagement(
            message_id=data["upshot_message_id"], kind=engagement_pb2.ENGAGEMENT_KIND_OPENED
        )
        request = service_pb2.RecordEngagementRequest(engagements=[fact])
        for state in ("RECORDED", "DUPLICATE"):  # the app repeats what it had no answer to
            (result,) = (await wire.upshot.RecordEngagement(request, metadata=key)).results
            assert service_pb2.EngagementState.Name(result.state).endswith(state)
        assert (await stream.until_kind("MESSAGE_OPENED")).message_id == sent.message_id
        assert (await wire.run(sent.run_id)).state == admin_pb2.RUN_STATE_COMPLETED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await wire.ingest(track("x"), metadata=key)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_app_that_is_gone_is_pushed_to_no_more(
    database: Path, fcm: FcmWorld, watched_stream: Watch
) -> None:
    route = {"method": "ROUTE_METHOD_SINGLE", "channels": ["CHANNEL_PUSH", "CHANNEL_SMS"]}
    step = push()
    step["send"] |= {"route": route, "sms": {"body": "It is here"}}
    del step["send"]["channel"]
    gone = (404, fcm_error(404, "UNREGISTERED", "NOT_FOUND"), {})
    async with running(
        database, FCM.format(port=fcm.port), {"FCM_ACCOUNT": account_json()}
    ) as wire:
        await wire.define(workflow("parcel", "Parcel Near", step))
        await wire.ingest(identify("i", name="Ana", phone="+15005550001"))
        await wire.ingest(using("a", "phone"), using("b", "tablet"))

        async def told(event_id: str) -> list[str]:
            fcm.asked.clear()
            await wire.ingest(track(event_id, "Parcel Near"))
            await wire.advance()
            return [asked["message"]["token"] for asked in fcm.asked]

        fcm.answers = {"phone": gone}
        assert sorted(await told("e1")) == ["phone", "tablet"]
        fcm.answers = {"tablet": gone}
        assert await told("e2") == ["tablet"]
        assert await told("e3") == []
        assert "push_tokens" not in (await wire.profile(user_id="ana")).contact
        await wire.ingest(using("c", "new-phone"))
        assert await told("e4") == ["new-phone"]
        outcomes = await watched_stream.all(wire)
        about = [name for name in kinds(outcomes) if name.startswith("MESSAGE_")]
        assert about == ["MESSAGE_SENT", "MESSAGE_UNDELIVERABLE"] + ["MESSAGE_SENT"] * 3
        assert [o.reason for o in outcomes if o.reason] == ["DEVICE_GONE"]


@pytest.mark.parametrize(
    ("on_unknown", "served", "marked"),
    [
        ("ON_UNKNOWN_GIVE_UP", ["phone"], False),
        ("ON_UNKNOWN_RESEND", ["phone", "phone", "tablet"], True),
    ],
)
async def test_a_server_that_dies_between_two_devices_serves_none_twice_in_silence(
    tmp_path: Path, fcm: FcmWorld, on_unknown: str, served: list[str], marked: bool
) -> None:
    secrets = {"FCM_ACCOUNT": account_json()}
    config = FCM.format(port=fcm.port)
    with Server(tmp_path / "server", config=config, lab=True, environ=secrets) as server:
        await server.started()
        fcm.held = {"tablet"}
        async with connected(server.address) as wire:
            step = push(on_unknown=on_unknown)
            await wire.define(workflow("parcel", "Parcel Near", step, opened("tell")))
            await wire.ingest(identify("i", name="Ana"), using("a", "phone"), using("b", "tablet"))
            await wire.ingest(track("go", "Parcel Near"))
            async with asyncio.timeout(PATIENCE_S):
                while not fcm.ledger or len(fcm.asked) < 2:
                    await asyncio.sleep(0.01)
        server.kill()
        fcm.held = set()
        await server.started()
        async with connected(server.address) as wire:
            for _ in range(3):  # the lease, the wait for a callback, and what follows
                await wire.advance(150)
            (message,) = await wire.messages()
        assert sorted(one.recipients[0] for one in fcm.ledger) == served
        assert message.possible_duplicate is marked
        assert message.reason == ("" if marked else "UNKNOWN")
        assert await server.stopped() == 0


async def report(wire: Wire, notified: dict[str, str], *states: dict[str, object]) -> int:
    """Tell as Notify does what became of a notification."""
    url = notified["DeliveryCallbackUrl"]
    pairs = [("NotificationSid", "NT1"), ("SequenceId", "0"), ("IsFinal", "true")]
    pairs += [("DeliveryState", json.dumps(state)) for state in states]
    signature = RequestValidator("token").compute_signature(url, MultiDict(pairs))
    headers = {"X-Twilio-Signature": str(signature)}
    edge = url.replace("https://up.example", f"http://{wire.app.http_address}")
    async with aiohttp.ClientSession() as http:
        async with http.post(edge, data=aiohttp.FormData(pairs), headers=headers) as response:
            return response.status


async def test_a_report_of_notify_tells_what_no_answer_told(
    database: Path, notify: NotifyWorld, watched_stream: Watch
) -> None:
    toml = NOTIFY.format(port=notify.port, account=TWILIO_ACCOUNT, service=NOTIFY_SERVICE)
    async with running(database, toml) as wire:
        undelivered = [{"step_id": "over", "exit": {"reason": "UNREACHED"}}]
        wait = opened("tell", DAY_S, on_undeliverable=undelivered)
        await wire.define(workflow("parcel", "Parcel Near", push(), wait))
        await wire.ingest(identify("i", name="Ana"), using("a", "phone"), using("b", "tablet"))
        notify.mood = Mood.DROPS
        await wire.ingest(track("go", "Parcel Near"))
        await wire.advance()
        (message,) = await wire.messages()
        assert message.state == admin_pb2.MESSAGE_STATE_UNKNOWN
        (notified,) = notify.forms
        taken = {"type": "fcm", "address": "tablet", "status": "SENT"}
        gone = {"type": "fcm", "address": "phone", "status": "FAILED", "ErrorCode": 52119}
        assert await report(wire, notified, taken, gone) == 204
        stream = watched_stream(wire)
        assert (await stream.until_kind("MESSAGE_SENT")).message_id == message.message_id
        assert (await wire.profile(user_id="ana")).contact["push_tokens"] == "tablet"
        assert await report(wire, notified, {**gone, "address": "tablet"}) == 204
        seen = await stream.until_kind("MESSAGE_UNDELIVERABLE")
        assert seen.reason == "BOUNCED"
        assert (await wire.run(seen.run_id)).reason == "UNREACHED"
        assert "push_tokens" not in (await wire.profile(user_id="ana")).contact
