"""StreamOutcomes: the log as an endless stream, in order, without gaps, resumable by cursor."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from upshotd.application.cursor import CursorWriter, check_head, check_kept, decode
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.ports import (
    Clock,
    OutcomeFilter,
    PartitionSpan,
    Store,
)
from upshotd.application.subscriptions import Subscriptions, name_faults
from upshotd.application.wakeups import Wakeups
from upshotd.domain.errors import InvalidArgument, ResourceExhausted, Unavailable, Violation

BATCH_DEFAULT: Final = 100
BATCH_MAX: Final = 1_000
HEARTBEAT_DEFAULT_US: Final = 10_000_000
HEARTBEAT_LEAST_US: Final = 1_000_000
HEARTBEAT_MOST_US: Final = 60_000_000
#: Rows of the log that one read looks at; a stream holds at most two reads in memory.
READ_ROWS: Final = 6_000
#: Rows of the first read, and the fewest of any.
READ_LEAST: Final = 300
#: What a read should bring at most, in bytes: large outcomes are read in fewer rows.
READ_BYTES: Final = 1024 * 1024
#: Streams of one process that may be open at once.
STREAMS_MAX: Final = 1_000


class Start(Enum):
    """Where a stream without a cursor begins."""

    #: After everything that is in the log.
    NOW = 1
    #: With the oldest outcome that is kept.
    EARLIEST = 2


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a reader asks for; the defaults mean everything, from now on."""

    #: Begin strictly after it; empty: at the subscription's committed cursor, else at `start`.
    after_cursor: str = ""
    #: Name of a durable subscription; empty: none.
    subscription: str = ""
    start: Start = Start.NOW
    chosen: OutcomeFilter = field(default_factory=OutcomeFilter)
    #: Most outcomes in one page, 1 to 1000; 0 means 100.
    max_batch: int = 0
    #: How long a stream may be quiet before it sends a checkpoint, 1 s to 60 s in
    #: microseconds; 0 means 10 s.
    heartbeat_us: int = 0
    #: Partitions to read; empty: all.
    partitions: tuple[int, ...] = ()


class StreamPage(NamedTuple):
    """One response of a stream, of one partition; without outcomes it is a checkpoint."""

    #: Encoded outcomes as the store gave them: nothing is made anew per outcome.
    joined: bytes
    #: Everything up to here has been sent or does not pass the filter.
    cursor: str
    #: Partitions of the log in the first page, 0 afterwards.
    partition_count: int = 0


@dataclass(slots=True)
class _Reader:
    """Where one stream is."""

    workspace_id: str
    chosen: OutcomeFilter
    max_batch: int
    heartbeat_us: int
    writer: CursorWriter
    clock: Clock
    #: partition -> last position that was yielded or passed over; only what this stream reads.
    positions: dict[int, int]
    #: When something was last yielded, by the clock that never jumps.
    yielded_us: int = field(init=False, default=0)
    #: Rows of the next read.
    rows: int = field(init=False, default=READ_LEAST)
    #: partition -> the read after the present one, begun while that one goes out.
    ahead: dict[int, "asyncio.Task[OutcomeRead]"] = field(init=False, default_factory=dict)

    def checkpoint(self, partition_count: int = 0) -> StreamPage:
        """Return the cursor of this moment."""
        self.yielded_us = self.clock.monotonic_us()
        return StreamPage(b"", self.writer.text(self.positions), partition_count)

    def pages(self, partition: int, found: OutcomeRead) -> Iterator[StreamPage]:
        """Yield what was found, page by page, and move past all of it."""
        for page in found.pages:
            self.positions[partition] = page.through
            yield StreamPage(page.joined, self.writer.text(self.positions))
            self.yielded_us = self.clock.monotonic_us()  # however long the reader took over it
        self.positions[partition] = found.through

    def size_reads(self, found: OutcomeRead) -> None:
        """Fit the next reads to the size of what was found; where nothing passes, look at more."""
        looked_at, size = found.through - found.after, found.size
        wanted = READ_BYTES * looked_at // size if size else 2 * self.rows
        self.rows = max(READ_LEAST, min(wanted, READ_ROWS))

    async def close(self) -> None:
        """End the reads that nobody will look at."""
        for task in self.ahead.values():
            task.cancel()
        await asyncio.gather(*self.ahead.values(), return_exceptions=True)

    @property
    def quiet_us(self) -> int:
        """How long it may still be quiet; not positive when a checkpoint is due."""
        return self.yielded_us + self.heartbeat_us - self.clock.monotonic_us()


class OutcomeStreams:
    """Opens streams over the log, and ends them all when the server goes down."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        wakeups: Wakeups,
        *,
        streams_max: int = STREAMS_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wakeups = wakeups
        self._subscriptions = Subscriptions(store, clock)
        self._streams_max = streams_max
        self._open = 0
        self._draining = False

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return self._open

    def drain(self) -> None:
        """End every stream with Unavailable (DRAINING), and refuse new ones."""
        self._draining = True
        self._wakeups.notify()

    async def stream(
        self, workspace_id: str, request: StreamRequest
    ) -> AsyncGenerator[StreamPage, None]:
        """Yield the log: first a checkpoint at once, then pages of outcomes as they come.

        Never ends by itself. Positions are contiguous within a partition where nothing is
        filtered out. Raises InvalidArgument with every fault of the request (CURSOR_INVALID and
        CURSOR_AHEAD are about the cursor alone), CursorExpired when the log no longer has what
        comes next, ResourceExhausted when too many streams are open, Unavailable (DRAINING).
        """
        self._refuse_when_draining()
        if self._open >= self._streams_max:
            raise ResourceExhausted(f"{self._open} streams are open, the most of this server")
        self._open += 1
        try:
            reader = await self._reader(workspace_id, request)
            yield reader.checkpoint(self._store.partitions)
            try:
                async with aclosing(self._follow(reader)) as found:
                    async for pages in found:
                        for page in pages:
                            yield page
                            self._refuse_when_draining()
            finally:
                await reader.close()
        finally:
            self._open -= 1

    async def _follow(self, reader: _Reader) -> AsyncGenerator[Iterable[StreamPage], None]:
        """Yield what comes after the reader's place, and checkpoints where nothing comes."""
        while True:
            # The ticket comes before the read, and the level is tested before the wait: what
            # happens in between would otherwise be noticed a heartbeat later.
            ticket = self._wakeups.ticket()
            idle = True
            for partition, after in tuple(reader.positions.items()):
                self._refuse_when_draining()
                found, fresh = await self._read(reader, partition)
                # Fewer than were looked for: the log ended there, at a time behind the ticket.
                idle = idle and fresh and found.through - after < READ_LEAST
                yield reader.pages(partition, found)
                if reader.quiet_us <= 0:
                    yield (reader.checkpoint(),)
            self._refuse_when_draining()
            if idle:
                await self._wakeups.wait(ticket, reader.quiet_us)

    def _refuse_when_draining(self) -> None:
        if self._draining:
            text = "the server is going down; resume from the last cursor"
            raise Unavailable(text, reason="DRAINING")

    # beginning

    async def _reader(self, workspace_id: str, request: StreamRequest) -> _Reader:
        epoch = await self._store.log_epoch()
        asked = self._checked(workspace_id, request, epoch)
        spans = await self._store.spans(workspace_id)
        writer = CursorWriter(epoch, workspace_id)
        start = _start(spans, request.start)
        if request.after_cursor:
            positions: Mapping[int, int] = {**start, **asked}
            self._check_place(positions, spans, request, writer)
            if request.subscription:
                await self._subscriptions.open(workspace_id, request.subscription, positions)
        elif request.subscription:
            positions = await self._subscriptions.open(workspace_id, request.subscription, start)
            # Another reader may have committed a place that was beyond the head a moment ago.
            spans = await self._store.spans(workspace_id)
            self._check_place(positions, spans, request, writer)
        else:
            positions = start
        return _Reader(
            workspace_id=workspace_id,
            chosen=request.chosen,
            max_batch=request.max_batch or BATCH_DEFAULT,
            heartbeat_us=request.heartbeat_us or HEARTBEAT_DEFAULT_US,
            writer=writer,
            clock=self._clock,
            positions=_only(request.partitions, positions),
        )

    def _checked(self, workspace_id: str, request: StreamRequest, epoch: str) -> Mapping[int, int]:
        """Return the positions of the cursor, empty without one; raises with every fault."""
        faults = _faults(request, self._store.partitions)
        positions: Mapping[int, int] = {}
        if request.after_cursor:
            count = self._store.partitions
            try:
                positions = decode(request.after_cursor, epoch, workspace_id, count, "after_cursor")
            except InvalidArgument as error:
                if not faults:
                    raise
                faults += error.violations
        if faults:
            raise InvalidArgument.of(faults)
        return positions

    def _check_place(
        self,
        positions: Mapping[int, int],
        spans: Mapping[int, PartitionSpan],
        request: StreamRequest,
        writer: CursorWriter,
    ) -> None:
        field_name = "after_cursor" if request.after_cursor else "subscription"
        check_head(positions, spans, field_name)
        check_kept(_only(request.partitions, positions), spans, writer)

    # reading

    async def _read(self, reader: _Reader, partition: int) -> tuple[OutcomeRead, bool]:
        """Return what comes next in *partition*, and whether it was looked for just now.

        Raises CursorExpired when it is gone.
        """
        after = reader.positions[partition]
        ahead = reader.ahead.pop(partition, None)
        found = await ahead if ahead is not None else None
        fresh = found is None or found.through == after
        if found is None or fresh:
            found = await self._look(reader, partition, after)
        reader.size_reads(found)
        if found.through - after >= READ_LEAST:
            # There is more. While these go out, the store's thread reads what comes next.
            next_read = self._look(reader, partition, found.through)
            reader.ahead[partition] = asyncio.create_task(next_read)
        if found.after != after:  # pruned under our feet
            spans = await self._store.spans(reader.workspace_id)
            check_kept(reader.positions, spans, reader.writer)
        return found, fresh

    async def _look(self, reader: _Reader, partition: int, after: int) -> OutcomeRead:
        return await self._store.read_outcomes(
            reader.workspace_id, partition, after, reader.rows, reader.chosen, reader.max_batch
        )


def _start(spans: Mapping[int, PartitionSpan], start: Start) -> dict[int, int]:
    if start is Start.EARLIEST:
        return {partition: span.earliest - 1 for partition, span in spans.items()}
    return {partition: span.head for partition, span in spans.items()}


def _only(partitions: tuple[int, ...], positions: Mapping[int, int]) -> dict[int, int]:
    """Return the places of *partitions*, of all when there are none, in order."""
    return {partition: positions[partition] for partition in sorted(partitions or positions)}


def _faults(request: StreamRequest, partitions: int) -> list[Violation]:
    """Return every fault that can be seen without the log."""
    faults = name_faults(request.subscription) if request.subscription else []
    if not 0 <= request.max_batch <= BATCH_MAX:
        text = f"is {request.max_batch}; must be from 1 to {BATCH_MAX}, 0 means {BATCH_DEFAULT}"
        faults.append(Violation("max_batch", text))
    if request.heartbeat_us and not (
        HEARTBEAT_LEAST_US <= request.heartbeat_us <= HEARTBEAT_MOST_US
    ):
        faults.append(Violation("heartbeat_interval", "must be from 1 s to 60 s"))
    for at, partition in enumerate(request.partitions):
        if not 0 <= partition < partitions:
            text = f"is {partition}; the log has the partitions 0 to {partitions - 1}"
            faults.append(Violation(f"partitions[{at}]", text))
        elif partition in request.partitions[:at]:
            faults.append(Violation(f"partitions[{at}]", f"names {partition} a second time"))
    return faults
