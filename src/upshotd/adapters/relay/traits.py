"""Identify calls that tell Segment when a person last engaged. Off unless the settings ask."""

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import CallRules, envelope
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.plain import stamp
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind

#: What follows the outcome's id in the messageId: the track call of the same outcome has none.
SUFFIX: Final = "-traits"
#: People whose last engagements are remembered; beyond them the longest unheard-of are forgotten.
PEOPLE_MAX: Final = 50_000

_ENGAGED: Final = "last_engaged_at"
_TRAITS: Final[Mapping[int, str]] = MappingProxyType(
    {
        int(OutcomeKind.MESSAGE_OPENED): "last_message_opened_at",
        int(OutcomeKind.MESSAGE_CLICKED): "last_message_clicked_at",
        int(OutcomeKind.MESSAGE_REPLIED): "last_message_replied_at",
    }
)
_CHANNELS = {int(c): c.name.lower() for c in Channel if c is not Channel.UNSPECIFIED}


def engagement_times(outcome: pb.Outcome) -> dict[str, str]:
    """Return the traits that *outcome* dates, by name; none unless a person has engaged."""
    trait = _TRAITS.get(outcome.kind)
    moment = stamp(outcome.occur_time)
    if trait is None or outcome.machine or not moment:
        return {}
    return {trait: moment, _ENGAGED: moment}


class LastEngagements:
    """Makes identify calls, and none that would put an older time over a newer one.

    What was told is remembered while this process lives.
    """

    def __init__(self, rules: CallRules, people_max: int = PEOPLE_MAX) -> None:
        self._rules = rules
        self._people_max = people_max
        #: Person -> trait -> the newest time that was told.
        self._told: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    def call(self, outcome: pb.Outcome) -> dict[str, object] | None:
        """Return the identify call of *outcome*; None where it says nothing new."""
        times = engagement_times(outcome)
        if not times:
            return None
        told = self._of(outcome)
        # Times are written with the same number of digits: as text they compare as what they are.
        newer: dict[str, object] = {
            trait: moment for trait, moment in times.items() if moment > told.get(trait, "")
        }
        if not newer:
            return None
        if _ENGAGED in newer and outcome.channel in _CHANNELS:
            newer["last_engaged_channel"] = _CHANNELS[outcome.channel]
        call = envelope({"type": "identify", "traits": newer}, SUFFIX, outcome, self._rules)
        if isinstance(call, NotExported):
            return None
        told |= {trait: times[trait] for trait in times.keys() & newer.keys()}
        return call

    def _of(self, outcome: pb.Outcome) -> dict[str, str]:
        person = (outcome.user_id, "" if outcome.user_id else outcome.anonymous_id)
        told = self._told.setdefault(person, {})
        self._told.move_to_end(person)
        if len(self._told) > self._people_max:
            self._told.popitem(last=False)
        return told
