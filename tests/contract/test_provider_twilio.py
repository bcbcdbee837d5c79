"""Twilio: its fields, its error codes, and every way in which a send can end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_worlds import (
    TWILIO_ACCOUNT,
    TwilioWorld,
)
from tests.contract.provider_worlds import (
    LITTLE_PATIENCE,
    Mood,
    email_delivery,
    sms_delivery,
)
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown

SERVICE = "MG" + "0" * 32


@pytest.fixture
async def world() -> AsyncIterator[TwilioWorld]:
    world = TwilioWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def form(world: TwilioWorld, **options: object) -> dict[str, str]:
    provider = world.build(**options)  # type: ignore[arg-type]
    result = await provider.send(sms_delivery())
    await provider.close()
    assert isinstance(result, Accepted), result
    return world.ledger[-1].headers


async def test_a_whole_text_message(world: TwilioWorld) -> None:
    assert await form(world) == {
        "To": "+41790000000",
        "Body": "Hi Ana",
        "From": "+15550009999",
        "StatusCallback": "https://up.example/callbacks/twilio/test/default.msg-1",
    }


async def test_what_the_settings_change(world: TwilioWorld) -> None:
    options = {"from": None, "messaging_service": SERVICE, "validity_period": 600}
    sent = await form(world, public_url="", **options)
    assert sent == {
        "To": "+41790000000",
        "Body": "Hi Ana",
        "MessagingServiceSid": SERVICE,
        "ValidityPeriod": "600",
    }


async def test_the_id_is_that_of_the_answer(world: TwilioWorld) -> None:
    assert await world.provider.send(sms_delivery()) == Accepted("SM" + "1".rjust(32, "0"))


async def test_all_alphabets_arrive_as_they_are(world: TwilioWorld) -> None:
    body = "Grüße, 你好, שלום, 🎉 & a=b+c%20\n"
    await world.provider.send(sms_delivery(body=body))
    assert world.ledger[0].text == body


TOLD = "The 'To' number <number> is not what it should be"


def refused(word: str, status: int, code: int) -> Refused:
    return Refused(word, f"HTTP {status}, {code}: {TOLD}")


def ours(status: int, code: int, *, of_number: bool = False) -> Deferred:
    return Deferred(f"configuration: HTTP {status}, {code}: {TOLD}", of_message=of_number)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, 21211, refused("INVALID_ADDRESS", 400, 21211)),
        (400, 21614, refused("INVALID_ADDRESS", 400, 21614)),
        (400, 21635, refused("INVALID_ADDRESS", 400, 21635)),
        (400, 21610, refused("STOP", 400, 21610)),
        (400, 21602, refused("PROVIDER_ERROR", 400, 21602)),
        (400, 21617, refused("PROVIDER_ERROR", 400, 21617)),
        (400, 99999, refused("PROVIDER_ERROR", 400, 99999)),
        (401, 20003, ours(401, 20003)),
        (400, 21408, ours(400, 21408, of_number=True)),
        (400, 21606, ours(400, 21606)),
        (400, 21608, ours(400, 21608, of_number=True)),
        (400, 21612, ours(400, 21612, of_number=True)),
        (400, 21659, ours(400, 21659)),
        (400, 21660, ours(400, 21660)),
        (400, 21703, ours(400, 21703)),
        (404, 20404, ours(404, 20404)),
        (429, 20429, Deferred(f"HTTP 429, 20429: {TOLD}", 7_000_000)),
        (400, 20429, Deferred(f"HTTP 400, 20429: {TOLD}", 7_000_000)),
        (500, 20500, Unknown(f"HTTP 500, 20500: {TOLD}")),
        (503, 20503, Unknown(f"HTTP 503, 20503: {TOLD}")),
        (302, 1, Unknown(f"HTTP 302, 1: {TOLD}")),
    ],
)
async def test_every_documented_error_takes_its_path(
    world: TwilioWorld, status: int, code: int, expected: SendResult
) -> None:
    world.status, world.code, world.answer_headers = status, code, {"Retry-After": "7"}
    assert await world.provider.send(sms_delivery()) == expected
    assert world.ledger == []


@pytest.mark.parametrize(
    "text", ["", "[]", "<html>", '{"code": "x", "message": 7}', '{"code": true}']
)
async def test_an_answer_that_is_not_theirs_goes_by_its_status(
    world: TwilioWorld, text: str
) -> None:
    world.status, world.answer_text = 400, text or "-"
    result = await world.provider.send(sms_delivery())
    assert isinstance(result, Refused)
    assert result.reason == "PROVIDER_ERROR"


@pytest.mark.parametrize(
    "recipient", ["", "0791234567", "+0", "ana@example.com", "+41 79 000 00 00", "+4179\n", "+" * 9]
)
async def test_what_is_no_number_is_not_asked_for(world: TwilioWorld, recipient: str) -> None:
    result = await world.provider.send(sms_delivery()._replace(recipient=recipient))
    assert result == Refused("INVALID_ADDRESS", "not a number with its country code")


@pytest.mark.parametrize("body", ["", " \n", "x" * 1601, "\ud800"])
async def test_what_is_no_text_message_is_refused(world: TwilioWorld, body: str) -> None:
    result = await world.provider.send(sms_delivery(body=body))
    assert isinstance(result, Refused)
    assert isinstance(await world.provider.send(email_delivery()), Refused)
    assert world.ledger == []


async def test_taken_and_dropped_or_silent_is_unknown(world: TwilioWorld) -> None:
    world.mood = Mood.DROPS
    assert isinstance(await world.provider.send(sms_delivery()), Unknown)
    world.mood = Mood.HANGS
    provider = world.build(timeout=LITTLE_PATIENCE)
    assert isinstance(await provider.send(sms_delivery()), Unknown)
    await provider.close()
    assert len(world.ledger) == 2


async def test_an_unreachable_server_is_worth_another_try(world: TwilioWorld) -> None:
    await world.go_down()
    assert isinstance(await world.provider.send(sms_delivery()), Deferred)


async def test_many_at_once_arrive_once_each(world: TwilioWorld) -> None:
    sends = (world.provider.send(sms_delivery(f"msg-{number}")) for number in range(12))
    results = await asyncio.gather(*sends)
    assert len({r.provider_message_id for r in results if isinstance(r, Accepted)}) == 12
    assert len({received.message_id for received in world.ledger}) == 12


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"account_sid": "AC1"}, "account_sid"),
        ({"auth_token": ""}, "auth_token"),
        ({"api_key": "SK1"}, "api_key"),
        ({"api_key": "SK" + "0" * 32}, "api_secret"),
        ({"from": None}, "from"),
        ({"messaging_service": SERVICE}, "from"),
        ({"from": None, "messaging_service": "MG1"}, "messaging_service"),
        ({"from": "a name that is too long"}, "from"),
        ({"validity_period": 36_001}, "validity_period"),
        ({"base_url": "twilio.com"}, "base_url"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_every_fault_of_its_table_is_named(
    world: TwilioWorld, changes: dict[str, object], option: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world.build(**changes)  # type: ignore[arg-type]
    assert f"providers.test.{option}" in {fault.field for fault in caught.value.violations}
    assert TWILIO_ACCOUNT not in repr(caught.value.violations)
