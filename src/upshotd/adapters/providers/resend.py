"""E-mail by Resend (`POST /emails`).

Resend keeps an idempotency key for 24 hours: ours is the message's id, so that whatever had no
answer is simply asked again. Facts after the send are not read from it; our own links tell of
openings and clicks.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from upshotd.adapters.providers.attachments import File, Files
from upshotd.adapters.providers.mime import recipient_of
from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.preparing import headers_of, prepared, subject_of
from upshotd.adapters.providers.wording import Quoting, has_controls
from upshotd.domain.message import Accepted, Deferred, Delivery, Email, Refused, SendResult

API: Final = "https://api.resend.com"
_KEY_CHARS: Final = 256
#: The key came with another text before: that one was taken.
_TAKEN_BEFORE: Final = "invalid_idempotent_request"
#: It is being taken at this moment.
_BEING_TAKEN: Final = "concurrent_idempotent_requests"


@dataclass(frozen=True, slots=True)
class ResendSettings:
    """As whom and how."""

    api_key: str = field(repr=False)
    from_address: str
    from_name: str = ""
    base_url: str = API
    timeout_us: int = 15_000_000
    attachment_hosts: frozenset[str] = frozenset()


class ResendProvider:
    """Hands each message to Resend under its own id."""

    idempotent = True

    def __init__(self, name: str, settings: ResendSettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._quoting = Quoting(settings.api_key)
        self._files = Files(settings.attachment_hosts)

    async def send(self, delivery: Delivery) -> SendResult:
        """Post once."""
        content = delivery.content
        if not isinstance(content, Email):
            return Refused("PROVIDER_ERROR", "Resend carries e-mail only")
        key = delivery.message_id
        if has_controls(key) or not key.isascii() or len(key) > _KEY_CHARS:
            return Refused("PROVIDER_ERROR", "the message id cannot be a header")
        mail = await prepared(
            self._files, content, lambda files: self._mail(delivery, content, files)
        )
        if not isinstance(mail, dict):
            return mail
        try:
            body = orjson.dumps(mail)
        except TypeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        headers = {
            "authorization": f"Bearer {self._settings.api_key}",
            "content-type": "application/json",
            "idempotency-key": key,
        }
        answer = await self._posting.post(f"{self._settings.base_url}/emails", body, headers)
        return self._result(answer) if isinstance(answer, Answer) else answer

    async def check(self) -> str:
        """Return what is wrong with the key; empty when it is good, and for more than sending."""
        headers = {"authorization": f"Bearer {self._settings.api_key}"}
        return await self._posting.look(f"{self._settings.base_url}/domains", headers)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._files.close()
        await self._posting.close()

    def _mail(self, delivery: Delivery, content: Email, files: Sequence[File]) -> dict[str, object]:
        settings = self._settings
        recipient = recipient_of(delivery.recipient)
        mail: dict[str, object] = {
            "from": _sender(settings),
            "to": [recipient],
            "subject": subject_of(content),
            "headers": headers_of(delivery, content),
        }
        given = (("text", content.text), ("html", content.html), ("reply_to", content.reply_to))
        mail |= {name: value for name, value in given if value}
        if files:
            mail["attachments"] = [
                {"filename": file.name, "content": base64.b64encode(file.data).decode()}
                for file in files
            ]
        return mail

    def _result(self, answer: Answer) -> SendResult:
        found, status = answer.json(), answer.status
        if 200 <= status < 300:
            return Accepted(str(found.get("id") or "")[:200])
        name, told = str(found.get("name") or ""), found.get("message")
        said = f": {self._quoting.detail(told)}" if isinstance(told, str) else ""
        words = f"HTTP {status}{said}"
        if name == _TAKEN_BEFORE:
            return Accepted()
        # Safe to repeat although it may have been taken: Resend knows the key.
        if name == _BEING_TAKEN or status in (408, 429) or status >= 500 or status < 400:
            return Deferred(words, answer.retry_after_us(self._home.now_us()))
        if status in (401, 403, 404, 405):
            return Deferred(f"configuration: {words}")
        about_recipient = status == 422 and "`to`" in str(told)
        return Refused("INVALID_ADDRESS" if about_recipient else "PROVIDER_ERROR", words)


def _sender(settings: ResendSettings) -> str:
    if not settings.from_name:
        return settings.from_address
    name = settings.from_name.replace("\\", "").replace('"', "'")
    return f'"{name}" <{settings.from_address}>'


def make(name: str, options: Options, home: Home) -> ResendProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    from_name, from_address = options.sender()
    settings = ResendSettings(
        api_key=options.header("api_key"),
        from_address=from_address,
        from_name=from_name,
        base_url=options.web_address("base_url").rstrip("/") or API,
        timeout_us=options.timeout_us(),
        attachment_hosts=options.hosts("attachment_hosts"),
    )
    options.check("resend")
    return ResendProvider(name, settings, home)
