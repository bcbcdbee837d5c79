"""What every call of ours to Segment has, whichever call it is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.plain import stamp
from upshotd.domain.event import OWN_ID_PREFIX, OWN_LIBRARY
from upshotd.domain.outcome import OutcomeKind, event_name

#: Longest messageId, in characters.
MESSAGE_ID_MAX: Final = 100
#: Name in `integrations` that keeps a call from a Segment destination called so.
OWN_DESTINATION: Final = "Upshot"

KINDS_DEFAULT: Final = frozenset(
    kind
    for kind in OutcomeKind
    if kind is OutcomeKind.CUSTOM or kind.name.startswith(("MESSAGE_", "AUDIENCE_", "APPROVAL_"))
)
NAMES_DEFAULT: Final[Mapping[OutcomeKind, str]] = MappingProxyType(
    # The one name that differs from the log's: silence is an open that was none.
    {OutcomeKind.MESSAGE_IGNORED: event_name(OutcomeKind.MESSAGE_OPENED)}
)


@dataclass(frozen=True, slots=True)
class CallRules:
    """What is exported, and how it is called."""

    #: Version of this program, for `context.library`.
    version: str
    kinds: frozenset[OutcomeKind] = KINDS_DEFAULT
    #: Names over the outcome's own, and over Segment's.
    names: Mapping[OutcomeKind, str] = field(default_factory=lambda: NAMES_DEFAULT)
    #: Whether e-mails and notifications are told of by the names of Segment's spec.
    semantic: bool = False
    #: Whether e-mail addresses go out as `context.traits.email`.
    include_recipient: bool = False
    #: Segment's `integrations`: which destinations get the calls.
    integrations: Mapping[str, bool] = field(default_factory=lambda: {OWN_DESTINATION: False})


def envelope(
    call: Mapping[str, object], suffix: str, outcome: pb.Outcome, rules: CallRules
) -> dict[str, object] | NotExported:
    """Return *call* about *outcome* with what all calls have, or why it cannot be.

    The messageId is that of the outcome with *suffix*: the same whenever the call is made.
    """
    message_id = f"{OWN_ID_PREFIX}{outcome.outcome_id}{suffix}"
    if not outcome.outcome_id or len(message_id) > MESSAGE_ID_MAX:
        return NotExported.NO_ID
    person = _person(outcome)
    if not person:
        return NotExported.NO_PERSON
    whole = {**call, "messageId": message_id, **person}
    moment = stamp(outcome.occur_time) or stamp(outcome.record_time)
    if moment:
        whole["timestamp"] = moment
    whole["context"] = _context(outcome, rules)
    whole["integrations"] = dict(rules.integrations)
    return whole


def _person(outcome: pb.Outcome) -> dict[str, str]:
    if outcome.user_id:
        return {"userId": outcome.user_id}
    return {"anonymousId": outcome.anonymous_id} if outcome.anonymous_id else {}


def _context(outcome: pb.Outcome, rules: CallRules) -> dict[str, object]:
    context: dict[str, object] = {
        "library": {"name": OWN_LIBRARY, "version": rules.version},
        "upshot": {"outcome_id": outcome.outcome_id},
    }
    if rules.include_recipient and outcome.recipient and outcome.channel == pb.CHANNEL_EMAIL:
        context["traits"] = {"email": outcome.recipient}
    return context
