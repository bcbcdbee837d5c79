"""What only SMTP can get wrong: phases of a transaction, headers on the wire, kept connections."""

import asyncio
import contextlib
import email.policy
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from typing import Any

import pytest

from tests.contract.provider_worlds import (
    LITTLE_PATIENCE,
    PATIENCE,
    Mood,
    SmtpWorld,
    email_delivery,
    wall_us,
)
from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.smtp import SmtpProvider, SmtpSettings
from upshotd.application.provider import Provider
from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown

HANG = "hang"


@pytest.fixture
async def world() -> AsyncIterator[SmtpWorld]:
    world = SmtpWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


class ScriptedServer:
    """Speaks SMTP by heart: what it answers to a verb can be replaced, `hang` is no answer."""

    def __init__(self, **answers: str) -> None:
        self.answers = {
            "GREETING": "220 sink",
            "EHLO": "250 sink",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go on",
            "BODY": "250 queued",
            "RSET": "250 ok",
            "QUIT": "221 bye",
            **answers,
        }
        self.verbs: list[str] = []
        self.release = asyncio.Event()
        self.sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedServer":
        self.server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        self.server.close()
        await self.server.wait_closed()
        await asyncio.gather(*self.sessions)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions.add(asyncio.create_task(self._session(reader, writer)))

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer("GREETING", writer)
        while line := await reader.readline():
            verb = line.split()[0].decode(errors="replace").upper()
            self.verbs.append(verb)
            await self._answer(verb, writer)
            if verb == "DATA" and self.answers["DATA"].startswith("354"):
                await reader.readuntil(b"\r\n.\r\n")
                self.verbs.append("BODY")
                await self._answer("BODY", writer)

    async def _answer(self, verb: str, writer: asyncio.StreamWriter) -> None:
        answer = self.answers.get(verb, "502 no such command")
        if answer == HANG:
            await self.release.wait()
        writer.write(answer.encode() + b"\r\n")

    def provider(self, **changes: object) -> Provider:
        options = {"host": "127.0.0.1", "port": self.port, "from": "hello@example.org"}
        return build(
            "smtp",
            "test",
            {**options, "tls": "none", "timeout": PATIENCE, **changes},
            Home(wall_us),
        )


async def result_of(provider: Provider) -> SendResult:
    try:
        return await provider.send(email_delivery())
    finally:
        await provider.close()


@pytest.mark.parametrize(
    ("answers", "expected", "reason"),
    [
        ({"GREETING": "554 go away"}, Deferred, ""),
        ({"GREETING": "421 too busy"}, Deferred, ""),
        ({"GREETING": "nonsense"}, Deferred, ""),
        ({"GREETING": HANG}, Deferred, ""),
        ({"EHLO": "550 no", "HELO": "550 no"}, Deferred, ""),
        ({"MAIL": "550 sender unknown"}, Refused, "PROVIDER_ERROR"),
        ({"MAIL": "421 closing"}, Deferred, ""),
        ({"MAIL": HANG}, Deferred, ""),
        ({"RCPT": "550 no such mailbox"}, Refused, "BOUNCED"),
        ({"RCPT": "452 mailbox full"}, Deferred, ""),
        ({"RCPT": "299 what"}, Deferred, ""),
        ({"RCPT": "nonsense"}, Deferred, ""),
        ({"DATA": "554 no valid recipients"}, Refused, "PROVIDER_ERROR"),
        ({"DATA": "451 not now"}, Deferred, ""),
        ({"DATA": HANG}, Unknown, ""),
        ({"BODY": "554 looks like spam"}, Refused, "PROVIDER_ERROR"),
        ({"BODY": "452 out of space"}, Deferred, ""),
        ({"BODY": "421 closing"}, Deferred, ""),
        ({"BODY": "299 what"}, Unknown, ""),
        ({"BODY": "nonsense"}, Unknown, ""),
        ({"BODY": HANG}, Unknown, ""),
        ({"RCPT": "550 no such mailbox", "RSET": HANG}, Refused, "BOUNCED"),
        ({"BODY": "554 spam", "RSET": HANG}, Refused, "PROVIDER_ERROR"),
    ],
)
async def test_what_an_answer_means_depends_on_its_phase(
    answers: dict[str, str], expected: type, reason: str
) -> None:
    async with ScriptedServer(**answers) as server:
        timeout = LITTLE_PATIENCE if HANG in answers.values() else PATIENCE
        result = await result_of(server.provider(timeout=timeout))

    assert isinstance(result, expected)
    assert not isinstance(result, Refused) or result.reason == reason


@pytest.mark.parametrize(
    ("answer", "of_message"),
    [("452 mailbox full", True), ("450 grey list", True), ("421 closing", False)],
)
async def test_a_full_mailbox_says_nothing_about_the_server(answer: str, of_message: bool) -> None:
    async with ScriptedServer(RCPT=answer) as server:
        result = await result_of(server.provider())

    assert isinstance(result, Deferred)
    assert result.of_message is of_message


async def test_a_connection_that_does_not_survive_its_rest_is_replaced() -> None:
    async with ScriptedServer(RSET=HANG) as server:
        provider = server.provider()
        first = await provider.send(email_delivery("msg-1"))
        server.answers["RSET"] = "421 idle for too long"
        second = await provider.send(email_delivery("msg-2"))
        third = await provider.send(email_delivery("msg-3"))
        server.release.set()
        await provider.close()

    assert all(isinstance(result, Accepted) for result in (first, second, third))
    assert server.verbs.count("BODY") == 3
    assert server.verbs.count("EHLO") == 3


async def test_mail_is_never_sent_in_clear_where_encryption_is_asked_for() -> None:
    async with ScriptedServer() as server:
        result = await result_of(server.provider(tls="starttls"))

    assert isinstance(result, Deferred)
    assert "MAIL" not in server.verbs


async def test_a_server_without_a_certificate_is_no_server() -> None:
    async with ScriptedServer() as server:
        result = await result_of(server.provider(tls="tls"))

    assert isinstance(result, Deferred)
    assert "MAIL" not in server.verbs


async def test_a_refused_login_says_nothing_about_the_message() -> None:
    async with ScriptedServer(EHLO="250-sink\r\n250 AUTH PLAIN", AUTH="535 wrong") as server:
        result = await result_of(server.provider(username="us", password="wrong"))

    assert isinstance(result, Deferred)
    assert "MAIL" not in server.verbs


async def test_an_address_beyond_ascii_needs_a_server_that_knows_them(world: SmtpWorld) -> None:
    delivery = email_delivery(recipient="änä@bücher.example")
    async with ScriptedServer() as server:
        old = server.provider()
        refused = await old.send(delivery)
        await old.close()
    accepted = await world.provider.send(delivery)

    assert isinstance(refused, Refused)
    assert refused.reason == "INVALID_ADDRESS"
    assert "änä" not in refused.detail
    assert isinstance(accepted, Accepted)
    assert world.ledger[0].recipients == ["änä@xn--bcher-kva.example"]


async def test_one_connection_serves_many_messages_refusals_among_them(world: SmtpWorld) -> None:
    moods = [Mood.ACCEPTS, Mood.REFUSES, Mood.DEFERS, Mood.ACCEPTS]
    for number, mood in enumerate(moods):
        world.mood = mood
        await world.provider.send(email_delivery(f"msg-{number}"))

    assert world.connections == 1
    assert [mail.message_id for mail in world.ledger] == ["msg-0", "msg-3"]


async def test_at_most_four_connections_are_kept(world: SmtpWorld) -> None:
    sends = [world.provider.send(email_delivery(f"msg-{number}")) for number in range(7)]
    await asyncio.gather(*sends)
    assert world.connections == 7
    sends = [world.provider.send(email_delivery(f"msg-{number}")) for number in range(7)]
    await asyncio.gather(*sends)

    assert world.connections == 7 + 3


async def test_both_forms_of_the_body_travel_and_the_better_one_comes_last(
    world: SmtpWorld,
) -> None:
    await world.provider.send(email_delivery())
    await world.provider.send(email_delivery(text=""))
    await world.provider.send(email_delivery(html=""))

    both, html, text = (message_from_bytes(mail.raw) for mail in world.ledger)
    assert both.get_content_type() == "multipart/alternative"
    parts = [part.get_content_type() for part in both.walk()][1:]
    assert parts == ["text/plain", "text/html"]
    assert html.get_content_type() == "text/html"
    assert text.get_content_type() == "text/plain"


async def test_headers_of_its_own_and_where_answers_go(world: SmtpWorld) -> None:
    headers = {"X-Stream": "Grüße", "Precedence": "bulk"}
    await world.provider.send(email_delivery(reply_to="Us@bücher.example", headers=headers))

    mail = message_from_bytes(world.ledger[0].raw, policy=email.policy.default)
    assert mail["Reply-To"] == "Us@xn--bcher-kva.example"
    assert (mail["X-Stream"], mail["Precedence"]) == ("Grüße", "bulk")


@pytest.mark.parametrize(
    "fault", [{"reply_to": "a@b.example\r\nBcc: c"}, {"headers": {"X-A": "b\nc"}}]
)
async def test_what_cannot_be_a_header_is_refused(world: SmtpWorld, fault: dict[str, Any]) -> None:
    result = await world.provider.send(email_delivery(**fault))
    assert isinstance(result, Refused)
    assert world.ledger == []


async def test_the_headers_of_a_message(world: SmtpWorld) -> None:
    url = "https://edge.example/u/" + "0123456789abcdef" * 20
    await world.provider.send(email_delivery("01J-x", unsubscribe_url=url))

    (mail,) = world.ledger
    # As bytes: a mailbox provider reads no encoded word in here.
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in mail.raw
    assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.headers["Message-ID"] == "<01J-x@example.org>"
    assert mail.headers["X-Upshot-Message-Id"] == "01J-x"
    assert mail.headers["From"] == "Upshot Ärger <hello@example.org>"
    assert mail.headers["To"] == "ana@example.com"
    assert mail.headers["Date"].endswith("+0000")
    assert mail.raw.isascii()


async def test_without_an_unsubscribe_address_there_is_no_such_header(world: SmtpWorld) -> None:
    await world.provider.send(email_delivery())

    assert "List-Unsubscribe" not in world.ledger[0].headers


@pytest.mark.parametrize(
    "url",
    [
        "https://e.example/\r\nBcc: x@y.example",
        "https://e.example/>, <mailto:x@y.example",
        "https://e.example/ä",
        "https://e.example/" + "a" * 1000,
    ],
)
async def test_an_unsubscribe_address_that_cannot_be_a_header_is_refused(
    world: SmtpWorld, url: str
) -> None:
    result = await world.provider.send(email_delivery(unsubscribe_url=url))

    assert isinstance(result, Refused)
    assert world.connections == 0


async def test_an_encoded_word_in_a_subject_stays_the_text_it_is(world: SmtpWorld) -> None:
    # The standard library alone would decode this and write a Bcc header.
    subject = "=?utf-8?q?a=0D=0ABcc:_x=40y.example?= hi"
    await world.provider.send(email_delivery(subject=subject))

    (mail,) = world.ledger
    assert mail.subject == subject
    assert b"\nBcc" not in mail.raw


async def test_an_id_that_is_no_part_of_an_address_still_gives_one_message_id(
    world: SmtpWorld,
) -> None:
    for _ in range(2):
        await world.provider.send(email_delivery("run 1/mail<1>"))

    first, second = (mail.headers["Message-ID"] for mail in world.ledger)
    assert first == second
    assert first.endswith("@example.org>")
    assert world.ledger[0].message_id == "run 1/mail<1>"


@pytest.mark.parametrize("text", ["a\x00b", "a\rb", "a\x1b[2Jb", "x\r\n.\r\nMAIL FROM:<a@b>"])
async def test_controls_in_a_body_neither_end_the_message_nor_break_it(
    world: SmtpWorld, text: str
) -> None:
    result = await world.provider.send(email_delivery(text=text, html=""))

    assert isinstance(result, Accepted)
    (mail,) = world.ledger
    assert mail.recipients == ["ana@example.com"]
    assert b"\x00" not in mail.raw
    assert b"\x1b" not in mail.raw


@pytest.mark.parametrize(
    "change",
    [{"from_name": "A\r\nBcc: x@y.example"}, {"from_address": "a@b\r\nBcc: x"}],
)
async def test_a_hostile_sender_is_refused_before_any_connection(
    world: SmtpWorld, change: dict[str, str]
) -> None:
    settings = {"host": "127.0.0.1", "from_address": "a@example.org", "tls": "none", **change}
    make: Callable[..., SmtpSettings] = SmtpSettings
    provider = SmtpProvider("test", make(port=world.port, **settings), wall_us)

    result = await provider.send(email_delivery())

    assert isinstance(result, Refused)
    assert world.connections == 0


def test_the_password_is_not_shown() -> None:
    assert "hush" not in repr(SmtpSettings("h", 25, "a@b.example", password="hush"))


async def test_a_kept_connection_that_hangs_costs_a_try_and_nothing_else() -> None:
    async with ScriptedServer(RSET=HANG) as server:
        provider = server.provider(timeout=LITTLE_PATIENCE)
        await provider.send(email_delivery("msg-1"))
        second = await provider.send(email_delivery("msg-2"))
        third = await provider.send(email_delivery("msg-3"))
        await provider.close()

    assert isinstance(second, Deferred)
    assert isinstance(third, Accepted)
    assert server.verbs.count("BODY") == 2


async def test_a_send_that_is_cancelled_while_connecting_leaves_nothing_open() -> None:
    async with ScriptedServer(GREETING=HANG) as server:
        sending = asyncio.create_task(server.provider().send(email_delivery()))
        while not server.sessions:
            await asyncio.sleep(0.005)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
