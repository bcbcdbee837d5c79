"""SendGrid's Event Webhook: whose events they are, and what they say as engagements. Pure.

A request holds an array of events. It is signed with ECDSA over the timestamp header and the very
bytes of the body. Our token comes back in each event, among its own keys, as it was sent in
`custom_args`.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.http.facts import Fact, without_addresses

SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"
#: The custom argument of ours.
TOKEN: Final = "upshot"
_ID_CHARS: Final = 100
_URL_CHARS: Final = 2048
#: Beyond what a Timestamp can hold.
_LATEST_S: Final = 2**33
_TIME = re.compile(r"[0-9]{1,20}")

_KINDS: Final = {
    "processed": pb.ENGAGEMENT_KIND_ACCEPTED,
    "deferred": pb.ENGAGEMENT_KIND_DEFERRED,
    "delivered": pb.ENGAGEMENT_KIND_DELIVERED,
    "bounce": pb.ENGAGEMENT_KIND_BOUNCED,
    "dropped": pb.ENGAGEMENT_KIND_UNDELIVERED,
    "open": pb.ENGAGEMENT_KIND_OPENED,
    "click": pb.ENGAGEMENT_KIND_CLICKED,
    "spamreport": pb.ENGAGEMENT_KIND_COMPLAINED,
    "unsubscribe": pb.ENGAGEMENT_KIND_UNSUBSCRIBED,
    "group_unsubscribe": pb.ENGAGEMENT_KIND_UNSUBSCRIBED,
    "group_resubscribe": pb.ENGAGEMENT_KIND_RESUBSCRIBED,
}
#: Reasons of a drop that say that the address is dead.
_DEAD: Final = frozenset({"bounced address", "invalid"})
#: What is kept of an event beside its reason: nothing that says who or where somebody is.
_DATA: Final = ("event", "type", "status", "asm_group_id", "attempt")


def public_keys(text: str) -> tuple[EllipticCurvePublicKey, ...]:
    """Return the keys that SendGrid shows under Signature Verification, with spaces between.

    Raises ValueError where one is none.
    """
    keys = []
    for part in text.split():
        try:
            key = load_der_public_key(b64decode(part, validate=True))
        except (Base64Error, ValueError):
            key = None
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("is no public key as SendGrid shows it: base64 of one line")
        keys.append(key)
    return tuple(keys)


def is_signed(
    keys: Iterable[EllipticCurvePublicKey], headers: Mapping[str, str], body: bytes
) -> bool:
    """Return whether one of *keys* signed these bytes."""
    time = headers.get(TIMESTAMP, "")
    if not _TIME.fullmatch(time):  # nor may bytes of the body move over to it
        return False
    try:
        signature = b64decode(headers.get(SIGNATURE, ""), validate=True)
    except (Base64Error, ValueError):
        return False
    return any(_verifies(key, signature, time.encode() + body) for key in keys)


def _verifies(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def facts(events: Iterable[object]) -> Iterator[Fact]:
    """Yield what *events* say about messages of ours; the others are passed over.

    Others may send by the same account: what has no token is theirs.
    """
    for event in events:
        if isinstance(event, Mapping) and (fact := _fact(event)) is not None:
            yield fact


def _fact(event: Mapping[str, Any]) -> Fact | None:
    token, event_id, time = _text(event, TOKEN), _text(event, "sg_event_id"), event.get("timestamp")
    kind = _kind(event)
    if not token or kind is None or not 0 < len(event_id) <= _ID_CHARS:
        return None
    engagement = pb.Engagement(engagement_id=f"sendgrid:{event_id}", kind=kind)
    if isinstance(time, int) and 0 < time < _LATEST_S:
        engagement.occur_time.FromSeconds(time)
    told = _text(event, "reason") or _text(event, "response")
    engagement.reason = without_addresses(told)
    if kind == pb.ENGAGEMENT_KIND_CLICKED:
        engagement.link_url = _text(event, "url")[:_URL_CHARS]
    engagement.machine = event.get("sg_machine_open") is True
    data = {key: event[key] for key in _DATA if isinstance(event.get(key), str | int)}
    engagement.data.update(data)
    return Fact(token, engagement)


def _kind(event: Mapping[str, Any]) -> pb.EngagementKind.ValueType | None:
    name = _text(event, "event")
    if (
        name == "bounce" and event.get("type") == "blocked"
    ):  # today, by this server: not the address
        return pb.ENGAGEMENT_KIND_UNDELIVERED
    if name == "dropped" and _text(event, "reason").lower() in _DEAD:
        return pb.ENGAGEMENT_KIND_BOUNCED
    return _KINDS.get(name)


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    return value if isinstance(value, str) else ""
