"""What waits for the loop: stimuli, and who waits for their answers."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from upshotd.application.batch import Decided
from upshotd.domain.state import State
from upshotd.domain.stimulus import Answer, Stimulus


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the loop takes."""

    #: Items in one batch.
    batch: int = 512
    #: Items that may wait; more are refused.
    inbox: int = 20_000
    #: Sends under way above which no new work is gathered; a crash leaves these, and what the
    #: last batch added, unknown.
    in_flight: int = 512


class Call:
    """Somebody waits for the answers to several stimuli."""

    __slots__ = ("answers", "done", "missing")

    def __init__(self, count: int) -> None:
        self.answers: list[Answer] = [None] * count
        self.missing = count
        self.done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()

    def answer(self, index: int, answer: Answer) -> None:
        """Take one answer; the last one ends the wait."""
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(self.answers)

    def fail(self, error: BaseException) -> None:
        """End the wait with *error*."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class Item:
    """One stimulus, and who waits for its answer."""

    workspace_id: str
    stimulus: Stimulus
    call: Call | None = None
    index: int = 0
    #: When it came, in microseconds.
    arrive_us: int = 0

    def answer(self, answer: Answer) -> None:
        """Give whoever waits this answer."""
        if self.call is not None:
            self.call.answer(self.index, answer)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that nothing came of it."""
        if self.call is not None:
            self.call.fail(error)


@dataclass(slots=True)
class Batch:
    """The items of one workspace, and what was decided about them."""

    workspace_id: str
    items: list[Item] = field(default_factory=list)
    decided: Decided | None = None
    #: As it was loaded, under what was decided.
    state: State = field(default_factory=State)


def by_workspace(items: Iterable[Item]) -> list[Batch]:
    """Return *items* in batches of one workspace each, in their order."""
    batches: dict[str, Batch] = {}
    for item in items:
        batch = batches.setdefault(item.workspace_id, Batch(item.workspace_id))
        batch.items.append(item)
    return list(batches.values())
