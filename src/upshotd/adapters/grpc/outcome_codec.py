"""Outcomes: encoded once, at their place, and put into responses as bytes ever after.

Both are on the way of every outcome and written by hand: on the wire a message is nothing but the
concatenation of its fields. Tests hold them against protobuf itself.
"""

from operator import attrgetter

from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.grpc.structs import struct
from upshotd.adapters.grpc.times import SECOND_US
from upshotd.adapters.grpc.wire import SHORT, tag, varint
from upshotd.domain.outcome import Outcome
from upshotd.domain.values import plain

_FIELDS = {field.name: field.number for field in outcome_pb2.Outcome.DESCRIPTOR.fields}
_PAGE = {field.name: field.number for field in service_pb2.StreamOutcomesResponse.DESCRIPTOR.fields}
_VARINT, _LENGTH = 0, 2

_TEXTS = (
    "outcome_id", "event", "user_id", "anonymous_id", "workflow_id", "run_id", "step_id",
    "message_id", "provider", "reason", "link_url", "recipient", "event_id", "provider_message_id",
    "template_id",
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


def encode_outcome(outcome: Outcome, partition: int, position: int) -> bytes:
    """Return *outcome* at its place, as one element of a response's `outcomes`."""
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
    # A partition 0 is the default and is not written, as protobuf would not.
    if partition:
        parts += (_PARTITION, varint(partition))
    parts += (_POSITION, varint(position))
    body = b"".join(parts)
    return _OUTCOMES + varint(len(body)) + body


def _timestamp(us: int) -> bytes:
    """Return a Timestamp with its length in front."""
    seconds, rest = divmod(us, SECOND_US)
    fields = _SECONDS + varint(seconds) + _NANOS + varint(rest * 1000)
    return SHORT[len(fields)] + fields


def response_bytes(outcomes: bytes, cursor: str, partition_count: int) -> bytes:
    """Return a StreamOutcomesResponse of stored outcomes, serialized; 0 partitions are not said.

    *outcomes* are encoded ones behind each other: no subscriber costs a parse, nor anything for
    each of them.
    """
    parts = [outcomes]
    if cursor:
        text = cursor.encode()
        parts += (_CURSOR, varint(len(text)), text)
    if partition_count:
        parts += (_PARTITION_COUNT, varint(partition_count))
    return b"".join(parts)
