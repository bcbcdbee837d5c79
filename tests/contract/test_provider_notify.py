"""Twilio Notify: bindings, notifications by identity, every end of a send, and its own end."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contract.http_worlds import TWILIO_ACCOUNT
from tests.contract.provider_worlds import LITTLE_PATIENCE, Mood, push_delivery
from tests.contract.push_worlds import NOTIFY_SERVICE, NotifyWorld
from upshotd import routing
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.twilio_notify import TwilioNotifyProvider
from upshotd.config import load
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown

SECOND = 1_000_000
#: 2027-11-01T00:00:00Z
NOVEMBER = 1_825_027_200 * SECOND


@pytest.fixture
async def world() -> AsyncIterator[NotifyWorld]:
    world = NotifyWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def form(world: NotifyWorld, **options: object) -> dict[str, str]:
    provider = world.build(**options)  # type: ignore[arg-type]
    result = await provider.send(push_delivery())
    await provider.close()
    assert isinstance(result, Accepted), result
    return world.forms[-1]


async def test_a_whole_notification(world: NotifyWorld) -> None:
    sent = await form(world)
    assert json.loads(sent.pop("Data")) == {"order": "1042", "upshot_message_id": "msg-1"}
    assert sent == {
        "Identity": "ana",
        "Title": "Hello Ana",
        "Body": "Hi Ana",
        "DeliveryCallbackUrl": "https://up.example/callbacks/twilio_notify/test/default.msg-1",
    }
    assert world.bindings == [("ana", "fcm", "device-1")]


async def test_what_the_settings_change(world: NotifyWorld) -> None:
    sent = await form(world, public_url="", binding_type="apn", ttl=600)
    assert sent["Ttl"] == "600"
    assert "DeliveryCallbackUrl" not in sent
    assert world.bindings == [("ana", "apn", "device-1")]


async def test_the_id_is_that_of_the_answer(world: NotifyWorld) -> None:
    assert await world.provider.send(push_delivery()) == Accepted("NT" + "1".rjust(32, "0"))


async def test_a_device_is_bound_once_and_looked_for_again_after_an_hour(
    world: NotifyWorld,
) -> None:
    now = 1_800_000_000 * SECOND
    world.now_us = lambda: now
    world.bindings = [("ana", "fcm", "old"), ("ana", "apn", "device-1"), ("ben", "fcm", "device-1")]
    both = push_delivery(recipient="device-1 old")
    await world.provider.send(both)
    assert world.asked == ["GET", "Bindings", "Notifications"]
    assert world.bindings[3:] == [("ana", "fcm", "device-1")]
    await world.provider.send(both)
    assert world.asked[3:] == ["Notifications"]
    now += 3600 * SECOND
    world.bindings = []  # Twilio unbinds what is gone, and somebody may have tidied up
    await world.provider.send(both)
    assert world.asked[4:] == ["GET", "Bindings", "Bindings", "Notifications"]
    assert len(world.bindings) == 2


async def test_all_devices_of_a_person_get_one_notification(world: NotifyWorld) -> None:
    await world.provider.send(push_delivery(recipient="phone tablet phone"))
    assert len(world.forms) == 1
    assert sorted(received.recipients[0] for received in world.ledger) == ["phone", "tablet"]


async def test_somebody_without_a_user_id_is_known_by_the_device(world: NotifyWorld) -> None:
    await world.provider.send(push_delivery()._replace(user_id=""))
    assert world.forms[0]["Identity"].startswith("anonymous-")
    assert "device-1" not in world.forms[0]["Identity"]
    assert [received.recipients for received in world.ledger] == [["device-1"]]


def told(code: int, status: int = 400) -> dict[str, Any]:
    return {"code": code, "message": "device-1 and +41790000000 are wrong", "status": status}


WORDS = "<device> and <number> are wrong"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, told(20001), Refused("PROVIDER_ERROR", f"HTTP 400, 20001: {WORDS}")),
        (401, told(20003), Deferred(f"configuration: HTTP 401, 20003: {WORDS}")),
        (403, {}, Deferred("configuration: HTTP 403")),
        (404, told(20404), Deferred(f"configuration: HTTP 404, 20404: {WORDS}")),
        (410, {}, Deferred("configuration: HTTP 410")),
        (429, told(20429), Deferred(f"HTTP 429, 20429: {WORDS}", 7 * SECOND)),
        (400, told(20429), Deferred(f"HTTP 400, 20429: {WORDS}", 7 * SECOND)),
        (500, {}, Unknown("HTTP 500")),
        (503, told(20503), Unknown(f"HTTP 503, 20503: {WORDS}")),
        (302, {}, Unknown("HTTP 302")),
    ],
)
async def test_every_error_of_a_notification_takes_its_path(
    world: NotifyWorld, status: int, body: dict[str, Any], expected: SendResult
) -> None:
    world.answers["Notifications"] = [(status, body)]
    assert await world.provider.send(push_delivery()) == expected
    assert world.ledger == []


@pytest.mark.parametrize(
    ("what", "status", "body", "expected"),
    [
        ("GET", 401, {}, Deferred("configuration: bindings not read: HTTP 401")),
        ("GET", 429, {}, Deferred("bindings not read: HTTP 429", 7 * SECOND)),
        ("GET", 503, {}, Deferred("bindings not read: HTTP 503", 7 * SECOND)),
        ("GET", 400, {}, Deferred("configuration: bindings not read: HTTP 400")),
        ("Bindings", 404, {}, Deferred("configuration: not bound: HTTP 404")),
        (
            "Bindings",
            400,
            told(20429),
            Deferred(f"not bound: HTTP 400, 20429: {WORDS}", 7 * SECOND),
        ),
        ("Bindings", 500, {}, Deferred("not bound: HTTP 500", 7 * SECOND)),
        ("Bindings", 400, told(52102), Refused("INVALID_ADDRESS", f"HTTP 400, 52102: {WORDS}")),
    ],
)
async def test_what_fails_before_the_notification_was_no_send(
    world: NotifyWorld, what: str, status: int, body: dict[str, Any], expected: SendResult
) -> None:
    world.answers[what] = [(status, body)]
    assert await world.provider.send(push_delivery()) == expected
    assert world.forms == []
    assert isinstance(await world.provider.send(push_delivery()), Accepted)


async def test_a_device_that_cannot_be_bound_leaves_the_others(world: NotifyWorld) -> None:
    world.answers["Bindings"] = [(400, told(52102))]
    result = await world.provider.send(push_delivery(recipient="device-1 device-2"))
    assert isinstance(result, Accepted)
    assert result.detail.startswith("1 of 2 devices: HTTP 400, 52102")
    assert len(world.ledger) == 1


@pytest.mark.parametrize("body", [{}, {"bindings": 7}, {"bindings": [7, {}]}])
async def test_a_list_that_is_none_of_theirs_is_no_binding(
    world: NotifyWorld, body: dict[str, Any]
) -> None:
    world.answers["GET"] = [(200, body)]
    assert isinstance(await world.provider.send(push_delivery()), Accepted)
    assert world.bindings == [("ana", "fcm", "device-1")]


async def test_silence_while_binding_is_no_send_and_after_it_nobody_knows(
    world: NotifyWorld,
) -> None:
    world.mood = Mood.HANGS
    provider = world.build(timeout=LITTLE_PATIENCE)
    assert isinstance(await provider.send(push_delivery()), Unknown)
    await world.go_down()
    for recipient, words in (("device-1", ""), ("device-2", "bindings not read: ")):
        result = await provider.send(push_delivery(recipient=recipient))
        assert isinstance(result, Deferred | Unknown)
        assert result.detail.startswith(words)
    await provider.close()
    assert len(world.ledger) == 1


@pytest.mark.parametrize(
    "changes", [{"data": {"twi_title": "x"}}, {"recipient": " "}, {"recipient": "\ud800"}]
)
async def test_what_notify_cannot_carry_is_refused_at_once(
    world: NotifyWorld, changes: dict[str, Any]
) -> None:
    assert isinstance(await world.provider.send(push_delivery(**changes)), Refused)
    assert world.asked == []


async def test_what_is_remembered_has_a_bound(
    world: NotifyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upshotd.adapters.providers.twilio_notify._BOUND_MAX", 1)
    for recipient in ("a", "b", "c"):
        await world.provider.send(push_delivery(recipient=recipient))
    assert isinstance(world.provider, TwilioNotifyProvider)
    assert len(world.provider._bound) <= 2


async def test_check_reads_the_service(world: NotifyWorld) -> None:
    assert isinstance(world.provider, TwilioNotifyProvider)
    assert await world.provider.check() == ""
    world.answers["service"] = [(404, {})]
    assert await world.provider.check() == "HTTP 404"


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"account_sid": "AC1"}, "account_sid"),
        ({"auth_token": ""}, "auth_token"),
        ({"api_key": "SK1"}, "api_key"),
        ({"api_key": "SK" + "0" * 32}, "api_secret"),
        ({"service_sid": ""}, "service_sid"),
        ({"service_sid": "IS1"}, "service_sid"),
        ({"binding_type": "sms"}, "binding_type"),
        ({"ttl": -1}, "ttl"),
        ({"base_url": "twilio"}, "base_url"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_every_fault_of_its_table_is_named(
    world: NotifyWorld, changes: dict[str, object], option: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world.build(**changes)  # type: ignore[arg-type]
    assert f"providers.test.{option}" in {fault.field for fault in caught.value.violations}


# -- its end -------------------------------------------------------------------------------------

TABLE = f"""
[providers.push]
kind = "twilio_notify"
account_sid = "{TWILIO_ACCOUNT}"
auth_token = "token"
service_sid = "{NOTIFY_SERVICE}"
[channels]
push = "push"
"""


async def test_a_start_says_that_the_service_ends() -> None:
    with capture_logs() as logs:
        made = routing.providers(load(TABLE, {}, {}), Home(lambda: NOVEMBER - 1))
    await made["push"].close()
    (said,) = logs
    assert (said["event"], said["log_level"]) == ("provider.ends", "warning")
    assert (said["provider"], said["on"]) == ("push", "2027-10-31")


async def test_after_its_end_it_does_not_start() -> None:
    with pytest.raises(InvalidArgument) as caught:
        routing.providers(load(TABLE, {}, {}), Home(lambda: NOVEMBER))
    (fault,) = caught.value.violations
    assert fault.field == "providers.push.kind"
    assert "2027-10-31" in fault.description
    assert "fcm" in fault.description


async def test_its_callbacks_are_signed_by_the_account_s_token() -> None:
    keys = routing.callback_keys(load(TABLE, {}, {}), Home(lambda: 0))
    assert keys.twilio == {"push": ("token",)}
