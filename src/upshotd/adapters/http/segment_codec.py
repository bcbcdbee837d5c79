"""Segment's calls as JSON -> events of the contract. Pure; the hot path of every SDK's batches.

A body that is no JSON, or not of the form, is refused as a whole (`Malformed`). What is wrong with
one call never harms its neighbours: the call becomes an event that the server will reject, so that
it is seen where rejected events are seen.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn, TypeAlias

import orjson
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from upshot.v1 import event_pb2 as pb
from upshot.v1 import service_pb2
from upshotd.adapters.http import json_array
from upshotd.adapters.http.moments import put_moment

#: Most calls in a batch, as Segment's.
BATCH_CALLS_MAX: Final = 2_500
#: Largest event, and so largest context that a batch shares, in bytes.
EVENT_BYTES_MAX: Final = 32 * 1024
#: Most events of one Ingest.
REQUEST_EVENTS_MAX: Final = 1_000
#: An Ingest is closed when it has grown past this; with the largest possible event on top it still
#: fits into the 4 MiB of a gRPC message (a number is 2 bytes in JSON and 11 in a Struct).
REQUEST_BYTES: Final = 512 * 1024
#: Deeper Structs the server could not parse.
DEPTH_MAX: Final = 30
#: Where a call that could not be read says why, in the context of the event that stands for it.
FAULT_KEY: Final = "upshot_fault"

#: Those that SDKs have a method and a path for.
TYPES: Final = frozenset({"track", "identify", "group", "page", "screen", "alias"})
_TYPES = TYPES | {"delete"}

#: Doubles count without gaps up to here; ids beyond it keep their digits as text.
_EXACT: Final = 2**53
#: Digits that orjson may have rounded. Also found in strings, which costs time only.
_MANY_DIGITS = re.compile(rb"[0-9]{19}")

Json: TypeAlias = Mapping[str, object]


class Malformed(Exception):
    """The body cannot be taken as it is; nothing of it was. The text is for the sender."""


class _Fault(Exception):
    """One call cannot be read; the text says why, without its values."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the calls of a batch have in common."""

    context: Struct
    integrations: Struct
    #: When the batch was sent, as it came; anything.
    sent_at: object


_ALONE = _Shared(Struct(), Struct(), None)


def parse(body: bytes) -> Json:
    """Return the object in *body*. Raises Malformed for everything else.

    Numbers that no double can hold become text. Of a repeated key the last value counts. Half of
    a surrogate pair, which JavaScript writes when it cuts an emoji in two, becomes `?`.
    """
    try:
        value = _value(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is no JSON") from None
    if not isinstance(value, dict):
        raise Malformed("the body must be a JSON object")
    return value


def _value(body: bytes) -> object:
    if _MANY_DIGITS.search(body) is None:
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
    # Slower, and exact about what orjson rounds or does not read.
    value = json.loads(body, parse_int=_integer, parse_constant=_refuse_constant)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return orjson.loads(text.encode("utf-8", "replace"))


def _integer(digits: str) -> int | str:
    number = int(digits) if len(digits) < 18 else None
    return digits if number is None or abs(number) > _EXACT else number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def write_key(body: Json) -> str:
    """Return the write key that stands in the body, or an empty text."""
    key = body.get("writeKey")
    return key if isinstance(key, str) else ""


def single(body: Json, kind: str) -> service_pb2.IngestRequest:
    """Return the request for one call of *kind*, whatever type its body names."""
    request = service_pb2.IngestRequest()
    _fill_event(request.events.add(), body, kind, _ALONE)
    return request


def batch(body: Json) -> Iterator[service_pb2.IngestRequest]:
    """Yield requests for the calls of a batch, in order. Raises Malformed before the first one.

    More than 2500 calls are refused as a whole: Segment answers 200 and drops them, but nothing
    that was answered with 200 may vanish here.
    """
    calls = body.get("batch")
    if not isinstance(calls, list):
        raise Malformed("`batch` must be a list of calls")
    if len(calls) > BATCH_CALLS_MAX:
        raise Malformed(f"{len(calls)} calls in a batch; at most {BATCH_CALLS_MAX} are taken")
    shared = _Shared(_common(body, "context"), _common(body, "integrations"), body.get("sentAt"))
    return _requests(calls, shared)


def calls(body: bytes, most: int) -> list[bytes]:
    """Return the one call in *body*, or those of its array, as they are written.

    Raises Malformed for anything else, and for more than *most*.
    """
    if not json_array.is_array(body):
        if len(body) > json_array.VALUE_CHARS_MAX:
            raise Malformed(f"an event has at most {EVENT_BYTES_MAX} bytes")
        parse(body)
        return [body]
    try:
        found = list(islice(json_array.values(body), most + 1))
    except ValueError:
        raise Malformed("the body is no array of events in JSON") from None
    if not found:
        raise Malformed("the body must be an event, or an array of events")
    if len(found) > most:
        raise Malformed(f"at most {most} events are taken")
    return found


def requests(calls: Iterable[bytes]) -> Iterator[service_pb2.IngestRequest]:
    """Yield requests for *calls*, each of which says its own type, in order."""
    return _requests(map(_call, calls), _ALONE)


def _call(text: bytes) -> object:
    try:
        return _value(text)
    except (ValueError, RecursionError):
        return None  # no object: it is told as a call that could not be read


def _common(body: Json, name: str) -> Struct:
    struct = Struct()
    try:
        _fill_struct(struct, body, name)
    except _Fault as fault:
        raise Malformed(f"the batch's {fault}") from None
    if struct.ByteSize() > EVENT_BYTES_MAX:
        # It is copied into every call, none of which could be taken.
        raise Malformed(f"the batch's `{name}` is larger than an event may be")
    return struct


def _requests(calls: Iterable[object], shared: _Shared) -> Iterator[service_pb2.IngestRequest]:
    request, size = service_pb2.IngestRequest(), 0
    for call in calls:
        event = request.events.add()
        _fill_item(event, call, shared)
        size += event.ByteSize()
        if size >= REQUEST_BYTES or len(request.events) == REQUEST_EVENTS_MAX:
            yield request
            request, size = service_pb2.IngestRequest(), 0
    if request.events:
        yield request


def _fill_item(event: pb.Event, call: object, shared: _Shared) -> None:
    if not isinstance(call, dict):
        event.context.fields[FAULT_KEY].string_value = "the call is not an object"
        return
    kind = call.get("type")
    _fill_event(event, call, kind if isinstance(kind, str) else "", shared)


def _fill_event(event: pb.Event, call: Json, kind: str, shared: _Shared) -> None:
    try:
        event.event_id = _text(call, "messageId")
        event.user_id = _text(call, "userId")
        event.anonymous_id = _text(call, "anonymousId")
        _fill_times(event, call, shared.sent_at)
        _fill_merged(event.context, call, "context", shared.context)
        _fill_merged(event.integrations, call, "integrations", shared.integrations)
        if kind in _TYPES:
            _fill_call(event, call, kind)
    except _Fault as fault:
        event.ClearField("context")
        for name in _TYPES:
            event.ClearField(name)  # type: ignore[arg-type]  # each of TYPES is a field
        event.context.fields[FAULT_KEY].string_value = str(fault)


def _fill_times(event: pb.Event, call: Json, batch_sent_at: object) -> None:
    timestamp = call.get("timestamp")
    if "receivedAt" in call and put_moment(event.event_time, timestamp):
        return  # it comes from Segment, which has corrected it by its own clock already
    if not put_moment(event.event_time, call.get("originalTimestamp")):
        if not put_moment(event.event_time, timestamp):
            event.ClearField("event_time")
    if not put_moment(event.sent_time, call.get("sentAt")):
        if not put_moment(event.sent_time, batch_sent_at):
            event.ClearField("sent_time")


def _fill_merged(struct: Struct, call: Json, name: str, shared: Struct) -> None:
    """Fill *struct* with what the batch shares and over it, key by key, what the call says."""
    if shared.fields:
        struct.CopyFrom(shared)
        own = call.get(name)
        if isinstance(own, dict):
            for key in own:
                if key in struct.fields:  # else what is there would be merged into
                    del struct.fields[key]
    _fill_struct(struct, call, name)


def _fill_call(event: pb.Event, call: Json, kind: str) -> None:
    match kind:
        case "track":
            event.track.event = _text(call, "event")
            _fill_struct(event.track.properties, call, "properties")
        case "identify":
            event.identify.SetInParent()
            _fill_struct(event.identify.traits, call, "traits")
        case "group":
            event.group.group_id = _text(call, "groupId")
            _fill_struct(event.group.traits, call, "traits")
        case "page":
            _fill_view(event.page, call)
        case "screen":
            _fill_view(event.screen, call)
        case "alias":
            event.alias.previous_id = _text(call, "previousId")
        case "delete":
            event.delete.SetInParent()


def _fill_view(view: pb.Page | pb.Screen, call: Json) -> None:
    view.SetInParent()
    _fill_struct(view.properties, call, "properties")
    # Browsers put both into the properties as well, mobile SDKs only there.
    view.name = _text(call, "name") or _property(view.properties, "name")
    view.category = _text(call, "category") or _property(view.properties, "category")


def _property(properties: Struct, name: str) -> str:
    # Asked first: reading a missing key of a protobuf map adds it.
    return properties.fields[name].string_value if name in properties.fields else ""


def _text(call: Json, name: str) -> str:
    """Return an id or a name; numbers become text."""
    value = call.get(name)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Fault(f"`{name}` is neither a text nor a number")
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    return str(value)


def _fill_struct(struct: Struct, call: Json, name: str) -> None:
    value = call.get(name)
    if value is None:
        return
    if not isinstance(value, dict):
        raise _Fault(f"`{name}` is not an object")
    try:
        _fill_fields(struct, value, DEPTH_MAX)
    except RecursionError:
        raise _Fault(f"`{name}` is nested deeper than {DEPTH_MAX}") from None


def _fill_fields(struct: Struct, values: Json, depth: int) -> None:
    if depth < 0:
        raise RecursionError
    fields = struct.fields
    for key, value in values.items():
        _fill_value(fields[key], value, depth)


def _fill_value(target: Value, value: object, depth: int) -> None:
    # By frequency; orjson makes exactly these types.
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, float):
        target.number_value = value
    elif isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            target.number_value = value
        else:
            target.string_value = str(value)
    elif value is None:
        target.null_value = NULL_VALUE
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        _fill_fields(target.struct_value, value, depth - 1)
    elif isinstance(value, list):
        _fill_list(target, value, depth - 1)


def _fill_list(target: Value, items: list[object], depth: int) -> None:
    if depth < 0:
        raise RecursionError
    target.list_value.SetInParent()
    values = target.list_value.values
    for item in items:
        _fill_value(values.add(), item, depth)
