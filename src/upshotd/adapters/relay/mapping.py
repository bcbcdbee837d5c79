"""An outcome as a track call of Segment's spec. Pure; docs/segment.md has the table.

Segment answers 200 to what it then drops, so that what it would drop is told apart here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from math import isfinite
from types import MappingProxyType
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import outcome_pb2 as pb
from upshotd.domain.event import OWN_ID_PREFIX, OWN_LIBRARY
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind, event_name

#: Largest call in bytes of JSON. Segment says 32 KB; this is true of either kind of KB.
CALL_BYTES_MAX: Final = 32_000
#: Longest messageId, in characters.
MESSAGE_ID_MAX: Final = 100
#: Name in `integrations` that keeps a call from a Segment destination called so.
OWN_DESTINATION: Final = "Upshot"

KINDS_DEFAULT: Final = frozenset(
    kind for kind in OutcomeKind if kind is OutcomeKind.CUSTOM or kind.name.startswith("MESSAGE_")
)
NAMES_DEFAULT: Final[Mapping[OutcomeKind, str]] = MappingProxyType(
    # The one name that differs from the log's: silence is an open that was none.
    {OutcomeKind.MESSAGE_IGNORED: event_name(OutcomeKind.MESSAGE_OPENED)}
)

_OPENED = MappingProxyType({OutcomeKind.MESSAGE_OPENED: True, OutcomeKind.MESSAGE_IGNORED: False})
_KINDS = {int(kind): kind for kind in OutcomeKind}
_CHANNELS = {int(c): c.name.lower() for c in Channel if c is not Channel.UNSPECIFIED}
_TEXTS = (
    *("message_id", "workflow_id", "run_id", "step_id", "provider", "reason", "link_url"),
    *("event_id", "outcome_id"),
)
#: Properties of ours: where a call is too large they are the last to go.
_OURS = frozenset({*_TEXTS, *("workflow_version", "channel", "machine"), "possible_duplicate"})
_TRUNCATED = "truncated"
#: Doubles count without gaps up to here.
_EXACT = 2.0**53


class NotExported(StrEnum):
    """Why there is no track call of an outcome."""

    #: The settings do not name its kind, or this release does not know it. All others are faults.
    NOT_SELECTED = "NOT_SELECTED"
    #: Neither user_id nor anonymous_id: Segment would drop it.
    NO_PERSON = "NO_PERSON"
    #: No event name: Segment would drop it.
    NO_NAME = "NO_NAME"
    #: No outcome_id, or one too long for a messageId: repetitions could not be told.
    NO_ID = "NO_ID"
    #: Over 32 KB even without its properties.
    TOO_LARGE = "TOO_LARGE"
    #: Segment refused this call alone.
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class TrackRules:
    """What is exported, and how it is called."""

    #: Version of this program, for `context.library`.
    version: str
    kinds: frozenset[OutcomeKind] = KINDS_DEFAULT
    #: Names over the outcome's own.
    names: Mapping[OutcomeKind, str] = field(default_factory=lambda: NAMES_DEFAULT)
    #: Whether e-mail addresses go out as `context.traits.email`.
    include_recipient: bool = False
    #: Segment's `integrations`: which destinations get the calls.
    integrations: Mapping[str, bool] = field(default_factory=lambda: {OWN_DESTINATION: False})


def track_call(outcome: pb.Outcome, rules: TrackRules) -> dict[str, object] | NotExported:
    """Return the track call of *outcome*, or why there is none."""
    kind = _KINDS.get(outcome.kind, OutcomeKind.UNSPECIFIED)
    if kind not in rules.kinds:
        return NotExported.NOT_SELECTED
    message_id = OWN_ID_PREFIX + outcome.outcome_id
    if not outcome.outcome_id or len(message_id) > MESSAGE_ID_MAX:
        return NotExported.NO_ID
    name = rules.names.get(kind) or outcome.event
    if not name:
        return NotExported.NO_NAME
    person = _person(outcome)
    if not person:
        return NotExported.NO_PERSON
    call: dict[str, object] = {"type": "track", "messageId": message_id, "event": name, **person}
    stamp = _stamp(outcome.occur_time) or _stamp(outcome.record_time)
    if stamp:
        call["timestamp"] = stamp
    call["properties"] = _properties(kind, outcome)
    call["context"] = _context(outcome, rules)
    call["integrations"] = dict(rules.integrations)
    return call


def encoded(call: Mapping[str, object]) -> bytes | NotExported:
    """Return *call* as JSON of at most 32 KB.

    A larger one loses its largest properties, those of an emit step first, and says
    `truncated: true`.
    """
    body = orjson.dumps(call)
    given = call.get("properties")
    if len(body) <= CALL_BYTES_MAX or not isinstance(given, dict):
        return body if len(body) <= CALL_BYTES_MAX else NotExported.TOO_LARGE
    left: dict[str, object] = {**given, _TRUNCATED: True}
    sizes = {name: len(orjson.dumps({name: value})) for name, value in given.items()}
    excess = len(orjson.dumps({**call, "properties": left})) - CALL_BYTES_MAX
    for name in sorted(given, key=lambda name: (name in _OURS, -sizes[name])):
        if excess <= 0:
            break
        if name != _TRUNCATED:
            del left[name]
            excess -= sizes[name] - 1  # without its braces, with its comma
    if excess > 0:
        return NotExported.TOO_LARGE
    return orjson.dumps({**call, "properties": left})


def _person(outcome: pb.Outcome) -> dict[str, str]:
    if outcome.user_id:
        return {"userId": outcome.user_id}
    return {"anonymousId": outcome.anonymous_id} if outcome.anonymous_id else {}


def _properties(kind: OutcomeKind, outcome: pb.Outcome) -> dict[str, object]:
    """Return what is not empty; what an emit step says goes over what we say."""
    found: dict[str, object] = {name: getattr(outcome, name) for name in _TEXTS}
    found["workflow_version"] = outcome.workflow_version
    found["channel"] = _CHANNELS.get(outcome.channel, "")
    found["machine"] = outcome.machine
    found["possible_duplicate"] = outcome.possible_duplicate
    found = {name: value for name, value in found.items() if value}
    if kind in _OPENED:
        found["opened"] = _OPENED[kind]
    # Of other kinds it is what a provider said of the person: addresses, devices, answers.
    if kind is OutcomeKind.CUSTOM:
        found |= _plain_struct(outcome.properties)
    return found


def _context(outcome: pb.Outcome, rules: TrackRules) -> dict[str, object]:
    context: dict[str, object] = {
        "library": {"name": OWN_LIBRARY, "version": rules.version},
        "upshot": {"outcome_id": outcome.outcome_id},
    }
    if rules.include_recipient and outcome.recipient and outcome.channel == pb.CHANNEL_EMAIL:
        context["traits"] = {"email": outcome.recipient}
    return context


def _stamp(time: Timestamp) -> str:
    """Return *time* as `2026-01-31T12:00:00.000Z`; empty when it is not set or is no time."""
    if not time.seconds and not time.nanos:
        return ""
    try:
        moment = time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain_struct(struct: Struct) -> dict[str, object]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _plain_struct(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


def _number(number: float) -> object:
    """Return integral doubles as the int they were; JSON has no NaN and no infinities."""
    if not isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number
