"""The HTTP edge in front of a server that only remembers, or refuses on demand."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2

from upshot.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    engagement_pb2,
    event_pb2,
    service_pb2,
    service_pb2_grpc,
)
from upshotd.adapters.http.callbacks import Keys
from upshotd.adapters.http.edge import Edge
from upshotd.adapters.links import LinkSigner

KEY = b"a key of sixteen bytes, or more"
NOW_US = 1_767_225_600_000_000


@dataclass
class People(admin_pb2_grpc.AdminServiceServicer):
    """Keeps what one person chose."""

    preferences: list[admin_pb2.Preference] = field(default_factory=list)
    chosen: list[admin_pb2.SetPreferenceRequest] = field(default_factory=list)
    credentials: list[str | None] = field(default_factory=list)
    refusal: grpc.StatusCode | None = None

    async def GetPreferences(self, request: Any, context: Any) -> admin_pb2.GetPreferencesResponse:
        assert request.message_id == "msg-1"
        await self._enter(context)
        return admin_pb2.GetPreferencesResponse(preferences=self.preferences)

    async def SetPreference(self, request: Any, context: Any) -> admin_pb2.SetPreferenceResponse:
        assert request.message_id == "msg-1"
        await self._enter(context)
        self.chosen.append(request)
        return admin_pb2.SetPreferenceResponse()

    async def _enter(self, context: Any) -> None:
        self.credentials.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refusal is not None:
            await context.abort(self.refusal, "the server's own words")


@dataclass
class Server(service_pb2_grpc.UpshotServiceServicer):
    """Says yes to everything, or what it was told to say."""

    people: People = field(default_factory=People)
    #: The requests' events, a list for each Ingest.
    requests: list[list[event_pb2.Event]] = field(default_factory=list)
    engagements: list[engagement_pb2.Engagement] = field(default_factory=list)
    #: `authorization` of each call.
    credentials: list[str | None] = field(default_factory=list)
    #: Status that calls end with, and RetryInfo in seconds.
    refusal: tuple[grpc.StatusCode, int | None] | None = None
    #: From which Ingest on the refusal holds.
    refuse_from: int = 0
    ingest_reason: str = ""
    engagement_state: int = service_pb2.ENGAGEMENT_STATE_RECORDED
    #: What RecordEngagement waits for before it records.
    hold: Callable[[], Awaitable[object]] | None = None

    @property
    def events(self) -> list[event_pb2.Event]:
        return [event for request in self.requests for event in request]

    async def Ingest(self, request: Any, context: Any) -> service_pb2.IngestResponse:
        await self._enter(context, len(self.requests) >= self.refuse_from)
        self.requests.append(list(request.events))
        reason = self.ingest_reason
        state = service_pb2.INGEST_STATE_REJECTED if reason else service_pb2.INGEST_STATE_ACCEPTED
        return service_pb2.IngestResponse(
            results=[
                service_pb2.IngestResult(event_id=event.event_id, state=state, reason=reason)
                for event in request.events
            ]
        )

    async def RecordEngagement(
        self, request: Any, context: Any
    ) -> service_pb2.RecordEngagementResponse:
        await self._enter(context, True)
        if self.hold is not None:
            await self.hold()
        self.engagements.extend(request.engagements)
        state: Any = self.engagement_state
        return service_pb2.RecordEngagementResponse(
            results=[service_pb2.EngagementResult(state=state) for _ in request.engagements]
        )

    async def _enter(self, context: Any, may_refuse: bool) -> None:
        headers = dict(context.invocation_metadata())
        self.credentials.append(headers.get("authorization"))
        if self.refusal is not None and may_refuse:
            code, retry_s = self.refusal
            await context.abort(code, "the server's own words", _trailers(code, retry_s))


def _trailers(code: grpc.StatusCode, retry_s: int | None) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=code.value[0], message="the server's own words")
    if retry_s is not None:
        detail = any_pb2.Any()
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromSeconds(retry_s)
        detail.Pack(info)
        status.details.append(detail)
    return (("grpc-status-details-bin", status.SerializeToString()),)


@dataclass
class World:
    server: Server
    edge: Edge
    http: aiohttp.ClientSession
    links: LinkSigner

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.edge.port}"

    async def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Post JSON, or bytes as they are; return status and decoded answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.url + path, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self.http.get(self.url + path, allow_redirects=False, **options)
        await response.read()
        return response


@asynccontextmanager
async def world(keys: Keys | None = None) -> AsyncIterator[World]:
    server = Server()
    grpc_server = grpc.aio.server()
    service_pb2_grpc.add_UpshotServiceServicer_to_server(server, grpc_server)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(server.people, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    links = LinkSigner(KEY, "http://links.example")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        edge = Edge(
            listen_host="127.0.0.1",
            listen_port=0,
            stub=service_pb2_grpc.UpshotServiceStub(channel),
            admin=admin_pb2_grpc.AdminServiceStub(channel),
            links=links,
            now_us=lambda: NOW_US,
            keys=lambda: keys or Keys(),
        )
        await edge.start()
        try:
            async with aiohttp.ClientSession() as http:
                yield World(server, edge, http, links)
        finally:
            await edge.stop()
    await grpc_server.stop(None)


def as_dict(event: event_pb2.Event) -> dict[str, Any]:
    return MessageToDict(event, preserving_proto_field_name=True)


TARGET = "https://shop.example/a?b=c&d=%C3%A9#e"


def path_of(url: str) -> str:
    return url.removeprefix("http://links.example")


def open_path(there: World, message_id: str = "msg-1") -> str:
    return path_of(there.links.open_url("default", message_id))


def click_path(there: World, target: str = TARGET) -> str:
    return path_of(there.links.click_url("default", "msg-1", target))


def unsubscribe_path(there: World) -> str:
    return path_of(there.links.unsubscribe_url("default", "msg-1"))
