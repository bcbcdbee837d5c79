"""Values of outcomes as JSON has them: structs, times, whole outcomes. Pure."""

from datetime import UTC
from math import isfinite

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import outcome_pb2 as pb

#: Doubles count without gaps up to here.
_EXACT = 2.0**53


def stamp(time: Timestamp) -> str:
    """Return *time* as `2026-01-31T12:00:00.000Z`; empty when it is not set or is no time."""
    if not time.seconds and not time.nanos:
        return ""
    try:
        moment = time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def struct(given: Struct) -> dict[str, object]:
    """Return *given* as plain values; JSON has no NaN and no infinities: they are null."""
    return {name: _plain(value) for name, value in given.fields.items()}


def outcome_json(outcome: pb.Outcome, *, include_recipient: bool) -> bytes:
    """Return *outcome* as protobuf JSON; always the same for the same outcome.

    The address goes only when *include_recipient* says so. A time that is none is left out.
    """
    written = pb.Outcome()
    written.CopyFrom(outcome)
    written.ClearField("properties")
    if not include_recipient:
        written.ClearField("recipient")
    for name in ("occur_time", "record_time"):
        if not stamp(getattr(outcome, name)):
            written.ClearField(name)
    fields = MessageToDict(written)
    if outcome.HasField("properties"):
        # A Struct comes in any order.
        sorted_json = orjson.dumps(struct(outcome.properties), option=orjson.OPT_SORT_KEYS)
        fields["properties"] = orjson.Fragment(sorted_json)
    return orjson.dumps(fields)


def outcome_of(fields: object) -> pb.Outcome:
    """Return the outcome that was written as *fields*. Raises ValueError for what is none."""
    if not isinstance(fields, dict):
        raise ValueError("is no outcome: no object")
    try:
        return ParseDict(fields, pb.Outcome(), ignore_unknown_fields=True)
    except Exception as error:  # ParseDict raises whatever its reading stumbles over
        raise ValueError(f"is no outcome: {error}") from None


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


def _number(number: float) -> object:
    """Return integral doubles as the int they were."""
    if not isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number
