"""Outcomes: encoded once without their place, and put into responses as bytes ever after.

Both are on the way of every outcome and written by hand: on the wire a message is nothing but the
concatenation of its fields. Tests hold them against protobuf itself.
"""

from collections.abc import Sequence
from operator import attrgetter

from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.grpc.structs import struct
from upshotd.adapters.grpc.times import SECOND_US
from upshotd.adapters.grpc.wire import LOW, SHORT, tag, varint
from upshotd.domain.outcome import Outcome
from upshotd.domain.values import plain

_FIELDS = {field.name: field.number for field in outcome_pb2.Outcome.DESCRIPTOR.fields}
_PAGE = {field.name: field.number for field in service_pb2.StreamOutcomesResponse.DESCRIPTOR.fields}
_VARINT, _LENGTH = 0, 2

_TEXTS = (
    "outcome_id", "event", "user_id", "anonymous_id", "workflow_id", "run_id", "step_id",
    "message_id", "provider", "reason", "link_url", "recipient", "event_id", "provider_message_id",
)  # fmt: skip
_NUMBERS = ("kind", "workflow_version", "channel", "machine", "possible_duplicate")
_texts, _numbers = attrgetter(*_TEXTS), attrgetter(*_NUMBERS)
_TEXT_TAGS = [tag(_FIELDS[name], _LENGTH) for name in _TEXTS]
_HEADS_MAX = 256
#: For each text its tag with each short length behind it.
_TEXT_HEADS = [[head + length for length in SHORT[:_HEADS_MAX]] for head in _TEXT_TAGS]
_NUMBER_TAGS = [tag(_FIELDS[name], _VARINT) for name in _NUMBERS]
_OCCUR, _RECORD, _PROPERTIES = (
    tag(_FIELDS[name], _LENGTH) for name in ("occur_time", "record_time", "properties")
)
_PARTITION, _POSITION = (tag(_FIELDS[name], _VARINT) for name in ("partition", "position"))
_OUTCOMES, _CURSOR = (tag(_PAGE[name], _LENGTH) for name in ("outcomes", "cursor"))
_PARTITION_COUNT = tag(_PAGE["partition_count"], _VARINT)
_SECONDS, _NANOS = tag(1, _VARINT), tag(2, _VARINT)
_SHORT_MAX = len(SHORT)
#: Tag and length of an outcome in a page.
_OUTCOME_HEADS = [_OUTCOMES + length for length in SHORT]


def encode_outcome(outcome: Outcome) -> bytes:
    """Return *outcome* encoded without partition and position."""
    parts: list[bytes] = []
    for heads, tagged, text in zip(_TEXT_HEADS, _TEXT_TAGS, _texts(outcome), strict=True):
        if text:
            encoded = text.encode()
            size = len(encoded)
            parts += (heads[size] if size < _HEADS_MAX else tagged + varint(size), encoded)
    for head, number in zip(_NUMBER_TAGS, _numbers(outcome), strict=True):
        if number:
            parts += (head, varint(number))
    occur = _timestamp(outcome.occur_us)
    same = outcome.record_us == outcome.occur_us
    parts += (_OCCUR, occur, _RECORD, occur if same else _timestamp(outcome.record_us))
    if outcome.properties:
        properties = struct(plain(outcome.properties)).SerializeToString()
        parts += (_PROPERTIES, varint(len(properties)), properties)
    return b"".join(parts)


def _timestamp(us: int) -> bytes:
    """Return a Timestamp with its length in front."""
    seconds, rest = divmod(us, SECOND_US)
    fields = _SECONDS + varint(seconds) + _NANOS + varint(rest * 1000)
    return SHORT[len(fields)] + fields


def response_bytes(
    rows: Sequence[tuple[int, bytes]], partition: int, cursor: str, partition_count: int
) -> bytes:
    """Return a StreamOutcomesResponse of stored outcomes, serialized; 0 partitions are not said.

    *rows* are (position, body) of one partition, in order of position. A stored body becomes an
    outcome with its place by two varints more: no subscriber costs a parse.
    """
    # A partition 0 is the default and is not written, as protobuf would not.
    head = _PARTITION + varint(partition) + _POSITION if partition else _POSITION
    parts = _near(rows, head) or _far(rows, head)
    if cursor:
        text = cursor.encode()
        parts += (_CURSOR, varint(len(text)), text)
    if partition_count:
        parts += (_PARTITION_COUNT, varint(partition_count))
    return b"".join(parts)


def _near(rows: Sequence[tuple[int, bytes]], head: bytes) -> list[bytes]:
    """Return the parts of rows whose positions differ in their last 14 bits only: nearly always.

    None at all where that is not so, or an outcome is very long.
    """
    high = rows[0][0] >> 14 if rows else 0
    if not 0 < high < _SHORT_MAX or rows[-1][0] >> 14 != high:
        return []
    end, heads, low = SHORT[high], _OUTCOME_HEADS, LOW
    extra = len(head) + 2 + len(end)
    try:
        return [
            part
            for position, body in rows
            for part in (heads[len(body) + extra], body, head, low[position & 0x3FFF], end)
        ]
    except IndexError:
        return []


def _far(rows: Sequence[tuple[int, bytes]], head: bytes) -> list[bytes]:
    """Return the parts of any rows."""
    parts: list[bytes] = []
    for position, body in rows:
        place = head + varint(position)
        size = len(body) + len(place)
        length = _OUTCOME_HEADS[size] if size < _SHORT_MAX else _OUTCOMES + varint(size)
        parts += (length, body, place)
    return parts
