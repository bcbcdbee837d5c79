"""The pages where a reviewer approves, denies or asks: /a, /d and /q, and /r for any of these.

The link is the credential, good for its own message and its own way. GET decides nothing, whatever
stands in its address: mail scanners fetch every link they see. The first decision counts; a page
says what was decided, also to whoever came too late.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import grpc
import structlog
from aiohttp import web

from upshot.v1 import admin_pb2, service_pb2
from upshotd.adapters.http import approval_form
from upshotd.adapters.http.answers import Metadata, RpcError, body_of, form_of, refusal_of
from upshotd.adapters.http.links import LinkReader
from upshotd.adapters.http.pages import later, not_found, page
from upshotd.domain.language import Link, LinkKind

if TYPE_CHECKING:
    from upshot.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: Longest that the server is waited for, in seconds.
CALL_S: Final = 10.0
#: Largest form: the longest text fits, each character of it percent-encoded.
FORM_BYTES_MAX: Final = 64 * 1024
_ASKED: Final = (
    "Your question is recorded: you get the answer by message. "
    "You can still decide by the links that you got."
)
#: Why what was sent does not count, by the reason of RecordEngagement; another is no approval.
_TOO_LATE: Final = {
    "ALREADY_DECIDED": "What you sent does not count: somebody was faster, or you have decided "
    "before.",
    "APPROVAL_ENDED": "What you sent does not count: it came too late.",
    "TOO_MANY_QUESTIONS": "Your question is not recorded: there were too many about this.",
}


class ApprovalPages:
    """The routes /a, /d, /q and /r. *stub* and *admin* are clients of our own server."""

    def __init__(
        self,
        stub: "UpshotServiceAsyncStub",
        admin: "AdminServiceAsyncStub",
        links: LinkReader,
        now_us: Callable[[], int],
    ) -> None:
        """*now_us* is the server's clock, in microseconds since 1970 UTC."""
        self._stub = stub
        self._admin = admin
        self._links = links
        self._now_us = now_us

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        for kind in approval_form.WAYS:
            place = f"/{{kind:{kind}}}/{{token}}"
            app.router.add_get(place, self._show)
            app.router.add_post(place, self._take)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        link = self._read(request)
        if link is None:
            return not_found()
        try:
            return await self._shown(request, link)
        except RpcError as error:
            return _failed(error)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        link = self._read(request)
        if link is None:
            return not_found()
        given = dict(form_of(request, await body_of(request, FORM_BYTES_MAX)))
        said = approval_form.said(link.kind, given)
        if isinstance(said, str):
            return page(400, "Not taken", f"<p>{said}</p>")
        try:
            result = await self._record(request, link, said)
            return await self._answered(request, link, said, result)
        except RpcError as error:
            return _failed(error)

    async def _answered(
        self,
        request: web.Request,
        link: Link,
        said: approval_form.Said,
        result: service_pb2.EngagementResult,
    ) -> web.StreamResponse:
        """Return what is so now, whoever made it so."""
        if result.state != service_pb2.ENGAGEMENT_STATE_REJECTED:
            note = _ASKED if said.way == approval_form.ASK else ""
            return await self._shown(request, link, note)
        log.info("approval.not_recorded", reason=result.reason)
        why = _TOO_LATE.get(result.reason)
        if why is None:
            return not_found()
        return await self._shown(request, link, why, status=409)

    async def _record(
        self, request: web.Request, link: Link, said: approval_form.Said
    ) -> service_pb2.EngagementResult:
        fact = said.engagement(link.message_id)
        fact.occur_time.FromMicroseconds(self._now_us())
        response = await self._stub.RecordEngagement(
            service_pb2.RecordEngagementRequest(engagements=[fact]),
            timeout=CALL_S,
            metadata=_by(request),
        )
        return response.results[0]

    async def _shown(
        self, request: web.Request, link: Link, note: str = "", status: int = 200
    ) -> web.Response:
        answer = await self._admin.GetApproval(
            admin_pb2.GetApprovalRequest(message_id=link.message_id),
            timeout=CALL_S,
            metadata=_by(request),
        )
        found = answer.approval
        told = f"<p><strong>{note}</strong></p>" if note else ""
        text = told + approval_form.content(found, link.kind)
        return page(status, approval_form.title(found), text)

    def _read(self, request: web.Request) -> Link | None:
        kind = cast(LinkKind, request.match_info["kind"])  # the route lets through no other
        return self._links.read(kind, request.match_info["token"])


def _by(request: web.Request) -> Metadata:
    """Return the credential: the link itself, which says the workspace."""
    return (("authorization", f"Link {request.match_info['token']}"),)


def _failed(error: RpcError) -> web.Response:
    refusal = refusal_of(error)
    log.warning("approval.failed", reason=error.code().name)
    if refusal.status == 401 or error.code() is grpc.StatusCode.NOT_FOUND:
        return not_found()
    return later()
