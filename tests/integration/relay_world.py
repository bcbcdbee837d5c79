"""A server with an outcome log, and a Segment, both of which misbehave when told to.

Both write into one ledger, so that a test can see what came before what.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc
import orjson
from aiohttp import web
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from upshot.v1 import outcome_pb2, service_pb2, subscription_pb2
from upshot.v1.service_pb2_grpc import (
    UpshotServiceServicer,
    add_UpshotServiceServicer_to_server,
)
from upshot.v1.subscription_pb2_grpc import (
    SubscriptionServiceServicer,
    add_SubscriptionServiceServicer_to_server,
)
from upshotd.adapters.relay.dead_letters import DeadLetters
from upshotd.adapters.relay.envelope import CallRules
from upshotd.adapters.relay.far_end import FarEnd
from upshotd.adapters.relay.outcome_log import CHANNEL_OPTIONS, OutcomeLog, Reading
from upshotd.adapters.relay.pauses import Pauses
from upshotd.adapters.relay.relay import Relay
from upshotd.adapters.relay.segment import Segment, SegmentSettings

NAME = "segment"


def outcome(number: int, **fields: object) -> outcome_pb2.Outcome:
    given: dict[str, object] = {
        "outcome_id": f"o-{number:04d}",
        "kind": outcome_pb2.OUTCOME_KIND_MESSAGE_SENT,
        "event": "Message Sent",
        "user_id": "ana",
        "position": number,
    }
    return outcome_pb2.Outcome(**(given | fields))  # type: ignore[arg-type]


def outcomes(count: int) -> list[outcome_pb2.Outcome]:
    return [outcome(number) for number in range(1, count + 1)]


class FakeServer(UpshotServiceServicer, SubscriptionServiceServicer):
    """A log with one partition; the cursor is the position."""

    def __init__(self, ledger: list[str]) -> None:
        self.log: list[outcome_pb2.Outcome] = []
        self.ledger = ledger
        self.places: dict[str, int] = {}
        #: Statuses that the next streams end with, each after so many pages with outcomes.
        self.breaks: list[tuple[int, grpc.StatusCode]] = []
        #: Statuses of the next commits.
        self.commit_faults: list[grpc.StatusCode] = []
        #: Cleared: commits get no answer.
        self.commits_open = asyncio.Event()
        self.commits_open.set()
        self.commits_waiting = 0
        self.streams: list[service_pb2.StreamOutcomesRequest] = []
        self.pages_sent = 0
        self.earliest = 0
        self.grew = asyncio.Event()

    def append(self, *new: outcome_pb2.Outcome) -> None:
        self.log += new
        self.grew.set()

    async def StreamOutcomes(
        self,
        request: service_pb2.StreamOutcomesRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> AsyncIterator[service_pb2.StreamOutcomesResponse]:
        self.streams.append(request)
        assert request.start == service_pb2.START_POSITION_EARLIEST
        self.places.setdefault(request.subscription, 0)
        at = int(request.after_cursor or self.places[request.subscription])
        pages_left, code = self.breaks.pop(0) if self.breaks else (-1, grpc.StatusCode.OK)
        if at < self.earliest:
            await self._expired(context)
        yield service_pb2.StreamOutcomesResponse(cursor=str(at), partition_count=1)
        while True:
            if pages_left == 0:
                await context.abort(code, "as the test wants")
            page = self.log[at : at + (request.max_batch or 100)]
            if not page:
                self.grew.clear()
                await self.grew.wait()
                continue
            at, pages_left = at + len(page), pages_left - 1
            kinds = request.filter.kinds
            chosen = [o for o in page if not kinds or o.kind in kinds]
            self.pages_sent += 1
            yield service_pb2.StreamOutcomesResponse(outcomes=chosen, cursor=str(at))

    async def _expired(self, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        detail = any_pb2.Any()
        detail.Pack(
            error_details_pb2.ErrorInfo(
                reason="CURSOR_EXPIRED",
                domain="upshot",
                metadata={"earliest_cursor": str(self.earliest)},
            )
        )
        status = rpc_status.to_status(
            status_pb2.Status(
                code=grpc.StatusCode.OUT_OF_RANGE.value[0], message="too old", details=[detail]
            )
        )
        await context.abort(status.code, status.details, status.trailing_metadata)

    async def CommitCursor(
        self,
        request: subscription_pb2.CommitCursorRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> subscription_pb2.CommitCursorResponse:
        self.ledger.append(f"asked to commit {request.cursor}")
        self.commits_waiting += 1
        try:
            await self.commits_open.wait()
        finally:
            self.commits_waiting -= 1
        if self.commit_faults:
            await context.abort(self.commit_faults.pop(0), "as the test wants")
        place = max(self.places[request.subscription], int(request.cursor))
        self.places[request.subscription] = place
        return subscription_pb2.CommitCursorResponse(cursor=str(place))

    async def ListSubscriptions(
        self,
        _request: subscription_pb2.ListSubscriptionsRequest,
        _context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> subscription_pb2.ListSubscriptionsResponse:
        return subscription_pb2.ListSubscriptionsResponse(
            subscriptions=[
                subscription_pb2.Subscription(
                    subscription=name, cursor=str(place), lag=len(self.log) - place
                )
                for name, place in self.places.items()
            ]
        )


@dataclass
class Answer:
    """How a request is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    #: Take the calls, and then break the connection.
    hang_up: bool = False


class FakeSegment:
    """Takes batches as Segment does and keeps what it took."""

    def __init__(self, ledger: list[str]) -> None:
        self.ledger = ledger
        #: Answers to the next requests; 200 when there are none left.
        self.answers: list[Answer] = []
        #: Outcomes that make any batch with them a 400.
        self.poison: set[str] = set()
        #: messageIds of every call taken, in order, with repetitions.
        self.taken: list[str] = []
        self.authorizations: set[str] = set()
        #: Cleared: requests get no answer.
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def batch(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        calls = orjson.loads(body)["batch"]
        assert 1 <= len(calls) <= 2_500
        assert len(body) <= 500_000
        ids = [call["messageId"].removeprefix("upshot-") for call in calls]
        self.ledger.append(f"asked to take {ids[0]}..{ids[-1]}")
        self.authorizations.add(request.headers["authorization"])
        self.asked.set()
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else Answer()
        if self.poison & set(ids):
            answer = Answer(400)
        if answer.status == 200:
            self.taken += ids
        if answer.hang_up:
            assert request.transport is not None
            request.transport.close()
        else:
            self.ledger.append(f"answered {answer.status}")
        return web.json_response({}, status=answer.status, headers=answer.headers)


class World:
    """Server, Segment and the relays between them."""

    def __init__(self) -> None:
        self.ledger: list[str] = []
        self.server = FakeServer(self.ledger)
        self.segment = FakeSegment(self.ledger)
        #: Pauses that relays asked for, in microseconds.
        self.slept: list[int] = []
        self.stop = asyncio.Event()
        self.on_pause: Callable[[], None] = lambda: None
        self.dead_letters: DeadLetters | None = None
        self._grpc = grpc.aio.server()
        self._http = web.AppRunner(self._app())

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1_000_000)
        app.router.add_post("/v1/batch", self.segment.batch)
        return app

    async def start(self) -> None:
        add_UpshotServiceServicer_to_server(self.server, self._grpc)
        add_SubscriptionServiceServicer_to_server(self.server, self._grpc)
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        await self._grpc.start()
        await self._http.setup()
        await web.TCPSite(self._http, "127.0.0.1", 0).start()
        host, port = self._http.addresses[0][:2]
        self.endpoint = f"http://{host}:{port}/v1/batch"

    async def end(self) -> None:
        self.segment.open.set()
        self.server.commits_open.set()
        await self._grpc.stop(None)
        await self._http.cleanup()

    async def relay(
        self, *, once: bool = True, identify: bool = False, far_end: FarEnd | None = None
    ) -> Relay:
        """Run one relay, to Segment where nothing is said, as one process would."""
        rules = CallRules(version="1")
        pauses = Pauses(self._sleep, lambda: 0.5, self.stop)
        settings = SegmentSettings(self.endpoint, "key", rules, identify)
        far_end = far_end or Segment(settings, lambda: 0)
        try:
            async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
                log = OutcomeLog(channel, Reading(NAME, rules.kinds, 1), pauses)
                relay = Relay(log, far_end, pauses, self.dead_letters)
                await relay.run(once=once)
                return relay
        finally:
            await far_end.close()

    async def kill(self, running: "asyncio.Task[Relay]") -> None:
        """End a relay without its leave, and return when the server has noticed."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        while self.server.commits_waiting:
            await asyncio.sleep(0)

    async def _sleep(self, duration_us: int) -> None:
        self.slept.append(duration_us)
        self.on_pause()
        await asyncio.sleep(0)
