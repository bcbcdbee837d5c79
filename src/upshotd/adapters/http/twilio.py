"""Twilio's status callbacks: whether they are its own, and what they say as engagements. Pure.

A callback is a form, signed with HMAC-SHA1 over the address that Twilio called and all parameters.
It has no time in it: what is told twice has the same id, and counts once.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.http.facts import Fact

SIGNATURE: Final = "X-Twilio-Signature"
_BODY_HASH: Final = "bodySHA256"
_PORTS: Final = {"https": 443, "http": 80}
_SID_CHARS: Final = 100
_FIELDS_MAX: Final = 200

_KINDS: Final = {
    **dict.fromkeys(
        ("accepted", "scheduled", "queued", "sending", "sent"), pb.ENGAGEMENT_KIND_ACCEPTED
    ),
    "delivered": pb.ENGAGEMENT_KIND_DELIVERED,
    # Of RCS and WhatsApp alone.
    "read": pb.ENGAGEMENT_KIND_OPENED,
    "undelivered": pb.ENGAGEMENT_KIND_UNDELIVERED,
    "failed": pb.ENGAGEMENT_KIND_UNDELIVERED,
    "canceled": pb.ENGAGEMENT_KIND_UNDELIVERED,
}
#: Error codes of numbers that no text message will ever reach: unknown, landlines, invalid.
_DEAD: Final = frozenset({"30005", "30006", "21211", "21614", "21635"})
#: The person told the sender to stop.
_STOPPED: Final = "21610"

#: The parameters of a form, in their order, some of them perhaps several times.
Form = Sequence[tuple[str, str]]


def is_signed(tokens: Iterable[str], url: str, form: Form, body: bytes, signature: str) -> bool:
    """Return whether the holder of one of *tokens* called *url* with just this.

    The address may have been signed with or without its port. A body that is no form is known by
    its hash in the address; *form* is empty then.
    """
    try:
        parts = urlsplit(url)
        hashes = parse_qs(parts.query, max_num_fields=_FIELDS_MAX).get(_BODY_HASH)
        url.encode()
    except ValueError:  # an address that Twilio cannot have called
        return False
    if hashes:
        if hashes != [hashlib.sha256(body).hexdigest()]:
            return False
        form = ()
    told = signature.encode("utf-8", "surrogateescape")
    return any(
        hmac.compare_digest(_signature(token, one, form), told)
        for token in tokens
        for one in _spellings(url)
    )


def _spellings(url: str) -> tuple[str, str]:
    """Return *url* with its port and without."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    name, port = (host, "") if parts.port is None else host.rsplit(":", 1)
    port = port or str(_PORTS.get(parts.scheme, ""))
    return parts._replace(netloc=f"{name}:{port}").geturl(), parts._replace(netloc=name).geturl()


def _signature(token: str, url: str, form: Form) -> bytes:
    # Sorted by name and value, each pair once.
    text = url + "".join(name + value for name, value in sorted(set(form)))
    return b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest())


def facts(token: str, form: Mapping[str, str]) -> Iterator[Fact]:
    """Yield what the status callback about the message of *token* says."""
    sid, status = form.get("MessageSid", ""), form.get("MessageStatus", "")
    kind, code = _KINDS.get(status), form.get("ErrorCode", "")
    if kind is None or not 0 < len(sid) <= _SID_CHARS:
        return
    if kind == pb.ENGAGEMENT_KIND_UNDELIVERED and code in _DEAD:
        kind = pb.ENGAGEMENT_KIND_BOUNCED
    yield Fact(token, _engagement(sid, status, kind, code))
    if code == _STOPPED:
        yield Fact(token, _engagement(sid, "stop", pb.ENGAGEMENT_KIND_UNSUBSCRIBED, code))


def _engagement(sid: str, word: str, kind: pb.EngagementKind.ValueType, code: str) -> pb.Engagement:
    engagement = pb.Engagement(engagement_id=f"twilio:{sid}:{word}", kind=kind)
    if code.isdigit() and len(code) < 10:
        engagement.reason = f"Twilio error {code}"
        engagement.data.update({"error_code": int(code)})
    return engagement
