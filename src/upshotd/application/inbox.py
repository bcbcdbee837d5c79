"""What waits for the loop: stimuli, and who waits for their answers."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from upshotd.application.batch import Decided
from upshotd.application.dispatch import Intent
from upshotd.application.ports import Due
from upshotd.domain.errors import ResourceExhausted
from upshotd.domain.state import State
from upshotd.domain.stimulus import SETTLED, Answer, AudienceDue, MessageDue, RunDue, Stimulus


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

    @classmethod
    def of(cls, due: Due) -> "Item":
        """Return a timer that has come."""
        if due.audience_id:
            return cls(due.workspace_id, AudienceDue(due.audience_id, due.profile_id))
        came = RunDue(due.run_id) if due.run_id else MessageDue(due.message_id)
        return cls(due.workspace_id, came)

    @property
    def timer(self) -> bool:
        """Whether it is a timer: the store names those again until they are done."""
        return isinstance(self.stimulus, RunDue | MessageDue | AudienceDue)

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
    #: What providers are to be asked once it is committed.
    intents: list[Intent] = field(default_factory=list)


def by_workspace(items: Iterable[Item]) -> list[Batch]:
    """Return *items* in batches of one workspace each, in their order."""
    batches: dict[str, Batch] = {}
    for item in items:
        batch = batches.get(item.workspace_id)
        if batch is None:
            batch = batches[item.workspace_id] = Batch(item.workspace_id)
        batch.items.append(item)
    return list(batches.values())


class Inbox:
    """Items in the order in which they came. It does not grow beyond `limit` by callers."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        #: Set while at least `_wanted` items are here, or `hurry` was called.
        self._enough = asyncio.Event()
        self._wanted = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        return self._items[index]

    def room_for(self, count: int) -> None:
        """Raise ResourceExhausted when callers' *count* items are too many."""
        if len(self._items) + count > self._limit:
            raise ResourceExhausted("the server has more work than it can hold")

    def put(self, items: Iterable[Item]) -> None:
        """Add *items* at the end."""
        self._items.extend(items)
        if len(self._items) >= self._wanted:
            self._enough.set()

    def put_back(self, items: Sequence[Item]) -> None:
        """Put *items* before all others, in their order."""
        self._items.extendleft(reversed(items))

    def take(self, count: int) -> list[Item]:
        """Take up to *count* of the first items."""
        return [self._items.popleft() for _ in range(min(len(self._items), count))]

    def take_settled(self) -> list[Item]:
        """Take the answers of providers only: all of them, wherever they are."""
        settled = [i for i in self._items if isinstance(i.stimulus, SETTLED)]
        if settled:
            rest = [i for i in self._items if not isinstance(i.stimulus, SETTLED)]
            self._items = deque(rest)
        return settled

    def hurry(self) -> None:
        """End `wait_for`, whatever is here."""
        self._enough.set()

    async def wait_for(self, count: int, at_most_s: float | None = None) -> None:
        """Return when *count* items are here, somebody is in a hurry, or the time is over."""
        self._wanted = count
        self._enough.clear()
        if len(self._items) >= count:
            return
        try:
            async with asyncio.timeout(at_most_s):
                await self._enough.wait()
        except TimeoutError:
            return
