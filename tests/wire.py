"""The whole server in this process, spoken to over a real socket with the generated stubs.

    async with running(database) as s:
        await s.define(mail_flow())
        await s.track("e1", "Signed Up")

Streams are opened by the fixture `watched_stream`: what they saw is judged when the test ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tests.validators import Seen, Stream, StreamValidator
from upshot.v1 import admin_pb2, engagement_pb2, event_pb2, lab_pb2, outcome_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub
from upshotd.app import App
from upshotd.app import run as app_run
from upshotd.application import cursor as cursors
from upshotd.config import load

#: Every channel goes to a provider that accepts all; its id of a message is ours.
NOWHERE = """
[providers.nowhere]
kind = "null"
[channels]
email = "nowhere"
sms = "nowhere"
webhook = "nowhere"
"""
HOUR_S = 3_600
DAY_S = 24 * HOUR_S
#: Longest that a test waits for something, in seconds.
PATIENCE_S = 15
EARLIEST = pb.START_POSITION_EARLIEST
ACCEPTED, DUPLICATE = pb.INGEST_STATE_ACCEPTED, pb.INGEST_STATE_DUPLICATE
REJECTED = pb.INGEST_STATE_REJECTED
Metadata = Sequence[tuple[str, str]] | None


@dataclass
class Wire:
    """A running server, and stubs of everything it serves."""

    channel: grpc.aio.Channel
    upshot: Any
    admin: Any
    lab: Any
    subscriptions: Any
    #: What serves; set where it runs in this process.
    inside: App | None = None

    @property
    def app(self) -> App:
        """What serves, in this process."""
        assert self.inside is not None, "it runs in a process of its own"
        return self.inside

    async def define(
        self, workflow: workflow_pb2.Workflow, metadata: Metadata = None, **fields: Any
    ) -> pb.DefineWorkflowResponse:
        """Define a workflow."""
        request = pb.DefineWorkflowRequest(workflow=workflow, **fields)
        return await self.upshot.DefineWorkflow(request, metadata=metadata)

    async def ingest(
        self, *events: event_pb2.Event, metadata: Metadata = None
    ) -> list[pb.IngestResult]:
        """Send events; return what became of each."""
        request = pb.IngestRequest(events=events)
        return list((await self.upshot.Ingest(request, metadata=metadata)).results)

    async def engage(self, *facts: engagement_pb2.Engagement) -> list[pb.EngagementResult]:
        """Record engagement; return what became of each."""
        request = pb.RecordEngagementRequest(engagements=facts)
        return list((await self.upshot.RecordEngagement(request)).results)

    async def advance(self, seconds: float = 0) -> lab_pb2.AdvanceTimeResponse:
        """Move the clock; without an argument, do what is due now."""
        request = lab_pb2.AdvanceTimeRequest()
        request.duration.FromMicroseconds(int(seconds * 1e6))
        return await self.lab.AdvanceTime(request)

    async def run(self, run_id: str) -> admin_pb2.Run:
        """Look at a run."""
        return (await self.admin.GetRun(admin_pb2.GetRunRequest(run_id=run_id))).run

    async def messages(self, **fields: Any) -> list[admin_pb2.Message]:
        """List messages, the oldest first."""
        request = admin_pb2.ListMessagesRequest(**fields)
        return list((await self.admin.ListMessages(request)).messages)[::-1]

    async def profile(self, **by: Any) -> admin_pb2.Profile:
        """Look at a person."""
        return (await self.admin.GetProfile(admin_pb2.GetProfileRequest(**by))).profile


@asynccontextmanager
async def running(
    database: Path | str, toml: str = NOWHERE, environ: Mapping[str, str] | None = None, **over: Any
) -> AsyncIterator[Wire]:
    """Run the server over *database*, a lab unless said otherwise; *over* are settings by path."""
    given: dict[str, object] = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "lab": True}
    given |= {"database": str(database), **over}
    async with (
        app_run(load(toml, {}, given), environ or {}) as started,
        connected(started.grpc_address) as wire,
    ):
        wire.inside = started
        yield wire


@asynccontextmanager
async def connected(address: str, *options: tuple[str, int]) -> AsyncIterator[Wire]:
    """Connect to a server that runs, here or in another process."""
    own_channel = (*options, ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(address, own_channel) as channel:
        yield Wire(
            channel,
            UpshotServiceStub(channel),
            AdminServiceStub(channel),
            LabServiceStub(channel),
            SubscriptionServiceStub(channel),
        )


async def refused(
    call: Any,
) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, dict[str, str]]:
    """Return the code, the ErrorInfo that is always there, and the faults by field."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asyncio.wait_for(call, PATIENCE_S)
    status: status_pb2.Status | None = rpc_status.from_call(raised.value)
    assert status is not None, raised.value
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert info.domain == "upshot"
    faults = [v for detail in status.details if detail.Unpack(bad) for v in bad.field_violations]
    return raised.value.code(), info, {fault.field: fault.description for fault in faults}


# what is sent


def workflow(workflow_id: str, trigger: object, *steps: object, **fields: object) -> Any:
    """Return a workflow out of its protobuf JSON; a trigger that is text is a track event."""
    source = {"track": {"event": trigger}} if isinstance(trigger, str) else trigger
    given = {"workflow_id": workflow_id, "trigger": source, "steps": list(steps), **fields}
    return ParseDict(given, workflow_pb2.Workflow())


def mail(step_id: str = "mail", subject: str = "Hello", text: str = "Welcome.") -> dict[str, Any]:
    """A step that sends an e-mail."""
    content = {"subject": subject, "text": text}
    return {"step_id": step_id, "send": {"channel": "CHANNEL_EMAIL", "email": content}}


def sms(step_id: str = "text", body: str = "Still there?") -> dict[str, Any]:
    """A step that sends a text message."""
    return {"step_id": step_id, "send": {"channel": "CHANNEL_SMS", "sms": {"body": body}}}


def pause(step_id: str = "pause", seconds: int = HOUR_S) -> dict[str, Any]:
    """A step that lets time pass."""
    return {"step_id": step_id, "delay": {"duration": f"{seconds}s"}}


def opened(of: str = "mail", seconds: int = DAY_S, **lists: object) -> dict[str, Any]:
    """A step that waits until a message is opened or clicked."""
    kinds = ["ENGAGEMENT_KIND_OPENED", "ENGAGEMENT_KIND_CLICKED"]
    condition = {"engagement": {"step_id": of, "kinds": kinds}}
    return {"step_id": "opened", "wait": {**condition, "timeout": f"{seconds}s", **lists}}


def track(
    event_id: str, name: str = "Signed Up", user_id: str = "ana", **properties: object
) -> event_pb2.Event:
    """Something that ana did."""
    event = event_pb2.Event(event_id=event_id, user_id=user_id)
    event.track.event = name
    event.track.properties.update(properties)
    return event


def identify(event_id: str, user_id: str = "ana", **traits: object) -> event_pb2.Event:
    """Who ana is; without traits she has an e-mail address and a phone."""
    event = event_pb2.Event(event_id=event_id, user_id=user_id)
    contact = {"email": f"{user_id}@home.example", "phone": "+4915112345678"}
    event.identify.traits.update(traits or contact)
    return event


def fact(
    kind: str, message_id: str = "", engagement_id: str = "", **fields: Any
) -> engagement_pb2.Engagement:
    """Something that became of a message."""
    number = engagement_pb2.EngagementKind.Value(f"ENGAGEMENT_KIND_{kind}")
    made = engagement_pb2.Engagement(engagement_id=engagement_id, kind=number, **fields)
    if message_id:
        made.message_id = message_id
    return made


def kinds(outcomes: Sequence[Any]) -> list[str]:
    """Return the kinds of outcomes, in short."""
    return [outcome_pb2.OutcomeKind.Name(o.kind).removeprefix("OUTCOME_KIND_") for o in outcomes]


# what is seen


class Watched:
    """An open stream; everything that comes is recorded."""

    def __init__(self, call: Any, stream: Stream, came: Callable[[Stream, str], None]) -> None:
        self._call = call
        self._came = came
        self.stream = stream

    async def next(self) -> pb.StreamOutcomesResponse:
        """Return the next response."""
        response = await asyncio.wait_for(self._call.read(), PATIENCE_S)
        assert response is not grpc.aio.EOF, "the stream ended by itself"
        self.stream.saw(response)
        self._came(self.stream, response.cursor)
        return response

    async def until(self, count: int) -> list[Any]:
        """Read until *count* outcomes have come; return them."""
        while len(self.stream.outcomes) < count:
            await self.next()
        return self.outcomes

    async def until_kind(self, kind: str) -> Any:
        """Read until an outcome of this kind has come; return the first."""
        while kind not in kinds(self.outcomes):
            await self.next()
        return self.outcomes[kinds(self.outcomes).index(kind)]

    @property
    def outcomes(self) -> list[Any]:
        """Everything that came, in order."""
        return [seen.value for seen in self.stream.outcomes]

    @property
    def cursor(self) -> str:
        """The last cursor."""
        return self.stream.cursor

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()


class Watch:
    """Opens streams and judges them at the end, those of each log and workspace together."""

    def __init__(self) -> None:
        self._validators: dict[tuple[str, str], StreamValidator] = {}
        self._open: list[Watched] = []

    def __call__(self, wire: Wire, metadata: Metadata = None, **fields: Any) -> Watched:
        """Open a stream; *fields* are those of its request, EARLIEST where nothing says more."""
        if not {"start", "after_cursor"} & set(fields):
            fields["start"] = EARLIEST
        request = pb.StreamOutcomesRequest(**fields)
        stream = Stream(
            name=f"stream {len(self._open) + 1}",
            after_cursor=request.after_cursor,
            passes=_passes(request.filter) if request.HasField("filter") else None,
            partitions=tuple(request.partitions),
            max_batch=request.max_batch or 100,
        )
        call = wire.upshot.StreamOutcomes(request, metadata=metadata)
        self._open.append(Watched(call, stream, self._came))
        return self._open[-1]

    async def all(self, wire: Wire, metadata: Metadata = None) -> list[Any]:
        """Return all outcomes there are now."""
        head = await self(wire, metadata, start=pb.START_POSITION_NOW).next()
        place = cursors.parse(head.cursor)
        assert place is not None
        reader = self(wire, metadata)
        found = await reader.until(sum(place.positions.values()))
        reader.cancel()
        return found

    def finish(self) -> None:
        """End what is open; raise AssertionError with everything that any stream got wrong."""
        for watched in self._open:
            watched.cancel()
        for validator in self._validators.values():
            log = {
                (seen.partition, seen.position): seen
                for stream in validator.streams
                for seen in stream.outcomes
            }
            validator.check(list[Seen](log.values()))

    def _came(self, stream: Stream, cursor: str) -> None:
        place = cursors.parse(cursor)
        assert place is not None
        key = (place.epoch, place.workspace_id)
        validator = self._validators.setdefault(key, StreamValidator())
        if not any(known is stream for known in validator.streams):
            validator.streams.append(stream)


def _passes(chosen: pb.OutcomeFilter) -> Callable[[Seen], bool]:
    def passes(seen: Seen) -> bool:
        value = seen.value
        return (
            (not chosen.kinds or value.kind in chosen.kinds)
            and (not chosen.workflow_ids or value.workflow_id in chosen.workflow_ids)
            and (not chosen.user_ids or value.user_id in chosen.user_ids)
            and (not chosen.channels or value.channel in chosen.channels)
        )

    return passes
