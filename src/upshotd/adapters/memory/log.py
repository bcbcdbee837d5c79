"""The outcome log of one workspace: partitions with contiguous positions, and the counts."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from upshotd.adapters.memory.journal import Journal
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.ports import OutcomeCount, OutcomeFilter, PartitionSpan
from upshotd.domain.message import Channel
from upshotd.domain.outcome import Outcome, OutcomeKind

HOUR_US = 3_600_000_000

#: Makes the bytes of an outcome at a partition and position.
Encode: TypeAlias = Callable[[Outcome, int, int], bytes]
#: (start of the hour in microseconds, workflow_id, step_id, channel, kind)
CountKey: TypeAlias = tuple[int, str, str, Channel, OutcomeKind]


@dataclass(frozen=True, slots=True)
class Entry:
    """One outcome, and how it is read."""

    outcome: Outcome
    body: bytes


@dataclass(slots=True)
class Partition:
    """Contiguous positions from `earliest` on."""

    entries: dict[int, Entry] = field(default_factory=dict)
    earliest: int = 1

    @property
    def head(self) -> int:
        """The newest position; `earliest` - 1 when nothing is kept."""
        return self.earliest + len(self.entries) - 1

    def after(self, position: int) -> Iterator[tuple[int, Entry]]:
        """Yield what stands behind *position*, in order."""
        for at in range(max(position + 1, self.earliest), self.head + 1):
            yield at, self.entries[at]


class Log:
    """Appends outcomes; gives them back by position."""

    def __init__(self, partitions: int) -> None:
        self._partitions = {number: Partition() for number in range(partitions)}
        self._counts: dict[CountKey, int] = {}

    def rewrite(self, number: int, clear: Callable[[bytes], bytes | None]) -> None:
        """Put what *clear* makes of outcomes at their places, where it is not None."""
        entries = self._partitions[number].entries
        for position, entry in entries.items():
            body = clear(entry.body)
            if body is not None:
                entries[position] = Entry(_bare(entry.outcome), body)

    def append(self, outcome: Outcome, encode: Encode, journal: Journal) -> None:
        """Give *outcome* the next position of its partition, and count it."""
        number = partition_of(outcome.profile_id, len(self._partitions))
        partition = self._partitions[number]
        position = partition.head + 1
        entry = Entry(outcome, encode(outcome, number, position))
        journal.put(partition.entries, position, entry)
        hour_us = outcome.record_us - outcome.record_us % HOUR_US
        key = (hour_us, outcome.workflow_id, outcome.step_id, outcome.channel, outcome.kind)
        journal.put(self._counts, key, self._counts.get(key, 0) + 1)

    def spans(self) -> dict[int, PartitionSpan]:
        """Return what each partition holds."""
        return {
            number: PartitionSpan(partition.earliest, partition.head)
            for number, partition in self._partitions.items()
        }

    def read(
        self, number: int, after: int, limit: int, chosen: OutcomeFilter, batch: int
    ) -> OutcomeRead:
        """Return what passes *chosen* of the next *limit* outcomes."""
        partition = self._partitions[number]
        begin = max(after, partition.earliest - 1)
        through = max(begin, min(begin + limit, partition.head))
        entries = [(at, partition.entries[at]) for at in range(begin + 1, through + 1)]
        records = [(at, entry.body) for at, entry in entries if _passes(entry.outcome, chosen)]
        return OutcomeRead.of(records, begin, through, batch)

    def recorded_us(self, number: int, position: int) -> int | None:
        """Return when the first outcome at or after *position* was recorded, in microseconds."""
        for _, entry in self._partitions[number].after(position - 1):
            return entry.outcome.record_us
        return None

    def counts(self, start_us: int, end_us: int, workflow_id: str) -> list[OutcomeCount]:
        """Return the sums over the hours from *start_us* on, before *end_us*."""
        sums: dict[tuple[str, str, Channel, OutcomeKind], int] = {}
        for (hour_us, workflow, step_id, channel, kind), count in self._counts.items():
            if start_us <= hour_us < end_us and workflow_id in ("", workflow):
                key = (workflow, step_id, channel, kind)
                sums[key] = sums.get(key, 0) + count
        return [OutcomeCount(*key, count) for key, count in sorted(sums.items())]

    def prune(self, before_us: int, limit: int) -> int:
        """Forget up to *limit* outcomes recorded before *before_us*; return how many."""
        gone = 0
        for partition in self._partitions.values():
            for position, entry in tuple(partition.after(0)):
                if gone == limit or entry.outcome.record_us >= before_us:
                    break
                del partition.entries[position]
                partition.earliest = position + 1
                gone += 1
        return gone


def partition_of(profile_id: str, partitions: int) -> int:
    """Return where the outcomes of a person are."""
    return zlib.crc32(profile_id.encode()) % partitions


def _bare(outcome: Outcome) -> Outcome:
    return outcome._replace(recipient="", link_url="", properties={})


def _passes(outcome: Outcome, chosen: OutcomeFilter) -> bool:
    return (
        (not chosen.kinds or outcome.kind in chosen.kinds)
        and (not chosen.workflow_ids or outcome.workflow_id in chosen.workflow_ids)
        and (not chosen.user_ids or outcome.user_id in chosen.user_ids)
        and (not chosen.channels or outcome.channel in chosen.channels)
    )
