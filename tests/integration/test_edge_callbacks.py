"""Callbacks at the edge: who is believed, and what is recorded before they are answered."""

import io
import json
from base64 import b64encode
from typing import Any

import aiohttp
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from twilio.request_validator import RequestValidator

from tests.integration.edge_world import World, world
from tests.unit.test_sendgrid_events import KEY, OTHER, event, shown
from upshot.v1 import engagement_pb2 as pb
from upshot.v1 import service_pb2
from upshotd.adapters.http.callbacks import BODY_BYTES_MAX, Keys
from upshotd.adapters.http.sendgrid import SIGNATURE, TIMESTAMP, public_keys

KEYS = Keys(sendgrid={"mail": public_keys(shown(KEY))})


async def post(
    there: World, events: object, *, key: Any = KEY, provider: str = "mail"
) -> aiohttp.ClientResponse:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    signature = b64encode(key.sign(b"1767225600" + body, ECDSA(SHA256()))).decode()
    headers = {SIGNATURE: signature, TIMESTAMP: "1767225600"}
    path = f"/callbacks/sendgrid/{provider}"
    response = await there.http.post(there.url + path, data=io.BytesIO(body), headers=headers)
    await response.read()
    return response


def about(there: World, message_id: str, name: str = "open", workspace: str = "default") -> Any:
    token = there.links.callback_token(workspace, message_id)
    return event(name, upshot=token, sg_event_id=f"{name}-{message_id}")


async def test_events_are_recorded_by_the_message_they_name():
    async with world(KEYS) as there:
        events = [about(there, "msg-1"), event("processed"), about(there, "msg-2", "delivered")]
        response = await post(there, events)
        assert (response.status, await response.json()) == (200, {"success": True})
        assert [(e.message_id, e.kind, e.engagement_id) for e in there.server.engagements] == [
            ("msg-1", pb.ENGAGEMENT_KIND_OPENED, "sendgrid:open-msg-1"),
            ("msg-2", pb.ENGAGEMENT_KIND_DELIVERED, "sendgrid:delivered-msg-2"),
        ]
        (credential,) = there.server.credentials
        assert credential == "Link " + there.links.callback_token("default", "msg-1")


async def test_each_workspace_is_told_its_own():
    async with world(KEYS) as there:
        events = [
            about(there, "a1", workspace="a"),
            about(there, "b1", workspace="b"),
            about(there, "a2", workspace="a"),
        ]
        assert (await post(there, events)).status == 200
        assert [e.message_id for e in there.server.engagements] == ["a1", "a2", "b1"]
        assert len(there.server.credentials) == 2


@pytest.mark.parametrize("kind", ["o", "c", "u"])
async def test_what_has_no_token_for_callbacks_of_ours_is_nobody_s(kind: str):
    async with world(KEYS) as there:
        link = {
            "o": there.links.open_url("default", "msg-1"),
            "c": there.links.click_url("default", "msg-1", "https://a.example/"),
            "u": there.links.unsubscribe_url("default", "msg-1"),
        }[kind]
        token = link.rpartition("/")[2].removesuffix(".gif")
        events = [event("open"), event("open", upshot=token), about(there, "msg-1")]
        assert (await post(there, events)).status == 200
        assert [e.message_id for e in there.server.engagements] == ["msg-1"]


async def test_what_was_signed_by_another_is_refused():
    async with world(KEYS) as there:
        response = await post(there, [about(there, "msg-1")], key=OTHER)
        assert response.status == 403
        assert "signed" in (await response.json())["error"]
        unsigned = await there.http.post(there.url + "/callbacks/sendgrid/mail", data=b"[]")
        assert unsigned.status == 403
        assert there.server.engagements == []


async def test_a_provider_without_a_key_takes_nothing():
    async with world() as there:
        assert (await post(there, [about(there, "msg-1")])).status == 404
        assert there.server.engagements == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'"open"', b"\xff"])
async def test_a_body_that_is_no_array_is_refused(body: bytes):
    async with world(KEYS) as there:
        assert (await post(there, body)).status == 400
        assert there.server.engagements == []


async def test_a_body_that_is_too_large_is_refused_and_one_as_large_as_theirs_is_taken():
    async with world(KEYS) as there:
        events = [about(there, f"msg-{number}") for number in range(3_000)]
        assert 500 * 1024 < len(json.dumps(events)) < BODY_BYTES_MAX
        assert (await post(there, events)).status == 200
        assert len(there.server.engagements) == 3_000
        assert len(there.server.credentials) == 3, "a thousand in a call"
        assert (await post(there, b" " * (BODY_BYTES_MAX + 1))).status == 413


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
    ],
)
async def test_what_could_not_be_recorded_is_to_come_again(code: grpc.StatusCode, status: int):
    async with world(KEYS) as there:
        there.server.refusal = (code, 3)
        response = await post(there, [about(there, "msg-1")])
        assert response.status == status
        assert "own words" not in await response.text()
        there.server.refusal = None
        assert (await post(there, [about(there, "msg-1")])).status == 200


async def test_a_message_that_is_not_known_any_more_is_answered_all_the_same():
    async with world(KEYS) as there:
        there.server.engagement_state = service_pb2.ENGAGEMENT_STATE_REJECTED
        assert (await post(there, [about(there, "msg-1")])).status == 200


# -- Twilio --------------------------------------------------------------------------------------

TWILIO = Keys(twilio={"sms": ("first token", "second token")}, public_url="https://up.example")


async def tell(
    there: World, form: dict[str, str], *, token: str = "", secret: str = "first token", **more: Any
) -> aiohttp.ClientResponse:
    """Call as Twilio does: at the public address, which a proxy brings to the edge."""
    token = token or there.links.callback_token("default", "msg-1")
    path = f"/callbacks/{more.pop('api', 'twilio')}/{more.pop('provider', 'sms')}/{token}"
    signature = RequestValidator(secret).compute_signature(f"https://up.example{path}", form)
    headers = {"X-Twilio-Signature": signature, **more}
    response = await there.http.post(there.url + path, data=form, headers=headers)
    await response.read()
    return response


DELIVERED = {
    "MessageSid": "SM1",
    "MessageStatus": "delivered",
    "To": "+41 79",
    "Body": "é&=",
    "X": "",
}


@pytest.mark.parametrize("secret", ["first token", "second token"])
async def test_a_status_is_recorded_by_the_message_its_address_names(secret: str):
    async with world(TWILIO) as there:
        assert (await tell(there, DELIVERED, secret=secret)).status == 204
        (engagement,) = there.server.engagements
        assert (engagement.message_id, engagement.engagement_id, engagement.kind) == (
            "msg-1",
            "twilio:SM1:delivered",
            pb.ENGAGEMENT_KIND_DELIVERED,
        )
        assert there.server.credentials == [
            "Link " + there.links.callback_token("default", "msg-1")
        ]


async def test_a_status_that_twilio_did_not_sign_is_refused():
    async with world(TWILIO) as there:
        assert (await tell(there, DELIVERED, secret="guess")).status == 403
        assert (await tell(there, DELIVERED, provider="mail")).status == 404
        response = await tell(there, DELIVERED, **{"Content-Type": "application/json"})
        assert response.status == 403, "nothing of the body was looked at"
        assert there.server.engagements == []


async def test_a_status_about_a_message_that_is_not_ours_changes_nothing():
    async with world(TWILIO) as there:
        for token in ("x", there.links.unsubscribe_url("default", "msg-1").rpartition("/")[2]):
            assert (await tell(there, DELIVERED, token=token)).status == 204
        assert there.server.engagements == []


async def test_a_form_without_bound_or_sense_is_refused():
    async with world(TWILIO) as there:
        url = there.url + "/callbacks/twilio/sms/x"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        many = "&".join(f"a{n}=1" for n in range(300))
        for body in (many.encode(), b"a=\xff"):
            assert (await there.http.post(url, data=body, headers=form)).status == 400
        large = io.BytesIO(b"a" * (BODY_BYTES_MAX + 1))
        assert (await there.http.post(url, data=large, headers=form)).status == 413


# -- Twilio Notify -------------------------------------------------------------------------------

NOTIFIED = {
    "NotificationSid": "NT1",
    "AccountSid": "AC1",
    "ServiceSid": "IS1",
    "Count": "1",
    "SequenceId": "0",
    "IsFinal": "true",
    "DeliveryState": '{"type": "fcm", "address": "phone", "status": "SENT"}',
}


async def test_a_report_of_notify_is_recorded_by_the_message_its_address_names():
    async with world(TWILIO) as there:
        assert (await tell(there, NOTIFIED, api="twilio_notify")).status == 204
        failed = '{"address": "phone", "status": "FAILED", "error_code": 52119}'
        form = {**NOTIFIED, "NotificationSid": "NT2", "DeliveryState": failed}
        assert (await tell(there, form, api="twilio_notify")).status == 204
        assert [(e.message_id, e.kind) for e in there.server.engagements] == [
            ("msg-1", pb.ENGAGEMENT_KIND_ACCEPTED),
            ("msg-1", pb.ENGAGEMENT_KIND_BOUNCED),
        ]


async def test_a_report_that_twilio_did_not_sign_is_refused():
    async with world(TWILIO) as there:
        for more in ({"secret": "guess"}, {"provider": "mail"}):
            response = await tell(there, NOTIFIED, api="twilio_notify", **more)
            assert response.status in (403, 404)
        assert (await tell(there, NOTIFIED, api="twilio_notify", token="x")).status == 204
        assert there.server.engagements == []
