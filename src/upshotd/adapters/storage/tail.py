"""The newest part of the log in memory: who reads at its end needs no statement for it.

For a database that this process alone appends to. What it has committed is then all there is.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from upshotd.application.outcome_page import OutcomePage, OutcomeRead

#: Most that is kept of all logs together, in bytes of encoded outcomes.
TAIL_BYTES: Final = 4 * 1024 * 1024


class Appended(NamedTuple):
    """What a commit put at the end of one partition."""

    workspace_id: str
    partition: int
    #: The last position before it.
    after: int
    bodies: list[bytes]


@dataclass(slots=True)
class _Part:
    """The end of one partition: every position from behind `after` to `head`."""

    after: int
    head: int
    bodies: dict[int, bytes] = field(default_factory=dict)


class Tail:
    """Keeps what was appended last, up to `bytes_max`; 0 keeps nothing."""

    def __init__(self, bytes_max: int = TAIL_BYTES) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._parts: dict[tuple[str, int], _Part] = {}
        #: In order: which part, up to which position, how many bytes.
        self._kept: deque[tuple[_Part, int, int]] = deque()

    def append(self, appended: Iterable[Appended]) -> None:
        """Take what was committed, in order."""
        for some in appended:
            key = (some.workspace_id, some.partition)
            part = self._parts.get(key)
            if part is None or part.head != some.after:
                # The first one, or one before it was committed without our hearing of it.
                part = self._parts[key] = _Part(some.after, some.after)
            part.head = some.after + len(some.bodies)
            part.bodies.update(enumerate(some.bodies, some.after + 1))
            size = sum(map(len, some.bodies))
            self._kept.append((part, part.head, size))
            self._bytes += size
        while self._bytes > self._bytes_max:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        part, through, size = self._kept.popleft()
        for position in range(part.after + 1, through + 1):
            del part.bodies[position]
        part.after = through
        self._bytes -= size

    def clear(self) -> None:
        """Forget everything: the log was pruned."""
        self._parts.clear()
        self._kept.clear()
        self._bytes = 0

    def read(self, place: tuple[str, int, int], limit: int, batch: int) -> OutcomeRead | None:
        """Return what follows a (workspace, partition, position), as `Store.read_outcomes` does;
        None where that is not known here."""
        workspace_id, partition, after = place
        part = self._parts.get((workspace_id, partition))
        if part is None or not part.after <= after <= part.head:
            return None
        through = min(part.head, after + limit)
        pages = []
        for first in range(after, through, batch):
            last = min(first + batch, through)
            joined = b"".join([part.bodies[at] for at in range(first + 1, last + 1)])
            pages.append(OutcomePage(joined, last))
        return OutcomeRead(pages, after, through)
