"""What providers tell later: their callbacks, checked and recorded as engagements.

Nothing is believed that its provider did not sign. A callback is answered after its facts are
committed; what cannot be taken now is answered 503 or 429, and comes again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
import orjson
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from upshot.v1 import engagement_pb2 as pb
from upshot.v1 import service_pb2
from upshotd.adapters.http import sendgrid, twilio, twilio_notify
from upshotd.adapters.http.answers import Refusal, body_of, form_of, json_response, refusal_of
from upshotd.adapters.http.facts import Fact
from upshotd.adapters.http.links import LinkReader
from upshotd.application.keys import WORKSPACE

if TYPE_CHECKING:
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: Largest callback: SendGrid sends what has gathered at 768 KiB.
BODY_BYTES_MAX: Final = 1024 * 1024
#: Largest form: the longest text message takes 20 KiB in it. Reading one is work, and comes before
#: it is known whose it is.
FORM_BYTES_MAX: Final = 32 * 1024
#: Longest that a recording takes, in seconds.
RECORD_S: Final = 10.0
#: TwiML by which nothing is answered.
_SILENCE: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
#: Engagements of one call.
_PER_CALL: Final = 1000


@dataclass(frozen=True, slots=True)
class Keys:
    """By what callbacks are known to be a provider's own, by the provider's name."""

    sendgrid: Mapping[str, tuple[EllipticCurvePublicKey, ...]] = field(default_factory=dict)
    #: Tokens of the account.
    twilio: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    #: Secret of Segment's Webhooks destination; empty where it has none.
    segment: str = field(default="", repr=False)
    #: What our addresses begin with, as providers call them.
    public_url: str = ""


def no_keys() -> Keys:
    """Return those of a server to which no provider tells anything."""
    return Keys()


class Callbacks:
    """The routes below /callbacks. *stub* is a client of our own server."""

    def __init__(
        self, stub: "UpshotServiceAsyncStub", links: LinkReader, keys: Callable[[], Keys]
    ) -> None:
        self._stub = stub
        self._links = links
        self._keys = keys

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_post("/callbacks/sendgrid/{provider}", self._sendgrid)
        app.router.add_post("/callbacks/twilio/{provider}/{token}", self._twilio)
        app.router.add_post("/callbacks/twilio_notify/{provider}/{token}", self._twilio_notify)
        inbound = f"inbound/{{workspace:{WORKSPACE.pattern}}}"
        app.router.add_post(f"/callbacks/twilio/{{provider}}/{inbound}", self._inbound)

    async def _sendgrid(self, request: web.Request) -> web.StreamResponse:
        keys = self._keys().sendgrid.get(request.match_info["provider"])
        if keys is None:
            raise Refusal(404, "no provider of this name takes events")
        body = await body_of(request, BODY_BYTES_MAX)
        if not sendgrid.is_signed(keys, request.headers, body):
            raise Refusal(403, "these events were not signed by SendGrid")
        try:
            events = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Refusal(400, "the body is no JSON") from None
        if not isinstance(events, list):
            raise Refusal(400, "the body is no array of events")
        await self._record(sendgrid.facts(events))
        return json_response({"success": True})

    async def _twilio(self, request: web.Request) -> web.StreamResponse:
        form = await self._signed_by_twilio(request)
        await self._record(twilio.facts(request.match_info["token"], dict(form)))
        return web.Response(status=204)

    async def _twilio_notify(self, request: web.Request) -> web.StreamResponse:
        form = await self._signed_by_twilio(request)
        await self._record(twilio_notify.facts(request.match_info["token"], form))
        return web.Response(status=204)

    async def _inbound(self, request: web.Request) -> web.StreamResponse:
        """Take a text message that somebody sent to a number of ours; say nothing to it."""
        engagement = twilio.answer(dict(await self._signed_by_twilio(request)))
        if engagement is None:
            log.info("callback.no_answer")
        else:
            # The whole address is signed: whoever holds the account has chosen the workspace.
            token = self._links.callback_token(request.match_info["workspace"], "")
            await self._call(token, [engagement])
        return web.Response(body=_SILENCE, content_type="text/xml")

    async def _signed_by_twilio(self, request: web.Request) -> twilio.Form:
        """Return the form that Twilio posted; refuses what it did not sign."""
        keys = self._keys()
        tokens = keys.twilio.get(request.match_info["provider"])
        if tokens is None:
            raise Refusal(404, "no provider of this name tells anything")
        body = await body_of(request, FORM_BYTES_MAX)
        form = form_of(request, body)
        # As Twilio called it: a proxy in front of us has changed the rest of the address.
        url = keys.public_url + request.raw_path
        signature = request.headers.get(twilio.SIGNATURE, "")
        if not twilio.is_signed(tokens, url, form, body, signature):
            raise Refusal(403, "this was not signed by Twilio")
        return form

    async def _record(self, facts: Iterable[Fact]) -> None:
        """Record *facts*, those of each workspace in their order."""
        tokens: dict[str, str] = {}
        found: defaultdict[str, list[pb.Engagement]] = defaultdict(list)
        strange = 0
        for token, engagement in facts:
            link = self._links.read("k", token)
            if link is None:  # another installation shares the provider's account
                strange += 1
                continue
            engagement.message_id = link.message_id
            tokens.setdefault(link.workspace_id, token)
            found[link.workspace_id].append(engagement)
        if strange:
            log.info("callback.not_ours", facts=strange)
        for workspace_id, engagements in found.items():
            for at in range(0, len(engagements), _PER_CALL):
                await self._call(tokens[workspace_id], engagements[at : at + _PER_CALL])

    async def _call(self, token: str, engagements: list[pb.Engagement]) -> None:
        """Record by the credential of one of the messages: it says the workspace."""
        request = service_pb2.RecordEngagementRequest(engagements=engagements)
        metadata = (("authorization", f"Link {token}"),)
        try:
            response = await self._stub.RecordEngagement(
                request, timeout=RECORD_S, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            log.warning("callback.not_recorded", reason=error.code().name)
            raise refusal_of(error) from None
        reasons = [
            result.reason
            for result in response.results
            if result.state == service_pb2.ENGAGEMENT_STATE_REJECTED
        ]
        if reasons:
            log.warning("callback.rejected", facts=len(reasons), reason=reasons[0])
