"""The server as a whole, over the wire: time travel, deadlines, workspaces, what is served."""

import asyncio
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from tests.wire import (
    ACCEPTED,
    DAY_S,
    HOUR_S,
    NOWHERE,
    Watch,
    Wire,
    fact,
    identify,
    kinds,
    mail,
    opened,
    pause,
    refused,
    running,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, lab_pb2
from upshot.v1 import service_pb2 as pb
from upshotd.application.keys import Keys, Scope

SERVICES = {
    *("upshot.v1.UpshotService", "upshot.v1.SubscriptionService"),
    *("upshot.v1.AdminService", "upshot.v1.KeyService"),
}
LAB = "upshot.v1.LabService"


async def test_advancing_time_fires_everything_on_the_way_in_order(
    wire: Wire, watched_stream: Watch
) -> None:
    steps = (mail(), opened(on_timeout=[sms("nudge"), pause("more", DAY_S), sms("last")]))
    await wire.define(workflow("welcome", "Signed Up", *steps))
    await wire.ingest(identify("i1"), track("e1"))
    begin = (await wire.advance()).now
    advanced = await wire.advance(3 * DAY_S)
    assert advanced.now.seconds - begin.seconds in range(3 * DAY_S, 3 * DAY_S + 30)
    assert advanced.fired_timers == 2
    came = await watched_stream.all(wire)
    assert kinds(came) == [
        "RUN_STARTED",
        "MESSAGE_SENT",
        "MESSAGE_IGNORED",
        "MESSAGE_SENT",
        "MESSAGE_SENT",
        "RUN_COMPLETED",
    ]
    days = [round((o.occur_time.seconds - begin.seconds) / DAY_S, 2) for o in came]
    assert days == [0, 0, 1, 1, 2, 2], "each at its own moment, not at the end of the jump"
    assert (await wire.advance()).fired_timers == 0


@pytest.mark.parametrize("seconds", [-1, 401 * DAY_S])
async def test_time_goes_forward_and_at_most_400_days(wire: Wire, seconds: int) -> None:
    code, _, faults = await refused(wire.advance(seconds))
    assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {"duration"})


async def test_a_timer_never_fires_early(wire: Wire) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause(seconds=HOUR_S), mail()))
    await wire.ingest(identify("i1"), track("e1"))
    assert (await wire.advance(HOUR_S - 60)).fired_timers == 0
    assert (await wire.advance(60)).fired_timers == 1


@pytest.mark.parametrize("lab", [True, False])
async def test_what_is_served_is_told_by_reflection_and_health(database: Path, lab: bool) -> None:
    expected = SERVICES | ({LAB} if lab else set())
    async with running(database, lab=lab) as wire:
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
        answers = stub.ServerReflectionInfo(iter([listing]))
        (answer,) = [answer async for answer in answers]
        names = {service.name for service in answer.list_services_response.service}
        assert {name for name in names if name.startswith("upshot.")} == expected
        health = health_pb2_grpc.HealthStub(wire.channel)
        for name in expected:
            checked = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert checked.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=min(expected))
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]
        (file,) = answer.file_descriptor_response.file_descriptor_proto[:1]
        assert FileDescriptorProto.FromString(file).package == "upshot.v1"


async def test_without_lab_the_clock_cannot_be_moved(database: Path) -> None:
    async with running(database, lab=False) as wire:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await wire.advance(HOUR_S)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def silent_sink(request: pytest.FixtureRequest) -> int:
    """Return the port of a server that takes connections and never says a word."""

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request.addfinalizer(writer.close)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    request.addfinalizer(server.close)
    return int(server.sockets[0].getsockname()[1])


async def test_a_call_has_a_deadline_of_its_own_or_of_the_server(
    database: Path, request: pytest.FixtureRequest
) -> None:
    toml = f"""
        [providers.silent]
        kind = "smtp"
        host = "127.0.0.1"
        port = {await silent_sink(request)}
        tls = "none"
        from = "us@home.example"
        timeout = "2s"
        [channels]
        email = "silent"
        [limits]
        call = "300ms"
        drain = "100ms"
    """
    async with running(database, toml) as wire:
        await wire.define(workflow("welcome", "Signed Up", mail()))
        (_, result) = await wire.ingest(identify("i1"), track("e1"))
        assert result.state == ACCEPTED, "ingestion waits for no provider"
        # Settling waits for the mail, which nobody takes.
        code, info, _ = await refused(wire.advance())
        assert (code, info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await wire.lab.AdvanceTime(lab_pb2.AdvanceTimeRequest(), timeout=0.1)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # Other calls are as quick as ever.
        assert (await wire.profile(user_id="ana")).user_id == "ana"


async def test_two_workspaces_share_nothing(wire: Wire, watched_stream: Watch) -> None:
    _, text = await Keys(wire.app.store, wire.app.clock).create("acme", [Scope.ADMIN], "")
    acme = [("authorization", f"Bearer {text}")]
    await wire.define(workflow("welcome", "Signed Up", mail(), pause()))
    (_, ours) = await wire.ingest(identify("i1"), track("e1"))
    # The same ids are free there, and no workflow of ours listens.
    (theirs,) = await wire.ingest(track("e1"), metadata=acme)
    assert (theirs.state, len(theirs.started_runs)) == (ACCEPTED, 0)
    await wire.define(workflow("theirs", "Signed Up", sms()), metadata=acme)
    (theirs,) = await wire.ingest(track("e2"), metadata=acme)
    await wire.advance()

    our_run, their_run = ours.started_runs[0].run_id, theirs.started_runs[0].run_id
    (message,) = await wire.messages()
    for call in (
        wire.admin.GetRun(admin_pb2.GetRunRequest(run_id=their_run)),
        wire.admin.GetRun(admin_pb2.GetRunRequest(run_id=our_run), metadata=acme),
        wire.admin.CancelRuns(admin_pb2.CancelRunsRequest(run_id=our_run), metadata=acme),
        wire.admin.GetWorkflow(admin_pb2.GetWorkflowRequest(workflow_id="theirs")),
        wire.admin.GetMessage(
            admin_pb2.GetMessageRequest(message_id=message.message_id), metadata=acme
        ),
    ):
        code, _, _ = await refused(call)
        assert code is grpc.StatusCode.NOT_FOUND
    asked = admin_pb2.GetProfileRequest(user_id="ana")
    assert not (await wire.admin.GetProfile(asked, metadata=acme)).profile.traits
    facts = pb.RecordEngagementRequest(engagements=[fact("OPENED", message.message_id, "o1")])
    (result,) = (await wire.upshot.RecordEngagement(facts, metadata=acme)).results
    assert result.reason == "UNKNOWN_MESSAGE"

    here, there = await watched_stream.all(wire), await watched_stream.all(wire, acme)
    assert {o.run_id for o in here} == {our_run}
    assert {o.run_id for o in there} == {their_run}
    assert [o.position for o in there] == [1, 2, 3], "each log counts for itself"
    counts = await wire.admin.CountOutcomes(admin_pb2.CountOutcomesRequest(), metadata=acme)
    assert {count.workflow_id for count in counts.counts} == {"theirs"}
    cursor = (await watched_stream(wire).next()).cursor
    code, info, _ = await refused(watched_stream(wire, acme, after_cursor=cursor).next())
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CURSOR_INVALID")


async def test_a_forged_credential_opens_nothing(wire: Wire) -> None:
    token = wire.app.links.unsubscribe_url("acme", "m").rpartition("/")[2]
    for forged in (f"Link {token}x", "Link ", "Link nonsense"):
        code, info, _ = await refused(
            wire.ingest(track("e1"), metadata=[("authorization", forged)])
        )
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_a_server_with_more_than_it_can_hold_says_when_to_come_again(
    database: Path,
) -> None:
    async with running(database, NOWHERE + "[limits]\ninbox = 1000\nbatch = 10\n") as wire:
        calls = [wire.ingest(*(track(f"{at}-{n}") for n in range(900))) for at in range(2)]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        (error,) = (answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError))
        (taken,) = (answer for answer in answers if isinstance(answer, list))
        assert {result.state for result in taken} == {ACCEPTED}
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status, retry = rpc_status.from_call(error), error_details_pb2.RetryInfo()
    assert status is not None
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMicroseconds() > 0
