"""The one loop: everything that waits is gathered into a batch, decided, and committed at once.

While one batch commits the next gathers. There is no timer: an idle store commits at once, a
busy one commits many items with one fsync.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

import structlog

from upshotd.application.batch import Decider, versions, wanted
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher, Intent, intent
from upshotd.application.inbox import Batch, Call, Item, Limits, by_workspace
from upshotd.application.ports import Clock, Codec, Due, Store, Wakeups
from upshotd.domain.engine import decide
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    ResourceExhausted,
    Unavailable,
    UpshotError,
)
from upshotd.domain.event import Event
from upshotd.domain.ids import Ids
from upshotd.domain.message import MessageState
from upshotd.domain.outcome import Engagement
from upshotd.domain.state import Changes, State
from upshotd.domain.stimulus import (
    Answer,
    CancelRequested,
    CancelResult,
    EngagementArrived,
    EngagementResult,
    EventArrived,
    IngestResult,
    MessageDue,
    RunDue,
    SendSettled,
    Stimulus,
)
from upshotd.domain.values import replace

log = structlog.get_logger()

#: How often a batch is decided again after a conflict before it is split.
CONFLICTS_MAX = 5
#: Longest sleep without looking at the timers, in seconds.
SLEEP_MAX_S = 60.0
#: Callers in the last batch from which on the next one waits a moment for them to come again.
SIBLINGS = 8
#: Longest such wait, in seconds.
GATHER_S = 0.02
#: Pause before the loop goes on after the store failed, in microseconds.
PAUSE_US = 500_000


class Loop:
    """Gathers, loads, decides, commits; hands intents to the dispatcher."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        codec: Codec,
        definitions: DefinitionBook,
        wakeups: Wakeups,
        *,
        owner: str = "",
        limits: Limits | None = None,
    ) -> None:
        self.definitions = definitions
        #: Timers that fired since the start.
        self.fired = 0
        self._store = store
        self._clock = clock
        self._ids = ids
        self._codec = codec
        self._step = decide
        self._wakeups = wakeups
        self._owner = owner
        self._limits = limits or Limits()
        self._dispatcher: Dispatcher | None = None
        self._inbox: deque[Item] = deque()
        self._wake = asyncio.Event()
        #: Set when the inbox has reached `_enough_items`.
        self._enough = asyncio.Event()
        self._enough_items = 0
        #: Calls that the last batch answered, and their items.
        self._answered = (0, 0)
        self._quiet = asyncio.Event()
        self._draining = False
        self._stopped = False
        #: Earliest timer known; 0 asks the store.
        self._next_due_us: int | None = 0

    def attach(self, dispatcher: Dispatcher) -> None:
        """Set who sends; its results come back by `settle`."""
        self._dispatcher = dispatcher

    # what callers use

    async def ingest(self, workspace_id: str, events: Sequence[Event]) -> list[IngestResult]:
        """Take events; returns when they are durable, with one result each, in order.

        Raises ResourceExhausted when the inbox is full, Unavailable when draining or without
        the database; nothing is known to be taken then.
        """
        named = [e if e.event_id else replace(e, event_id=self._ids.next()) for e in events]
        answers = await self._ask(workspace_id, [EventArrived(event) for event in named])
        return [answer for answer in answers if isinstance(answer, IngestResult)]

    async def engage(
        self, workspace_id: str, engagements: Sequence[Engagement]
    ) -> list[EngagementResult]:
        """Take facts about messages; returns when they are durable, one result each, in order."""
        answers = await self._ask(workspace_id, [EngagementArrived(e) for e in engagements])
        return [answer for answer in answers if isinstance(answer, EngagementResult)]

    async def cancel(
        self, workspace_id: str, *, run_id: str = "", cancellation_key: str = ""
    ) -> CancelResult:
        """Cancel one run, or all active ones with a key; returns when that is durable."""
        (answer,) = await self._ask(workspace_id, [CancelRequested(run_id, cancellation_key)])
        return answer if isinstance(answer, CancelResult) else CancelResult()

    def settle(self, workspace_id: str, settled: SendSettled) -> None:
        """Take the result of an attempt; never refused, also while draining."""
        self._put([Item(workspace_id, settled, arrive_us=self._clock.now_us())])

    def poke(self) -> None:
        """Look at the timers again: the clock has moved."""
        self._next_due_us = 0
        self._quiet.clear()
        self._wake.set()

    @property
    def draining(self) -> bool:
        """Whether timers rest for good."""
        return self._draining

    async def quiet(self) -> None:
        """Return when nothing waits, nothing is being sent and no timer is due."""
        await self._quiet.wait()

    # life

    async def run(self) -> None:
        """Work until `stop`; what is in the inbox then is still done."""
        while not (self._stopped and not self._inbox):
            try:
                worked = await self._turn()
            except UpshotError as error:
                log.warning("loop.store_failed", reason=error.reason)
                await self._clock.sleep(PAUSE_US)
                continue
            if not worked:
                await self._sleep()
        self._refuse_rest()

    def drain(self) -> None:
        """Take nothing new from callers; timers rest, results of sends are still recorded."""
        self._draining = True
        self._wake.set()

    def stop(self) -> None:
        """End `run` as soon as the inbox is empty."""
        self._draining = True
        self._stopped = True
        self._wake.set()

    # gathering

    async def _ask(self, workspace_id: str, stimuli: Sequence[Stimulus]) -> list[Answer]:
        if self._draining:
            raise Unavailable("the server is going down", reason="DRAINING")
        if len(self._inbox) + len(stimuli) > self._limits.inbox:
            raise ResourceExhausted("the server has more work than it can hold")
        call = Call(len(stimuli))
        now_us = self._clock.now_us()
        self._put([Item(workspace_id, s, call, i, now_us) for i, s in enumerate(stimuli)])
        return await call.done

    def _put(self, items: Iterable[Item]) -> None:
        self._inbox.extend(items)
        if len(self._inbox) >= self._enough_items:
            self._enough.set()
        self._quiet.clear()
        self._wake.set()

    async def _turn(self) -> bool:
        """Do one batch; False when there was nothing to do."""
        await self._wait_for_siblings()
        self._wake.clear()
        # Nothing is taken from the inbox before the store has answered: it would be lost.
        due = await self._due()
        # What came from outside goes first: at equal times it precedes a timer.
        items = [*self._gather(), *due]
        if not items:
            return False
        try:
            await self._process(items)
        except UpshotError as error:
            self._put_back(items, error)
            raise
        return True

    async def _wait_for_siblings(self) -> None:
        """Wait a moment for the callers that were just answered: they tend to come again at once.

        Many small calls then share a commit, as with PostgreSQL's commit_delay and
        commit_siblings. A lone caller never waits.
        """
        calls, items = self._answered
        self._answered = (0, 0)
        self._enough_items = min(len(self._inbox) + items, self._limits.batch)
        if calls < SIBLINGS or self._draining or len(self._inbox) >= self._enough_items:
            return
        self._enough.clear()
        try:
            async with asyncio.timeout(GATHER_S):
                await self._enough.wait()
        except TimeoutError:
            return

    def _gather(self) -> list[Item]:
        if self._busy() and not self._draining:
            # Only answers of providers make room.
            settled = [i for i in self._inbox if isinstance(i.stimulus, SendSettled)]
            if settled:
                rest = [i for i in self._inbox if not isinstance(i.stimulus, SendSettled)]
                self._inbox = deque(rest)
            return settled
        return [self._inbox.popleft() for _ in range(min(len(self._inbox), self._limits.batch))]

    def _busy(self) -> bool:
        sending = self._dispatcher.in_flight if self._dispatcher is not None else 0
        return sending >= self._limits.in_flight

    async def _due(self) -> list[Item]:
        now_us = self._clock.now_us()
        if self._draining or self._busy() or not self._is_due(now_us):
            return []
        if len(self._inbox) > self._limits.batch:
            # What this batch has no room for came before the timers that fell due after it.
            now_us = min(now_us, self._inbox[self._limits.batch].arrive_us - 1)
        found = await self._store.due(now_us, self._limits.batch)
        if len(found) < self._limits.batch:
            self._next_due_us = await self._store.next_due()
        mine = [due for due in found if not self._held(due)]
        if found and not mine:
            # All of it is being sent here; leases are looked at again when results come.
            self._next_due_us = now_us + PAUSE_US
        self.fired += sum(1 for due in mine if due.run_id)
        return [Item(due.workspace_id, _due_stimulus(due)) for due in mine]

    def _is_due(self, now_us: int) -> bool:
        return self._next_due_us is not None and self._next_due_us <= now_us

    def _held(self, due: Due) -> bool:
        dispatcher = self._dispatcher
        if dispatcher is None or not due.message_id:
            return False
        return dispatcher.holds(due.workspace_id, due.message_id)

    async def _sleep(self) -> None:
        """Sleep until there is something to do."""
        if self._wake.is_set() or self._stopped:
            return
        sending = self._dispatcher.in_flight if self._dispatcher is not None else 0
        if not self._inbox and not sending:
            self._quiet.set()
        timeout = SLEEP_MAX_S
        if self._next_due_us is not None and not self._draining and not self._busy():
            timeout = min(max((self._next_due_us - self._clock.now_us()) / 1e6, 0.0), timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    def _put_back(self, items: list[Item], error: UpshotError) -> None:
        """The store failed: callers are told, answers of providers are kept, timers come again."""
        for item in items:
            item.fail(error)
        self._inbox.extendleft(i for i in reversed(items) if isinstance(i.stimulus, SendSettled))
        self._next_due_us = 0

    def _refuse_rest(self) -> None:
        for item in self._inbox:
            item.fail(Unavailable("the server is going down", reason="DRAINING"))

    # load, decide, apply

    async def _process(self, items: list[Item], conflicts: int = 0) -> None:
        """Bring *items* to an end; a batch that cannot be stored is split until it can."""
        batches = by_workspace(items)
        for batch in batches:
            await self._decide(batch)
        try:
            await self._commit(batches)
        except Conflict:
            if conflicts < CONFLICTS_MAX:
                await self._process(items, conflicts + 1)
                return
            await self._split(items)
        except ConstraintFailure:
            await self._split(items)
        else:
            self._after(batches)

    async def _split(self, items: list[Item]) -> None:
        if len(items) == 1:
            await self._set_aside(items[0])
            return
        middle = len(items) // 2
        await self._process(items[:middle])
        await self._process(items[middle:])

    async def _set_aside(self, item: Item) -> None:
        """Nothing of this item can be stored: refuse it alone, and keep it where people see it."""
        decider = await self._decider(item.workspace_id, [item.stimulus])
        decision = decider.set_aside(item.stimulus)
        try:
            if not decision.changes.empty:
                await self._store.commit([decision.changes])
        except (Conflict, ConstraintFailure):
            # Not even that; a timer comes again, and must not keep the loop busy until then.
            log.exception("item.not_set_aside", stimulus=type(item.stimulus).__name__)
            self._next_due_us = self._clock.now_us() + PAUSE_US
        self._wakeups.notify()
        item.answer(decision.answer)

    async def _decide(self, batch: Batch) -> None:
        stimuli = [item.stimulus for item in batch.items]
        decider = await self._decider(batch.workspace_id, stimuli)
        batch.decided = decider.decide(stimuli)
        batch.state = decider.state

    async def _decider(self, workspace_id: str, stimuli: Sequence[Stimulus]) -> Decider:
        """Load what deciding on *stimuli* may read."""
        definitions = await self.definitions.of(workspace_id)
        state = await self._store.load(workspace_id, wanted(stimuli, definitions))
        definitions = await self.definitions.covering(workspace_id, versions(state))
        now_us = self._clock.now_us()
        return Decider(workspace_id, definitions, state, now_us, self._codec, self._ids, self._step)

    async def _commit(self, batches: list[Batch]) -> None:
        changes = [b.decided.changes for b in batches if b.decided is not None]
        changes = [c for c in changes if not c.empty]
        if changes:
            await self._store.commit(changes)

    def _after(self, batches: list[Batch]) -> None:
        """Committed: answer, send, and wake whoever reads the log."""
        grown = False
        asked = [item.call for batch in batches for item in batch.items if item.call is not None]
        self._answered = (len(set(asked)), len(asked))
        for batch in batches:
            assert batch.decided is not None
            changes = batch.decided.changes
            grown = grown or bool(changes.outcomes)
            self._note_due(changes)
            if self._dispatcher is not None:
                self._dispatcher.submit(self._intents(changes, batch.state))
            for item, answer in zip(batch.items, batch.decided.answers, strict=True):
                item.answer(answer)
        if grown:
            self._wakeups.notify()

    def _intents(self, changes: Changes, state: State) -> list[Intent]:
        intents: list[Intent] = []
        for message in changes.messages.values():
            if message.state is MessageState.SENDING and message.owner == self._owner:
                profile = state.profiles[state.runs[message.run_id].profile_id]
                intents.append(intent(changes.workspace_id, message, profile.user_id))
        return intents

    def _note_due(self, changes: Changes) -> None:
        dues = [run.due_us for run in changes.runs.values() if run.due_us is not None]
        dues += [m.due_us for m in changes.messages.values() if m.due_us is not None]
        if dues:
            earliest = min(dues)
            known = self._next_due_us
            self._next_due_us = earliest if known is None else min(known, earliest)


def _due_stimulus(due: Due) -> Stimulus:
    return RunDue(due.run_id) if due.run_id else MessageDue(due.message_id)
