"""Slack: an answer of 200 may say no, and every no has its meaning."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.http_worlds import SlackWorld
from tests.contract.provider_worlds import LITTLE_PATIENCE, Mood, email_delivery, sms_delivery
from upshotd.domain.message import (
    Accepted,
    Channel,
    Chat,
    Deferred,
    Delivery,
    Refused,
    SendResult,
    Unknown,
)


@pytest.fixture
async def world() -> AsyncIterator[SlackWorld]:
    world = SlackWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


def chat(body: str = "Hi Ana", to: str = "U123") -> Delivery:
    return sms_delivery()._replace(channel=Channel.CHAT, recipient=to, content=Chat(body))


async def test_a_message_goes_to_a_member_or_a_channel(world: SlackWorld) -> None:
    assert await world.provider.send(chat("Grüße & <b>🎉")) == Accepted("U123/17672256.000001")
    assert await world.provider.send(chat(to="C9")) == Accepted("C9/17672256.000002")
    assert [(r.recipients, r.text) for r in world.ledger] == [
        (["U123"], "Grüße & <b>🎉"),
        (["C9"], "Hi Ana"),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("channel_not_found", Refused("INVALID_ADDRESS", "channel_not_found")),
        ("is_archived", Refused("INVALID_ADDRESS", "is_archived")),
        ("msg_too_long", Refused("PROVIDER_ERROR", "msg_too_long")),
        ("no_text", Refused("PROVIDER_ERROR", "no_text")),
        ("rate_limited", Deferred("rate_limited")),
        ("service_unavailable", Deferred("service_unavailable")),
        ("fatal_error", Unknown("fatal_error")),
        ("internal_error", Unknown("internal_error")),
        ("not_in_channel", Deferred("configuration: not_in_channel", of_message=True)),
        ("invalid_auth", Deferred("configuration: invalid_auth")),
        ("missing_scope", Deferred("configuration: missing_scope")),
        ("token_revoked", Deferred("configuration: token_revoked")),
        ("something_new", Deferred("configuration: something_new")),
    ],
)
async def test_every_documented_error_takes_its_path(
    world: SlackWorld, error: str, expected: SendResult
) -> None:
    world.error = error
    assert await world.provider.send(chat()) == expected
    assert world.ledger == []


async def test_too_many_requests_move_the_time(world: SlackWorld) -> None:
    world.status, world.answer_headers = 429, {"Retry-After": "30"}
    assert await world.provider.send(chat()) == Deferred("HTTP 429", 30_000_000)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (200, "<html>", Unknown("HTTP 200")),
        (200, '{"ok": 1}', Unknown("HTTP 200")),
        (502, "[]", Unknown("HTTP 502")),
        (404, "-", Refused("PROVIDER_ERROR", "HTTP 404")),
    ],
)
async def test_an_answer_that_is_not_theirs_goes_by_its_status(
    world: SlackWorld, status: int, text: str, expected: SendResult
) -> None:
    world.status, world.answer_text = status, text
    assert await world.provider.send(chat()) == expected


async def test_taken_and_dropped_or_silent_is_unknown(world: SlackWorld) -> None:
    world.mood = Mood.DROPS
    assert isinstance(await world.provider.send(chat()), Unknown)
    world.mood = Mood.HANGS
    provider = world.build(timeout=LITTLE_PATIENCE)
    assert isinstance(await provider.send(chat()), Unknown)
    await provider.close()
    await world.go_down()
    assert isinstance(await world.provider.send(chat()), Deferred | Unknown)


async def test_what_it_cannot_carry_is_refused(world: SlackWorld) -> None:
    wrong = (email_delivery(), sms_delivery(), chat(to=""), chat(to="U1\r\nX"), chat("\ud800"))
    for delivery in wrong:
        assert isinstance(await world.provider.send(delivery), Refused)
    assert world.ledger == []
