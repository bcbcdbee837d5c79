"""What every call passes, over a real socket: errors, limits, drain. The services are scripted."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from upshot.v1 import event_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.adapters.grpc.admin_service import AdminService
from upshotd.adapters.grpc.boundary import Boundary
from upshotd.adapters.grpc.key_service import KeyService
from upshotd.adapters.grpc.lab_service import LabService
from upshotd.adapters.grpc.scopes import ALLOWED
from upshotd.adapters.grpc.server import MESSAGE_BYTES, GrpcServer, Services
from upshotd.adapters.grpc.subscription_service import SubscriptionService
from upshotd.adapters.grpc.upshot_service import UpshotService
from upshotd.application.credentials import KeyCredentials
from upshotd.application.keys import Keys, Scope
from upshotd.domain.errors import FailedPrecondition, NotFound, Unavailable
from upshotd.domain.language import Link

ANSWER = pb.IngestResponse(results=[pb.IngestResult(event_id="e1")])
NOTHING = pb.StreamOutcomesRequest()
#: Longer than any test takes; what waits this long waits for ever.
LONG_US = 20_000_000


@dataclass
class Scripted:
    """Stands where UpshotService does; tests say what its calls and StreamOutcomes do."""

    ingest: Callable[[str, pb.IngestRequest], Any] | None = None
    engage: Callable[[str, pb.RecordEngagementRequest], Any] | None = None
    pages: Callable[[], AsyncGenerator[bytes, None]] | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    async def Ingest(self, workspace_id: str, request: pb.IngestRequest) -> pb.IngestResponse:
        if self.ingest is not None:
            await self.ingest(workspace_id, request)
        return ANSWER

    async def DefineWorkflow(self, _workspace_id: str, _request: object) -> pb.IngestResponse:
        return ANSWER

    async def RecordEngagement(
        self, workspace_id: str, request: pb.RecordEngagementRequest
    ) -> pb.IngestResponse:
        if self.engage is not None:
            await self.engage(workspace_id, request)
        return ANSWER

    async def StreamOutcomes(
        self, _workspace_id: str, _request: object
    ) -> AsyncGenerator[bytes, None]:
        if self.pages is not None:
            async for page in self.pages():
                yield page
            return
        yield pb.StreamOutcomesResponse(cursor="c1").SerializeToString()
        await self.draining.wait()
        raise Unavailable("the server is going down; resume from the cursor", reason="DRAINING")


@dataclass
class Served:
    server: GrpcServer
    boundary: Boundary
    channel: grpc.aio.Channel
    stub: Any


@asynccontextmanager
async def served(
    scripted: Scripted,
    *,
    unary_limit_us: int = LONG_US,
    write_limit_us: int = LONG_US,
    lab: bool = False,
    allowed: Mapping[str, Collection[Scope]] = ALLOWED,
) -> AsyncIterator[Served]:
    boundary = Boundary(
        KeyCredentials(
            Keys(cast(Any, None), SystemClock()),
            {"good": Link("k", "acme", "m")}.get,
            required=False,
        ),
        SystemClock(),
        UuidIds(),
        unary_limit_us=unary_limit_us,
        write_limit_us=write_limit_us,
        allowed=allowed,
    )
    server = GrpcServer("127.0.0.1", 0, services(scripted, lab), boundary, scripted.draining.set)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(server, boundary, channel, UpshotServiceStub(channel))
    finally:
        await server.stop(LONG_US)


def services(scripted: Scripted, lab: bool) -> Services:
    nobody = cast(Any, None)
    return Services(
        upshot=cast(UpshotService, scripted),
        subscriptions=SubscriptionService(nobody),
        admin=AdminService(nobody),
        keys=KeyService(nobody),
        lab=LabService(nobody) if lab else None,
    )


def told(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo]:
    status: status_pb2.Status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "upshot"
    return error.code(), info


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_a_domain_error_arrives_with_its_details() -> None:
    async def missing(_workspace_id: str, _request: object) -> None:
        raise NotFound("workflow", "onboarding")

    async with served(Scripted(missing)) as s:
        error = await refused(s.stub.Ingest(pb.IngestRequest()))
        code, info = told(error)
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert error.details() == "no workflow 'onboarding'"


async def test_a_bug_leaks_nothing_but_an_id_that_is_in_the_log() -> None:
    async def broken(_workspace_id: str, _request: object) -> None:
        raise ValueError("dsn=postgres://user:hunter2@db")

    async with served(Scripted(broken)) as s:
        with structlog.testing.capture_logs() as lines:
            error = await refused(s.stub.Ingest(pb.IngestRequest()))
        code, info = told(error)
        assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "hunter2" not in f"{error.details()} {error.trailing_metadata()}"
        broke, ended = lines
        assert broke["event"] == "rpc.broke"
        assert broke["incident_id"] == info.metadata["incident_id"]
        assert "hunter2" in repr(broke["exc_info"]), "the trace is for the log"
        assert (ended["event"], ended["code"]) == ("rpc.ended", "INTERNAL")


async def test_a_bug_in_a_stream_leaks_nothing_either() -> None:
    async def pages() -> AsyncGenerator[bytes, None]:
        yield b""
        raise KeyError("hunter2")

    async with served(Scripted(pages=pages)) as s:
        stream = s.stub.StreamOutcomes(NOTHING)
        await stream.read()
        error = await refused(stream.read())
        assert told(error)[0] is grpc.StatusCode.INTERNAL
        assert "hunter2" not in f"{error.details()} {error.trailing_metadata()}"


async def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    async with served(Scripted()) as s:
        raw = s.channel.unary_unary("/upshot.v1.UpshotService/Ingest")
        code, info = told(await refused(raw(b"\xff\xff\xff")))
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_a_call_without_a_deadline_gets_one() -> None:
    async def stuck(_workspace_id: str, _request: object) -> None:
        await asyncio.Event().wait()

    async with served(Scripted(stuck), unary_limit_us=50_000) as s:
        code, info = told(await refused(s.stub.Ingest(pb.IngestRequest())))
        assert (code, info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_timeout_inside_is_a_bug_and_not_a_deadline() -> None:
    async def broken(_workspace_id: str, _request: object) -> None:
        raise TimeoutError("of a socket somewhere")

    async with served(Scripted(broken)) as s:
        assert told(await refused(s.stub.Ingest(pb.IngestRequest())))[0] is grpc.StatusCode.INTERNAL


async def test_past_the_callers_deadline_the_work_is_told_to_end() -> None:
    ended = asyncio.Event()

    async def stuck(_workspace_id: str, _request: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    # The server's own limit is shorter, and does not count where there is a deadline.
    async with served(Scripted(stuck), unary_limit_us=1) as s:
        error = await refused(s.stub.Ingest(pb.IngestRequest(), timeout=0.1))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await ended.wait()


async def test_a_message_above_4_mib_is_refused() -> None:
    async with served(Scripted()) as s:
        event = event_pb2.Event(user_id="u" * MESSAGE_BYTES)
        error = await refused(s.stub.Ingest(pb.IngestRequest(events=[event])))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_two_servers_never_share_a_port() -> None:
    async with served(Scripted()) as s:
        scripted = Scripted()
        second = GrpcServer(
            "127.0.0.1", s.server.port, services(scripted, False), s.boundary, scripted.draining.set
        )
        with pytest.raises(FailedPrecondition, match="another program"):
            await second.start()


async def test_draining_ends_streams_finishes_calls_and_refuses_new_ones() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(_workspace_id: str, _request: object) -> None:
        begun.set()
        await finish.wait()

    async with served(Scripted(slow)) as s:
        watch = health_pb2_grpc.HealthStub(s.channel).Watch(
            health_pb2.HealthCheckRequest(service="upshot.v1.UpshotService")
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream = s.stub.StreamOutcomes(NOTHING)
        assert (await stream.read()).cursor == "c1"
        under_way = asyncio.ensure_future(s.stub.Ingest(pb.IngestRequest()))
        await begun.wait()

        stopping = asyncio.create_task(s.server.stop(LONG_US))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        code, info = told(await refused(stream.read()))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        code, info = told(await refused(s.stub.Ingest(pb.IngestRequest())))
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        finish.set()
        assert await under_way == ANSWER
        # A health watcher that stays would hold a plain stop for its whole grace.
        async with asyncio.timeout(5):
            await stopping


async def test_what_does_not_end_within_the_grace_is_cut_off() -> None:
    begun = asyncio.Event()

    async def stuck(_workspace_id: str, _request: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with served(Scripted(stuck)) as s:
        under_way = asyncio.ensure_future(s.stub.Ingest(pb.IngestRequest()))
        await begun.wait()
        await s.server.stop(10_000)
        assert (await refused(under_way)).code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        )


async def test_a_reader_that_takes_nothing_is_let_go() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield pb.StreamOutcomesResponse(cursor="c" * 100_000).SerializeToString()
        finally:
            closed.set()

    async with served(Scripted(pages=endless), write_limit_us=200_000) as s:
        stream = s.stub.StreamOutcomes(NOTHING)
        await stream.read()
        await closed.wait()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            while True:
                assert await stream.read() is not grpc.aio.EOF
        code, info = told(raised.value)
        assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "READER_TOO_SLOW")


async def test_a_caller_that_goes_away_ends_its_stream_without_noise() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield pb.StreamOutcomesResponse(cursor="c" * 100_000).SerializeToString()
        finally:
            closed.set()

    with structlog.testing.capture_logs() as lines:
        for _ in range(100):  # some of them while a page is being written
            closed.clear()
            async with served(Scripted(pages=endless)) as s:
                stream = s.stub.StreamOutcomes(NOTHING)
                await stream.read()
                stream.cancel()
                await closed.wait()
                assert await s.boundary.idle(LONG_US)
    # Lines of others may be among them: the capture is for the whole process.
    told = [(line["event"], line.get("code")) for line in lines]
    ended = [line for line in told if line[0].startswith("rpc.")]
    assert ended == [("rpc.ended", "CANCELLED")] * 100


async def test_reflection_and_health_know_every_service() -> None:
    for lab in (False, True):
        async with served(Scripted(), lab=lab) as s:
            names = {
                "upshot.v1.UpshotService",
                "upshot.v1.SubscriptionService",
                "upshot.v1.AdminService",
                "upshot.v1.KeyService",
                *(["upshot.v1.LabService"] if lab else []),
            }
            assert {name for name in await reflected(s.channel) if "upshot" in name} == names
            health = health_pb2_grpc.HealthStub(s.channel)
            for name in ("", *names):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
    return [service.name for service in (await call.read()).list_services_response.service]


async def test_the_workspace_comes_from_the_credential() -> None:
    seen: list[str] = []

    async def note(workspace_id: str, _request: object) -> None:
        seen.append(workspace_id)

    async with served(Scripted(engage=note)) as s:
        for authorization in (None, "Basic abc", "Link good", "link good"):
            metadata = [("authorization", authorization)] if authorization else []
            await s.stub.RecordEngagement(pb.RecordEngagementRequest(), metadata=metadata)
        assert seen == ["default", "default", "acme", "acme"]
        forged = s.stub.Ingest(pb.IngestRequest(), metadata=[("authorization", "Link bad")])
        code, info = told(await refused(forged))
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert len(seen) == 4


async def test_each_call_is_one_line_of_the_log() -> None:
    async with served(Scripted()) as s:
        health = health_pb2_grpc.HealthStub(s.channel)
        event = event_pb2.Event(user_id="ana@example.com")
        with structlog.testing.capture_logs(
            processors=[structlog.contextvars.merge_contextvars]
        ) as lines:
            await health.Check(health_pb2.HealthCheckRequest())
            own = [("x-request-id", "req-7")]
            await s.stub.Ingest(pb.IngestRequest(events=[event]), metadata=own)
            await s.stub.Ingest(pb.IngestRequest(), metadata=[("x-request-id", "")])
        first, second = lines
        assert {key: first[key] for key in ("event", "method", "code", "request_id")} == {
            "event": "rpc.ended",
            "method": "UpshotService/Ingest",
            "code": "OK",
            "request_id": "req-7",
        }
        assert first["ms"] >= 0
        assert len(second["request_id"]) == 36, "a call without an id is given one"
        assert "ana@" not in repr(lines)
