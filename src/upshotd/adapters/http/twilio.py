"""What Twilio calls us with: whether it is its own, and what it says as engagements. Pure.

A callback is a form, signed with HMAC-SHA1 over the address that Twilio called and all parameters.
It has no time in it: what is told twice has the same id, and counts once.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from upshot.v1 import engagement_pb2 as pb
from upshot.v1.outcome_pb2 import CHANNEL_SMS
from upshotd.adapters.http.facts import Fact

SIGNATURE: Final = "X-Twilio-Signature"
_BODY_HASH: Final = "bodySHA256"
_PORTS: Final = {"https": 443, "http": 80}
_SID_CHARS: Final = 100
#: Files that may come with one message.
_MEDIA_MAX: Final = 10
#: Parameters of an address.
_FIELDS_MAX: Final = 200
#: Who answers: neither a short code nor somebody on WhatsApp.
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")

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


def answer(form: Mapping[str, str]) -> pb.Engagement | None:
    """Return what somebody has texted, by their number; None where nobody has whom we text."""
    sid, number = form.get("MessageSid", ""), form.get("From", "").removeprefix("rcs:")
    # A status callback that came astray has no body, and is from ourselves.
    if "Body" not in form or not 0 < len(sid) <= _SID_CHARS or not _NUMBER.fullmatch(number):
        return None
    told = pb.Engagement(engagement_id=f"twilio:{sid}:reply", kind=pb.ENGAGEMENT_KIND_REPLIED)
    told.recipient.channel = CHANNEL_SMS
    told.recipient.address = number
    told.data.update({"body": form["Body"]})
    if form.get("OptOutType"):
        told.data.update({"opt_out_type": form["OptOutType"]})
    media = [form[name] for n in range(_MEDIA_MAX) if (name := f"MediaUrl{n}") in form]
    if media:
        told.data.update({"media_urls": media})
    return told


def _engagement(sid: str, word: str, kind: pb.EngagementKind.ValueType, code: str) -> pb.Engagement:
    engagement = pb.Engagement(engagement_id=f"twilio:{sid}:{word}", kind=kind)
    if code.isdigit() and len(code) < 10:
        engagement.reason = f"Twilio error {code}"
        engagement.data.update({"error_code": int(code)})
    return engagement
