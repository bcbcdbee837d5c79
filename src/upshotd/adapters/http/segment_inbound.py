"""Segment's cloud calling us: its Webhooks destinations, and what its Courier destination speaks.

    POST /inbound/segment          one event, or an array of them; `authorization: Bearer KEY`
    POST /inbound/segment/KEY      the same where no header can be set, as in Webhooks (Classic)
    PUT, DELETE /lists/LIST/subscriptions/USER
                                   the person is in an audience, or is not: a trait called LIST
    POST /debug                    whether the key is good

Segment signs with HMAC-SHA1 over the event, of an array over its first element only: where a secret
is set, what comes by the second way must be signed, and the key in the address is what protects the
rest of an array. It repeats what is not answered with 2xx for hours; repetitions are known by their
messageId.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from upshot.v1 import event_pb2, service_pb2
from upshotd.adapters.http import json_array
from upshotd.adapters.http import segment_codec as codec
from upshotd.adapters.http.answers import Metadata, Refusal, body_of, json_response
from upshotd.adapters.http.segment import (
    BATCH_BYTES_MAX,
    KEY_CHARS_MAX,
    KNOCK_BYTES,
    bearer,
    beside,
    ingest,
    knock,
)

if TYPE_CHECKING:
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

SIGNATURE: Final = "X-Signature"
#: Most events of an array: what the destination can be set to.
EVENTS_MAX: Final = 4_000
#: Longest name of a list, in characters.
LIST_CHARS_MAX: Final = 255
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
#: Segment waits for 5 s.
INGEST_S: Final = 4.5


class Inbound:
    """The routes below /inbound. *stub* is a client of our own server."""

    def __init__(self, stub: "UpshotServiceAsyncStub", secret: Callable[[], str]) -> None:
        """*secret* returns that of the Webhooks destination, empty where it has none."""
        self._stub = stub
        self._secret = secret

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_post("/inbound/segment", self._by_header)
        app.router.add_post("/inbound/segment/{key}", self._by_address)
        member = app.router.add_resource("/lists/{list}/subscriptions/{user}")
        member.add_route("PUT", self._member)
        member.add_route("DELETE", self._member)
        app.router.add_post("/debug", self._debug)

    async def _by_header(self, request: web.Request) -> web.StreamResponse:
        metadata = await self._known(request, bearer(request))
        return await self._take(await body_of(request, BATCH_BYTES_MAX), metadata)

    async def _by_address(self, request: web.Request) -> web.StreamResponse:
        metadata = await self._known(request, request.match_info["key"])
        body = await body_of(request, BODY_BYTES_MAX)
        secret = self._secret()
        if secret and not is_signed(secret, body, request.headers.get(SIGNATURE, "")):
            raise Refusal(401, "this was not signed with the secret of the destination")
        return await self._take(body, metadata)

    async def _known(self, request: web.Request, key: str) -> Metadata:
        """Return the credential; a large body is read only for one that may ingest."""
        metadata = _metadata(key)
        length, packed = request.content_length, "Content-Encoding" in request.headers
        if packed or length is None or length > KNOCK_BYTES:
            await knock(self._stub, metadata)
        return metadata

    async def _take(self, body: bytes, metadata: Metadata) -> web.StreamResponse:
        size = len(body)
        try:
            calls = await beside(size, codec.calls, body, EVENTS_MAX)
        except codec.Malformed as fault:
            raise Refusal(400, str(fault)) from None
        requests, named = codec.requests(calls), list[str]()
        while (events := await beside(size, next, requests, None)) is not None:
            results = await ingest(self._stub, events, metadata, INGEST_S)
            named += [result.event_id for result in results]
        return json_response({"messageId": named[0]}, status=202)

    async def _member(self, request: web.Request) -> web.StreamResponse:
        """Take that a person is in a list, or not: as Segment says it of its own audiences."""
        names = request.match_info
        if len(names["list"]) > LIST_CHARS_MAX:
            raise Refusal(400, f"a list's name has at most {LIST_CHARS_MAX} characters")
        event = event_pb2.Event(user_id=names["user"])
        event.identify.traits[names["list"]] = request.method == "PUT"
        events = service_pb2.IngestRequest(events=[event])
        (result,) = await ingest(self._stub, events, _metadata(bearer(request)), INGEST_S)
        if result.state == service_pb2.INGEST_STATE_REJECTED:
            raise Refusal(400, f"the person cannot be taken: {result.reason}")
        return web.Response(status=204)

    async def _debug(self, request: web.Request) -> web.StreamResponse:
        """Say whether the key may ingest."""
        await knock(self._stub, _metadata(bearer(request)))
        return json_response({"success": True})


def _metadata(key: str) -> Metadata:
    if len(key) > KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
        raise Refusal(401, "the key is not known")
    return (("authorization", f"Bearer {key}"),) if key else ()


def is_signed(secret: str, body: bytes, signature: str) -> bool:
    """Return whether *signature* is that of the event in *body*, of an array of its first one."""
    digest = hmac.new(secret.encode(), signed_part(body), hashlib.sha1).hexdigest()
    told = signature.strip().lower().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(digest.encode(), told)


def signed_part(body: bytes) -> bytes:
    """Return the bytes that Segment signs: it wrote the whole by one JSON.stringify."""
    if not json_array.is_array(body):
        return body
    try:
        return next(json_array.values(body), body)
    except ValueError:  # no JSON: it is refused for that
        return body
