"""What people text back, told by Twilio at the edge: believed, recorded, and answered with silence.

Twilio's own library signs; in the last story a whole server sends by a Twilio of ours.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import aiohttp
import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from tests.contract.http_worlds import TWILIO_ACCOUNT, TwilioWorld
from tests.integration.edge_world import World, world
from tests.wire import DAY_S, HOUR_S, Wire, identify, pause, running, sms, track, workflow
from upshot.v1 import admin_pb2, service_pb2
from upshotd.adapters.http.callbacks import Keys

KEYS = Keys(twilio={"sms": ("first token", "second token")}, public_url="https://up.example")
#: As it comes, with some of the fields of one that nobody looks at.
ANSWER = {
    "ToCountry": "US",
    "SmsMessageSid": "SM1",
    "NumMedia": "0",
    "FromZip": "",
    "SmsSid": "SM1",
    "SmsStatus": "received",
    "Body": "Yes, gladly & twice: 1+1=2 é",
    "To": "+15550009999",
    "MessageSid": "SM1",
    "AccountSid": TWILIO_ACCOUNT,
    "From": "+15550001",
    "ApiVersion": "2010-04-01",
}
Pairs = list[tuple[str, str]]


async def text(
    there: World,
    form: dict[str, str] | Pairs = ANSWER,
    *,
    secret: str = "first token",
    path: str = "/callbacks/twilio/sms/inbound/default",
    signed: str = "",
    base: str = "https://up.example",
) -> aiohttp.ClientResponse:
    """Call as Twilio does when a message comes in; *signed* is the path it says it has called."""
    pairs = list(form.items()) if isinstance(form, dict) else form
    called = base + (signed or path)
    signature = RequestValidator(secret).compute_signature(called, MultiDict(pairs))
    headers = {
        "X-Twilio-Signature": signature,
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
    }
    response = await there.http.post(there.url + path, data=urlencode(pairs), headers=headers)
    await response.read()
    return response


async def test_an_answer_is_recorded_by_the_number_it_came_from_and_nothing_is_said() -> None:
    async with world(KEYS) as there:
        response = await text(there)
        assert (response.status, response.content_type) == (200, "text/xml")
        said = ElementTree.fromstring(await response.read())
        assert (said.tag, len(said), said.text) == ("Response", 0, None)
        (engagement,) = there.server.engagements
        assert MessageToDict(engagement) == {
            "engagementId": "twilio:SM1:reply",
            "recipient": {"channel": "CHANNEL_SMS", "address": "+15550001"},
            "kind": "ENGAGEMENT_KIND_REPLIED",
            "data": {"body": ANSWER["Body"]},
        }


async def test_the_address_says_the_workspace() -> None:
    async with world(KEYS) as there:
        await text(there, path="/callbacks/twilio/sms/inbound/acme-2")
        (credential,) = there.server.credentials
        assert credential is not None
        link = there.links.read_any(credential.removeprefix("Link "))
        assert link is not None
        assert link.workspace_id == "acme-2"


async def test_what_twilio_has_understood_and_pictures_come_along() -> None:
    urls = [f"https://api.twilio.example/media/{n}" for n in range(2)]
    media = {f"MediaUrl{n}": url for n, url in enumerate(urls)}
    async with world(KEYS) as there:
        await text(there, {**ANSWER, "Body": "arrêt", "OptOutType": "STOP"})
        await text(there, {**ANSWER, "Body": "", "NumMedia": "2", **media})
        first, second = (MessageToDict(e)["data"] for e in there.server.engagements)
        assert first == {"body": "arrêt", "opt_out_type": "STOP"}
        assert second == {"body": "", "media_urls": urls}


@pytest.mark.parametrize("base", ["https://up.example", "https://up.example:443"])
@pytest.mark.parametrize("secret", ["first token", "second token"])
async def test_with_the_port_and_without_by_either_token(base: str, secret: str) -> None:
    async with world(KEYS) as there:
        assert (await text(there, base=base, secret=secret)).status == 200


async def test_parameters_that_come_several_times_are_signed_all() -> None:
    async with world(KEYS) as there:
        pairs = [*ANSWER.items(), ("Tag", "b"), ("Tag", "a"), ("Tag", "b")]
        assert (await text(there, pairs)).status == 200
        assert len(there.server.engagements) == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": "guess"},
        {"path": "/callbacks/twilio/sms/inbound/acme", "signed": "/callbacks/twilio/sms/inbound/a"},
        {"base": "https://elsewhere.example"},
        {"base": "http://up.example"},
        {"signed": "/callbacks/twilio/sms/token"},
    ],
)
async def test_what_twilio_did_not_sign_is_refused(forged: dict[str, Any]) -> None:
    async with world(KEYS) as there:
        assert (await text(there, **forged)).status == 403
        assert there.server.engagements == []


async def test_an_address_that_is_none_takes_nothing() -> None:
    async with world(KEYS) as there:
        for path in (
            "mail/inbound/default",
            "sms/inbound/",
            "sms/inbound/Acme",
            "sms/inbound/a%0Ab",
            "sms/inbound/a/b",
        ):
            assert (await text(there, path=f"/callbacks/twilio/{path}")).status == 404
        asked = await there.get("/callbacks/twilio/sms/inbound/default")
        assert asked.status == 405
        assert there.server.engagements == []


@pytest.mark.parametrize(
    "other",
    [
        {"From": "whatsapp:+15550001"},
        {"From": "32665"},
        {"From": "Bank"},
        {"From": ""},
        {"MessageSid": ""},
        {"MessageSid": "S" * 101},
    ],
)
async def test_what_is_no_answer_to_a_text_message_is_passed_over(other: dict[str, str]) -> None:
    async with world(KEYS) as there:
        assert (await text(there, {**ANSWER, **other})).status == 200
        status = {"MessageSid": "SM1", "MessageStatus": "sent", "From": "+15550009999"}
        assert (await text(there, status)).status == 200, "a status callback that came astray"
        assert there.server.engagements == []


async def test_an_answer_by_rcs_is_one_of_the_same_number() -> None:
    async with world(KEYS) as there:
        await text(there, {**ANSWER, "From": "rcs:+15550001"})
        assert there.server.engagements[0].recipient.address == "+15550001"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
    ],
)
async def test_what_could_not_be_recorded_may_come_again(
    code: grpc.StatusCode, status: int
) -> None:
    async with world(KEYS) as there:
        there.server.refusal = (code, 3)
        response = await text(there)
        assert response.status == status
        assert "own words" not in await response.text()


async def test_words_to_nobody_are_answered_all_the_same_and_stand_in_no_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with world(KEYS) as there:
        there.server.engagement_state = service_pb2.ENGAGEMENT_STATE_REJECTED
        assert (await text(there, {**ANSWER, "Body": "a secret"})).status == 200
    said = "".join(capsys.readouterr())
    assert "a secret" not in said
    assert "5550001" not in said


# -- a whole server ------------------------------------------------------------------------------

TOML = """
public_url = "https://up.example"
[providers.texts]
kind = "twilio"
account_sid = "{account}"
auth_token = "token"
from = "+15550009999"
base_url = "http://127.0.0.1:{port}"
[channels]
sms = "texts"
"""
PHONE = "+15550001234"
REPLIED = {"engagement": {"step_id": "text", "kinds": ["ENGAGEMENT_KIND_REPLIED"]}}
ASK = {
    "step_id": "answer",
    "wait": {**REPLIED, "timeout": f"{DAY_S}s", "on_match": [sms("thanks", "Thanks!")]},
}


async def texted(wire: Wire, sid: str, body: str) -> None:
    """Let somebody text, and Twilio tell of it."""
    path = "/callbacks/twilio/texts/inbound/default"
    form = {**ANSWER, "MessageSid": sid, "From": PHONE, "Body": body}
    signature = RequestValidator("token").compute_signature(f"https://up.example{path}", form)
    url, headers = f"http://{wire.app.http_address}{path}", {"X-Twilio-Signature": signature}
    async with aiohttp.ClientSession() as http, http.post(url, data=form, headers=headers) as told:
        assert told.status == 200
    await wire.advance()


async def test_from_a_text_message_to_its_answer_to_a_stop_and_back(tmp_path: Path) -> None:
    there = TwilioWorld()
    await there.start()
    toml = TOML.format(account=TWILIO_ACCOUNT, port=there.port)
    async with running(tmp_path / "upshot.db", toml) as wire:
        always = {"mode": "REENTRY_MODE_ALWAYS"}
        await wire.define(workflow("nudge", "Nudge", sms(), ASK, pause(), reentry=always))
        await wire.ingest(identify("i", phone=PHONE), track("e1", "Nudge"))
        await wire.advance()
        await texted(wire, "SM1", "yes please")
        assert [line.text for line in there.ledger] == ["Still there?", "Thanks!"]

        for _ in range(2):  # told again, it counts once
            await texted(wire, "SM2", "Stop.")
        await wire.ingest(track("e2", "Nudge"))
        await wire.advance()
        assert len(there.ledger) == 2
        listed = await wire.admin.ListSuppressions(admin_pb2.ListSuppressionsRequest())
        assert {entry.suppression.reason for entry in listed.entries} == {"STOP"}

        await texted(wire, "SM3", "START")
        await wire.ingest(track("e3", "Nudge"))
        await wire.advance(HOUR_S)
        assert len(there.ledger) == 3
        told = [message for message in await wire.messages() if "replied" in message.facts]
        assert len(told) == 2, "the nudge, and the thanks that it was answered with"
        states = {message.state for message in await wire.messages()}
        assert admin_pb2.MESSAGE_STATE_SUPPRESSED in states
    await there.go_down()
