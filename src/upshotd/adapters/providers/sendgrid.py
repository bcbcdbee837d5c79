"""E-mail by SendGrid's v3 API (`POST /v3/mail/send`).

SendGrid knows no key of repetition. What it answers with a 4xx it has not taken; after a 5xx or
silence nobody can tell.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from upshotd.adapters.providers.attachments import File, Files
from upshotd.adapters.providers.mime import Unsendable, ascii_domain, recipient_of
from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.preparing import headers_of, prepared, subject_of
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

HOSTS: Final = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
#: The custom argument by which its events name our message; it comes back with each of them.
TOKEN: Final = "upshot"
#: Headers that SendGrid sets itself and refuses to be given.
_RESERVED: Final = frozenset(
    {
        *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type"),
        *("content-transfer-encoding", "to", "from", "subject", "reply-to", "cc", "bcc"),
    }
)
#: Statuses that say something about us, not about the message: another provider may take it.
_OURS: Final = frozenset({401, 403, 404, 405})
_CATEGORY_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class SendGridSettings:
    """As whom and how."""

    api_key: str = field(repr=False)
    from_address: str
    from_name: str = ""
    base_url: str = HOSTS["global"]
    #: Checked by SendGrid and delivered to nobody.
    sandbox: bool = False
    #: Whether SendGrid tracks openings and clicks as well; ours are tracked either way.
    tracking: bool = False
    #: Beside the workflow's id, to tell messages apart in SendGrid's own statistics.
    categories: tuple[str, ...] = ()
    #: SendGrid's unsubscribe group; 0 for none.
    group: int = 0
    timeout_us: int = 15_000_000
    attachment_hosts: frozenset[str] = frozenset()


class SendGridProvider:
    """Hands each message to SendGrid, our token in its custom arguments."""

    idempotent = False

    def __init__(self, name: str, settings: SendGridSettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._quoting = Quoting(settings.api_key)
        self._files = Files(settings.attachment_hosts)

    async def send(self, delivery: Delivery) -> SendResult:
        """Post once; see the module for what a failure means."""
        content = delivery.content
        if not isinstance(content, Email):
            return Refused("PROVIDER_ERROR", "SendGrid carries e-mail only")
        mail = await prepared(
            self._files, content, lambda files: self._mail(delivery, content, files)
        )
        if not isinstance(mail, dict):
            return mail
        try:
            body = orjson.dumps(mail)
        except TypeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        settings = self._settings
        headers = {
            "authorization": f"Bearer {settings.api_key}",
            "content-type": "application/json",
        }
        answer = await self._posting.post(f"{settings.base_url}/v3/mail/send", body, headers)
        return self._result(answer) if isinstance(answer, Answer) else answer

    async def check(self) -> str:
        """Return what is wrong with the key; empty when it may send mail."""
        settings = self._settings
        headers = {"authorization": f"Bearer {settings.api_key}"}
        return await self._posting.look(f"{settings.base_url}/v3/scopes", headers)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._files.close()
        await self._posting.close()

    def _mail(self, delivery: Delivery, content: Email, files: Sequence[File]) -> dict[str, object]:
        settings = self._settings
        recipient = recipient_of(delivery.recipient)
        token = self._home.callback_token(delivery.workspace_id, delivery.message_id)
        categories = dict.fromkeys((delivery.workflow_id, *settings.categories))
        tracked = {"enable": settings.tracking}
        mail: dict[str, object] = {
            # The maker's document has an object here, and a string at the top.
            "personalizations": [{"to": [{"email": recipient}], "custom_args": {TOKEN: token}}],
            "from": {"email": settings.from_address, "name": settings.from_name}
            if settings.from_name
            else {"email": settings.from_address},
            "subject": subject_of(content),
            "content": _parts(content),
            "headers": _headers(delivery, content),
            "categories": [one[:_CATEGORY_CHARS] for one in categories if one][:10],
            "tracking_settings": {
                "click_tracking": {**tracked, "enable_text": False},
                "open_tracking": tracked,
            },
        }
        if content.reply_to:
            mail["reply_to"] = {"email": _plain(content.reply_to)}
        if files:
            mail["attachments"] = [_attachment(file) for file in files]
        if settings.group:
            mail["asm"] = {"group_id": settings.group}
        if settings.sandbox:
            mail["mail_settings"] = {"sandbox_mode": {"enable": True}}
        return mail

    def _result(self, answer: Answer) -> SendResult:
        status = answer.status
        if status in (200, 202):  # 200 is what the sandbox says
            named = answer.headers.get("x-message-id", "")[:200]
            return Accepted(named if named.isascii() and named.isprintable() else "")
        words = f"HTTP {status}{self._words(answer)}"
        if status == 429:
            return Deferred(words, self._pause_us(answer))
        if status in _OURS:
            return Deferred(f"configuration: {words}")
        if 400 <= status < 500:
            about_recipient = any(field.startswith("personalizations") for field in _fields(answer))
            return Refused("INVALID_ADDRESS" if about_recipient else "PROVIDER_ERROR", words)
        return Unknown(words)

    def _words(self, answer: Answer) -> str:
        """Return what it says is wrong."""
        told = [str(error.get("message") or "") for error in _errors(answer)]
        return f": {self._quoting.detail('; '.join(told))}" if any(told) else ""

    def _pause_us(self, answer: Answer) -> int:
        """Return how long it asks to be left alone: by Retry-After, else until its limit is new."""
        now_us = self._home.now_us()
        reset = answer.headers.get("x-ratelimit-reset", "")
        until_us = int(reset) * 1_000_000 - now_us if reset.isdigit() and len(reset) < 12 else 0
        return answer.retry_after_us(now_us) or min(max(until_us, 0), 3_600_000_000)


def make(name: str, options: Options, home: Home) -> SendGridProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    from_name, from_address = options.sender()
    region = options.text("region") or "global"
    if region not in HOSTS:
        options.fault("region", f"must be one of {', '.join(HOSTS)}")
    settings = SendGridSettings(
        api_key=options.header("api_key"),
        from_address=from_address,
        from_name=from_name,
        base_url=options.web_address("base_url").rstrip("/") or HOSTS.get(region, ""),
        sandbox=options.flag("sandbox"),
        tracking=options.flag("tracking"),
        categories=options.words("categories"),
        group=options.number("unsubscribe_group", 0, 1, 2**31 - 1),
        timeout_us=options.timeout_us(),
        attachment_hosts=options.hosts("attachment_hosts"),
    )
    # Read by the edge, which takes its events.
    options.text("webhook_key")
    options.check("sendgrid")
    return SendGridProvider(name, settings, home)


def _plain(address: str) -> str:
    try:
        return ascii_domain(address)
    except ValueError:
        raise Unsendable("PROVIDER_ERROR", "reply_to: not a plain e-mail address") from None


def _parts(content: Email) -> list[dict[str, str]]:
    """Return the parts, the plain one in front as SendGrid wants them."""
    given = (("text/plain", content.text), ("text/html", content.html))
    return [{"type": kind, "value": value} for kind, value in given if value]


def _headers(delivery: Delivery, content: Email) -> dict[str, str]:
    headers = headers_of(delivery, content)
    for name, value in headers.items():
        if name.lower() in _RESERVED:
            raise Unsendable("PROVIDER_ERROR", f"SendGrid sets the header {name} itself")
        if has_controls(value):
            raise Unsendable("PROVIDER_ERROR", f"the {name} has control characters")
    return headers


def _attachment(file: File) -> dict[str, str]:
    return {
        "content": base64.b64encode(file.data).decode(),
        "type": f"{file.maintype}/{file.subtype}",
        "filename": file.name,
        "disposition": "attachment",
    }


def _errors(answer: Answer) -> list[Mapping[str, object]]:
    errors = answer.json().get("errors")
    if not isinstance(errors, list):
        return []
    return [error for error in errors if isinstance(error, Mapping)]


def _fields(answer: Answer) -> list[str]:
    return [str(error.get("field") or "") for error in _errors(answer)]
