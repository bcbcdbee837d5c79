"""Twilio Notify's delivery callbacks: what they say of a push, as engagements. Pure.

They are signed as Twilio's others are. Notify says whether FCM or APNs took what it gave them, for
each device, and nothing after that.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Struct

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.http.facts import Fact
from upshotd.adapters.http.twilio import Form
from upshotd.domain.devices import GONE, digest

_SID_CHARS: Final = 100
#: The device is not registered any more; Twilio has deleted its binding.
_UNREGISTERED: Final = "52119"


def facts(token: str, form: Form) -> Iterator[Fact]:
    """Yield what one part of the report about the message of *token* says.

    One device that took it is enough. That none did is known of the only part alone.
    """
    named = dict(form)
    sid = named.get("NotificationSid", "")
    if not 0 < len(sid) <= _SID_CHARS:
        return
    states = [state for name, text in form if name == "DeliveryState" for state in _states(text)]
    failed = [state for state in states if state.get("status", "").upper() != "SENT"]
    gone = [state for state in failed if _code(state) == _UNREGISTERED]
    if len(failed) < len(states):
        yield Fact(token, _engagement(sid, pb.ENGAGEMENT_KIND_ACCEPTED, [], gone))
    elif _whole(named):
        all_gone = bool(states) and len(gone) == len(states)
        kind = pb.ENGAGEMENT_KIND_BOUNCED if all_gone else pb.ENGAGEMENT_KIND_UNDELIVERED
        yield Fact(token, _engagement(sid, kind, failed, gone))


def _whole(named: Mapping[str, str]) -> bool:
    """Return whether this part is all of the report."""
    return named.get("IsFinal", "").lower() == "true" and named.get("SequenceId", "0") == "0"


def _engagement(
    sid: str,
    kind: pb.EngagementKind.ValueType,
    failed: list[dict[str, str]],
    gone: list[dict[str, str]],
) -> pb.Engagement:
    word = pb.EngagementKind.Name(kind).removeprefix("ENGAGEMENT_KIND_").lower()
    engagement = pb.Engagement(engagement_id=f"twilio_notify:{sid}:{word}", kind=kind)
    data: Struct = engagement.data
    codes = [code for state in failed if (code := _code(state))]
    if codes:
        engagement.reason = f"Twilio error {codes[0]}"
        data.update({"error_code": int(codes[0])})
    elif kind != pb.ENGAGEMENT_KIND_ACCEPTED and not failed:
        engagement.reason = "Notify had no binding for it"
    if gone:
        data.update({GONE: [digest(state.get("address", "")) for state in gone]})
    return engagement


def _states(text: str) -> list[dict[str, str]]:
    """Return what is told of devices, by names in lower letters without separators."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    several = found if isinstance(found, list) else [found]
    return [
        {str(name).lower().replace("_", ""): str(value) for name, value in one.items()}
        for one in several
        if isinstance(one, dict)
    ]


def _code(state: Mapping[str, str]) -> str:
    code = state.get("errorcode", "")
    return code if code.isascii() and code.isdigit() and len(code) < 10 else ""
