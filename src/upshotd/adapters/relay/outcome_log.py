"""The outcome log of a server, read through one subscription over connections that break."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from upshot.v1 import outcome_pb2, service_pb2, subscription_pb2
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub
from upshotd.adapters.relay.pauses import Backoff, Pauses
from upshotd.domain.outcome import OutcomeKind

#: Outcomes in one page: 100 of the largest, 32 KiB each, stay below the limit of a response.
PAGE_OUTCOMES: Final = 100
#: Limit of a response, in bytes: a page that cannot be taken would stop the relay for ever.
_RESPONSE_BYTES_MAX = 64 * 1024 * 1024
_UNARY_SECONDS: Final = 30.0
_BACKOFF = Backoff(first_us=250_000, longest_us=10_000_000)

#: Options of the channel: a dead peer is noticed, one that is back is found soon, and what waits
#: for us waits in the server, not in megabytes of buffers that grow with the line.
CHANNEL_OPTIONS: Final = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    ("grpc.max_receive_message_length", _RESPONSE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

#: Asking again would get the same answer.
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

log = structlog.get_logger()


class LogRefused(Exception):
    """The server will not serve this subscription, however often it is asked."""


class OutcomesLost(Exception):
    """Outcomes after the cursor are older than the server keeps them, and are gone."""

    def __init__(self, text: str, earliest_cursor: str) -> None:
        super().__init__(text)
        #: Where what is kept begins; empty when the server does not say.
        self.earliest_cursor = earliest_cursor


@dataclass(frozen=True, slots=True)
class Page:
    """One response of the stream; a checkpoint when it has no outcomes."""

    outcomes: tuple[outcome_pb2.Outcome, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a subscription is behind the log."""

    #: Outcomes after the committed cursor.
    outcomes: int
    #: Age of the oldest of them, in seconds.
    seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read, and under which name the place in the log is kept."""

    subscription: str
    #: Empty: every kind, also those of a newer server.
    kinds: frozenset[OutcomeKind]
    #: How often a quiet stream sends a checkpoint, in seconds, 1 to 60.
    heartbeat_seconds: int = 10


class OutcomeLog:
    """One subscription. Nothing is read twice or skipped while this object lives."""

    def __init__(self, channel: grpc.aio.Channel, reading: Reading, pauses: Pauses) -> None:
        self._upshot = UpshotServiceStub(channel)
        self._subscriptions = SubscriptionServiceStub(channel)
        self._reading = reading
        self._pauses = pauses
        #: Cursor of the last page handed out; empty before the first: the subscription knows.
        self._read = ""
        self._committed = ""

    async def pages(self) -> AsyncGenerator[Page, None]:
        """Yield the pages after the committed cursor, for ever, whatever happens to the stream.

        Raises Stopped, OutcomesLost, LogRefused.
        """
        attempt = 0
        while True:
            attempt, first = attempt + 1, True
            try:
                async with aclosing(self._stream()) as stream:
                    async for page in stream:
                        # The first page comes even of a stream that then breaks each time.
                        attempt, first = attempt if first else 1, False
                        self._take(page)
                        yield page
                reason = "ENDED"
            except grpc.aio.AioRpcError as error:
                reason = _reason(error)
            await self._pause("relay.reconnecting", reason, attempt)

    def _take(self, page: Page) -> None:
        if not self._read and not page.outcomes:
            self._committed = page.cursor  # where the subscription is, as the server has it
        self._read = page.cursor

    async def commit(self, cursor: str) -> None:
        """Store how far the log is done with; retried until it is stored.

        Raises Stopped, but only after it has been tried; LogRefused.
        """
        if cursor == self._committed:
            return
        request = subscription_pb2.CommitCursorRequest(
            subscription=self._reading.subscription, cursor=cursor
        )
        attempt = 0
        while self._committed != cursor:
            attempt += 1
            try:
                await self._subscriptions.CommitCursor(request, timeout=_UNARY_SECONDS)
                self._committed = cursor
            except grpc.aio.AioRpcError as error:
                await self._pause("relay.commit_retrying", _reason(error), attempt)

    async def drained(self) -> bool:
        """Whether the committed cursor is at the end of the log. Raises Stopped, LogRefused."""
        lag = await self.lag()
        return lag is None or lag.outcomes == 0

    async def lag(self) -> Lag | None:
        """Return how far the subscription is behind; None while the server does not know it.

        Raises Stopped, LogRefused.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._subscriptions.ListSubscriptions(
                    subscription_pb2.ListSubscriptionsRequest(), timeout=_UNARY_SECONDS
                )
                return self._lag(answer.subscriptions)
            except grpc.aio.AioRpcError as error:
                await self._pause("relay.reconnecting", _reason(error), attempt)

    def _lag(self, subscriptions: Iterable[subscription_pb2.Subscription]) -> Lag | None:
        for found in subscriptions:
            if found.subscription == self._reading.subscription:
                return Lag(found.lag, found.lag_duration.ToMicroseconds() / 1_000_000)
        return None

    async def _stream(self) -> AsyncGenerator[Page, None]:
        kinds = sorted(int(kind) for kind in self._reading.kinds)
        request = service_pb2.StreamOutcomesRequest(
            after_cursor=self._read,
            subscription=self._reading.subscription,
            start=service_pb2.START_POSITION_EARLIEST,
            filter=service_pb2.OutcomeFilter(kinds=kinds),  # type: ignore[arg-type]  # plain ints
            max_batch=PAGE_OUTCOMES,
            heartbeat_interval=Duration(seconds=self._reading.heartbeat_seconds),
        )
        call = self._upshot.StreamOutcomes(request)
        try:
            async for response in call:
                yield Page(tuple(response.outcomes), response.cursor)
        finally:
            call.cancel()

    async def _pause(self, event: str, reason: str, attempt: int) -> None:
        wait_us = self._pauses.length_us(_BACKOFF, attempt)
        log.warning(event, reason=reason, attempt=attempt, wait_ms=wait_us // 1_000)
        await self._pauses.sleep(wait_us)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Return the name of a status that may pass. Raises OutcomesLost or LogRefused for others."""
    code = error.code()
    if code is grpc.StatusCode.OUT_OF_RANGE:
        earliest = _metadata(error).get("earliest_cursor", "")
        raise OutcomesLost(error.details() or code.name, earliest) from error
    if code in _FINAL:
        raise LogRefused(f"{code.name}: {error.details() or 'no reason given'}") from error
    return str(code.name)


def _metadata(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Return the metadata of the error's ErrorInfo; empty when it has none that can be read."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it serves aio as well
    except ValueError:
        return {}
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return dict(info.metadata)
    return {}
