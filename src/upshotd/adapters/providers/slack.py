"""Chat by Slack's Web API (`chat.postMessage`).

The address is the id of a channel or of a member. Slack answers 200 to everything it understands
and says in the body whether it did it. It knows no key of repetition.
"""

from dataclasses import dataclass, field
from typing import Final

import orjson

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.wording import Quoting, has_controls
from upshotd.domain.message import (
    Accepted,
    Chat,
    Deferred,
    Delivery,
    Refused,
    SendResult,
    Unknown,
)

API: Final = "https://slack.com/api"
#: The address leads nowhere.
_BAD_ADDRESS: Final = frozenset(
    {"channel_not_found", "is_archived", "user_not_found", "messages_tab_disabled"}
)
#: The text, for whoever wrote it.
_BAD_TEXT: Final = frozenset(
    {"no_text", "msg_too_long", "too_many_attachments", "msg_blocks_too_long", "invalid_blocks"}
)
#: By Slack's own words some of it may have been done.
_IN_DOUBT: Final = frozenset({"fatal_error", "internal_error", "request_timeout"})
_TOO_MANY: Final = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """As whom."""

    #: Of a bot, with the scope chat:write.
    token: str = field(repr=False)
    base_url: str = API
    timeout_us: int = 15_000_000


class SlackProvider:
    """Posts each message as a bot."""

    idempotent = False

    def __init__(self, name: str, settings: SlackSettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._quoting = Quoting(settings.token)

    async def send(self, delivery: Delivery) -> SendResult:
        """Post once; see the module for what an answer means."""
        content = delivery.content
        if not isinstance(content, Chat):
            return Refused("PROVIDER_ERROR", "Slack carries chat messages only")
        if has_controls(delivery.recipient) or not delivery.recipient:
            return Refused("INVALID_ADDRESS", "not the id of a channel or a member")
        try:
            body = orjson.dumps({"channel": delivery.recipient, "text": content.body})
        except TypeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        headers = {
            "authorization": f"Bearer {self._settings.token}",
            "content-type": "application/json; charset=utf-8",
        }
        url = f"{self._settings.base_url}/chat.postMessage"
        answer = await self._posting.post(url, body, headers)
        return self._result(answer) if isinstance(answer, Answer) else answer

    async def check(self) -> str:
        """Return what is wrong with the token; empty when it is good."""
        headers = {"authorization": f"Bearer {self._settings.token}"}
        answer = await self._posting.post(f"{self._settings.base_url}/auth.test", b"", headers)
        if not isinstance(answer, Answer):
            return f"not reached: {answer.detail}"
        found = answer.json()
        if found.get("ok") is True:
            return ""
        return self._quoting.detail(str(found.get("error") or f"HTTP {answer.status}"))

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()

    def _result(self, answer: Answer) -> SendResult:
        found, status = answer.json(), answer.status
        if status == 429:
            return Deferred("HTTP 429", answer.retry_after_us(self._home.now_us()))
        if found.get("ok") is True:
            # Both together name a message.
            named = f"{found.get('channel') or ''}/{found.get('ts') or ''}"
            return Accepted(named[:200])
        error = found.get("error")
        if not isinstance(error, str):
            words = f"HTTP {status}"
            return Refused("PROVIDER_ERROR", words) if 400 <= status < 500 else Unknown(words)
        return _verdict(error, self._quoting.detail(error))


def _verdict(error: str, words: str) -> SendResult:
    if error in _IN_DOUBT:
        return Unknown(words)
    if error in _TOO_MANY or error == "service_unavailable":
        return Deferred(words)
    if error in _BAD_ADDRESS:
        return Refused("INVALID_ADDRESS", words)
    if error in _BAD_TEXT:
        return Refused("PROVIDER_ERROR", words)
    # Tokens, scopes, an app that is in no such channel: it is ours to mend.
    return Deferred(f"configuration: {words}", of_message=error == "not_in_channel")


def make(name: str, options: Options, home: Home) -> SlackProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    settings = SlackSettings(
        token=options.header("token"),
        base_url=options.web_address("base_url").rstrip("/") or API,
        timeout_us=options.timeout_us(),
    )
    options.check("slack")
    return SlackProvider(name, settings, home)
