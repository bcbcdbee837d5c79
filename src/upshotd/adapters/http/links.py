"""The links in our own e-mails: the open pixel, the click redirect, the unsubscribe page.

What a link says is signed; a link that was not signed here, or for another purpose, is 404 and
leads nowhere. GET changes no preference: mail scanners fetch every link they see.
"""

import asyncio
import hashlib
from collections.abc import Callable
from html import escape
from string import punctuation
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote

import grpc
import structlog
from aiohttp import web

from upshot.v1 import engagement_pb2 as pb
from upshot.v1 import service_pb2
from upshotd.adapters.http.answers import Refusal, refusal_of
from upshotd.adapters.http.pages import PRIVATE, later, not_found, page
from upshotd.adapters.http.prefetch import is_machine
from upshotd.domain.language import Link, LinkKind

if TYPE_CHECKING:
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: A transparent GIF of one pixel.
PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
#: Longest that somebody who clicks waits for us; the recording goes on behind.
PATIENCE_S: Final = 2.0
#: Longest that a recording takes.
RECORD_S: Final = 10.0
#: Most recordings under way; above it openings and clicks are not recorded.
RECORDINGS_MAX: Final = 1_000

_CONFIRM = (
    "<p>Do you want no more messages like this one?</p>"
    '<form method="post"><button name="confirm" value="yes">Unsubscribe</button></form>'
    '<p><a href="{preferences}">Choose what you get</a></p>'
)


class LinkReader(Protocol):
    """Reads signed links."""

    def read(self, kind: LinkKind, token: str) -> Link | None:
        """Return what *token* says; None unless it was signed here for this *kind*."""

    def preferences_url(self, workspace_id: str, message_id: str) -> str:
        """Return the address of the page where people choose."""

    def callback_token(self, workspace_id: str, message_id: str) -> str:
        """Return the token by which a callback names a message; without one, its workspace."""


class MailLinks:
    """The routes /o, /c and /u. *stub* is a client of our own server."""

    def __init__(
        self, stub: "UpshotServiceAsyncStub", links: LinkReader, now_us: Callable[[], int]
    ) -> None:
        """*now_us* is the server's clock, in microseconds since 1970 UTC."""
        self._stub = stub
        self._links = links
        self._now_us = now_us
        self._recordings: set[asyncio.Task[service_pb2.EngagementResult | Refusal]] = set()

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get(r"/o/{token:[^/]+}.gif", self._open)
        app.router.add_get("/c/{token}", self._click)
        app.router.add_get("/u/{token}", self._ask)
        app.router.add_post("/u/{token}", self._unsubscribe)

    async def finish(self) -> None:
        """Wait for the recordings under way, each at most RECORD_S."""
        if self._recordings:
            await asyncio.wait(self._recordings)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        token, link = self._read("o", request)
        if link is None:
            return not_found()
        if request.method != "HEAD":
            fact = self._fact(link, pb.ENGAGEMENT_KIND_OPENED, "open:", request)
            await self._record_patiently(token, fact)
        return web.Response(body=PIXEL, content_type="image/gif", headers=PRIVATE)

    async def _click(self, request: web.Request) -> web.StreamResponse:
        token, link = self._read("c", request)
        # The signer checks targets; an address that is no web page never leaves here in any case.
        if link is None or not link.target.lower().startswith(("http://", "https://")):
            return not_found()
        if request.method != "HEAD":
            fact = self._fact(link, pb.ENGAGEMENT_KIND_CLICKED, "click:", request)
            fact.engagement_id += ":" + hashlib.sha256(link.target.encode()).hexdigest()[:16]
            fact.link_url = link.target
            await self._record_patiently(token, fact)
        # What a header cannot carry is escaped, nothing else is touched: targets may be signed.
        headers = {**PRIVATE, "Location": quote(link.target, safe=punctuation)}
        return web.Response(status=302, headers=headers)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        _, link = self._read("u", request)
        if link is None:
            return not_found()
        address = self._links.preferences_url(link.workspace_id, link.message_id)
        return page(200, "Unsubscribe", _CONFIRM.format(preferences=escape(address)))

    async def _unsubscribe(self, request: web.Request) -> web.StreamResponse:
        """Take any POST: that of our form, RFC 8058's one-click, and those that get it wrong."""
        token, link = self._read("u", request)
        if link is None:
            return not_found()
        fact = self._fact(link, pb.ENGAGEMENT_KIND_UNSUBSCRIBED, "unsubscribe:", request)
        fact.machine = False  # the mail provider posts for the person who asked it to
        result = await self._record(token, fact)
        if isinstance(result, Refusal):
            if result.status == 401:
                return not_found()
            return later()
        if result.state == service_pb2.ENGAGEMENT_STATE_REJECTED:
            return not_found()
        return page(200, "Unsubscribed", "<p>You will get no more messages like this one.</p>")

    def _read(self, kind: LinkKind, request: web.Request) -> tuple[str, Link | None]:
        token = request.match_info["token"]
        return token, self._links.read(kind, token)

    def _fact(
        self, link: Link, kind: pb.EngagementKind.ValueType, prefix: str, request: web.Request
    ) -> pb.Engagement:
        fact = pb.Engagement(engagement_id=prefix + link.message_id, kind=kind)
        fact.message_id = link.message_id
        fact.occur_time.FromMicroseconds(self._now_us())
        if is_machine(request.headers):
            # An id of its own: the person who comes after the scanner is no repetition of it.
            fact.machine = True
            fact.engagement_id = f"machine:{fact.engagement_id}"
        return fact

    async def _record_patiently(self, token: str, fact: pb.Engagement) -> None:
        """Record, but let a person wait no longer than PATIENCE_S for it."""
        if len(self._recordings) >= RECORDINGS_MAX:
            log.warning("link.not_recorded", kind=_kind_name(fact), reason="OVERLOADED")
            return
        recording = asyncio.create_task(self._record(token, fact))
        self._recordings.add(recording)
        recording.add_done_callback(self._recordings.discard)
        await asyncio.wait((recording,), timeout=PATIENCE_S)

    async def _record(
        self, token: str, fact: pb.Engagement
    ) -> service_pb2.EngagementResult | Refusal:
        """Record one fact. The credential is the link itself: it says the workspace."""
        request = service_pb2.RecordEngagementRequest(engagements=[fact])
        metadata = (("authorization", f"Link {token}"),)
        try:
            response = await self._stub.RecordEngagement(
                request, timeout=RECORD_S, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            log.warning("link.not_recorded", kind=_kind_name(fact), reason=error.code().name)
            return refusal_of(error)
        result = response.results[0]
        if result.state == service_pb2.ENGAGEMENT_STATE_REJECTED:
            log.warning("link.not_recorded", kind=_kind_name(fact), reason=result.reason)
        return result


def _kind_name(fact: pb.Engagement) -> str:
    return pb.EngagementKind.Name(fact.kind).removeprefix("ENGAGEMENT_KIND_")
