"""An outcome as a track call of Segment's spec. Pure; docs/segment.md has the table.

Segment answers 200 to what it then drops, so that what it would drop is told apart here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import CallRules, envelope
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.plain import struct
from upshotd.adapters.relay.semantic import semantic_name, semantic_properties
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind

#: Largest call in bytes of JSON. Segment says 32 KB; this is true of either kind of KB.
CALL_BYTES_MAX: Final = 32_000

_OPENED = MappingProxyType({OutcomeKind.MESSAGE_OPENED: True, OutcomeKind.MESSAGE_IGNORED: False})
_KINDS = {int(kind): kind for kind in OutcomeKind}
_CHANNELS = {int(c): c.name.lower() for c in Channel if c is not Channel.UNSPECIFIED}
_TEXTS = (
    *("message_id", "workflow_id", "run_id", "step_id", "provider", "reason", "link_url"),
    *("event_id", "outcome_id", "variant"),
)
#: Properties of ours: where a call is too large they are the last to go.
_OURS = frozenset({*_TEXTS, *("workflow_version", "channel", "machine"), "possible_duplicate"})
_TRUNCATED = "truncated"
#: What goes out of the properties of kinds that have them from us. Why somebody is in an audience,
#: who decides, and what they wrote is of people.
_FACTS: Final[Mapping[OutcomeKind, tuple[str, ...]]] = MappingProxyType(
    {
        OutcomeKind.AUDIENCE_USER_MATCHED: ("audience_id",),
        OutcomeKind.AUDIENCE_USER_UNMATCHED: ("audience_id",),
        OutcomeKind.APPROVAL_REQUESTED: ("level", "reviewers"),
        OutcomeKind.APPROVAL_DECIDED: ("decision",),
        OutcomeKind.APPROVAL_ASKED: ("question_id",),
        OutcomeKind.APPROVAL_ANSWERED: ("question_id",),
    }
)


def track_call(outcome: pb.Outcome, rules: CallRules) -> dict[str, object] | NotExported:
    """Return the track call of *outcome*, or why there is none."""
    kind = _KINDS.get(outcome.kind, OutcomeKind.UNSPECIFIED)
    if kind not in rules.kinds:
        return NotExported.NOT_SELECTED
    semantic = semantic_name(kind, outcome) if rules.semantic else ""
    name = rules.names.get(kind) or semantic or outcome.event
    properties = (semantic_properties(outcome) if semantic else {}) | _properties(kind, outcome)
    call = {"type": "track", "event": name, "properties": properties}
    whole = envelope(call, "", outcome, rules)
    return NotExported.NO_NAME if not name and not isinstance(whole, NotExported) else whole


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
        found |= struct(outcome.properties)
    if kind in _FACTS:
        known = struct(outcome.properties)
        found |= {name: known[name] for name in _FACTS[kind] if name in known}
    return found
