"""Erasing people over the wire, by Segment's delete and from the command line."""

import asyncio
import json
from pathlib import Path

import aiohttp
import grpc
import pytest

from tests.integration.cli_world import Ask, signed_up
from tests.integration.test_keys import Guarded, bearer, guarded
from tests.wire import Watch, Wire, identify, kinds, mail, track, workflow
from upshot.v1 import admin_pb2, event_pb2, service_pb2
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.application.keys import Scope

ANA = admin_pb2.EraseProfileRequest(user_id="ana")


async def test_who_is_erased_is_gone_when_the_call_returns(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail()))
    await wire.ingest(identify("i1"), track("e1"))
    await wire.advance()
    answer = await wire.admin.EraseProfile(ANA)
    assert answer.HasField("erase_time")
    found = await wire.admin.GetProfile(admin_pb2.GetProfileRequest(user_id="ana"))
    profile = found.profile
    assert (dict(profile.contact), len(profile.traits.fields)) == ({}, 0)
    assert profile.erase_time == answer.erase_time
    assert not profile.HasField("create_time")
    messages = await wire.admin.ListMessages(admin_pb2.ListMessagesRequest(user_id="ana"))
    assert not messages.messages
    came = await watched_stream.all(wire)
    assert kinds(came)[-1] == "PROFILE_ERASED"
    assert came[-1].event == "Profile Erased"


async def test_the_log_is_told_again_without_them(wire: Wire, watched_stream: Watch) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail()))
    await wire.ingest(identify("i1"), track("e1"))
    await wire.advance()
    before = await watched_stream.all(wire)
    assert any(outcome.recipient for outcome in before)
    await wire.admin.EraseProfile(ANA)
    async with asyncio.timeout(20):
        while any(o.recipient for o in await watched_stream.all(wire)):
            await asyncio.sleep(0.05)
    after = await watched_stream.all(wire)
    assert [o.outcome_id for o in after][: len(before)] == [o.outcome_id for o in before]


async def test_whom_to_erase_must_be_said(wire: Wire) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wire.admin.EraseProfile(admin_pb2.EraseProfileRequest())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "user_id" in (refused.value.details() or "")


def delete(event_id: str) -> event_pb2.Event:
    return event_pb2.Event(event_id=event_id, user_id="ana", delete=event_pb2.Delete())


async def made_key(there: Guarded, *scopes: int) -> str:
    return (await there.create(there.texts["acme", Scope.ADMIN], *scopes)).secret


async def test_a_write_key_that_everybody_can_read_erases_nobody(database: Path) -> None:
    async with guarded(database) as there:
        stub, admin = UpshotServiceStub(there.channel), AdminServiceStub(there.channel)
        ingest = there.texts["acme", Scope.INGEST]
        request = service_pb2.IngestRequest(events=[delete("d1"), track("e1")])
        answer = await stub.Ingest(request, metadata=bearer(ingest))
        assert [r.state for r in answer.results] == [
            service_pb2.INGEST_STATE_REJECTED,
            service_pb2.INGEST_STATE_ACCEPTED,
        ]
        assert answer.results[0].reason == "ERASE_NOT_ALLOWED"
        both = await made_key(there, 1, 6)  # ingest and erase
        again = await stub.Ingest(request, metadata=bearer(both))
        assert again.results[0].state == service_pb2.INGEST_STATE_ACCEPTED
        shown = await admin.GetProfile(
            admin_pb2.GetProfileRequest(user_id="ana"),
            metadata=bearer(there.texts["acme", Scope.ADMIN]),
        )
        assert shown.profile.HasField("erase_time")


async def test_segment_s_delete_erases_where_its_key_may(database: Path) -> None:
    async with guarded(database) as there, aiohttp.ClientSession() as http:
        admin = AdminServiceStub(there.channel)
        both = await made_key(there, 1, 6)
        body = json.dumps({"type": "delete", "userId": "ana", "messageId": "d1"})
        url = f"http://127.0.0.1:{there.app.http_port}/inbound/segment/"
        for key in (there.texts["acme", Scope.INGEST], both):
            async with http.post(url + key, data=body) as answer:
                assert answer.status == 202
            by = bearer(there.texts["acme", Scope.ADMIN])
            refused = admin_pb2.ListRejectedEventsRequest()
            listed = (await admin.ListRejectedEvents(refused, metadata=by)).rejected_events
            assert [one.reason for one in listed] == ["ERASE_NOT_ALLOWED"]
        found = await admin.GetProfile(admin_pb2.GetProfileRequest(user_id="ana"), metadata=by)
        assert found.profile.HasField("erase_time")


def test_the_command_asks_first_and_says_when(ask: Ask, tmp_path: Path) -> None:
    run_id, message_id = signed_up(ask, tmp_path, "una")
    ask("erase", "una", given="n\n", code=1)
    assert "una@example.com" in ask("profile", "una").stdout
    said = ask("erase", "una", "--yes").stdout
    assert said.startswith("una was erased, with what happened until 20")
    shown = ask("profile", "una").stdout
    assert "erased" in shown
    assert "una@example.com" not in shown
    assert "una@example.com" not in ask("message", message_id).stdout
    assert "una@example.com" not in ask("run", run_id).stdout
    assert "ERASED" in ask("message", message_id).stdout
    late = ask("engage", message_id, "opened", code=4).stdout + ask("why", run_id).stdout
    assert "una@example.com" not in late
