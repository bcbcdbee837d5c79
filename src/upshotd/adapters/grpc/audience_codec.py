"""Audiences of the contract <-> those of the domain."""

from typing import assert_never

from google.protobuf.duration_pb2 import Duration

from upshot.v1 import audience_pb2 as pb
from upshot.v1 import engagement_pb2
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.audience import (
    AllOf,
    AnyOf,
    Audience,
    Change,
    Did,
    Engaged,
    Holds,
    InGroup,
    Not,
    Often,
    Rule,
    Transition,
)
from upshotd.domain.errors import FailedPrecondition, Violation
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.values import replace

#: Largest definition, serialized, in bytes.
AUDIENCE_BYTES_MAX = 64 * 1024
#: Stands where a rule cannot be read.
_HARMLESS = InGroup("-")


def audience(message: pb.Audience) -> tuple[Audience, tuple[Violation, ...]]:
    """Return the audience, as far as *message* says one, and every fault of its form by path.

    Faults of meaning are the domain's to find in what is returned.
    """
    if message.ByteSize() > AUDIENCE_BYTES_MAX:
        text = f"{message.ByteSize()} bytes serialized; at most {AUDIENCE_BYTES_MAX} are taken"
        return Audience(message.audience_id, _HARMLESS), (Violation("audience", text),)
    reading = Reading()
    reading.unknown_fields(message, "audience")
    rule = _rule(message.rule, "audience.rule", reading)
    read = Audience(message.audience_id, rule, message.display_name)
    return read, tuple(reading.violations)


def message(audience: Audience) -> pb.Audience:
    """Return *audience* as a message, without its version."""
    return pb.Audience(
        audience_id=audience.audience_id,
        display_name=audience.display_name,
        rule=_rule_message(audience.rule),
    )


def encode_audience(audience: Audience) -> bytes:
    """Return the canonical encoding of *audience*, without its version."""
    return message(audience).SerializeToString(deterministic=True)


def decode_audience(definition: bytes, version: int) -> Audience:
    """Return the audience of a stored definition.

    Raises FailedPrecondition when a newer server stored it and this one cannot read all of it.
    """
    read, violations = audience(pb.Audience.FromString(definition))
    if violations:
        text = f"audience {read.audience_id!r}, version {version}, is of a newer server"
        raise FailedPrecondition(f"{text}: {violations[0].field}")
    return replace(read, version=version)


# -- changes, in workflows ---------------------------------------------------------------------


def change(audience_id: str, transition: int, path: str, reading: Reading) -> Change:
    """Return which change of which audience is meant; *path* is where it stands."""
    instead = Transition.ENTER
    if not transition:
        text = "AUDIENCE_TRANSITION_ENTER or AUDIENCE_TRANSITION_LEAVE is required"
        reading.fault(f"{path}.transition", text)
        return Change(audience_id, instead)
    read = reading.enum(Transition, transition, f"{path}.transition", instead)
    return Change(audience_id, read)


def transition_number(transition: Transition | None) -> "pb.AudienceTransition.ValueType":
    """Return a transition as the contract numbers it."""
    return pb.AudienceTransition.ValueType(transition or 0)


# -- reading -----------------------------------------------------------------------------------


def _rule(message: pb.AudienceRule, path: str, reading: Reading) -> Rule:
    kind = message.WhichOneof("rule")
    at = f"{path}.{kind}"
    match kind:
        case "all_of":
            return AllOf(_rules(message.all_of, at, reading))
        case "any_of":
            return AnyOf(_rules(message.any_of, at, reading))
        case "not":
            return Not(_rule(getattr(message, "not"), at, reading))
        case "condition":
            return Holds(message.condition)
        case "event":
            event = message.event
            often = _often(event, at, reading)
            return Did(event.event, event.condition, often)
        case "group":
            return InGroup(message.group.group_id)
        case "message":
            return _engaged(message.message, at, reading)
        case None:
            kinds = ", ".join(f.name for f in message.DESCRIPTOR.oneofs_by_name["rule"].fields)
            reading.missing(message, path, "rule", f"one of {kinds} is required")
            return _HARMLESS


def _rules(message: pb.AudienceRules, path: str, reading: Reading) -> tuple[Rule, ...]:
    return tuple(
        _rule(rule, f"{path}.rules[{index}]", reading) for index, rule in enumerate(message.rules)
    )


def _engaged(message: pb.MessageRule, path: str, reading: Reading) -> Engaged:
    kinds = tuple(
        reading.enum(EngagementKind, kind, f"{path}.kinds[{index}]", EngagementKind.UNSPECIFIED)
        for index, kind in enumerate(message.kinds)
    )
    often = _often(message, path, reading)
    return Engaged(kinds, message.ignored, message.workflow_id, often)


def _often(message: pb.EventRule | pb.MessageRule, path: str, reading: Reading) -> Often:
    within_us = ago_us = 0
    if message.HasField("within"):
        within_us = _span(message.within, f"{path}.within", reading)
    if message.HasField("ago"):
        ago_us = _span(message.ago, f"{path}.ago", reading)
    return Often(message.at_least or 1, within_us, ago_us)


def _span(message: Duration, path: str, reading: Reading) -> int:
    span_us = reading.span_us(message, path)
    if not span_us:  # which says that none is given
        reading.fault(path, "must be above 0")
    return span_us


# -- writing -----------------------------------------------------------------------------------


def _rule_message(rule: Rule) -> pb.AudienceRule:
    match rule:
        case AllOf(rules):
            return pb.AudienceRule(all_of=pb.AudienceRules(rules=map(_rule_message, rules)))
        case AnyOf(rules):
            return pb.AudienceRule(any_of=pb.AudienceRules(rules=map(_rule_message, rules)))
        case Not(inner):
            written = pb.AudienceRule()
            getattr(written, "not").CopyFrom(_rule_message(inner))
            return written
        case Holds(condition):
            return pb.AudienceRule(condition=condition)
        case InGroup(group_id):
            return pb.AudienceRule(group=pb.GroupRule(group_id=group_id))
        case Did(event, condition, often):
            did = pb.EventRule(event=event, condition=condition, at_least=often.at_least)
            _put_spans(did, often)
            return pb.AudienceRule(event=did)
        case Engaged(kinds, ignored, workflow_id, often):
            engaged = pb.MessageRule(
                kinds=[engagement_pb2.EngagementKind.ValueType(kind) for kind in kinds],
                ignored=ignored,
                workflow_id=workflow_id,
                at_least=often.at_least,
            )
            _put_spans(engaged, often)
            return pb.AudienceRule(message=engaged)
        case _:
            assert_never(rule)


def _put_spans(written: pb.EventRule | pb.MessageRule, often: Often) -> None:
    if often.within_us:
        written.within.CopyFrom(duration(often.within_us))
    if often.ago_us:
        written.ago.CopyFrom(duration(often.ago_us))
