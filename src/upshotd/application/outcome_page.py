"""A piece of the log, on its way from the store to a stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """A piece of one partition of the log: encoded outcomes, one behind the other."""

    #: Positions of those that pass the filter, in order.
    positions: Sequence[int]
    #: Where each one ends in `joined`.
    ends: Sequence[int]
    #: All of them, as they go out.
    joined: bytes
    #: Everything up to here has been looked at, also what did not pass.
    through: int

    @classmethod
    def of(cls, records: Sequence[tuple[int, bytes]], through: int) -> "OutcomePage":
        """Return the page of (position, encoded outcome), in order."""
        bodies = [body for _, body in records]
        ends = tuple(accumulate(map(len, bodies)))
        return cls([position for position, _ in records], ends, b"".join(bodies), through)

    def __len__(self) -> int:
        return len(self.positions)

    def piece(self, first: int, count: int) -> "OutcomePage":
        """Return up to *count* outcomes from the *first* on; the last piece ends as this does."""
        positions, ends = self.positions[first : first + count], self.ends[first : first + count]
        begin = self.ends[first - 1] if first else 0
        last = first + count >= len(self.positions)
        through = self.through if last else positions[-1]
        joined = self.joined[begin : ends[-1] if ends else begin]
        return OutcomePage(positions, [end - begin for end in ends], joined, through)

    @property
    def records(self) -> list[tuple[int, bytes]]:
        """(position, encoded outcome), in order."""
        begins = (0, *self.ends)
        return [
            (position, self.joined[begin:end])
            for position, begin, end in zip(self.positions, begins, self.ends, strict=False)
        ]
