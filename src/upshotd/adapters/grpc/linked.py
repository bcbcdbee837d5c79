"""What whoever holds a signed link may ask and tell: about its own message, in its own way.

Links are in mails, and mails are forwarded. Only the token that providers bring back with what they
tell, which no recipient sees, speaks for every message of its workspace.
"""

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from upshot.v1 import admin_pb2, service_pb2
from upshot.v1 import engagement_pb2 as pb
from upshotd.domain.errors import PermissionDenied
from upshotd.domain.language import Link

#: What each kind of link tells of its message.
_TOLD: Final[Mapping[str, pb.EngagementKind.ValueType]] = {
    "o": pb.ENGAGEMENT_KIND_OPENED,
    "c": pb.ENGAGEMENT_KIND_CLICKED,
    "u": pb.ENGAGEMENT_KIND_UNSUBSCRIBED,
}


def check(link: Link, request: Message) -> None:
    """Raise PermissionDenied where *request* is not what *link* is for."""
    match request:
        case service_pb2.RecordEngagementRequest():
            fits = link.kind == "k" or all(_tells(link, one) for one in request.engagements)
        case admin_pb2.GetPreferencesRequest() | admin_pb2.SetPreferenceRequest():
            fits = request.message_id == link.message_id
        case _:
            fits = False
    if not fits:
        raise PermissionDenied("a link speaks of its own message only, and in its own way")


def _tells(link: Link, engagement: pb.Engagement) -> bool:
    return (
        engagement.message_id == link.message_id
        and engagement.kind == _TOLD.get(link.kind)
        and engagement.link_url == link.target
    )
