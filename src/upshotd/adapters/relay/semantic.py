"""The events of Segment's spec for e-mails and notifications on devices, out of outcomes. Pure.

Segment has none for other channels, nor for what a sender knows alone: sent, ignored, suppressed.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind

#: Of MESSAGE_UNDELIVERABLE: the other side said so. Whatever else there is it never saw.
_BOUNCES: Final = frozenset({"BOUNCED", "UNDELIVERED"})
_NAMES: Final[Mapping[tuple[Channel, OutcomeKind], str]] = MappingProxyType(
    {
        (Channel.EMAIL, OutcomeKind.MESSAGE_DELIVERED): "Email Delivered",
        (Channel.EMAIL, OutcomeKind.MESSAGE_OPENED): "Email Opened",
        (Channel.EMAIL, OutcomeKind.MESSAGE_CLICKED): "Email Link Clicked",
        (Channel.EMAIL, OutcomeKind.MESSAGE_UNDELIVERABLE): "Email Bounced",
        (Channel.EMAIL, OutcomeKind.MESSAGE_COMPLAINED): "Email Marked as Spam",
        (Channel.EMAIL, OutcomeKind.MESSAGE_UNSUBSCRIBED): "Unsubscribed",
        (Channel.PUSH, OutcomeKind.MESSAGE_DELIVERED): "Push Notification Received",
        (Channel.PUSH, OutcomeKind.MESSAGE_OPENED): "Push Notification Tapped",
        (Channel.PUSH, OutcomeKind.MESSAGE_CLICKED): "Push Notification Tapped",
        (Channel.PUSH, OutcomeKind.MESSAGE_UNDELIVERABLE): "Push Notification Bounced",
    }
)


def semantic_name(kind: OutcomeKind, outcome: pb.Outcome) -> str:
    """Return the event of the spec that *outcome* is; empty where it is none."""
    if kind is OutcomeKind.MESSAGE_UNDELIVERABLE and outcome.reason not in _BOUNCES:
        return ""
    return _NAMES.get((_channel(outcome), kind), "")


def semantic_properties(outcome: pb.Outcome) -> dict[str, object]:
    """Return the properties that the spec names and we know, for an event that has a name in it.

    A campaign is a workflow: its id is the one name that the log has of it.
    """
    if _channel(outcome) is Channel.PUSH:
        campaign = {"name": outcome.workflow_id, "medium": "Push", "source": outcome.provider}
        return {"campaign": {name: value for name, value in campaign.items() if value}}
    found = {
        "email_id": outcome.message_id,
        "campaign_id": outcome.workflow_id,
        "campaign_name": outcome.workflow_id,
    }
    return {name: value for name, value in found.items() if value}


def _channel(outcome: pb.Outcome) -> Channel:
    known = {int(channel): channel for channel in (Channel.EMAIL, Channel.PUSH)}
    return known.get(outcome.channel, Channel.UNSPECIFIED)
