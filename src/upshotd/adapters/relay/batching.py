"""Calls packed into requests of Segment's batch API, by bytes and by number. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

#: Largest request in bytes. Segment says 500 KB; this is true of either kind of KB.
BATCH_BYTES_MAX: Final = 500_000
#: Most calls in one request.
BATCH_CALLS_MAX: Final = 2_500

_HEAD, _BETWEEN, _TAIL = b'{"batch":[', b",", b"]}"


@dataclass(frozen=True, slots=True)
class Call:
    """One track call, ready to be sent."""

    outcome_id: str
    #: JSON, at most 32 KB.
    body: bytes


@dataclass(frozen=True, slots=True)
class CallPage:
    """The calls of one page of the outcome log; none when it was a checkpoint."""

    calls: tuple[Call, ...]
    #: Everything up to here is in this page and those before it.
    cursor: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls of one request, and how far the log is read once they are answered."""

    calls: tuple[Call, ...]
    #: Cursor of the last page that is whole with this batch; empty when none ends in it.
    cursor: str


def request_body(calls: Sequence[Call]) -> bytes:
    """Return the body of a batch request."""
    return _HEAD + _BETWEEN.join(call.body for call in calls) + _TAIL


def batches(pages: Iterable[CallPage]) -> list[Batch]:
    """Return the calls of *pages* in their order, in as few requests as the limits allow.

    A batch without calls only carries a cursor. Every call fits into a request of its own.
    """
    packing = _Packing()
    for page in pages:
        for call in page.calls:
            packing.add(call)
        packing.end_page(page.cursor)
    packing.close()
    return packing.done


class _Packing:
    """The batch that is being filled, and those that are full."""

    def __init__(self) -> None:
        self.done: list[Batch] = []
        self._calls: list[Call] = []
        self._size = len(_HEAD) + len(_TAIL)
        self._cursor = ""

    def add(self, call: Call) -> None:
        size = len(call.body) + len(_BETWEEN)
        full = len(self._calls) == BATCH_CALLS_MAX or self._size + size > BATCH_BYTES_MAX
        if full and self._calls:
            self.close()
        self._calls.append(call)
        self._size += size

    def end_page(self, cursor: str) -> None:
        self._cursor = cursor

    def close(self) -> None:
        if self._calls or self._cursor:
            self.done.append(Batch(tuple(self._calls), self._cursor))
        self._calls, self._size, self._cursor = [], len(_HEAD) + len(_TAIL), ""
