"""The boundary: what every call of the contract passes on its way in and out.

It stands around the methods where they are registered, not as an interceptor in front of them:
that costs nothing per call, decoding and encoding lie inside of it, and methods are plain
functions of a workspace and a request that know no gRPC. Health and reflection are not behind it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from upshotd.adapters.grpc import linked
from upshotd.adapters.grpc.costs import COSTS, PLAIN
from upshotd.adapters.grpc.errors import Answer, answer_to, internal
from upshotd.adapters.grpc.scopes import ALLOWED
from upshotd.application.credentials import SCOPES, Caller, Credentials
from upshotd.application.failpoints import failpoint
from upshotd.application.keys import Scope
from upshotd.application.ports import Clock, Ids
from upshotd.application.quotas import Quotas
from upshotd.domain.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UpshotError,
    Violation,
)

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
Parse: TypeAlias = Callable[[bytes], Message]
#: A unary method: workspace and request in, response out.
Unary: TypeAlias = Callable[[str, Any], Awaitable[Message]]
#: A streaming method: workspace and request in, encoded responses out.
Streaming: TypeAlias = Callable[[str, Any], AsyncGenerator[bytes, None]]

#: A caller may bring the id its own logs have; ours are made where it does not.
REQUEST_ID_KEY: Final = "x-request-id"
_REQUEST_ID_LENGTH = 100


class _Patience:
    """Ends a stream whose reader takes nothing for a time: a timer for the stream, not for a write.

    The timer looks when the earliest write could have taken too long, and then again.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since: float | None = None
        self._spent = False
        self._timer = self._loop.call_later(limit, self._look)

    def __enter__(self) -> "_Patience":
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def begin(self) -> None:
        """A write begins."""
        self._since = self._loop.time()

    def end(self, _: object = None) -> None:
        """The reader took it."""
        self._since = None

    def spent(self) -> bool:
        """Return whether it was this timer that canceled the stream, and take that back."""
        if self._spent and self._task is not None:
            self._task.uncancel()
        return self._spent

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._since is None else self._since
        if now - since >= self._limit and self._task is not None:
            self._spent = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(since + self._limit - now, self._look)


async def _written(
    pages: AsyncGenerator[bytes, None], context: Context, patience: _Patience
) -> None:
    """Write *pages*, one after the other. Reading ahead is the business of who makes them."""
    async for page in pages:
        failpoint("stream.before_write")
        patience.begin()
        try:
            await context.write(page)
        except grpc.aio.InternalError as error:  # the call is over before its task is told so
            raise asyncio.CancelledError from error
        patience.end()
        failpoint("stream.after_write")


class Boundary:
    """Turns methods into gRPC handlers: credential, deadline, errors, one log line per call."""

    def __init__(
        self,
        credentials: Credentials,
        clock: Clock,
        ids: Ids,
        *,
        unary_limit_us: int,
        write_limit_us: int,
        allowed: Mapping[str, Collection[Scope]] = ALLOWED,
    ) -> None:
        """*allowed* says which scopes may call a method; one that it does not name is nobody's."""
        self._credentials = credentials
        self._allowed = {method: frozenset(scopes) for method, scopes in allowed.items()}
        #: Open streams by the key that opened them.
        self._streams: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)
        self._revoked: set[asyncio.Task[Any]] = set()
        self._clock = clock
        self._quotas = Quotas(clock)
        self._ids = ids
        self._unary_limit = unary_limit_us / 1_000_000
        self._write_limit = write_limit_us / 1_000_000
        # Bound here, not with each line: this one is written with every call.
        self._log = structlog.get_logger("upshot.rpc").bind()
        self._draining = False
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def active(self) -> int:
        """Calls that are under way, streams included."""
        return self._active

    def drain(self) -> None:
        """Refuse every new call from now on."""
        self._draining = True

    def revoke(self, key_ids: Collection[str]) -> None:
        """End the streams that were opened with these keys."""
        for task in [task for key_id in key_ids for task in self._streams.get(key_id, ())]:
            self._revoked.add(task)
            task.cancel()

    async def idle(self, at_most_us: int) -> bool:
        """Wait until no call is under way; False when some still are after *at_most_us*."""
        try:
            async with asyncio.timeout(at_most_us / 1_000_000):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def unary(self, method: str, parse: Parse, call: Unary) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of a unary method."""
        cost, repeated = COSTS.get(method, PLAIN)

        async def answered(caller: Caller, request: Message) -> bytes:
            response = await call(caller.workspace_id, request)
            if caller.rate:
                self._quotas.give_back(caller, repeated(response))
            return response.SerializeToString()

        async def answer(caller: Caller, raw: bytes, context: Context) -> bytes:
            request = _parsed(parse, raw)
            if caller.link is not None:
                linked.check(caller.link, request)
            if caller.rate:
                self._quotas.charge(caller, cost(request))
            if context.time_remaining() is not None:
                return await answered(caller, request)
            try:
                async with asyncio.timeout(self._unary_limit) as limit:
                    return await answered(caller, request)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise self._out_of_time() from None

        async def handle(raw: bytes, context: Context) -> bytes:
            return await self._guarded(method, answer, raw, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def streaming(
        self, method: str, parse: Parse, call: Streaming
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler of a method with a stream of responses, which come encoded."""

        async def answer(caller: Caller, raw: bytes, context: Context) -> bytes:
            with _Patience(self._write_limit) as patience, self._opened(caller.key_id) as revoked:
                try:
                    request = _parsed(parse, raw)
                    if caller.rate:
                        self._quotas.charge(caller, 1)
                    pages = call(caller.workspace_id, request)
                    async with aclosing(pages):
                        await _written(pages, context, patience)
                except asyncio.CancelledError:
                    if revoked():
                        raise Unauthenticated("the key was revoked") from None
                    if not patience.spent():
                        raise
                    raise self._too_slow() from None
            return b""

        async def handle(raw: bytes, context: Context) -> None:
            await self._guarded(method, answer, raw, context)

        return grpc.unary_stream_rpc_method_handler(handle)

    @contextmanager
    def _opened(self, key_id: str) -> Iterator[Callable[[], bool]]:
        """Keep this task as a stream of a key; yields whether it ends because that was revoked."""
        task = asyncio.current_task()
        assert task is not None

        def revoked() -> bool:
            if task not in self._revoked:
                return False
            task.uncancel()
            return True

        self._streams[key_id].add(task)
        try:
            yield revoked
        finally:
            self._revoked.discard(task)
            self._streams[key_id].discard(task)
            if not self._streams[key_id]:
                del self._streams[key_id]

    def _out_of_time(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"not done within {self._unary_limit:g} s, the limit of calls without a deadline; "
            "it may have committed: repeat it with the same ids"
        )

    def _too_slow(self) -> ResourceExhausted:
        text = f"the reader took nothing for {self._write_limit:g} s; resume from the last cursor"
        return ResourceExhausted(text, reason="READER_TOO_SLOW")

    async def _guarded(
        self,
        method: str,
        answer: Callable[[Caller, bytes, Context], Awaitable[bytes]],
        raw: bytes,
        context: Context,
    ) -> bytes:
        begin_us = self._clock.monotonic_us()
        authorization, request_id = self._headers(context)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self._begin()
        code, response = "OK", b""
        failure: Answer | None = None
        try:
            if self._draining:
                raise Unavailable("the server is going down", reason="DRAINING")
            caller = await self._credentials.caller(authorization)
            if caller.scopes.isdisjoint(self._allowed.get(method, ())):
                raise PermissionDenied(f"this credential may not call {method}")
            SCOPES.set(caller.scopes)
            response = await answer(caller, raw, context)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            code = "CANCELLED"  # by the caller, or by the end of the connection
            raise
        except Exception as error:
            failure = self._failure(method, error)
            code = failure.code.name
        finally:
            self._end()
            self._tell(method, code, failure, begin_us)
        if failure is not None:
            await context.abort(failure.code, failure.text, failure.trailers)
        return response

    def _begin(self) -> None:
        self._active += 1
        self._idle.clear()

    def _end(self) -> None:
        self._active -= 1
        if not self._active:
            self._idle.set()

    def _headers(self, context: Context) -> tuple[str | None, str]:
        """Return the credential and the request's id."""
        authorization, request_id = None, ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = str(value)
            elif key == REQUEST_ID_KEY:
                request_id = str(value)
        if request_id.isascii() and request_id.isprintable():
            request_id = request_id[:_REQUEST_ID_LENGTH]
        else:
            request_id = ""
        return authorization, request_id or self._ids.next()

    def _failure(self, method: str, error: Exception) -> Answer:
        known = answer_to(error) if isinstance(error, UpshotError) else None
        if known is not None:
            return known
        incident_id = self._ids.next()
        self._log.error("rpc.broke", method=method, incident_id=incident_id, exc_info=error)
        return internal(incident_id)

    def _tell(self, method: str, code: str, failure: Answer | None, begin_us: int) -> None:
        ms = (self._clock.monotonic_us() - begin_us) / 1_000
        if code == "OK":
            # Thousands a second: what went well is told to who asks for it.
            self._log.debug("rpc.ended", method=method, code=code, ms=ms)
        elif failure is None:
            self._log.info("rpc.ended", method=method, code=code, ms=ms)
        else:
            self._log.info("rpc.ended", method=method, code=code, ms=ms, reason=failure.reason)


def _parsed(parse: Parse, raw: bytes) -> Message:
    try:
        request = parse(raw)
    except DecodeError:
        raise InvalidArgument("the request is not a message of the contract") from None
    unknown = UnknownFieldSet(request)
    if len(unknown):
        raise _not_known(unknown)
    return request


def _not_known(unknown: UnknownFieldSet) -> InvalidArgument:
    """A caller that asks for more than this server has must hear it: nothing is passed over."""
    numbers = sorted({unknown[at].field_number for at in range(len(unknown))})
    text = "field {} is not known to this server"
    faults = tuple(Violation("request", text.format(number)) for number in numbers)
    return InvalidArgument("; ".join(fault.description for fault in faults), faults)
