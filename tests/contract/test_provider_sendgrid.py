"""What only SendGrid can get wrong: its fields, its errors, and its ways to say wait."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.http_worlds import (
    SendGridWorld,
)
from tests.contract.provider_worlds import (
    email_delivery,
    wall_us,
)
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown


@pytest.fixture
async def world() -> AsyncIterator[SendGridWorld]:
    world = SendGridWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def sent(world: SendGridWorld, options: dict[str, object], **content: Any) -> dict[str, Any]:
    provider = world.build(**options)
    result = await provider.send(email_delivery(**content))
    await provider.close()
    assert isinstance(result, Accepted), result
    mail: dict[str, Any] = json.loads(world.ledger[-1].raw)
    return mail


async def test_a_whole_mail(world: SendGridWorld) -> None:
    mail = await sent(
        world,
        {},
        unsubscribe_url="https://e.example/u/1",
        reply_to="us@e.example",
        headers={"X-Stream": "news"},
    )
    off = {"enable": False}
    assert mail == {
        "personalizations": [
            {"to": [{"email": "ana@example.com"}], "custom_args": {"upshot": "default.msg-1"}}
        ],
        "from": {"email": "hello@example.org", "name": "Upshot Ärger"},
        "reply_to": {"email": "us@e.example"},
        "subject": "Hello Ana",
        "content": [
            {"type": "text/plain", "value": "Hi Ana"},
            {"type": "text/html", "value": "<p>Hi</p>"},
        ],
        "headers": {
            "X-Upshot-Message-Id": "msg-1",
            "List-Unsubscribe": "<https://e.example/u/1>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Stream": "news",
        },
        "categories": ["welcome"],
        "tracking_settings": {
            "click_tracking": {**off, "enable_text": False},
            "open_tracking": off,
        },
    }


async def test_what_the_settings_add(world: SendGridWorld) -> None:
    options = {"categories": ["shop", "welcome"], "unsubscribe_group": 7, "tracking": True}
    mail = await sent(world, {**options, "from": "hello@example.org"})
    assert mail["categories"] == ["welcome", "shop"]
    assert mail["asm"] == {"group_id": 7}
    assert mail["from"] == {"email": "hello@example.org"}
    assert mail["tracking_settings"]["open_tracking"] == {"enable": True}


async def test_the_sandbox_delivers_to_nobody_and_is_accepted(world: SendGridWorld) -> None:
    mail = await sent(world, {"sandbox": True})
    assert mail["mail_settings"] == {"sandbox_mode": {"enable": True}}


async def test_the_id_is_that_of_the_answer(world: SendGridWorld) -> None:
    assert await world.provider.send(email_delivery()) == Accepted("sg-1")


INVALID = ("Does not contain a valid address.", "personalizations.0.to.0.email")


@pytest.mark.parametrize(
    ("status", "errors", "expected"),
    [
        (400, (INVALID,), Refused("INVALID_ADDRESS", f"HTTP 400: {INVALID[0]}")),
        (400, (("no subject", "subject"),), Refused("PROVIDER_ERROR", "HTTP 400: no subject")),
        (413, (), Refused("PROVIDER_ERROR", "HTTP 413")),
        (401, (("bad key", None),), Deferred("configuration: HTTP 401: bad key")),
        (403, (("no scope", None),), Deferred("configuration: HTTP 403: no scope")),
        (404, (), Deferred("configuration: HTTP 404")),
        (405, (), Deferred("configuration: HTTP 405")),
        (500, (), Unknown("HTTP 500")),
        (503, (), Unknown("HTTP 503")),
        (302, (), Unknown("HTTP 302")),
    ],
)
async def test_every_documented_error_takes_its_path(
    world: SendGridWorld,
    status: int,
    errors: tuple[tuple[str, str | None], ...],
    expected: SendResult,
) -> None:
    world.status, world.errors = status, errors
    assert await world.provider.send(email_delivery()) == expected


async def test_too_many_requests_move_the_time(world: SendGridWorld) -> None:
    world.status, world.errors = 429, ()
    world.answer_headers = {"Retry-After": "17"}
    assert await world.provider.send(email_delivery()) == Deferred("HTTP 429", 17_000_000)

    world.answer_headers = {"X-RateLimit-Reset": str(wall_us() // 1_000_000 + 30)}
    result = await world.provider.send(email_delivery())
    assert isinstance(result, Deferred)
    assert 25_000_000 < result.retry_after_us <= 30_000_000

    world.answer_headers = {"X-RateLimit-Reset": "soon"}
    assert await world.provider.send(email_delivery()) == Deferred("HTTP 429", 0)


@pytest.mark.parametrize("header", ["Bcc", "to", "Content-Type", "x-sg-eid"])
async def test_a_header_that_sendgrid_sets_itself_is_refused(
    world: SendGridWorld, header: str
) -> None:
    result = await world.provider.send(email_delivery(headers={header: "x@y.example"}))
    assert isinstance(result, Refused)
    assert header in result.detail
    assert world.ledger == []


async def test_an_answer_that_is_no_json_changes_nothing(world: SendGridWorld) -> None:
    world.status = 400
    for answer in ('{"errors": 7}', '{"errors": ["a", 1]}', "[]", "<html>"):
        world.answer_text = answer
        assert await world.provider.send(email_delivery()) == Refused("PROVIDER_ERROR", "HTTP 400")


async def test_a_mail_of_two_megabytes_goes_out_whole(world: SendGridWorld) -> None:
    html = "<p>" + "x" * 2_000_000
    mail = await sent(world, {}, html=html)
    assert mail["content"][1]["value"] == html
