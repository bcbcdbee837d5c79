"""What whoever holds a signed link may ask and tell: about its own message, in its own way.

Links are in mails, and mails are forwarded. Only the token that providers bring back with what they
tell, which no recipient sees, speaks for every message of its workspace; but providers carry what
reviewers are asked, and decide nothing.
"""

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from upshot.v1 import admin_pb2, service_pb2
from upshot.v1 import engagement_pb2 as pb
from upshotd.domain.errors import PermissionDenied
from upshotd.domain.language import Link

_APPROVED = pb.ENGAGEMENT_KIND_APPROVED
_DENIED = pb.ENGAGEMENT_KIND_DENIED
_ASKED = pb.ENGAGEMENT_KIND_ASKED
#: What each kind of link tells of its message.
_TOLD: Final[Mapping[str, frozenset[pb.EngagementKind.ValueType]]] = {
    "o": frozenset({pb.ENGAGEMENT_KIND_OPENED}),
    "c": frozenset({pb.ENGAGEMENT_KIND_CLICKED}),
    "u": frozenset({pb.ENGAGEMENT_KIND_UNSUBSCRIBED}),
    "p": frozenset(),
    "a": frozenset({_APPROVED}),
    "d": frozenset({_DENIED}),
    "q": frozenset({_ASKED}),
    "r": frozenset({_APPROVED, _DENIED, _ASKED}),
}
#: How the pages call what they record: `WORD:MESSAGE_ID`, or more behind that.
_WORDS: Final[Mapping[int, str]] = {
    pb.ENGAGEMENT_KIND_OPENED: "open",
    pb.ENGAGEMENT_KIND_CLICKED: "click",
    pb.ENGAGEMENT_KIND_UNSUBSCRIBED: "unsubscribe",
    _APPROVED: "approve",
    _DENIED: "deny",
    _ASKED: "ask",
}
#: What no provider tells of the messages that it carried.
_OF_PEOPLE: Final = _TOLD["r"] | {pb.ENGAGEMENT_KIND_ANSWERED}


def check(link: Link, request: Message) -> None:
    """Raise PermissionDenied where *request* is not what *link* is for."""
    match request:
        case service_pb2.RecordEngagementRequest():
            fits = all(_tells(link, one) for one in request.engagements)
        case admin_pb2.GetPreferencesRequest() | admin_pb2.SetPreferenceRequest():
            fits = request.message_id == link.message_id
        case admin_pb2.GetApprovalRequest():
            by_run = request.run_id or request.step_id
            fits = request.message_id == link.message_id and not by_run
        case _:
            fits = False
    if not fits:
        raise PermissionDenied("a link speaks of its own message only, and in its own way")


def _tells(link: Link, engagement: pb.Engagement) -> bool:
    if link.kind == "k":
        word = engagement.engagement_id.removeprefix("machine:").partition(":")[0]
        return engagement.kind not in _OF_PEOPLE and word not in _WORDS.values()
    return (
        engagement.message_id == link.message_id
        and engagement.kind in _TOLD[link.kind]
        and engagement.link_url == link.target
        and _is_own(engagement)
    )


def _is_own(engagement: pb.Engagement) -> bool:
    """Return whether the id is none, or one of this fact: whoever takes that of another fact makes
    it a repetition before it comes."""
    own = f"{_WORDS[engagement.kind]}:{engagement.message_id}"
    given = engagement.engagement_id.removeprefix("machine:")
    return not given or given == own or given.startswith(f"{own}:")
