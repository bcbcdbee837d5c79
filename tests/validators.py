"""What StreamOutcomes promises, as functions over what readers saw.

Every test that opens a stream records it and lets `StreamValidator` judge at the end:

    validator = StreamValidator()
    stream = validator.opened(after_cursor=cursor)
    stream.saw(response)              # of the contract, or a StreamPage
    validator.check()

Each rule returns its findings as sentences, none when all is well. A validator judges the streams
of one log and one workspace.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.stores import decode
from upshotd.application import cursor as cursors
from upshotd.application.outcomes import StreamPage

BATCH_DEFAULT = 100


@dataclass(frozen=True)
class Seen:
    """One outcome as a reader saw it."""

    partition: int
    position: int
    outcome_id: str
    #: The outcome itself where a test wants to filter by what is in it.
    value: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Response:
    """One response as a reader saw it."""

    outcomes: tuple[Seen, ...]
    cursor: str
    partition_count: int = 0


@dataclass
class Stream:
    """One stream from its opening to its end."""

    name: str = "stream"
    #: What it was opened with; empty: without one.
    after_cursor: str = ""
    #: What passes the filter it was opened with; None: everything.
    passes: Callable[[Seen], bool] | None = None
    #: Partitions it was opened with; empty: all.
    partitions: tuple[int, ...] = ()
    max_batch: int = BATCH_DEFAULT
    responses: list[Response] = field(default_factory=list)

    def saw(self, response: Any) -> None:
        """Record a response of the contract, or a StreamPage of a store with `stores.encode`."""
        if isinstance(response, StreamPage):
            seen = [Seen(*place) for place in decode(response.joined)]
        else:
            seen = [Seen(o.partition, o.position, o.outcome_id, o) for o in response.outcomes]
        self.responses.append(Response(tuple(seen), response.cursor, response.partition_count))

    @property
    def outcomes(self) -> list[Seen]:
        """Everything it carried, in order."""
        return [seen for response in self.responses for seen in response.outcomes]

    @property
    def cursor(self) -> str:
        """The last cursor, what the next stream is opened with."""
        return self.responses[-1].cursor if self.responses else self.after_cursor

    @property
    def ids(self) -> list[str]:
        """The ids of everything it carried, in order."""
        return [seen.outcome_id for seen in self.outcomes]


class StreamValidator:
    """Holds what all readers of one log saw, and judges it."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def opened(self, **fields: Any) -> Stream:
        """Begin to record a stream."""
        fields.setdefault("name", f"stream {len(self.streams) + 1}")
        stream = Stream(**fields)
        self.streams.append(stream)
        return stream

    def findings(self, log: Sequence[Seen] | None = None) -> list[str]:
        """Return everything that is wrong; *log* is the whole truth, where a test knows it."""
        found = [finding for rule in RULES for stream in self.streams for finding in rule(stream)]
        found += agreeing(self.streams)
        if log is not None:
            for stream in self.streams:
                found += reliable(stream, log)
        return found

    def check(self, log: Sequence[Seen] | None = None) -> None:
        """Raise AssertionError with everything that is wrong."""
        found = self.findings(log)
        assert not found, "\n".join(found)


def positions(text: str) -> Mapping[int, int]:
    """Return the places a cursor names; a malformed one names none."""
    cursor = cursors.parse(text)
    return cursor.positions if cursor is not None else {}


def begun(stream: Stream) -> list[str]:
    """The first response is a checkpoint with the number of partitions, and tells it alone."""
    if not stream.responses:
        return []
    first, *later = stream.responses
    found = []
    if first.outcomes:
        found.append(f"{stream.name}: the first response is no checkpoint")
    if first.partition_count <= 0:
        found.append(f"{stream.name}: the first response does not tell the partitions")
    if any(response.partition_count for response in later):
        found.append(f"{stream.name}: a later response tells the partitions again")
    return found


def placed(stream: Stream) -> list[str]:
    """Every response has a cursor, about the partitions of the stream and no others."""
    found = []
    for at, response in enumerate(stream.responses):
        known = set(positions(response.cursor))
        if not known:
            found.append(f"{stream.name}: response {at} has no cursor")
        elif stream.partitions and known != set(stream.partitions):
            found.append(f"{stream.name}: response {at} has a cursor of other partitions")
        found += [
            f"{stream.name}: {_place(seen)} is of a partition not asked for"
            for seen in response.outcomes
            if seen.partition not in known
        ]
    return found


def sized(stream: Stream) -> list[str]:
    """No response carries more than was asked for."""
    return [
        f"{stream.name}: response {at} carries {len(response.outcomes)} outcomes"
        for at, response in enumerate(stream.responses)
        if len(response.outcomes) > stream.max_batch
    ]


def ordered(stream: Stream) -> list[str]:
    """Positions only grow within a partition."""
    found, last = [], dict[int, int]()
    for seen in stream.outcomes:
        if seen.position <= last.get(seen.partition, 0):
            found.append(f"{stream.name}: {_place(seen)} after {last[seen.partition]}")
        last[seen.partition] = max(seen.position, last.get(seen.partition, 0))
    return found


def unique(stream: Stream) -> list[str]:
    """No outcome comes twice within a stream."""
    found, known = [], set[str]()
    for seen in stream.outcomes:
        if seen.outcome_id in known:
            found.append(f"{stream.name}: {seen.outcome_id} twice")
        known.add(seen.outcome_id)
    return found


def contiguous(stream: Stream) -> list[str]:
    """Without a filter each position follows the one before, from the first checkpoint on."""
    if stream.passes is not None or not stream.responses:
        return []
    found = []
    last = dict(positions(stream.responses[0].cursor))
    for seen in stream.outcomes:
        expected = last.get(seen.partition, 0) + 1
        if seen.position > expected:
            found.append(f"{stream.name}: {_place(seen)} where {expected} was next")
        last[seen.partition] = seen.position
    return found


def resumed(stream: Stream) -> list[str]:
    """A stream begins strictly after its cursor, and says so in its first checkpoint."""
    after = positions(stream.after_cursor)
    first = positions(stream.responses[0].cursor) if stream.responses else {}
    found = [
        f"{stream.name}: begins at {first[partition]} of partition {partition}, not at {position}"
        for partition, position in after.items()
        if partition in first and first[partition] != position
    ]
    return found + [
        f"{stream.name}: {_place(seen)} is not after the cursor it resumed from"
        for seen in stream.outcomes
        if seen.position <= after.get(seen.partition, 0)
    ]


def bookmarkable(stream: Stream) -> list[str]:
    """A cursor never goes back; it covers what was sent, nothing follows that it covers, and it
    is not ahead of what was sent unless a filter passed over it."""
    found, before = [], dict[int, int]()
    for at, response in enumerate(stream.responses):
        where = f"{stream.name}: response {at}"
        sent = dict(before)
        for seen in response.outcomes:
            if seen.position <= before.get(seen.partition, 0):
                found.append(f"{where} repeats {_place(seen)}, which a cursor had covered")
            sent[seen.partition] = max(seen.position, sent.get(seen.partition, 0))
        for partition, position in positions(response.cursor).items():
            if position < before.get(partition, 0):
                found.append(f"{where} takes the cursor of partition {partition} back")
            elif position < sent.get(partition, 0):
                found.append(f"{where} has a cursor that does not cover what it carries")
            elif at and stream.passes is None and position > sent.get(partition, 0):
                found.append(f"{where} has a cursor ahead of what was sent")
        before.update(positions(response.cursor))
    return found


def filtered(stream: Stream) -> list[str]:
    """Only what passes the filter comes."""
    passes = stream.passes
    if passes is None:
        return []
    return [
        f"{stream.name}: {_place(seen)} does not pass the filter"
        for seen in stream.outcomes
        if not passes(seen)
    ]


RULES: tuple[Callable[[Stream], list[str]], ...] = (
    *(begun, placed, sized, ordered, unique, contiguous, resumed, bookmarkable, filtered),
)


def agreeing(streams: Iterable[Stream]) -> list[str]:
    """All readers see one log: a place has one outcome, an outcome one place."""
    found = []
    by_place: dict[tuple[int, int], str] = {}
    by_id: dict[str, tuple[int, int]] = {}
    for stream in streams:
        for seen in stream.outcomes:
            place = (seen.partition, seen.position)
            if by_place.setdefault(place, seen.outcome_id) != seen.outcome_id:
                found.append(f"{stream.name}: another outcome at {_place(seen)}")
            if by_id.setdefault(seen.outcome_id, place) != place:
                found.append(f"{stream.name}: {seen.outcome_id} at another place")
    return found


def reliable(stream: Stream, log: Sequence[Seen]) -> list[str]:
    """Everything of *log* that passes, from the first cursor to the last one, has come."""
    if not stream.responses:
        return []
    first, last = positions(stream.responses[0].cursor), positions(stream.cursor)
    come = {(seen.partition, seen.position) for seen in stream.outcomes}
    return [
        f"{stream.name}: {_place(seen)} never came"
        for seen in log
        if first.get(seen.partition, 0) < seen.position <= last.get(seen.partition, 0)
        and (stream.passes is None or stream.passes(seen))
        and (seen.partition, seen.position) not in come
    ]


def _place(seen: Seen) -> str:
    return f"{seen.outcome_id} at {seen.position} of partition {seen.partition}"
