"""Segment's HTTP Tracking API: its SDKs work with only their host changed.

Answers are Segment's, 200 `{"success": true}` also for calls that are rejected one by one, with
three differences, all so that nothing vanishes that was answered with 200:

* 200 is said only when every call of the request is durable. What the server cannot take now is
  429 or 503 with Retry-After, which the SDKs repeat with the same ids.
* a batch of more than 2500 calls is 400; Segment says 200 and drops it.
* a credential the server does not know is 401.
"""

import asyncio
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

import grpc
import structlog
from aiohttp import web

from upshot.v1 import service_pb2 as pb
from upshotd.adapters.http import segment_codec as codec
from upshotd.adapters.http.answers import Metadata, Refusal, body_of, json_response, refusal_of

if TYPE_CHECKING:
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: Most of a batch after inflation, in bytes.
BATCH_BYTES_MAX: Final = 500 * 1024
#: An event's 32 KiB, and what stands around it in a body of its own: sentAt, writeKey.
SINGLE_BYTES_MAX: Final = codec.EVENT_BYTES_MAX + 1024
#: Below the 15 s after which SDKs give up, so that they hear why.
INGEST_S: Final = 10.0
#: Bodies larger than this are read into events only for a key that may ingest.
KNOCK_BYTES: Final = 64 * 1024
#: Longest write key that is passed on, in characters.
KEY_CHARS_MAX: Final = 256

#: Paths below /v1; those of one letter are analytics.js's.
SINGLE_PATHS: Final = {
    **{kind: kind for kind in sorted(codec.TYPES)},
    **{kind[0]: kind for kind in sorted(codec.TYPES)},
}
BATCH_PATHS: Final = ("batch", "import", "b")

#: Browsers of any site send here, as they do to Segment; the key says whose event it is.
CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding",
    "Access-Control-Max-Age": "86400",
}

_PRINTABLE = re.compile(r"[\x21-\x7e]*")

P = ParamSpec("P")
T = TypeVar("T")
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TrackingApi:
    """The routes below /v1. *stub* is a client of our own server."""

    def __init__(self, stub: "UpshotServiceAsyncStub") -> None:
        self._stub = stub

    def add_to(self, app: web.Application) -> None:
        """Register the routes, each with and without a slash at the end."""
        for path, kind in SINGLE_PATHS.items():
            _add(app, path, self._single_of(kind))
        for path in BATCH_PATHS:
            _add(app, path, self._batch)

    def _single_of(self, kind: str) -> Handler:
        async def single(request: web.Request) -> web.StreamResponse:
            raw = await _body(request)
            if len(raw) > SINGLE_BYTES_MAX:
                raise Refusal(400, f"an event has at most {codec.EVENT_BYTES_MAX} bytes")
            try:
                body = codec.parse(raw)
            except codec.Malformed as fault:
                raise Refusal(400, str(fault)) from None
            metadata = _metadata(request, body)
            results = await ingest(self._stub, codec.single(body, kind), metadata, INGEST_S)
            if any(result.reason == "EVENT_TOO_LARGE" for result in results):
                raise Refusal(400, f"an event has at most {codec.EVENT_BYTES_MAX} bytes")
            return json_response({"success": True})

        return single

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        raw = await _body(request)
        try:
            body = await beside(len(raw), codec.parse, raw)
            metadata = _metadata(request, body)
            if len(raw) > KNOCK_BYTES:
                await knock(self._stub, metadata)
            requests = await beside(len(raw), codec.batch, body)
        except codec.Malformed as fault:
            raise Refusal(400, str(fault)) from None
        while (events := await beside(len(raw), next, requests, None)) is not None:
            # One after the other: events of one person keep their order.
            await ingest(self._stub, events, metadata, INGEST_S)
        return json_response({"success": True})


async def ingest(
    stub: "UpshotServiceAsyncStub", events: pb.IngestRequest, metadata: Metadata, timeout_s: float
) -> list[pb.IngestResult]:
    """Return the results when all of *events* are durable; raises Refusal."""
    try:
        response = await stub.Ingest(events, timeout=timeout_s, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error) from None
    rejected = sum(result.state == pb.INGEST_STATE_REJECTED for result in response.results)
    if rejected:
        log.info("segment.rejected", rejected=rejected, events=len(response.results))
    return list(response.results)


async def knock(stub: "UpshotServiceAsyncStub", metadata: Metadata) -> None:
    """Return where the key may ingest, and raise Refusal where it may not. Ingests nothing.

    What a stranger sends is not worth the work that a large body makes.
    """
    try:
        await stub.Ingest(pb.IngestRequest(), timeout=INGEST_S, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:  # what no events are
            raise refusal_of(error) from None


async def beside(size: int, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Do *work* on a body of *size* bytes; what takes long does not hold up everybody else."""
    if size <= KNOCK_BYTES:
        return work(*args, **more)
    return await asyncio.to_thread(work, *args, **more)


def _add(app: web.Application, path: str, take: Handler) -> None:
    for full in (f"/v1/{path}", f"/v1/{path}/"):
        resource = app.router.add_resource(full)
        resource.add_route("POST", take)
        resource.add_route("OPTIONS", _preflight)


async def _preflight(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


async def _body(request: web.Request) -> bytes:
    """Return the body, inflated. Raises Refusal when it is too large or cannot be inflated."""
    try:
        return await body_of(request, BATCH_BYTES_MAX)
    except Refusal as refusal:
        if refusal.status != 413:
            raise
        # Segment's word for it, which its SDKs know.
        text = f"a batch has at most {BATCH_BYTES_MAX} bytes"
        raise Refusal(400, text, refusal.headers) from None


def _metadata(request: web.Request, body: codec.Json) -> Metadata:
    key = _basic_user(request) or codec.write_key(body) or bearer(request)
    if not key:
        return ()
    if not _PRINTABLE.fullmatch(key):
        key = quote(
            key, errors="replace"
        )  # no key of ours, and metadata takes only printable ASCII
    return (("authorization", f"Bearer {key[:KEY_CHARS_MAX]}"),)


def _basic_user(request: web.Request) -> str:
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(coded.strip()).decode().partition(":")[0]
    except (Base64Error, ValueError):
        return ""


def bearer(request: web.Request) -> str:
    """Return the key of `authorization: Bearer KEY`, or an empty text."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
