"""Providers to be sent to: an SMS gateway that can be held up, and a mail server with a mailbox."""

import asyncio
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import aiosmtpd.smtp
from aiohttp import web

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Gateway:
    """An SMS gateway that answers when it is let, with ids of its own: theirs-1, theirs-2 ..."""

    def __init__(self) -> None:
        #: Set by the first message that comes.
        self.asked = asyncio.Event()
        #: Set it to let the gateway answer.
        self.answers = asyncio.Event()
        self.message_ids: list[str] = []
        #: Status of the next answers; 200 when there is none left.
        self.statuses: list[int] = []
        #: Goes with each answer.
        self.headers: dict[str, str] = {}
        self.port = 0

    @property
    def toml(self) -> str:
        """The settings of a server that sends its SMS here."""
        return f"""
            [providers.gateway]
            kind = "webhook"
            url = "http://127.0.0.1:{self.port}/"
            secret = "{SECRET}"
            [channels]
            sms = "gateway"
        """

    async def take(self, request: web.Request) -> web.Response:
        self.message_ids.append(request.headers["webhook-id"])
        number = len(self.message_ids)
        self.asked.set()
        await self.answers.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response({"id": f"theirs-{number}"}, status=status, headers=self.headers)


@asynccontextmanager
async def sms_gateway() -> AsyncIterator[Gateway]:
    """Run a gateway; at the end everybody is answered."""
    gateway, served = Gateway(), web.Application()
    served.router.add_post("/", gateway.take)
    runner = web.AppRunner(served, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.port = runner.addresses[0][1]
    try:
        yield gateway
    finally:
        gateway.answers.set()
        await runner.cleanup()


class Mailbox:
    """What came by SMTP."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        #: What the next recipients are answered; `250 ok` when there is none left.
        self.answers: list[str] = []
        #: How many of the next mails are taken and never answered: the line drops.
        self.drops = 0
        self.port = 0

    @property
    def toml(self) -> str:
        """The settings of a server that sends its e-mail here."""
        return f"""
            [providers.post]
            kind = "smtp"
            host = "127.0.0.1"
            port = {self.port}
            tls = "none"
            from = "Upshot <hello@us.example>"
            [channels]
            email = "post"
        """

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        answer = self.answers.pop(0) if self.answers else "250 ok"
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.original_content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.drops:
            self.drops -= 1
            server.transport.abort()
        return "250 queued"


@asynccontextmanager
async def mailbox() -> AsyncIterator[Mailbox]:
    """Run a mail server."""
    box = Mailbox()
    sessions: list[aiosmtpd.smtp.SMTP] = []

    def session() -> aiosmtpd.smtp.SMTP:
        sessions.append(aiosmtpd.smtp.SMTP(box, hostname="sink", enable_SMTPUTF8=True))
        return sessions[-1]

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for held in sessions:
            if held.transport is not None:
                held.transport.close()


def part(mail: EmailMessage, kind: str) -> str:
    """Return the `plain` or `html` part of a mail, empty when there is none."""
    body = mail.get_body((kind,))
    return str(body.get_content()) if body is not None else ""
