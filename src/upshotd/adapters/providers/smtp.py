"""E-mail by SMTP.

Which phase a failure falls in decides what it means: before DATA the message cannot have been
taken, after it only the server's answer says so.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, cast

import aiosmtplib
from aiosmtplib import (
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)
from aiosmtplib.typing import Default

from upshotd.adapters.providers.attachments import Files
from upshotd.adapters.providers.mime import Letter, compose
from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.preparing import prepared
from upshotd.adapters.providers.wording import Quoting, has_controls
from upshotd.domain.message import (
    Accepted,
    Deferred,
    Delivery,
    Email,
    Refused,
    SendResult,
    Unknown,
)

Timeout = float | Literal[Default.token] | None

#: Where servers listen, by how they encrypt.
_PORTS = {"none": 25, "starttls": 587, "tls": 465}
#: Connections kept open between messages.
_IDLE = 4
#: What an idle connection may take to show that it is alive, and to say goodbye, in seconds.
_CHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where mail is handed over and as whom."""

    host: str
    port: int
    #: Plain ASCII address of the From header and of the envelope.
    from_address: str
    #: Display name of the From header; empty for none.
    from_name: str = ""
    #: none: never encrypted; starttls: upgraded or not sent at all; tls: encrypted from the start.
    tls: Literal["none", "starttls", "tls"] = "starttls"
    #: Empty for no login.
    username: str = ""
    password: str = field(default="", repr=False)
    #: For one whole attempt, connecting included, in microseconds.
    timeout_us: int = 15_000_000
    #: Hosts that attachments may come from although they are not public, as `name:port`.
    attachment_hosts: frozenset[str] = frozenset()


class SmtpProvider:
    """Hands each message to one SMTP server, over up to four connections kept open."""

    #: SMTP has no key by which a server knows a repeated message; Message-ID only helps people.
    idempotent = False

    def __init__(self, name: str, settings: SmtpSettings, now_us: Callable[[], int]) -> None:
        self.name = name
        self._settings = settings
        self._now_us = now_us
        self._idle: list[_Connection] = []
        login = f"\0{settings.username}\0{settings.password}"
        self._quoting = Quoting(*((settings.password, login) if settings.password else ()))
        self._files = Files(settings.attachment_hosts)
        encrypted = settings.tls != "none"
        self._context = ssl.create_default_context() if encrypted else None

    async def send(self, delivery: Delivery) -> SendResult:
        """Send to the one recipient; see the module for what a failure means."""
        content = delivery.content
        if not isinstance(content, Email):
            return Refused("PROVIDER_ERROR", "SMTP carries e-mail only")
        sender, name = self._settings.from_address, self._settings.from_name
        letter = await prepared(
            self._files,
            content,
            lambda files: compose(delivery, content, sender, name, self._now_us(), files),
        )
        return await self._deliver(letter) if isinstance(letter, Letter) else letter

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        await self._files.close()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.leave() for connection in idle))

    async def _deliver(self, letter: Letter) -> SendResult:
        connection: _Connection | None = None
        result: SendResult = Accepted(letter.internet_id)
        try:
            async with asyncio.timeout(self._settings.timeout_us / 1_000_000):
                connection = await self._connection()
                await connection.send_message(
                    letter.message,
                    sender=self._settings.from_address,
                    recipients=[letter.recipient],
                )
        except (SMTPException, OSError, ValueError) as error:
            result = _verdict(error, self._quoting.detail(_words(error)), connection)
            if connection and not isinstance(error, SMTPResponseException | SMTPRecipientsRefused):
                connection.close()
        except BaseException:
            if connection:
                connection.close()
            raise
        self._keep(connection)
        return result

    async def _connection(self) -> "_Connection":
        while self._idle:
            idle = self._idle.pop()
            if await idle.is_alive():
                return idle
        settings = self._settings
        fresh = _Connection(
            hostname=settings.host,
            port=settings.port,
            username=settings.username or None,
            password=settings.password or None,
            local_hostname=_own_name(),
            timeout=settings.timeout_us / 1_000_000,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            tls_context=self._context,
        )
        await fresh.connect()
        return fresh

    def _keep(self, connection: "_Connection | None") -> None:
        if connection is None or not connection.is_connected:
            return
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()


def make(name: str, options: Options, home: Home) -> SmtpProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    tls = _tls(options)
    from_name, from_address = options.sender()
    settings = SmtpSettings(
        host=_host(options),
        port=options.number("port", _PORTS[tls], 1, 65_535),
        from_address=from_address,
        from_name=from_name,
        tls=tls,
        username=options.text("username"),
        password=options.text("password"),
        timeout_us=options.timeout_us(),
        attachment_hosts=options.hosts("attachment_hosts"),
    )
    if settings.password and not settings.username:
        options.fault("username", "is required beside a password")
    if settings.username and tls == "none" and not _is_loopback(settings.host):
        options.fault("tls", "must be starttls or tls where a password is sent")
    options.check("smtp")
    return SmtpProvider(name, settings, home.now_us)


def _tls(options: Options) -> Literal["none", "starttls", "tls"]:
    tls = options.text("tls") or "starttls"
    if tls not in _PORTS:
        options.fault("tls", "must be none, starttls or tls")
        return "starttls"
    return cast(Literal["none", "starttls", "tls"], tls)


def _host(options: Options) -> str:
    host = options.text("host", required=True)
    if has_controls(host) or any(character in " /@<>" for character in host):
        options.fault("host", "must be a host name or an IP address")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Connection(aiosmtplib.SMTP):
    """A connection that knows whether the message may have left."""

    data_begun = False

    async def data(
        self, message: str | bytes, /, *, timeout: Timeout = Default.token
    ) -> SMTPResponse:
        self.data_begun = True
        return await super().data(message, timeout=timeout)

    async def rset(self, *, timeout: Timeout = Default.token) -> SMTPResponse:
        """The library's reset after a refusal, left to `is_alive`.

        Done at once, a server that refuses and then hangs would hide its refusal behind a timeout.
        """
        raise SMTPServerDisconnected("reset when it is next used")

    async def is_alive(self) -> bool:
        """Make an idle connection ready for another message; closes it when it is not."""
        self.data_begun = False
        try:
            await super().rset(timeout=_CHECK_S)
        except (SMTPException, OSError):
            self.close()
        except BaseException:
            self.close()
            raise
        return self.is_connected

    async def leave(self) -> None:
        """QUIT, and close whatever the server answers."""
        try:
            await self.quit(timeout=_CHECK_S)
        except (SMTPException, OSError):
            pass  # it is being closed either way
        finally:
            self.close()


def _verdict(error: Exception, words: str, connection: _Connection | None) -> SendResult:
    if connection is None:
        # Not even logged in: a refusal here is about us or the server, not about this message.
        return Deferred(words)
    match error:
        case SMTPRecipientsRefused():
            code = error.recipients[0].code
            if 400 <= code < 500:  # a full mailbox, a grey list; 421 shuts the door to everybody
                return Deferred(words, of_message=code != 421)
            return _answered(code, "BOUNCED", words, connection)
        case SMTPSenderRefused() | SMTPDataError():
            return _answered(error.code, "PROVIDER_ERROR", words, connection)
        case SMTPNotSupported() | ValueError() if not connection.data_begun:
            return Refused("INVALID_ADDRESS", words)
    return _unanswered(words, connection)


def _answered(code: int, reason: str, words: str, connection: _Connection) -> SendResult:
    if code >= 500:
        return Refused(reason, words)
    if code >= 400:
        return Deferred(words)
    return _unanswered(words, connection)


def _unanswered(words: str, connection: _Connection) -> SendResult:
    return Unknown(words) if connection.data_begun else Deferred(words)


def _words(error: Exception) -> str:
    if isinstance(error, SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__


def _own_name() -> str:
    # The library would ask DNS for it, which may take seconds and answer nonsense.
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"
