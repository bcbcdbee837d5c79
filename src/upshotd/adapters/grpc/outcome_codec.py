"""Outcomes: encoded once without their place, and put into responses as bytes ever after."""

from collections.abc import Iterable
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.grpc.structs import struct
from upshotd.adapters.grpc.times import SECOND_US
from upshotd.domain.outcome import Outcome
from upshotd.domain.values import plain


class Record(Protocol):
    """An outcome as the log holds it."""

    @property
    def partition(self) -> int:
        """Partition of the log."""

    @property
    def position(self) -> int:
        """Position in the partition."""

    @property
    def body(self) -> bytes:
        """The outcome, encoded without the two."""


def encode_outcome(outcome: Outcome) -> bytes:
    """Return *outcome* encoded without partition and position."""
    message = pb.Outcome(
        outcome_id=outcome.outcome_id,
        kind=int(outcome.kind),  # type: ignore[arg-type]  # the stubs want the enum's own type
        event=outcome.event,
        occur_time=_timestamp(outcome.occur_us),
        record_time=_timestamp(outcome.record_us),
        user_id=outcome.user_id,
        anonymous_id=outcome.anonymous_id,
        workflow_id=outcome.workflow_id,
        workflow_version=outcome.workflow_version,
        run_id=outcome.run_id,
        step_id=outcome.step_id,
        message_id=outcome.message_id,
        channel=int(outcome.channel),  # type: ignore[arg-type]
        provider=outcome.provider,
        reason=outcome.reason,
        link_url=outcome.link_url,
        machine=outcome.machine,
        possible_duplicate=outcome.possible_duplicate,
        recipient=outcome.recipient,
        event_id=outcome.event_id,
        provider_message_id=outcome.provider_message_id,
    )
    if outcome.properties:
        message.properties.CopyFrom(struct(plain(outcome.properties)))
    return message.SerializeToString()


def _timestamp(us: int) -> Timestamp:
    seconds, rest = divmod(us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


# -- responses, by hand --------------------------------------------------------------------------
# On the wire a response is the concatenation of its fields, and so is an outcome: a stored body
# becomes one with its place by appending two varints, and no subscriber costs a parse.

_OUTCOMES_TAG = b"\x0a"  # field 1, length-delimited
_CURSOR_TAG = b"\x12"  # field 2, length-delimited
_PARTITION_COUNT_TAG = b"\x18"  # field 3, varint
_PARTITION_TAG = b"\xa0\x01"  # field 20 of Outcome, varint
_POSITION_TAG = b"\xa8\x01"  # field 21 of Outcome, varint


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


#: Lengths of usual outcomes, and the low 14 bits of positions where more bits follow.
_SHORT = [_varint(number) for number in range(1 << 14)]
_LOW = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(1 << 14)]


def _position(position: int) -> bytes:
    if position < 1 << 14:
        return _SHORT[position]
    low, high = _LOW[position & 0x3FFF], position >> 14
    return low + (_SHORT[high] if high < 1 << 14 else _varint(high))


def response_bytes(records: Iterable[Record], cursor: str, partition_count: int) -> bytes:
    """Return a StreamOutcomesResponse of stored outcomes, serialized; 0 partitions are not said."""
    parts: list[bytes] = []
    add = parts.append
    heads: dict[int, bytes] = {}
    for record in records:
        partition, body = record.partition, record.body
        head = heads.get(partition)
        if head is None:
            # A partition 0 is the default and is not written, as protobuf would not.
            place = _PARTITION_TAG + _varint(partition) if partition else b""
            head = heads[partition] = place + _POSITION_TAG
        place = head + _position(record.position)
        size = len(body) + len(place)
        add(_OUTCOMES_TAG)
        add(_SHORT[size] if size < 1 << 14 else _varint(size))
        add(body)
        add(place)
    if cursor:
        text = cursor.encode()
        parts += (_CURSOR_TAG, _varint(len(text)), text)
    if partition_count:
        parts += (_PARTITION_COUNT_TAG, _varint(partition_count))
    return b"".join(parts)
