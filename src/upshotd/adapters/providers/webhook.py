"""Messages handed to an HTTP endpoint, signed as Standard Webhooks (standardwebhooks.com)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.message import (
    Accepted,
    Deferred,
    Delivery,
    Refused,
    SendResult,
)
from upshotd.signing import keys_of, signature

_ID_LENGTH = 200
_ID = re.compile(r"[\x21-\x7e]{1,256}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Headers that a webhook sets itself, or that the HTTP client must.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where messages are posted and how they are signed."""

    #: http or https, without credentials in it.
    url: str
    #: Keys of the signature; more than one while they are being rotated.
    keys: tuple[bytes, ...] = field(repr=False)
    #: For one whole attempt, connecting included, in microseconds.
    timeout_us: int = 15_000_000
    #: Sent with every message, after our own.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class WebhookProvider:
    """Posts each message as JSON to one address.

    `idempotent` is true because `webhook-id` is our message id on every attempt: by the standard
    it is the key by which a receiver drops repetitions. A receiver that ignores it may act twice.
    `now_us` must be the wall clock, never a lab's: receivers refuse a timestamp minutes away.
    """

    idempotent = True

    def __init__(self, name: str, settings: WebhookSettings, now_us: Callable[[], int]) -> None:
        self.name = name
        self._settings = settings
        self._now_us = now_us
        self._posting = Posting(settings.timeout_us)

    async def send(self, delivery: Delivery) -> SendResult:
        """Post once; Unknown when the connection stood and no status came."""
        if not _ID.fullmatch(delivery.message_id):
            return Refused("PROVIDER_ERROR", "the message id cannot be a header")
        now_us = self._now_us()
        try:
            body = orjson.dumps(_event(delivery, now_us))
        except TypeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        headers = self._headers(delivery.message_id, now_us, body)
        answer = await self._posting.post(self._settings.url, body, headers)
        return self._result(answer) if isinstance(answer, Answer) else answer

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()

    def _headers(self, message_id: str, now_us: int, body: bytes) -> dict[str, str]:
        second = str(now_us // 1_000_000)
        return {
            **self._settings.headers,
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": second,
            "webhook-signature": signature(self._settings.keys, message_id, second, body),
        }

    def _result(self, answer: Answer) -> SendResult:
        status = answer.status
        words = f"HTTP {status}"
        if 200 <= status < 300:
            return Accepted(_provider_id(answer))
        # Safe to repeat although the receiver may have begun: it knows the message by webhook-id.
        if status in (408, 429) or status >= 500:
            return Deferred(words, answer.retry_after_us(self._now_us()))
        if status in (401, 403):
            return Deferred(f"configuration: {words}")
        return Refused("PROVIDER_ERROR", words)


def make(name: str, options: Options, home: Home) -> WebhookProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    settings = WebhookSettings(
        url=options.web_address("url", required=True),
        keys=_keys(options),
        timeout_us=options.timeout_us(),
        headers=_checked_headers(options),
    )
    options.check("webhook")
    return WebhookProvider(name, settings, home.now_us)


def _keys(options: Options) -> tuple[bytes, ...]:
    secrets = options.text("secret", required=True)
    if not secrets:
        return ()
    try:
        return keys_of(secrets)
    except ValueError as error:
        options.fault("secret", str(error))
        return ()


def _checked_headers(options: Options) -> dict[str, str]:
    headers = options.texts("headers")
    for header, value in headers.items():
        if not header or not _TOKEN.issuperset(header.lower()):
            options.fault(f"headers.{header}", "is no name of a header")
        elif header.lower() in _OWN_HEADERS:
            options.fault(f"headers.{header}", "is set by Upshot itself")
        if has_controls(value) or not value.isascii():
            options.fault(f"headers.{header}", "must be printable ASCII")
    return headers


def _event(delivery: Delivery, now_us: int) -> dict[str, object]:
    # What the content was made from is no part of it.
    content = {k: v for k, v in delivery.content._asdict().items() if k not in ("mjml", "utm")}
    files = content.pop("attachments", ())
    if files:  # the receiver fetches them
        content["attachments"] = [one._asdict() for one in files]
    data: dict[str, object] = delivery._asdict() | {"content": content}
    data["channel"] = delivery.channel.name.lower()
    moment = _EPOCH + timedelta(microseconds=now_us)
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": "message.send", "timestamp": stamp, "data": data}


def _provider_id(answer: Answer) -> str:
    """The id in an accepting answer; empty when there is none that can be used."""
    found = answer.json()
    for key in ("id", "message_id"):
        value = found.get(key)
        if isinstance(value, str) and 0 < len(value) <= _ID_LENGTH and not has_controls(value):
            return value
    return ""
