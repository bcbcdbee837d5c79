"""Engagements of the contract -> engagements of the domain, each with its own faults."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.grpc import structs
from upshotd.adapters.grpc.times import instant_us
from upshotd.domain import addresses
from upshotd.domain.errors import Violation
from upshotd.domain.message import Channel
from upshotd.domain.outcome import Engagement, EngagementKind

ENGAGEMENT_ID_MAX = 200
LINK_URL_MAX = 2048
#: Longest name of a provider, and id of a message with it, in characters: both are looked up.
PROVIDER_ID_MAX = 500
REASON_MAX = 500
#: Largest `data`, serialized, in bytes.
DATA_BYTES_MAX = 32 * 1024
#: Most characters that a reviewer, or who answers one, says at a time.
SAID_MAX = 2000

#: Returns a phone number as messages go to it, or None.
Usable: TypeAlias = Callable[[str], str | None]
#: Takes the word of a fault, the field below `engagement`, and what is wrong with it.
Fault: TypeAlias = Callable[[str, str, str], None]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KINDS = {int(kind): kind for kind in EngagementKind}
#: Texts in `data` of what comes about an approval.
_SAID: Mapping[int, tuple[str, ...]] = {
    EngagementKind.APPROVED: ("comment",),
    EngagementKind.DENIED: ("comment",),
    EngagementKind.ASKED: ("body",),
    EngagementKind.ANSWERED: ("body", "question_id"),
}


@dataclass(frozen=True, slots=True)
class RefusedEngagement:
    """An engagement that cannot be taken, for its form alone."""

    #: Upper-case word of the first fault.
    reason: str
    #: Every fault, by path below `engagement`.
    violations: tuple[Violation, ...]


def engagement(
    message: pb.Engagement, receive_us: int, usable: Usable
) -> Engagement | RefusedEngagement:
    """Return the engagement that came at *receive_us*, or why it is none.

    *usable* makes a phone number one that messages go to.
    """
    number = usable(message.recipient.address) if message.recipient.address else None
    faults = _faults(message, number)
    if faults:
        return RefusedEngagement(faults[0][0], tuple(violation for _, violation in faults))
    occur_us = receive_us
    if message.HasField("occur_time"):
        occur_us = min(instant_us(message.occur_time), receive_us)
    return Engagement(
        engagement_id=message.engagement_id or derived_id(message),
        kind=EngagementKind(message.kind),
        occur_us=occur_us,
        message_id=message.message_id,
        provider=message.provider_message.provider,
        provider_message_id=message.provider_message.provider_message_id,
        recipient=addresses.key(Channel.SMS, number or ""),
        link_url=message.link_url,
        reason=message.reason[:REASON_MAX],
        machine=message.machine,
        data=structs.plain(message.data),
    )


def derived_id(message: pb.Engagement) -> str:
    """Return an id for an engagement without one: the same for the same fact told again.

    Without a time, one fact of a kind and link is all that can be told apart for a message. The
    time is the given one: the clamped one would differ with each repeat. A prefetch and a person
    who follows it are two facts, and so are two questions, or two answers.
    """
    target = message.provider_message
    time = message.occur_time
    parts = [
        message.message_id,
        target.provider,
        target.provider_message_id,
        str(message.kind),
        message.link_url,
        f"{time.seconds}.{time.nanos}" if message.HasField("occur_time") else "",
        str(message.machine),
    ]
    if "body" in _SAID.get(message.kind, ()):
        parts += (_said(message, name) for name in _SAID[message.kind])
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return "derived-" + hashlib.sha256(text.encode()).hexdigest()[:40]


def _faults(message: pb.Engagement, number: str | None) -> list[tuple[str, Violation]]:
    found: list[tuple[str, Violation]] = []

    def fault(word: str, field: str, text: str) -> None:
        found.append((word, Violation(f"engagement.{field}", text)))

    given = message.engagement_id
    if len(given) > ENGAGEMENT_ID_MAX or _CONTROL.search(given):
        text = f"at most {ENGAGEMENT_ID_MAX} characters are taken, and no control characters"
        fault("INVALID_ENGAGEMENT_ID", "engagement_id", text)
    _check_target(message, number, fault)
    if not _KINDS.get(message.kind):
        text = f"one of the kinds is required; {message.kind} is none this server knows"
        fault("INVALID_KIND" if message.kind else "MISSING_KIND", "kind", text)
    if len(message.link_url) > LINK_URL_MAX:
        text = f"{len(message.link_url)} characters; at most {LINK_URL_MAX} are taken"
        fault("INVALID_LINK_URL", "link_url", text)
    size = message.data.ByteSize()
    wrong = structs.fault(message.data)
    if size > DATA_BYTES_MAX:
        wrong = f"{size} bytes serialized; at most {DATA_BYTES_MAX} are taken"
    if wrong:
        fault("INVALID_DATA", "data", wrong)
    else:
        _check_said(message, fault)
    return found


def _said(message: pb.Engagement, name: str) -> str:
    value = message.data.fields.get(name)
    return value.string_value if value is not None else ""


def _check_said(message: pb.Engagement, fault: Fault) -> None:
    """Look at what comes about an approval: its texts, and that it is of nobody's software."""
    if message.machine and message.kind in _SAID:
        fault("INVALID_KIND", "machine", "software that prefetches neither decides nor asks")
    for name in _SAID.get(message.kind, ()):
        value, text = message.data.fields.get(name), _said(message, name)
        if value is not None and value.WhichOneof("kind") != "string_value":
            fault("INVALID_DATA", f"data.{name}", "must be a text")
        elif name == "body" and not text.strip():
            fault("INVALID_DATA", "data.body", "is required: what is asked, or answered")
        elif len(text) > SAID_MAX:
            said = f"{len(text)} characters; at most {SAID_MAX} are taken"
            fault("INVALID_DATA", f"data.{name}", said)


def _check_target(message: pb.Engagement, number: str | None, fault: Fault) -> None:
    target = message.provider_message
    match message.WhichOneof("target"):
        case "message_id" if message.message_id:
            pass
        case "provider_message" if target.provider and target.provider_message_id:
            for name in ("provider", "provider_message_id"):
                given = getattr(target, name)
                if len(given) > PROVIDER_ID_MAX or _CONTROL.search(given):
                    text = f"at most {PROVIDER_ID_MAX} characters, and no control characters"
                    fault("INVALID_TARGET", f"provider_message.{name}", text)
        case "provider_message":
            text = "provider and provider_message_id are both required"
            fault("MISSING_TARGET", "provider_message", text)
        case "recipient":
            _check_recipient(message, number, fault)
        case _:
            text = "message_id, provider_message or recipient is required"
            fault("MISSING_TARGET", "target", text)


def _check_recipient(message: pb.Engagement, number: str | None, fault: Fault) -> None:
    if int(message.recipient.channel) != Channel.SMS:
        text = "must be CHANNEL_SMS: answers on other channels name their message"
        fault("INVALID_TARGET", "recipient.channel", text)
    elif number is None:
        fault("INVALID_TARGET", "recipient.address", "is no usable phone number")
    if int(message.kind) != EngagementKind.REPLIED:
        fault("INVALID_KIND", "kind", "must be REPLIED: a recipient answers, and does nothing else")
    if not message.engagement_id:
        text = "is required with a recipient: people answer more than once"
        fault("INVALID_ENGAGEMENT_ID", "engagement_id", text)
