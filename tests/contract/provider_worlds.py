"""The far ends of the providers under test: real servers on loopback, each with its own ledger."""

import asyncio
import email.policy
import io
import time
import warnings
from dataclasses import dataclass, field
from email import message_from_bytes
from enum import Enum, auto
from typing import Any

from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.console import ConsoleProvider
from upshotd.adapters.providers.options import Home
from upshotd.application.provider import Provider
from upshotd.domain.message import Channel, Delivery, Email, Push, Sms

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aiosmtpd import smtp as aiosmtpd

#: How long a provider waits, and how long where a test makes its server hang.
PATIENCE, LITTLE_PATIENCE = "20s", "1200ms"


class Mood(Enum):
    """What a server does with the messages that come."""

    ACCEPTS = auto()
    REFUSES = auto()
    DEFERS = auto()
    #: Takes the message, then cuts the line without a word.
    DROPS = auto()
    #: Takes the message, then says nothing.
    HANGS = auto()


@dataclass
class Received:
    """One line of a ledger."""

    message_id: str
    recipients: list[str]
    subject: str
    text: str
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""


def email_delivery(message_id: str = "msg-1", **changes: Any) -> Delivery:
    """An e-mail to Ana; `recipient` and all parts of the content can be changed."""
    recipient = changes.pop("recipient", "ana@example.com")
    content = {"subject": "Hello Ana", "html": "<p>Hi</p>", "text": "Hi Ana", **changes}
    return _delivery(message_id, Channel.EMAIL, recipient, Email(**content))


def sms_delivery(message_id: str = "msg-1", body: str = "Hi Ana") -> Delivery:
    """A text message to Ana."""
    return _delivery(message_id, Channel.SMS, "+41790000000", Sms(body))


def push_delivery(message_id: str = "msg-1", **changes: Any) -> Delivery:
    """A push to a device of Ana's; `recipient` and all parts of the content can be changed."""
    recipient = changes.pop("recipient", "device-1")
    content = {"title": "Hello Ana", "body": "Hi Ana", "data": {"order": "1042"}, **changes}
    return _delivery(message_id, Channel.PUSH, recipient, Push(**content))


def _delivery(message_id: str, channel: Channel, recipient: str, content: Any) -> Delivery:
    return Delivery(
        message_id=message_id,
        workspace_id="default",
        channel=channel,
        recipient=recipient,
        content=content,
        user_id="ana",
        workflow_id="welcome",
        run_id="run-1",
        step_id="mail",
    )


def wall_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000


class World:
    """A provider and what stands at its other end."""

    provider: Provider
    mood = Mood.ACCEPTS
    #: Where its messages go.
    recipient = "ana@example.com"

    def __init__(self) -> None:
        self.ledger: list[Received] = []
        self.released = asyncio.Event()

    def delivery(self, message_id: str = "msg-1", **changes: Any) -> Delivery:
        """A message to Ana that it can carry: `recipient`, `subject` and `text` can be changed."""
        return email_delivery(message_id, **changes)

    async def start(self) -> None:
        """Make the provider and its server."""

    async def go_down(self) -> None:
        """Stop listening; whoever connects is refused from now on."""

    async def stop(self) -> None:
        """End what is still going on."""
        self.released.set()
        await self.go_down()


class ConsoleWorld(World):
    """A terminal: the ledger is what stands on it."""

    async def start(self) -> None:
        self.screen = io.StringIO()
        self.provider = ConsoleProvider("test", self.screen)

    def read(self) -> list[Received]:
        """The ledger, block by block."""
        blocks = self.screen.getvalue().split("---\n")[:-1]
        return [_block(block.splitlines()) for block in blocks]


def _block(lines: list[str]) -> Received:
    rest = [line[4:] for line in lines[1:]]
    subject = rest[1].removeprefix("subject: ")
    recipient = lines[0].split(" to ")[1].split(" ")[0]
    message_id = rest[0].removeprefix("message ").split(",")[0]
    return Received(message_id, [recipient], subject, "\n".join(rest[2:]))


class NullWorld(World):
    """Nothing at all."""

    async def start(self) -> None:
        self.provider = build("null", "test", {}, Home(wall_us))


class SmtpWorld(World):
    """A real SMTP server."""

    connections = 0
    server: asyncio.Server | None = None
    last: aiosmtpd.SMTP | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self._session, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.provider = self.build()

    def build(self, **changes: object) -> Provider:
        """A provider of this server."""
        options = {"host": "127.0.0.1", "port": self.port, "tls": "none", "timeout": PATIENCE}
        sender = {"from": "Upshot Ärger <hello@example.org>"}
        return build("smtp", "test", {**options, **sender, **changes}, Home(wall_us))

    def _session(self) -> aiosmtpd.SMTP:
        self.connections += 1
        self.last = aiosmtpd.SMTP(self, hostname="sink", enable_SMTPUTF8=True)
        return self.last

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        if self.mood is Mood.REFUSES:
            return f"550 5.1.1 <{address}> no such mailbox"
        if self.mood is Mood.DEFERS:
            return "451 4.7.1 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        self.ledger.append(_mail(envelope))
        if self.mood is Mood.DROPS:
            server.transport.abort()
        if self.mood is Mood.HANGS:
            await self.released.wait()
        return "250 queued"

    async def go_down(self) -> None:
        if self.server is not None:
            self.server.close()
            transport = self.last.transport if self.last else None
            if isinstance(transport, asyncio.Transport):
                transport.abort()
            self.server = None


def _mail(envelope: Any) -> Received:
    message = message_from_bytes(envelope.original_content, policy=email.policy.default)
    body = message.get_body(("plain", "html"))
    return Received(
        message_id=str(message["X-Upshot-Message-Id"]),
        recipients=list(envelope.rcpt_tos),
        subject=str(message["Subject"]),
        text=body.get_content().rstrip("\r\n").replace("\r\n", "\n") if body else "",
        headers={name: str(value) for name, value in message.items()},
        raw=envelope.original_content,
    )
