"""What every provider must do, whichever it is; each case runs against real servers on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_worlds import (
    HttpWorld,
    ResendWorld,
    SendGridWorld,
    WebhookWorld,
)
from tests.contract.provider_worlds import (
    LITTLE_PATIENCE,
    ConsoleWorld,
    Mood,
    NullWorld,
    Received,
    SmtpWorld,
    World,
    sms_delivery,
)
from tests.contract.push_worlds import FcmWorld, NotifyWorld
from upshotd.domain.message import Accepted, Deferred, Refused, Unknown

WORLDS: dict[str, type[World]] = {
    "console": ConsoleWorld,
    "null": NullWorld,
    "smtp": SmtpWorld,
    "sendgrid": SendGridWorld,
    "resend": ResendWorld,
    "webhook": WebhookWorld,
    "fcm": FcmWorld,
    "twilio_notify": NotifyWorld,
}
every_provider = pytest.mark.parametrize("kind", list(WORLDS))
OVER_A_NETWORK = ["smtp", "sendgrid", "resend", "webhook", "fcm", "twilio_notify"]
#: Those that name each message anew, also one that comes again.
NAMING_ANEW = {"sendgrid", "fcm", "twilio_notify"}
with_ledger = pytest.mark.parametrize("kind", ["console", *OVER_A_NETWORK])
over_a_network = pytest.mark.parametrize("kind", OVER_A_NETWORK)

HOSTILE = [
    "a@b\r\nBcc: x@y.example",
    "a@b\nBcc: x@y.example",
    "a@b\r\n Bcc: x@y.example",
    "a@b\u2028Bcc: x@y.example",
    "a@b\x85Bcc: x@y.example",
    "a@b\x0bBcc: x@y.example",
    "a@b\x00Bcc: x@y.example",
    "a@b>\r\nRCPT TO:<x@y.example",
    "=?utf-8?q?a=0D=0ABcc:_x=40y.example?=@b.example",
    "=?utf-8?q?a=0D=0ABcc:_x=40y.example?= <a@b.example>",
    "a=0D=0ABcc: x@y.example",
    "a%0d%0aBcc:x@y.example",
    "a@b.example, x@y.example",
    "a@b.example (x@y.example)",
    '"x@y.example\r\n"@b.example',
    "a@b.example SIZE=1",
    "\ud800@b.example",
]


@pytest.fixture
async def world(kind: str) -> AsyncIterator[World]:
    world = WORLDS[kind]()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


def ledger(world: World) -> list[Received]:
    return world.read() if isinstance(world, ConsoleWorld) else world.ledger


@every_provider
async def test_it_has_its_configured_name_and_says_whether_it_knows_repetitions(
    world: World, kind: str
) -> None:
    assert world.provider.name == "test"
    assert world.provider.idempotent is (kind in {"null", "webhook", "resend"})


@every_provider
async def test_an_accepted_message_has_an_id_of_the_provider(world: World) -> None:
    result = await world.provider.send(world.delivery())

    assert isinstance(result, Accepted)
    assert result.provider_message_id


@with_ledger
async def test_an_accepted_message_arrives_once_with_its_content(world: World) -> None:
    await world.provider.send(world.delivery(text="Hi Ana,\n\nbye\n.\nreally"))

    (mail,) = ledger(world)
    assert mail.message_id == "msg-1"
    assert mail.recipients == [world.recipient]
    assert mail.subject == "Hello Ana"
    assert mail.text == "Hi Ana,\n\nbye\n.\nreally"


@with_ledger
async def test_all_alphabets_and_long_lines_arrive_as_they_are(world: World) -> None:
    subject = "Grüße aus Zürich, 你好, שלום, 🎉 " + "and a subject that is far too long " * 5
    text = "Ünïcödé 🎉 " * 300
    await world.provider.send(world.delivery(subject=subject.strip(), text=text.strip()))

    (mail,) = ledger(world)
    assert mail.subject == subject.strip()
    assert mail.text == text.strip()


@with_ledger
async def test_a_repeated_message_carries_the_same_id(world: World, kind: str) -> None:
    first = await world.provider.send(world.delivery("msg-7"))
    second = await world.provider.send(world.delivery("msg-7"))

    assert first == second or kind in NAMING_ANEW
    times = 1 if kind == "resend" else 2  # it knows what it has taken
    assert [mail.message_id for mail in ledger(world)] == ["msg-7"] * times


@with_ledger
async def test_many_messages_at_once_arrive_once_each(world: World) -> None:
    results = await asyncio.gather(
        *(world.provider.send(world.delivery(f"msg-{number}")) for number in range(12))
    )

    assert all(isinstance(result, Accepted) for result in results)
    assert sorted(mail.message_id for mail in ledger(world)) == sorted(
        f"msg-{number}" for number in range(12)
    )


@over_a_network
async def test_a_refusal_is_for_ever_and_names_nobody(world: World, kind: str) -> None:
    world.mood = Mood.REFUSES

    result = await world.provider.send(world.delivery())

    assert isinstance(result, Refused)
    assert result.reason == ("BOUNCED" if kind == "smtp" else "PROVIDER_ERROR")
    assert "ana" not in result.detail
    said = {"smtp": "550", "webhook": "HTTP 422", "resend": "HTTP 422"}
    assert said.get(kind, "HTTP 400") in result.detail


@over_a_network
async def test_a_temporary_answer_is_deferred_and_the_next_try_arrives_once(world: World) -> None:
    world.mood = Mood.DEFERS
    assert isinstance(await world.provider.send(world.delivery()), Deferred)
    assert ledger(world) == []

    world.mood = Mood.ACCEPTS
    assert isinstance(await world.provider.send(world.delivery()), Accepted)
    assert len(ledger(world)) == 1


@over_a_network
async def test_an_unreachable_server_is_worth_another_try(world: World) -> None:
    await world.go_down()

    result = await world.provider.send(world.delivery())

    assert isinstance(result, Deferred)


@over_a_network
async def test_a_server_that_dies_between_two_messages_never_doubles_or_loses_unseen(
    world: World,
) -> None:
    await world.provider.send(world.delivery("msg-1"))
    await world.go_down()

    # The kept connection is dead: a webhook may have left on it, an e-mail cannot have.
    result = await world.provider.send(world.delivery("msg-2"))

    assert isinstance(result, Deferred | Unknown)
    assert [mail.message_id for mail in ledger(world)] == ["msg-1"]


@over_a_network
async def test_taken_and_dropped_is_unknown(world: World) -> None:
    world.mood = Mood.DROPS

    result = await world.provider.send(world.delivery())

    assert isinstance(result, Unknown)
    assert len(ledger(world)) == 1


@over_a_network
async def test_taken_and_silent_is_unknown(world: World) -> None:
    world.mood = Mood.HANGS
    assert isinstance(world, SmtpWorld | HttpWorld)
    provider = world.build(timeout=LITTLE_PATIENCE)

    result = await provider.send(world.delivery())
    await provider.close()

    assert isinstance(result, Unknown)
    assert len(ledger(world)) == 1


@over_a_network
async def test_after_an_unknown_result_the_provider_still_works(world: World) -> None:
    world.mood = Mood.DROPS
    await world.provider.send(world.delivery("msg-1"))
    world.mood = Mood.ACCEPTS

    assert isinstance(await world.provider.send(world.delivery("msg-2")), Accepted)
    assert [mail.message_id for mail in ledger(world)] == ["msg-1", "msg-2"]


@over_a_network
async def test_a_server_that_never_lets_us_in_cannot_have_taken_anything(
    world: World, kind: str
) -> None:
    # A full backlog: the connection is not refused and never stands.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        assert isinstance(world, SmtpWorld | HttpWorld)
        changes = {
            "smtp": {"port": port},
            "sendgrid": {"base_url": f"http://127.0.0.1:{port}"},
            "resend": {"base_url": f"http://127.0.0.1:{port}"},
            "webhook": {"url": f"http://127.0.0.1:{port}/in"},
            "fcm": {"base_url": f"http://127.0.0.1:{port}"},
            "twilio_notify": {"base_url": f"http://127.0.0.1:{port}"},
        }
        provider = world.build(timeout=LITTLE_PATIENCE, **changes[kind])
        result = await provider.send(world.delivery())
        await provider.close()
        for filler in fillers:
            filler.close()

    assert isinstance(result, Deferred)


@with_ledger
@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_address_adds_no_recipient_and_no_header(
    world: World, kind: str, hostile: str
) -> None:
    result = await world.provider.send(world.delivery(recipient=hostile))

    if kind in ("smtp", "sendgrid", "resend"):
        assert isinstance(result, Refused)
        assert result.reason == "INVALID_ADDRESS"
        assert ledger(world) == []
        assert not isinstance(world, SmtpWorld) or world.connections == 0
    for mail in ledger(world):
        assert len(mail.recipients) == 1
        assert not [name for name in mail.headers if name.lower() == "bcc"]


@with_ledger
@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_hostile_subject_adds_no_recipient_and_no_header(
    world: World, hostile: str
) -> None:
    await world.provider.send(world.delivery(subject=hostile))

    for mail in ledger(world):
        assert mail.recipients == [world.recipient]
        assert not [name for name in mail.headers if name.lower() == "bcc"]


@with_ledger
@pytest.mark.parametrize("hostile", ["msg\r\nBcc: x@y.example", "msg\x00", "\ud800", "m\u2028x"])
async def test_a_hostile_message_id_adds_no_header(world: World, hostile: str) -> None:
    await world.provider.send(world.delivery(hostile))

    for mail in ledger(world):
        assert mail.recipients == [world.recipient]
        assert "Bcc" not in mail.headers


@over_a_network
@pytest.mark.parametrize("hostile", ["\ud800", "a \udfff b"])
async def test_content_that_is_no_unicode_is_refused(world: World, hostile: str) -> None:
    result = await world.provider.send(world.delivery(text=hostile))

    assert isinstance(result, Refused)
    assert result.reason == "PROVIDER_ERROR"


@every_provider
async def test_close_can_be_repeated_and_releases_everything(world: World) -> None:
    await world.provider.send(world.delivery())
    await world.provider.close()
    await world.provider.close()


@over_a_network
async def test_a_cancelled_send_leaves_nothing_open(world: World) -> None:
    world.mood = Mood.HANGS
    sending = asyncio.create_task(world.provider.send(world.delivery()))
    while not ledger(world):
        await asyncio.sleep(0.005)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    world.mood = Mood.ACCEPTS
    assert isinstance(await world.provider.send(world.delivery("msg-2")), Accepted)


@pytest.mark.parametrize("kind", ["console", "null", "webhook"])
async def test_a_text_message_is_accepted(world: World) -> None:
    assert isinstance(await world.provider.send(sms_delivery()), Accepted)


@pytest.mark.parametrize("kind", ["smtp", "sendgrid", "resend", "fcm", "twilio_notify"])
async def test_what_carries_mail_or_pushes_carries_no_text_messages(world: World) -> None:
    assert isinstance(await world.provider.send(sms_delivery()), Refused)
