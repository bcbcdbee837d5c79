"""FCM: its fields, its error codes, and a message to several devices."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.contract.provider_worlds import Mood, push_delivery
from tests.contract.push_worlds import FcmWorld, account_json, fcm_error, pem_of
from upshotd.adapters.providers.fcm import FcmProvider
from upshotd.domain.errors import InvalidArgument
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown

SECOND = 1_000_000
NOT_RSA = pem_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
async def world() -> AsyncIterator[FcmWorld]:
    world = FcmWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def asked(world: FcmWorld, **options: object) -> dict[str, Any]:
    provider = world.build(**options)
    result = await provider.send(push_delivery())
    await provider.close()
    assert isinstance(result, Accepted), result
    return world.asked[-1]


async def test_a_whole_message(world: FcmWorld) -> None:
    assert await asked(world) == {
        "validate_only": False,
        "message": {
            "token": "device-1",
            "notification": {"title": "Hello Ana", "body": "Hi Ana"},
            "data": {"order": "1042", "upshot_message_id": "msg-1"},
            "android": {"notification": {"tag": "msg-1"}},
            "apns": {"headers": {"apns-collapse-id": "msg-1"}},
        },
    }


async def test_what_the_settings_change(world: FcmWorld) -> None:
    world.now_us = lambda: 1_800_000_000 * SECOND
    sent = await asked(world, ttl=600, priority="high", sandbox=True)
    assert sent["validate_only"] is True
    assert sent["message"]["android"] == {
        "notification": {"tag": "msg-1"},
        "ttl": "600s",
        "priority": "high",
    }
    assert sent["message"]["apns"]["headers"]["apns-expiration"] == "1800000600"
    assert world.ledger == [], "it was checked, and delivered to nobody"
    assert (await asked(world, ttl=0))["message"]["android"]["ttl"] == "0s"


async def test_the_id_for_the_app_cannot_be_overwritten_by_the_workflow(world: FcmWorld) -> None:
    await world.provider.send(push_delivery("msg-7", data={"upshot_message_id": "mine"}))
    assert world.ledger[0].message_id == "msg-7"


async def test_an_account_from_a_file_with_a_project_of_its_own(
    world: FcmWorld, tmp_path: Path
) -> None:
    path = tmp_path / "account.json"
    path.write_text(account_json(project_id="another"))
    options = {"service_account": None, "service_account_file": str(path), "project": "demo-1"}
    assert await asked(world, **options)


# -- answers -------------------------------------------------------------------------------------

TOLD = "something about the message"
BAD_TOKEN = {"message": "The registration token is not a valid FCM registration token"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, fcm_error(404, "UNREGISTERED", "NOT_FOUND"),
         Refused("DEVICE_GONE", f"HTTP 404, UNREGISTERED: {TOLD}", ("device-1",))),
        (404, fcm_error(404, "", "NOT_FOUND"),
         Deferred(f"configuration: HTTP 404, NOT_FOUND: {TOLD}")),
        (400, fcm_error(400, "INVALID_ARGUMENT"),
         Refused("PROVIDER_ERROR", f"HTTP 400, INVALID_ARGUMENT: {TOLD}")),
        (400, fcm_error(400, "INVALID_ARGUMENT", field="message.data[0].value"),
         Refused("PROVIDER_ERROR", f"HTTP 400, INVALID_ARGUMENT: {TOLD}")),
        (400, fcm_error(400, "INVALID_ARGUMENT", field="message.token"),
         Refused("INVALID_ADDRESS", f"HTTP 400, INVALID_ARGUMENT: {TOLD}")),
        (400, fcm_error(400, "INVALID_ARGUMENT", **BAD_TOKEN),
         Refused("INVALID_ADDRESS", f"HTTP 400, INVALID_ARGUMENT: {BAD_TOKEN['message']}")),
        (401, fcm_error(401, "THIRD_PARTY_AUTH_ERROR", "UNAUTHENTICATED"),
         Deferred(f"configuration: HTTP 401, THIRD_PARTY_AUTH_ERROR: {TOLD}")),
        (403, fcm_error(403, "SENDER_ID_MISMATCH", "PERMISSION_DENIED"),
         Deferred(f"configuration: HTTP 403, SENDER_ID_MISMATCH: {TOLD}")),
        (403, fcm_error(403, "", "PERMISSION_DENIED"),
         Deferred(f"configuration: HTTP 403, PERMISSION_DENIED: {TOLD}")),
        (429, fcm_error(429, "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
         Deferred(f"HTTP 429, QUOTA_EXCEEDED: {TOLD}", 7 * SECOND)),
        (503, fcm_error(503, "UNAVAILABLE"),
         Deferred(f"HTTP 503, UNAVAILABLE: {TOLD}", 7 * SECOND)),
        (500, fcm_error(500, "INTERNAL"), Unknown(f"HTTP 500, INTERNAL: {TOLD}")),
        (500, fcm_error(500, "UNSPECIFIED_ERROR"), Unknown(f"HTTP 500, UNSPECIFIED_ERROR: {TOLD}")),
        (503, {}, Unknown("HTTP 503")),
        (502, {"error": "html"}, Unknown("HTTP 502")),
        (404, {"error": {"details": "x"}}, Deferred("configuration: HTTP 404")),
        (400, {"error": {"details": [7, {"fieldViolations": 7}, {"fieldViolations": [7]}]}},
         Refused("PROVIDER_ERROR", "HTTP 400")),
        (302, {}, Unknown("HTTP 302")),
        (200, {"name": 7}, Accepted("")),
    ],
)  # fmt: skip
async def test_every_documented_error_takes_its_path(
    world: FcmWorld, status: int, body: dict[str, Any], expected: SendResult
) -> None:
    world.answers["device-1"] = (status, body, {"Retry-After": "7"})
    assert await world.provider.send(push_delivery()) == expected
    assert world.ledger == []
    assert world.token_requests == 1


async def test_without_a_wish_a_quota_gets_a_minute_and_overload_our_own_pauses(
    world: FcmWorld,
) -> None:
    world.answers["a"] = (429, fcm_error(429, "QUOTA_EXCEEDED"), {})
    world.answers["b"] = (503, fcm_error(503, "UNAVAILABLE"), {})
    for device, pause_us in (("a", 60 * SECOND), ("b", 0)):
        result = await world.provider.send(push_delivery(recipient=device))
        assert isinstance(result, Deferred)
        assert result.retry_after_us == pause_us


async def test_what_they_say_of_a_device_does_not_name_it(world: FcmWorld) -> None:
    told = fcm_error(400, "INVALID_ARGUMENT", message="device-1 is wrong, says ana@example.com")
    world.answers["device-1"] = (400, told, {})
    result = await world.provider.send(push_delivery())
    assert result.detail == "HTTP 400, INVALID_ARGUMENT: <device> is wrong, says <address>"


# -- several devices -----------------------------------------------------------------------------

OK = None
GONE = (404, fcm_error(404, "UNREGISTERED", "NOT_FOUND"), {})
BUSY = (503, fcm_error(503, "UNAVAILABLE"), {})
FULL = (429, fcm_error(429, "QUOTA_EXCEEDED"), {})
BROKEN = (500, fcm_error(500, "INTERNAL"), {})
BAD = (400, fcm_error(400, "INVALID_ARGUMENT", field="message.token"), {})


@pytest.mark.parametrize(
    ("answers", "expected", "word"),
    [
        ([OK, OK, OK], Accepted, ""),
        ([OK, GONE, OK], Accepted, "2 of 3 devices: HTTP 404, UNREGISTERED"),
        ([OK, BUSY, GONE], Accepted, "1 of 3 devices: HTTP 503, UNAVAILABLE"),
        ([BROKEN, OK], Accepted, "1 of 2 devices: HTTP 500, INTERNAL"),
        ([BUSY, BROKEN, GONE], Unknown, "HTTP 500, INTERNAL"),
        ([BUSY, FULL, BAD, GONE], Deferred, "HTTP 429, QUOTA_EXCEEDED"),
        ([GONE, BAD], Refused, "HTTP 400, INVALID_ARGUMENT"),
        ([GONE, GONE], Refused, "HTTP 404, UNREGISTERED"),
    ],
)
async def test_a_message_to_several_devices(
    world: FcmWorld, answers: list[Any], expected: type, word: str
) -> None:
    devices = [f"device-{number}" for number in range(len(answers))]
    world.answers = {d: a for d, a in zip(devices, answers, strict=True) if a is not OK}
    result = await world.provider.send(push_delivery(recipient=" ".join(devices)))
    assert isinstance(result, expected)
    assert result.detail.startswith(word)
    gone = [d for d, a in zip(devices, answers, strict=True) if a is GONE]
    assert result.gone == tuple(gone)
    reached = [d for d, a in zip(devices, answers, strict=True) if a is OK]
    assert sorted(received.recipients[0] for received in world.ledger) == reached
    assert {received.message_id for received in world.ledger} <= {"msg-1"}
    assert len(world.asked) == len(devices)
    if isinstance(result, Refused):
        assert result.reason == ("DEVICE_GONE" if len(gone) == len(devices) else "INVALID_ADDRESS")


async def test_a_device_that_stands_there_twice_gets_it_once(world: FcmWorld) -> None:
    await world.provider.send(push_delivery(recipient="device-1 device-2 device-1"))
    assert len(world.ledger) == 2


async def test_the_line_dropping_for_one_device_leaves_the_others(world: FcmWorld) -> None:
    world.mood = Mood.DROPS
    result = await world.provider.send(push_delivery(recipient="device-1 device-2"))
    assert isinstance(result, Unknown)
    assert len(world.ledger) == 2


@pytest.mark.parametrize("key", ["from", "message_type", "google.x", "gcm.notification.title"])
async def test_what_fcm_keeps_for_itself_is_named(world: FcmWorld, key: str) -> None:
    result = await world.provider.send(push_delivery(data={key: "x"}))
    assert result == Refused("PROVIDER_ERROR", f"data.{key} is reserved by FCM")
    assert world.asked == []


async def test_no_device_is_no_address(world: FcmWorld) -> None:
    assert isinstance(await world.provider.send(push_delivery(recipient=" ")), Refused)


# -- settings ------------------------------------------------------------------------------------


async def test_check_asks_without_sending(world: FcmWorld) -> None:
    provider = world.provider
    assert isinstance(provider, FcmProvider)
    assert await provider.check() == ""
    assert world.asked[-1]["validate_only"] is True
    assert world.ledger == []
    world.mood = Mood.REFUSES
    assert await provider.check() == f"HTTP 400, INVALID_ARGUMENT: {TOLD}"
    await world.go_down()
    assert await provider.check() != ""


@pytest.mark.parametrize(
    ("changes", "option", "words"),
    [
        ({"service_account": None}, "service_account", "is required"),
        ({"service_account": "{"}, "service_account", "is no JSON"),
        ({"service_account": "[]"}, "service_account", "no type service_account"),
        ({"service_account": '{"type": "authorized_user"}'}, "service_account", "service_account"),
        ({"service_account": account_json(client_email=None)}, "service_account", "client_email"),
        ({"service_account": account_json(private_key="x")}, "service_account", "cannot be read"),
        ({"service_account": account_json(private_key=NOT_RSA)}, "service_account", "RSA"),
        ({"service_account_file": "a.json"}, "service_account_file", "either"),
        ({"service_account": None, "service_account_file": "/no/such"}, "service_account",
         "No such file"),
        ({"service_account": None, "service_account_file": "/dev/null"}, "service_account",
         "is empty"),
        ({"service_account": account_json(project_id=None)}, "project", "is required"),
        ({"project": "a/b"}, "project", "Firebase"),
        ({"priority": "urgent"}, "priority", "normal or high"),
        ({"ttl": 2_419_201}, "ttl", "from 0"),
        ({"token_url": "oauth"}, "token_url", "http"),
        ({"base_url": "fcm"}, "base_url", "http"),
        ({"sandbox": "yes"}, "sandbox", "true or false"),
        ({"colour": "red"}, "colour", "no option of fcm"),
    ],
)  # fmt: skip
async def test_every_fault_of_its_table_is_named(
    world: FcmWorld, changes: dict[str, object], option: str, words: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world.build(**changes)
    faults = {fault.field: fault.description for fault in caught.value.violations}
    assert words in faults[f"providers.test.{option}"]
    assert "PRIVATE KEY" not in repr(faults)
