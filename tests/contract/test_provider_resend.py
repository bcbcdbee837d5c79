"""Resend: a key for each message, and what each of its errors means."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_worlds import ResendWorld
from tests.contract.provider_worlds import Mood, email_delivery
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown


@pytest.fixture
async def world() -> AsyncIterator[ResendWorld]:
    world = ResendWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def test_a_whole_mail(world: ResendWorld) -> None:
    content = {"reply_to": "us@e.example", "headers": {"X-Stream": "news"}}
    await world.provider.send(email_delivery(unsubscribe_url="https://e.example/u/1", **content))
    assert json.loads(world.ledger[0].raw) == {
        "from": '"Upshot Ärger" <hello@example.org>',
        "to": ["ana@example.com"],
        "subject": "Hello Ana",
        "headers": {
            "X-Upshot-Message-Id": "msg-1",
            "List-Unsubscribe": "<https://e.example/u/1>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "X-Stream": "news",
        },
        "text": "Hi Ana",
        "html": "<p>Hi</p>",
        "reply_to": "us@e.example",
    }


async def test_what_had_no_answer_is_asked_again_and_goes_out_once(world: ResendWorld) -> None:
    world.mood = Mood.DROPS
    assert isinstance(await world.provider.send(email_delivery()), Unknown)
    world.mood = Mood.ACCEPTS
    assert await world.provider.send(email_delivery()) == Accepted("re-1")
    assert len(world.ledger) == 1


async def test_a_key_that_came_with_another_text_was_taken_then(world: ResendWorld) -> None:
    await world.provider.send(email_delivery())
    provider = world.build(**{"from": "Somebody else <other@example.org>"})
    assert await provider.send(email_delivery()) == Accepted()
    await provider.close()
    assert len(world.ledger) == 1


@pytest.mark.parametrize(
    ("status", "name", "expected"),
    [
        (409, "concurrent_idempotent_requests", Deferred("HTTP 409: words", 5_000_000)),
        (429, "rate_limit_exceeded", Deferred("HTTP 429: words", 5_000_000)),
        (429, "daily_quota_exceeded", Deferred("HTTP 429: words", 5_000_000)),
        (500, "application_error", Deferred("HTTP 500: words", 5_000_000)),
        (401, "missing_api_key", Deferred("configuration: HTTP 401: words")),
        (403, "invalid_api_key", Deferred("configuration: HTTP 403: words")),
        (404, "not_found", Deferred("configuration: HTTP 404: words")),
        (400, "invalid_idempotency_key", Refused("PROVIDER_ERROR", "HTTP 400: words")),
        (422, "invalid_attachment", Refused("PROVIDER_ERROR", "HTTP 422: words")),
    ],
)
async def test_every_documented_error_takes_its_path(
    world: ResendWorld, status: int, name: str, expected: SendResult
) -> None:
    world.status, world.error, world.answer_headers = status, (name, "words"), {"Retry-After": "5"}
    assert await world.provider.send(email_delivery()) == expected


async def test_a_recipient_that_it_does_not_take_is_a_bad_address(world: ResendWorld) -> None:
    world.status, world.error = 422, ("validation_error", "Invalid `to` field.")
    result = await world.provider.send(email_delivery())
    assert result == Refused("INVALID_ADDRESS", "HTTP 422: Invalid `to` field.")


async def test_a_long_message_id_is_no_key(world: ResendWorld) -> None:
    assert isinstance(await world.provider.send(email_delivery("m" * 257)), Refused)
    assert world.ledger == []
