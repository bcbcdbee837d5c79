"""The request of StreamOutcomes, in the words of the application, which checks what it says."""

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from google.protobuf.unknown_fields import UnknownFieldSet

from upshot.v1 import service_pb2 as pb
from upshotd.adapters.grpc.times import span_us
from upshotd.application.outcomes import Start, StreamRequest
from upshotd.application.ports import OutcomeFilter
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind

Known = TypeVar("Known", bound=IntEnum)


def stream_request(request: pb.StreamOutcomesRequest) -> StreamRequest:
    """Return what *request* asks for. Raises InvalidArgument for enum values nobody knows."""
    faults: list[Violation] = []
    # One that says more than this server knows would let through what nobody asked for.
    unknown = UnknownFieldSet(request.filter)
    numbers = sorted({unknown[at].field_number for at in range(len(unknown))})
    faults += (Violation("filter", f"field {n} is not known to this server") for n in numbers)
    chosen = _filter(request.filter, faults)
    start = _start(request.start, faults)
    if faults:
        raise InvalidArgument.of(faults)
    return StreamRequest(
        after_cursor=request.after_cursor,
        subscription=request.subscription,
        start=start,
        chosen=chosen,
        max_batch=request.max_batch,
        heartbeat_us=_heartbeat_us(request),
        partitions=tuple(request.partitions),
    )


def _filter(given: pb.OutcomeFilter, faults: list[Violation]) -> OutcomeFilter:
    return OutcomeFilter(
        kinds=_known("filter.kinds", OutcomeKind, given.kinds, faults),
        workflow_ids=frozenset(given.workflow_ids),
        user_ids=frozenset(given.user_ids),
        channels=_known("filter.channels", Channel, given.channels, faults),
    )


def _known(
    path: str, kind: type[Known], numbers: Iterable[int], faults: list[Violation]
) -> frozenset[Known]:
    """Return the members with these numbers; 0 stands for nothing and cannot be asked for."""
    members = {int(member): member for member in kind}
    found = set()
    for at, number in enumerate(numbers):
        if number and number in members:
            found.add(members[number])
        else:
            faults.append(Violation(f"{path}[{at}]", f"{number} is no known value"))
    return frozenset(found)


def _heartbeat_us(request: pb.StreamOutcomesRequest) -> int:
    """Return the interval; 0 when none is asked for, and one that is refused when it is 0."""
    return (
        span_us(request.heartbeat_interval) or -1 if request.HasField("heartbeat_interval") else 0
    )


def _start(number: int, faults: list[Violation]) -> Start:
    if number == pb.START_POSITION_EARLIEST:
        return Start.EARLIEST
    if number not in (pb.START_POSITION_UNSPECIFIED, pb.START_POSITION_NOW):
        faults.append(Violation("start", f"{number} is no known value"))
    return Start.NOW
