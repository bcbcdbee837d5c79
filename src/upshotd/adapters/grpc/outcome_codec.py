"""Outcomes: encoded once, at their place, and put into responses as bytes ever after."""

from collections.abc import Mapping
from typing import Final

from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.grpc.structs import struct
from upshotd.adapters.grpc.times import SECOND_US, instant_us
from upshotd.adapters.grpc.wire import tag, varint
from upshotd.domain.outcome import Outcome
from upshotd.domain.values import plain

_PAGE = {field.name: field.number for field in service_pb2.StreamOutcomesResponse.DESCRIPTOR.fields}
_VARINT, _LENGTH = 0, 2
_OUTCOMES, _CURSOR = (tag(_PAGE[name], _LENGTH) for name in ("outcomes", "cursor"))
#: What an outcome says of its person but for the id by which consumers know them.
_PERSONAL: Final = ("recipient", "link_url", "properties")
_PARTITION_COUNT = tag(_PAGE["partition_count"], _VARINT)


def encode_outcome(outcome: Outcome, partition: int, position: int) -> bytes:
    """Return *outcome* at its place, as one element of a response's `outcomes`."""
    o = outcome
    # All at once: fields that are set one by one take twice as long.
    message = outcome_pb2.Outcome(
        outcome_id=o.outcome_id,
        kind=o.kind,  # type: ignore[arg-type]
        event=o.event,
        user_id=o.user_id,
        anonymous_id=o.anonymous_id,
        workflow_id=o.workflow_id,
        workflow_version=o.workflow_version,
        run_id=o.run_id,
        step_id=o.step_id,
        message_id=o.message_id,
        channel=o.channel,  # type: ignore[arg-type]
        provider=o.provider,
        reason=o.reason,
        link_url=o.link_url,
        machine=o.machine,
        possible_duplicate=o.possible_duplicate,
        recipient=o.recipient,
        event_id=o.event_id,
        provider_message_id=o.provider_message_id,
        template_id=o.template_id,
        variant=o.variant,
        partition=partition,
        position=position,
    )
    for time, time_us in ((message.occur_time, o.occur_us), (message.record_time, o.record_us)):
        time.seconds, rest_us = divmod(time_us, SECOND_US)
        time.nanos = rest_us * 1000
    if o.properties:
        message.properties.CopyFrom(struct(plain(o.properties)))
    body = message.SerializeToString()
    return _OUTCOMES + varint(len(body)) + body


def erased_outcome(
    body: bytes, users: Mapping[str, int], anonymous: Mapping[str, int]
) -> bytes | None:
    """Return an encoded outcome about one of these people without what is personal.

    Both map ids to the microsecond until which it must have been recorded. None where it is about
    somebody else, or nothing is personal. It stays at its place.
    """
    (outcome,) = service_pb2.StreamOutcomesResponse.FromString(body).outcomes
    until_us = users.get(outcome.user_id, anonymous.get(outcome.anonymous_id, 0))
    if instant_us(outcome.record_time) > until_us:
        return None
    if not (outcome.recipient or outcome.link_url or outcome.properties.fields):
        return None
    for name in _PERSONAL:
        outcome.ClearField(name)
    cleared = outcome.SerializeToString()
    return _OUTCOMES + varint(len(cleared)) + cleared


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
