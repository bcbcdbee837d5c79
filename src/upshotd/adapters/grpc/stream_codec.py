"""The request of StreamOutcomes: checked, and in the words of the application."""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from upshot.v1 import service_pb2 as pb
from upshotd.adapters.grpc.times import span_us
from upshotd.application.outcomes import Start, StreamRequest
from upshotd.application.ports import OutcomeFilter
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind

BATCH_MAX = 1_000
_HEARTBEAT_LEAST_US = 1_000_000
_HEARTBEAT_MOST_US = 60_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
Known = TypeVar("Known", bound=IntEnum)


def stream_request(request: pb.StreamOutcomesRequest) -> StreamRequest:
    """Return what *request* asks for. Raises InvalidArgument with every fault."""
    faults: list[Violation] = []
    if not 0 <= request.max_batch <= BATCH_MAX:
        text = f"is {request.max_batch}; must be from 1 to {BATCH_MAX}, 0 means 100"
        faults.append(Violation("max_batch", text))
    if request.subscription and not _NAME.fullmatch(request.subscription):
        faults.append(Violation("subscription", f"must match {_NAME.pattern}"))
    chosen = _filter(request.filter, faults)
    heartbeat_us = _heartbeat_us(request, faults)
    start = _start(request.start, faults)
    if faults:
        text = "; ".join(f"{fault.field} {fault.description}" for fault in faults)
        raise InvalidArgument(text, tuple(faults))
    return StreamRequest(
        after_cursor=request.after_cursor,
        subscription=request.subscription,
        start=start,
        chosen=chosen,
        max_batch=request.max_batch,
        heartbeat_us=heartbeat_us,
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


def _heartbeat_us(request: pb.StreamOutcomesRequest, faults: list[Violation]) -> int:
    """Return the interval, 0 when none is asked for."""
    if not request.HasField("heartbeat_interval"):
        return 0
    interval_us = span_us(request.heartbeat_interval)
    if not _HEARTBEAT_LEAST_US <= interval_us <= _HEARTBEAT_MOST_US:
        faults.append(Violation("heartbeat_interval", "must be from 1 s to 60 s"))
    return interval_us


def _start(number: int, faults: list[Violation]) -> Start:
    if number == pb.START_POSITION_EARLIEST:
        return Start.EARLIEST
    if number not in (pb.START_POSITION_UNSPECIFIED, pb.START_POSITION_NOW):
        faults.append(Violation("start", f"{number} is no known value"))
    return Start.NOW
