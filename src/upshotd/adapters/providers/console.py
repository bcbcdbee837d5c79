"""Shows messages instead of delivering them: what serves when no provider is configured.

This is the one place of Upshot that prints personal data, and it does so on purpose.
"""

import sys
from typing import TextIO, assert_never

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.wording import shown
from upshotd.domain.message import (
    Accepted,
    Chat,
    Content,
    Delivery,
    Email,
    Inbox,
    Push,
    SendResult,
    Sms,
    Unknown,
    Webhook,
)

_INDENT = "    "


class ConsoleProvider:
    """Writes each message as a readable block to a text stream, stdout unless another is given."""

    #: The stream keeps no ledger: a repeated message is shown again.
    idempotent = False

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self._stream = stream

    async def send(self, delivery: Delivery) -> SendResult:
        """Write the block; Unknown when the stream fails, as part of it may have been read."""
        stream = self._stream or sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        block = _block(delivery).encode(encoding, "backslashreplace").decode(encoding)
        try:
            stream.write(block)
            stream.flush()
        except (OSError, ValueError) as error:
            return Unknown(f"the stream failed: {type(error).__name__}")
        return Accepted(delivery.message_id)

    async def close(self) -> None:
        """The stream belongs to whoever gave it."""


def _block(delivery: Delivery) -> str:
    attempt = f" (attempt {delivery.attempt})" if delivery.attempt > 1 else ""
    duplicate = " (possible duplicate)" if delivery.possible_duplicate else ""
    channel = delivery.channel.name.lower()
    head = f"--- {channel} to {shown(delivery.recipient)}{attempt}{duplicate}"
    origin = f"message {delivery.message_id}, workflow {delivery.workflow_id}"
    lines = [f"{origin}, step {delivery.step_id}", *_lines(delivery.content)]
    return "\n".join([head, *(f"{_INDENT}{line}".rstrip() for line in lines), "---\n"])


def _lines(content: Content) -> list[str]:
    match content:
        case Email():
            unsubscribe = [f"unsubscribe: {shown(content.unsubscribe_url)}"]
            return [
                f"subject: {shown(content.subject)}",
                *(unsubscribe if content.unsubscribe_url else []),
                *(f"attachment: {shown(' '.join(one))}" for one in content.attachments),
                *_body(content.text or content.html),
            ]
        case Sms() | Webhook() | Chat():
            return _body(content.body)
        case Push(title, body, data):
            values = [f"{shown(name)}: {shown(value)}" for name, value in data.items()]
            return [f"title: {shown(title)}", *values, *_body(body)]
        case Inbox(title, body, action_url):
            action = [f"action: {shown(action_url)}"] if action_url else []
            return [f"title: {shown(title)}", *action, *_body(body)]
        case _:
            assert_never(content)


def _body(text: str) -> list[str]:
    # Escape sequences in somebody's traits must not drive the terminal of whoever is watching.
    return shown(text, keep="\n\t").split("\n")


def make(name: str, options: Options, _home: Home) -> ConsoleProvider:
    """The provider out of its table, which has nothing in it."""
    options.check("console")
    return ConsoleProvider(name)
