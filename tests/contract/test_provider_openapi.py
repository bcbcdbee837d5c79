"""Everything our adapters send is what the makers' own OpenAPI documents allow; Prism checks it."""

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.contract.http_worlds import (
    TWILIO_ACCOUNT,
)
from tests.contract.provider_worlds import (
    email_delivery,
    push_delivery,
    sms_delivery,
    wall_us,
)
from tests.contract.push_worlds import NOTIFY_SERVICE
from tests.prism import prism
from upshotd.adapters.providers.attachments import File
from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.sendgrid import SendGridProvider
from upshotd.adapters.providers.twilio_notify import TwilioNotifyProvider
from upshotd.application.provider import Provider
from upshotd.domain.message import Accepted, Attachment, Delivery

HOME = Home(wall_us, callback_token=lambda *ids: ".".join(ids), public_url="https://up.example")


@pytest.fixture(scope="module")
def sendgrid() -> Iterator[str]:
    with prism("sendgrid_mail_v3.json") as address:
        yield address


@pytest.fixture(scope="module")
def twilio() -> Iterator[str]:
    with prism("twilio_messages_v2010.json") as address:
        yield address


@pytest.fixture(scope="module")
def notify() -> Iterator[str]:
    with prism("twilio_notify_v1.json") as address:
        yield address


async def accepted(provider: Provider, delivery: Delivery) -> None:
    result = await provider.send(delivery)
    await provider.close()
    assert isinstance(result, Accepted), result


MAILS: list[tuple[dict[str, object], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"html": ""}),
    ({}, {"text": ""}),
    ({"from": "hello@example.org"}, {"reply_to": "us@example.org", "subject": "Grüße 🎉"}),
    ({"sandbox": True, "tracking": True}, {"headers": {"X-Stream": "news"}}),
    (
        {"categories": ["a", "b"], "unsubscribe_group": 7},
        {"unsubscribe_url": "https://up.example/u/token"},
    ),
]


@pytest.mark.parametrize(("options", "content"), MAILS)
async def test_mails_are_what_sendgrid_s_document_allows(
    sendgrid: str, options: dict[str, object], content: dict[str, Any]
) -> None:
    base = {"api_key": "SG.key", "from": "Upshot <hello@example.org>", "base_url": sendgrid}
    provider = build("sendgrid", "test", {**base, **options}, HOME)
    await accepted(provider, email_delivery(**content))


async def test_so_are_their_files(sendgrid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"api_key": "SG.key", "from": "hello@example.org", "base_url": sendgrid}
    provider = build("sendgrid", "test", options, HOME)
    assert isinstance(provider, SendGridProvider)

    async def fetch(_attachments: object) -> list[File]:
        return [File("invoice.pdf", "application", "pdf", b"%PDF" + bytes(range(256)))]

    monkeypatch.setattr(provider._files, "fetch", fetch)
    files = (Attachment("https://shop.example/invoice.pdf"),)
    await accepted(provider, email_delivery(attachments=files))


@pytest.mark.parametrize(
    "options",
    [
        {"from": "+15550009999"},
        {"from": "Upshot"},
        {"messaging_service": "MG" + "0" * 32, "validity_period": 600},
    ],
)
async def test_texts_are_what_twilio_s_document_allows(
    twilio: str, options: dict[str, object]
) -> None:
    base = {"account_sid": TWILIO_ACCOUNT, "auth_token": "token", "base_url": twilio}
    provider = build("twilio", "test", {**base, **options}, HOME)
    await accepted(provider, sms_delivery(body="Grüße & 你好 🎉"))


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({}, {}),
        ({"binding_type": "apn", "ttl": 0}, {"body": "", "recipient": "phone tablet"}),
        ({"api_key": "SK" + "0" * 32, "api_secret": "x", "ttl": 600}, {"title": "Grüße & 你好 🎉"}),
    ],
)
async def test_bindings_and_notifications_are_what_notify_s_document_allows(
    notify: str, options: dict[str, object], content: dict[str, Any]
) -> None:
    base = {"account_sid": TWILIO_ACCOUNT, "auth_token": "token", "service_sid": NOTIFY_SERVICE}
    provider = build("twilio_notify", "test", {**base, "base_url": notify, **options}, HOME)
    assert isinstance(provider, TwilioNotifyProvider)
    assert await provider.check() == ""
    await accepted(provider, push_delivery(**content))


async def test_the_mock_servers_refuse_what_the_documents_do_not_allow(
    sendgrid: str, twilio: str, notify: str
) -> None:
    mail = {"personalizations": [{"to": [{"emal": "a@b.example"}]}], "from": {}, "subject": "s"}
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer SG.key"}) as session:
        async with session.post(f"{sendgrid}/v3/mail/send", json=mail) as response:
            assert response.status == 400
    path = f"/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Messages.json"
    async with aiohttp.ClientSession(headers={"Authorization": "Basic YTpi"}) as session:
        for form in ({"Body": "no number"}, {"To": "+1555", "ValidityPeriod": "soon"}):
            async with session.post(twilio + path, data=form) as response:
                assert response.status == 422
        path = f"{notify}/v1/Services/{NOTIFY_SERVICE}"
        binding = {"Identity": "ana", "BindingType": "carrier", "Address": "x"}
        for what, form in (
            ("Bindings", {"Identity": "ana"}),
            ("Bindings", binding),
            ("Notifications", {"Identity": "ana", "Ttl": "soon"}),
        ):
            async with session.post(f"{path}/{what}", data=form) as response:
                assert response.status == 422
