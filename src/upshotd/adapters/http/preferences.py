"""The page where whoever got a message chooses what comes, and where: /p.

The link is the credential, good for the person whom the message was for. GET changes nothing.
"""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from aiohttp import web

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import outcome_pb2
from upshotd.adapters.http.answers import Metadata, RpcError, body_of, form_of, refusal_of
from upshotd.adapters.http.links import LinkReader
from upshotd.adapters.http.pages import PRIVATE, later, not_found, page

if TYPE_CHECKING:
    from upshot.v1.admin_pb2_grpc import AdminServiceAsyncStub

log = structlog.get_logger("upshot.http")

#: Longest that the server is waited for, in seconds.
CALL_S: Final = 10.0
#: Largest form.
FORM_BYTES_MAX: Final = 64 * 1024
#: What can be chosen by topic, and what it is called; other channels are left as they are.
CHANNELS: Final = {
    outcome_pb2.CHANNEL_EMAIL: "e-mail",
    outcome_pb2.CHANNEL_SMS: "text message",
    outcome_pb2.CHANNEL_PUSH: "push",
}
_SAVED = "<p><strong>Saved.</strong></p>"
_NOTHING = "<p>There is nothing to choose here.</p>"


class PreferencePage:
    """The route /p. *admin* is a client of our own server."""

    def __init__(self, admin: "AdminServiceAsyncStub", links: LinkReader) -> None:
        self._admin = admin
        self._links = links

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get("/p/{token}", self._show)
        app.router.add_post("/p/{token}", self._choose)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        link = self._links.read("p", token)
        if link is None:
            return not_found()
        try:
            found = await self._preferences(link.message_id, token)
        except RpcError as error:
            return _failed(error)
        said = _SAVED if "saved" in request.query else ""
        return page(200, "What you get", said + _form(found))

    async def _choose(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        link = self._links.read("p", token)
        if link is None:
            return not_found()
        given = dict(form_of(request, await body_of(request, FORM_BYTES_MAX)))
        try:
            for found in await self._preferences(link.message_id, token):
                choice = _choice(found, given)
                if choice is not None:
                    choice.message_id = link.message_id
                    await self._admin.SetPreference(choice, timeout=CALL_S, metadata=_by(token))
        except RpcError as error:
            return _failed(error)
        # So that a reload shows what holds, and chooses nothing again.
        return web.Response(status=303, headers={**PRIVATE, "Location": f"{request.path}?saved"})

    async def _preferences(self, message_id: str, token: str) -> list[pb.Preference]:
        request = pb.GetPreferencesRequest(message_id=message_id)
        answer = await self._admin.GetPreferences(request, timeout=CALL_S, metadata=_by(token))
        return list(answer.preferences)


def _by(token: str) -> Metadata:
    """Return the credential: the link itself, which says the workspace."""
    return (("authorization", f"Link {token}"),)


def _failed(error: RpcError) -> web.Response:
    refusal = refusal_of(error)
    log.warning("preferences.failed", reason=error.code().name)
    if refusal.status == 401 or error.code() is grpc.StatusCode.NOT_FOUND:
        return not_found()
    return later()


# -- the form ----------------------------------------------------------------------------------


def _form(found: list[pb.Preference]) -> str:
    if not found:
        return _NOTHING
    fields = "".join(map(_fieldset, found))
    return f'<form method="post">{fields}<button>Save</button></form>'


def _fieldset(preference: pb.Preference) -> str:
    topic = preference.topic
    name = escape(topic.topic_id)
    about = f"<p>{escape(topic.description)}</p>" if topic.description else ""
    if topic.default == pb.TOPIC_DEFAULT_REQUIRED:
        # So that a form without boxes that are ticked differs from no form at all.
        inputs = f'<p>You always get these.<input type="hidden" name="{name}" value="in"></p>'
    else:
        wanted = preference.status == pb.PREFERENCE_STATUS_OPTED_IN
        yes = _input("radio", name, "in", "yes", checked=wanted)
        inputs = f"<p>{yes}{_input('radio', name, 'out', 'no', checked=not wanted)}</p>"
    off = set(preference.channels_off)
    by = "".join(
        _input("checkbox", f"{name}/{channel}", "on", word, checked=channel not in off)
        for channel, word in CHANNELS.items()
    )
    legend = escape(topic.display_name or topic.topic_id)
    return f"<fieldset><legend>{legend}</legend>{about}{inputs}<p>By {by}</p></fieldset>"


def _input(kind: str, name: str, value: str, word: str, *, checked: bool) -> str:
    mark = " checked" if checked else ""
    return f'<label><input type="{kind}" name="{name}" value="{value}"{mark}> {word}</label>'


def _choice(found: pb.Preference, given: Mapping[str, object]) -> pb.SetPreferenceRequest | None:
    """Return what the form changes of a preference; None where it changes nothing."""
    topic_id = found.topic.topic_id
    request = pb.SetPreferenceRequest(topic_id=topic_id)
    said = given.get(topic_id)
    status = {"in": pb.PREFERENCE_STATUS_OPTED_IN, "out": pb.PREFERENCE_STATUS_OPTED_OUT}.get(
        said if isinstance(said, str) else ""
    )
    changed = False
    if status is not None and status != found.status:
        request.status, changed = status, True
    if status is None:
        return None  # the form did not have it: a topic that was defined a moment ago
    before = set(found.channels_off)
    off = {channel for channel in CHANNELS if f"{topic_id}/{channel}" not in given}
    off |= before - CHANNELS.keys()
    if off != before:
        request.channels.off.extend(sorted(off))
        request.channels.SetInParent()
        changed = True
    return request if changed else None
