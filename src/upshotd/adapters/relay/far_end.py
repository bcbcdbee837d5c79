"""What a relay writes to: how it takes outcomes, and what its answers mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from upshot.v1 import outcome_pb2 as pb


class NotExported(StrEnum):
    """Why an outcome does not go out."""

    #: The settings do not name its kind, or this release does not know it. All others are faults.
    NOT_SELECTED = "NOT_SELECTED"
    #: Neither user_id nor anonymous_id: Segment would drop it.
    NO_PERSON = "NO_PERSON"
    #: No event name: Segment would drop it.
    NO_NAME = "NO_NAME"
    #: No outcome_id, or one too long for the far end: repetitions could not be told.
    NO_ID = "NO_ID"
    #: Over 32 KB even without its properties.
    TOO_LARGE = "TOO_LARGE"
    #: The far end refused this one alone.
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Item:
    """What goes out of an outcome, ready to be sent: a call, a request, a line."""

    outcome: pb.Outcome
    #: JSON.
    body: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What the far end takes at once. An item always goes, if need be alone."""

    #: Most items.
    items: int
    #: Most bytes.
    size: int
    #: Bytes around each item, and around all of them.
    between: int = 1
    around: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """The items are the far end's now."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Not now, or no answer: the same items again, later. They may have been taken."""

    #: Status or kind of failure.
    words: str
    #: What the answer asked us to wait, in microseconds.
    retry_after_us: int = 0


@dataclass(frozen=True, slots=True)
class Unfit:
    """Something in the items is not taken, or all of it is too large."""

    #: The status.
    words: str


@dataclass(frozen=True, slots=True)
class Barred:
    """It is us who are not let in, not the items."""

    #: The status.
    words: str


Verdict: TypeAlias = Taken | Busy | Unfit | Barred


class FarEnd(Protocol):
    """Where outcomes go."""

    #: What people call it, and what they should look at when it takes nothing.
    name: str
    advice: str
    limits: Limits

    def items(self, outcome: pb.Outcome) -> tuple[Item, ...] | NotExported:
        """Return what goes out of *outcome*, or why nothing does."""

    async def post(self, items: Sequence[Item]) -> Verdict:
        """Hand *items* over once; Taken only when they would survive a crash of the far end."""

    async def close(self) -> None:
        """Let go of what is kept open."""
