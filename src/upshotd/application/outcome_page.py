"""Pieces of the outcome log, on their way from the store to a stream."""

from collections.abc import Sequence
from typing import NamedTuple


class OutcomePage(NamedTuple):
    """What goes out in one response."""

    #: Encoded outcomes, one behind the other; none where nothing passed the filter.
    joined: bytes
    #: Everything up to here has been looked at, also what did not pass.
    through: int


class OutcomeRead(NamedTuple):
    """What one look at a partition of the log found."""

    #: In order, each of at most as many outcomes as were asked for; none without outcomes.
    pages: Sequence[OutcomePage]
    #: It looked behind this position: beyond the one asked for where what follows that is pruned.
    after: int
    #: Everything up to here has been looked at.
    through: int

    @classmethod
    def of(
        cls, records: Sequence[tuple[int, bytes]], after: int, through: int, batch: int
    ) -> "OutcomeRead":
        """Return the read of (position, encoded outcome), in order, in pages of *batch*."""
        pages = []
        for first in range(0, len(records), batch):
            some = records[first : first + batch]
            last = first + batch >= len(records)
            joined = b"".join(body for _, body in some)
            pages.append(OutcomePage(joined, through if last else some[-1][0]))
        return cls(pages, after, through)

    @property
    def size(self) -> int:
        """How many bytes it brings."""
        return sum(len(page.joined) for page in self.pages)
