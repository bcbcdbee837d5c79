"""Outcomes are immutable facts in the log; engagements are facts that came about a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from upshotd.domain.message import Channel
from upshotd.domain.values import NOTHING


class OutcomeKind(IntEnum):
    """What happened; the numbers are those of the contract."""

    UNSPECIFIED = 0
    MESSAGE_SENT = 1
    MESSAGE_DELIVERED = 2
    MESSAGE_OPENED = 3
    MESSAGE_CLICKED = 4
    MESSAGE_REPLIED = 5
    MESSAGE_UNDELIVERABLE = 6
    MESSAGE_UNROUTABLE = 7
    MESSAGE_IGNORED = 8
    MESSAGE_SUPPRESSED = 9
    MESSAGE_UNSUBSCRIBED = 10
    MESSAGE_COMPLAINED = 11
    AUDIENCE_USER_MATCHED = 12
    AUDIENCE_USER_UNMATCHED = 13
    RUN_STARTED = 14
    RUN_COMPLETED = 15
    RUN_CANCELED = 16
    RUN_FAILED = 17
    APPROVAL_REQUESTED = 18
    APPROVAL_DECIDED = 19
    PROFILE_ERASED = 20
    CUSTOM = 21
    APPROVAL_ASKED = 22
    APPROVAL_ANSWERED = 23


_EVENT_NAMES = {kind: kind.name.replace("_", " ").title() for kind in OutcomeKind}


def event_name(kind: OutcomeKind) -> str:
    """Return the Segment track name *kind* is exported under by default: `Message Sent`."""
    return _EVENT_NAMES[kind]


#: Names that an emit step may not use.
RESERVED_EVENTS = frozenset(event_name(k) for k in OutcomeKind)


class Outcome(NamedTuple):
    """One fact. Its partition and position are given by the store at commit."""

    outcome_id: str
    kind: OutcomeKind
    #: Name of the Segment track it is exported under by default.
    event: str
    #: When it happened, in microseconds.
    occur_us: int
    #: When it was recorded, in microseconds.
    record_us: int
    #: Whose it is; decides the partition. Not part of the contract.
    profile_id: str
    user_id: str = ""
    anonymous_id: str = ""
    workflow_id: str = ""
    workflow_version: int = 0
    run_id: str = ""
    step_id: str = ""
    message_id: str = ""
    channel: Channel = Channel.UNSPECIFIED
    provider: str = ""
    #: Documented upper-case word; empty where the kind says it all.
    reason: str = ""
    link_url: str = ""
    machine: bool = False
    possible_duplicate: bool = False
    properties: Mapping[str, object] = NOTHING
    #: Address used; erasable.
    recipient: str = ""
    #: The event that started the run.
    event_id: str = ""
    provider_message_id: str = ""
    #: The template that the message is from.
    template_id: str = ""
    #: The variant of an experiment in whose steps it came about, as `step_id/variant_id`.
    variant: str = ""


class EngagementKind(IntEnum):
    """What happened to a message, or what the person did with it; the contract's numbers."""

    UNSPECIFIED = 0
    DELIVERED = 1
    DEFERRED = 2
    BOUNCED = 3
    UNDELIVERED = 4
    OPENED = 5
    CLICKED = 6
    REPLIED = 7
    UNSUBSCRIBED = 8
    RESUBSCRIBED = 9
    COMPLAINED = 10
    APPROVED = 11
    DENIED = 12
    ASKED = 13
    ANSWERED = 14
    #: The provider has it: settles a send without an answer, and is no fact of its own.
    ACCEPTED = 15


#: What only a person does, and a wait for it can be ignored.
HUMAN = frozenset({EngagementKind.OPENED, EngagementKind.CLICKED, EngagementKind.REPLIED})
#: What a person chooses about more of its kind; a message with none of these and none of HUMAN
#: was ignored.
CHOICES = frozenset(
    {EngagementKind.UNSUBSCRIBED, EngagementKind.RESUBSCRIBED, EngagementKind.COMPLAINED}
)


#: What comes about the messages of an approve step, and about no others.
ABOUT_APPROVALS = frozenset(
    {
        EngagementKind.APPROVED,
        EngagementKind.DENIED,
        EngagementKind.ASKED,
        EngagementKind.ANSWERED,
    }
)


@dataclass(frozen=True, slots=True)
class Engagement:
    """A fact about a message after it was sent; exactly one of the three targets is set."""

    #: Dedupe key in the workspace.
    engagement_id: str
    kind: EngagementKind
    #: When it happened, in microseconds, never after it was received.
    occur_us: int
    #: Target by our id.
    message_id: str = ""
    #: Target by the provider's configured name and id.
    provider: str = ""
    provider_message_id: str = ""
    #: Target by the address that an answer came from, by its key in `addresses`.
    recipient: str = ""
    link_url: str = ""
    #: Provider's own words, bounded.
    reason: str = ""
    #: Prefetched by software.
    machine: bool = False
    data: Mapping[str, object] = field(default_factory=dict)
