"""What only a webhook can get wrong: signatures, statuses, and answers that are traps."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.contract.http_worlds import (
    NEXT_SECRET,
    SECRET,
    WebhookWorld,
)
from tests.contract.provider_worlds import (
    LITTLE_PATIENCE,
    Mood,
    email_delivery,
    sms_delivery,
    wall_us,
)
from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.posting import retry_after_us
from upshotd.adapters.providers.webhook import WebhookSettings
from upshotd.domain.message import (
    CHANNELS,
    Accepted,
    Attachment,
    Chat,
    Content,
    Deferred,
    Inbox,
    Push,
    Refused,
    Unknown,
)

HOUR_US = 3_600_000_000


@pytest.fixture
async def world() -> AsyncIterator[WebhookWorld]:
    world = WebhookWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def test_the_body_says_all_about_the_message(world: WebhookWorld) -> None:
    await world.provider.send(sms_delivery("msg-9", "Grüezi"))

    event = json.loads(world.ledger[0].raw)
    assert event["type"] == "message.send"
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is UTC
    assert event["data"] == {
        "message_id": "msg-9",
        "workspace_id": "default",
        "channel": "sms",
        "recipient": "+41790000000",
        "content": {"body": "Grüezi"},
        "user_id": "ana",
        "workflow_id": "welcome",
        "run_id": "run-1",
        "step_id": "mail",
        "attempt": 1,
        "possible_duplicate": False,
    }


async def test_an_email_travels_with_all_its_parts(world: WebhookWorld) -> None:
    headers = {"X-Stream": "news"}
    await world.provider.send(
        email_delivery(
            unsubscribe_url="https://e.example/u", reply_to="us@e.example", headers=headers
        )
    )

    assert json.loads(world.ledger[0].raw)["data"]["content"] == {
        "subject": "Hello Ana",
        "html": "<p>Hi</p>",
        "text": "Hi Ana",
        "unsubscribe_url": "https://e.example/u",
        "reply_to": "us@e.example",
        "headers": headers,
    }


@pytest.mark.parametrize("content", [Push("Hi", data={"to": "/a"}), Chat("Hi"), Inbox("Hi")])
async def test_every_kind_of_content_travels(world: WebhookWorld, content: Content) -> None:
    delivery = sms_delivery()._replace(channel=CHANNELS[type(content)], content=content)
    assert isinstance(await world.provider.send(delivery), Accepted)
    data = json.loads(world.ledger[0].raw)["data"]
    assert data["channel"] == CHANNELS[type(content)].name.lower()
    assert data["content"] == content._asdict()


async def test_during_a_rotation_either_secret_verifies(world: WebhookWorld) -> None:
    provider = world.build(secret=f"{NEXT_SECRET} {SECRET}")
    first = await provider.send(sms_delivery("msg-1"))
    world.secret = NEXT_SECRET
    second = await provider.send(sms_delivery("msg-2"))
    await provider.close()

    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)


async def test_the_receiver_would_notice_another_secret(world: WebhookWorld) -> None:
    world.secret = NEXT_SECRET

    # The receiver's library raises, so that its server answers 500.
    assert isinstance(await world.provider.send(sms_delivery()), Deferred)
    assert world.ledger == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"id": "a-1"}, "a-1"),
        ({"message_id": "b-2"}, "b-2"),
        ({"id": 7, "message_id": "b-2"}, "b-2"),
        ({"id": "x" * 201}, ""),
        ({"id": "a\nb"}, ""),
        ({"id": "a-1", "rest": "x" * 70_000}, ""),
        ("[]", ""),
        ("no json", ""),
        ("", ""),
    ],
)
async def test_the_receivers_id_is_taken_where_it_is_a_short_text(
    world: WebhookWorld, answer: dict[str, object] | str, expected: str
) -> None:
    world.answer = answer

    assert await world.provider.send(sms_delivery()) == Accepted(expected)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Accepted("theirs-1")),
        (202, Accepted("theirs-1")),
        (302, Refused("PROVIDER_ERROR", "HTTP 302")),
        (400, Refused("PROVIDER_ERROR", "HTTP 400")),
        (401, Deferred("configuration: HTTP 401")),
        (403, Deferred("configuration: HTTP 403")),
        (404, Refused("PROVIDER_ERROR", "HTTP 404")),
        (408, Deferred("HTTP 408")),
        (410, Refused("PROVIDER_ERROR", "HTTP 410")),
        (422, Refused("PROVIDER_ERROR", "HTTP 422")),
        (429, Deferred("HTTP 429")),
        (500, Deferred("HTTP 500")),
        (502, Deferred("HTTP 502")),
        (503, Deferred("HTTP 503")),
        (504, Deferred("HTTP 504")),
    ],
)
async def test_what_a_status_means(world: WebhookWorld, status: int, expected: object) -> None:
    world.status = status

    assert await world.provider.send(sms_delivery()) == expected


async def test_a_redirect_is_not_followed(world: WebhookWorld) -> None:
    world.status = 307
    world.answer_headers = {"Location": f"http://127.0.0.1:{world.port}/in"}

    assert isinstance(await world.provider.send(sms_delivery()), Refused)


async def test_the_receiver_may_ask_for_patience(world: WebhookWorld) -> None:
    world.status = 429
    world.answer_headers = {"Retry-After": "17"}

    result = await world.provider.send(sms_delivery())

    assert result == Deferred("HTTP 429", retry_after_us=17_000_000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", 0),
        ("0", 0),
        (" 17 ", 17_000_000),
        ("3601", HOUR_US),
        ("9" * 5_000, HOUR_US),
        ("-5", 0),
        ("1.5", 0),
        ("²", 0),
        ("soon", 0),
        ("Fri, 99 Foo 2026 00:00:00 GMT", 0),
    ],
)
def test_retry_after_in_seconds_is_bounded(value: str, expected: int) -> None:
    assert retry_after_us(value, 0) == expected


@pytest.mark.parametrize(("seconds", "expected"), [(90, 90_000_000), (-90, 0), (90_000, HOUR_US)])
def test_retry_after_as_a_date_is_bounded(seconds: int, expected: int) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    now_us = int(now.timestamp()) * 1_000_000
    moment = now + timedelta(seconds=seconds)

    assert retry_after_us(format_datetime(moment, usegmt=True), now_us) == expected
    assert retry_after_us(moment.strftime("%a, %d %b %Y %H:%M:%S -0000"), now_us) == expected


async def test_extra_headers_travel_and_our_own_stay(world: WebhookWorld) -> None:
    provider = world.build(headers={"X-Tenant": "seven"})
    await provider.send(sms_delivery("msg-3"))
    await provider.close()

    headers = world.ledger[0].headers
    assert headers["X-Tenant"] == "seven"
    assert headers["webhook-id"] == "msg-3"
    assert headers["Content-Type" if "Content-Type" in headers else "content-type"] == (
        "application/json"
    )


async def test_the_environments_proxy_is_not_asked(
    world: WebhookWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert isinstance(await world.provider.send(sms_delivery()), Accepted)


async def test_a_kept_connection_that_is_cut_with_the_message_on_it_is_unknown(
    world: WebhookWorld,
) -> None:
    await world.provider.send(sms_delivery("msg-1"))
    world.mood = Mood.DROPS

    assert isinstance(await world.provider.send(sms_delivery("msg-2")), Unknown)
    assert len(world.ledger) == 2


@pytest.mark.parametrize("end", ["cut", "hang"])
async def test_taken_is_taken_even_if_the_rest_of_the_answer_never_comes(end: str) -> None:
    release = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{")
        if end == "hang":
            await release.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"url": f"http://127.0.0.1:{port}/", "secret": SECRET, "timeout": LITTLE_PATIENCE}
    provider = build("webhook", "test", options, Home(wall_us))

    assert await provider.send(sms_delivery()) == Accepted("")
    release.set()
    await provider.close()
    server.close()
    await server.wait_closed()


def test_keys_and_headers_are_not_shown() -> None:
    settings = WebhookSettings("http://h/", (b"hush",), headers={"Authorization": "hush"})

    assert "hush" not in repr(settings)


async def test_attachments_travel_as_addresses(world: WebhookWorld) -> None:
    files = (Attachment("https://files.example/i.pdf", "Invoice.pdf"),)
    await world.provider.send(email_delivery(attachments=files))
    content = json.loads(world.ledger[0].raw)["data"]["content"]
    url = "https://files.example/i.pdf"
    assert content["attachments"] == [{"url": url, "filename": "Invoice.pdf"}]
