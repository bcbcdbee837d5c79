"""The one loop: everything that waits is gathered into a batch, decided, and committed at once.

While one batch commits the next gathers. There is no timer: an idle store commits at once, a
busy one commits many items with one fsync. Under load the next batch is also decided meanwhile,
as far as it shares nobody with the one that is being committed.
"""

import asyncio
from collections.abc import Sequence

import structlog

from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Dispatcher
from upshotd.application.failpoints import failpoint
from upshotd.application.fetching import Fetchers
from upshotd.application.inbox import Batch, Call, Inbox, Item, Limits
from upshotd.application.ports import (
    Clock,
    Due,
    Store,
)
from upshotd.application.wakeups import Wakeups
from upshotd.application.work import Work, Writing, part
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    LeaseLost,
    Unavailable,
    UpshotError,
)
from upshotd.domain.event import Event
from upshotd.domain.ids import Ids
from upshotd.domain.outcome import Engagement
from upshotd.domain.state import Changes
from upshotd.domain.stimulus import (
    SETTLED,
    Answer,
    AudienceDue,
    CancelRequested,
    CancelResult,
    EngagementArrived,
    EngagementResult,
    EventArrived,
    FetchSettled,
    IngestResult,
    RunDue,
    SendSettled,
    Stimulus,
)
from upshotd.domain.values import replace

log = structlog.get_logger()

#: Longest sleep without looking at the timers, in seconds; and where others set some, too.
SLEEP_MAX_S, SLEEP_SHARED_S = 60.0, 1.0
#: Callers in the last batch from which on the next one waits a moment for them to come again.
SIBLINGS = 8
#: Longest such wait, in seconds.
GATHER_S = 0.02
#: Items that are worth a batch of their own while another is being committed. Fewer wait for its
#: end: one fsync for all of them is cheaper.
AHEAD = 128
#: Pause before the loop goes on after the store failed, in microseconds.
PAUSE_US = 500_000


class Loop:
    """Gathers, has it worked on, hands intents to the dispatcher."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        codec: Codec,
        definitions: DefinitionBook,
        wakeups: Wakeups,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.work = Work(store, clock, ids, codec, definitions)
        #: Timers of runs, and of people in audiences, that fired since the start.
        self.fired = 0
        self._store = store
        self._clock = clock
        self._ids = ids
        self._wakeups = wakeups
        self._limits = limits or Limits()
        self._dispatcher: Dispatcher | None = None
        self._fetchers: Fetchers | None = None
        self._inbox = Inbox(self._limits.inbox)
        self._writing: Writing | None = None
        self._wake = asyncio.Event()
        #: Calls that the last batch answered, and their items.
        self._answered = (0, 0)
        self._quiet = asyncio.Event()
        self._draining = False
        self._stopped = False
        #: Whether this process was taken for dead.
        self._lost = False
        #: Earliest timer known; 0 asks the store.
        self._next_due_us: int | None = 0

    def attach(self, dispatcher: Dispatcher, fetchers: Fetchers | None = None) -> None:
        """Set who sends, and who asks; their results come back by `settle`."""
        self._dispatcher, self._fetchers = dispatcher, fetchers

    # what callers use

    async def ingest(self, workspace_id: str, events: Sequence[Event]) -> list[IngestResult]:
        """Take events; returns when they are durable, with one result each, in order.

        Raises ResourceExhausted when the inbox is full, Unavailable when draining or without
        the database; nothing is known to be taken then.
        """
        named = [e if e.event_id else replace(e, event_id=self._ids.next()) for e in events]
        answers = await self.ask(workspace_id, [EventArrived(event) for event in named])
        return [answer for answer in answers if isinstance(answer, IngestResult)]

    async def engage(
        self, workspace_id: str, engagements: Sequence[Engagement]
    ) -> list[EngagementResult]:
        """Take facts about messages; returns when they are durable, one result each, in order."""
        answers = await self.ask(workspace_id, [EngagementArrived(e) for e in engagements])
        return [answer for answer in answers if isinstance(answer, EngagementResult)]

    async def cancel(
        self, workspace_id: str, *, run_id: str = "", cancellation_key: str = ""
    ) -> CancelResult:
        """Cancel one run, or all active ones with a key; returns when that is durable."""
        (answer,) = await self.ask(workspace_id, [CancelRequested(run_id, cancellation_key)])
        return answer if isinstance(answer, CancelResult) else CancelResult()

    def settle(self, workspace_id: str, settled: SendSettled | FetchSettled) -> None:
        """Take the result of an attempt; never refused, also while draining."""
        failpoint("result.taken")
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
        while not (self._stopped and not self._inbox and self._writing is None):
            try:
                worked = await self._turn()
            except UpshotError as error:
                log.warning("loop.store_failed", reason=error.reason)
                self._lost = self._lost or isinstance(error, LeaseLost)
                await self._clock.sleep(PAUSE_US)
                continue
            if not worked:
                await self._sleep()

    async def _join(self) -> None:
        """Go on under another name: what was begun under the old one belongs to others."""
        owner = self._ids.next()
        await self._store.join(owner)
        self.work.definitions.adopt(owner)
        self._lost = False
        log.warning("loop.joined_again", owner=owner)

    def drain(self) -> None:
        """Take nothing new from callers; timers rest, results of sends are still recorded."""
        self._draining = True
        self._wake.set()

    def stop(self) -> None:
        """End `run` as soon as the inbox is empty."""
        self._draining = True
        self._stopped = True
        self._wake.set()

    async def _sleep(self) -> None:
        """Sleep until there is something to do."""
        if self._wake.is_set() or self._stopped:
            return
        if not self._inbox and not self._sending() and not self._asking():
            self._quiet.set()
        timeout = SLEEP_SHARED_S if self._store.shared else SLEEP_MAX_S
        if self._next_due_us is not None and not self._draining and not self._busy():
            timeout = min(max((self._next_due_us - self._clock.now_us()) / 1e6, 0.0), timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            if self._store.shared:
                self._next_due_us = 0

    # gathering

    async def ask(self, workspace_id: str, stimuli: Sequence[Stimulus]) -> list[Answer]:
        """Take stimuli; returns when what they change is durable, with one answer each, in order.

        Raises as `ingest` does.
        """
        if self._draining:
            raise Unavailable("the server is going down", reason="DRAINING")
        self._inbox.room_for(len(stimuli))
        call = Call(len(stimuli))
        now_us = self._clock.now_us()
        self._put([Item(workspace_id, s, call, i, now_us) for i, s in enumerate(stimuli)])
        return await call.done

    def _put(self, items: Sequence[Item]) -> None:
        self._inbox.put(items)
        self._quiet.clear()
        self._wake.set()

    async def _wait_for_company(self) -> None:
        """Wait a moment where a larger batch is worth it.

        While a batch is being committed, for enough others or its end. After it for the callers
        that were just answered, who tend to come again at once: many small calls then share a
        commit, as with PostgreSQL's commit_delay and commit_siblings. A lone caller never waits.
        """
        if self._writing is not None:
            if not self._writing.commit.done():
                await self._inbox.wait_for(AHEAD)
            if not self._writing.commit.done():
                return
            await self._written()
        calls, items = self._answered
        self._answered = (0, 0)
        if calls >= SIBLINGS and not self._draining:
            await self._inbox.wait_for(min(len(self._inbox) + items, self._limits.batch), GATHER_S)

    async def _gather(self) -> list[Item]:
        # Nothing is taken from the inbox before the store has answered: it would be lost.
        due = await self._due()
        if self._busy() and not self._draining:
            # Only answers of providers make room.
            return [*self._inbox.take_settled(), *due]
        # What came from outside goes first: at equal times it precedes a timer.
        return [*self._inbox.take(self._limits.batch), *due]

    def _sending(self) -> int:
        """Return how many sends are under way, or will be when what is written is committed."""
        sending = self._dispatcher.in_flight if self._dispatcher is not None else 0
        return sending + (self._writing.intents if self._writing is not None else 0)

    def _asking(self) -> int:
        """Return how many attempts at asking are under way."""
        return self._fetchers.in_flight if self._fetchers is not None else 0

    def _busy(self) -> bool:
        # What is asked has bounds of its own: whoever answers slowly holds nobody else up.
        return self._sending() >= self._limits.in_flight

    async def _due(self) -> list[Item]:
        now_us = self._clock.now_us()
        if self._draining or self._busy() or not self._is_due(now_us):
            return []
        if self._writing is not None and self._writing.timers:
            return []
        if len(self._inbox) > self._limits.batch:
            # What this batch has no room for came before the timers that fell due after it.
            now_us = min(now_us, self._inbox[self._limits.batch].arrive_us - 1)
        found = await self._store.claim(now_us, self._limits.batch)
        failpoint("claim.after")
        if len(found) < self._limits.batch:
            self._next_due_us = await self._store.next_due()
            if not found and self._is_due(now_us):
                # Others are at it. It is ours only when they are gone, and not worth a question
                # after the other until then.
                self._next_due_us = now_us + PAUSE_US
        mine = [due for due in found if not self._held(due)]
        if found and not mine:
            # All of it is being sent here; leases are looked at again when results come.
            self._next_due_us = now_us + PAUSE_US
        return [Item.of(due) for due in mine]

    def _is_due(self, now_us: int) -> bool:
        return self._next_due_us is not None and self._next_due_us <= now_us

    def _held(self, due: Due) -> bool:
        if due.message_id:
            sender = self._dispatcher
            return sender is not None and sender.holds(due.workspace_id, due.message_id)
        asker = self._fetchers
        return asker is not None and asker.holds(due.workspace_id, due.run_id)

    # working

    async def _turn(self) -> bool:
        """Decide one batch and begin its commit; False when there was nothing to do."""
        if self._lost:
            await self._join()
        if self.work.doubtful and self._dispatcher is not None:
            self._dispatcher.submit(await self.work.recheck())
        await self._wait_for_company()
        self._wake.clear()
        items: list[Item] = []
        try:
            items = await self._gather()
            batches = await self._decided(items)
            # One commit at a time: it is what the next batch gathers behind.
            worked = await self._written()
        except UpshotError as error:
            self._put_back(items, error)
            raise
        if batches:
            self._write(batches)
        return worked or bool(items)

    async def _decided(self, items: list[Item]) -> list[Batch]:
        """Load and decide *items*, but for those that must wait for what is being written."""
        if not items:
            return []
        batches = await self.work.load(items)
        if self._writing is not None:
            self._postpone(part(batches, self._writing.batches))
        batches = [batch for batch in batches if batch.items]
        for batch in batches:
            self.work.decide(batch)
        return batches

    def _postpone(self, items: list[Item]) -> None:
        """Put *items* back; timers come again by themselves."""
        if any(item.timer for item in items):
            self._next_due_us = 0
        self._inbox.put_back([item for item in items if not item.timer])

    def _write(self, batches: list[Batch]) -> None:
        commit = asyncio.create_task(self.work.commit(batches))
        commit.add_done_callback(lambda _: self._inbox.hurry())
        self._writing = Writing(batches, commit)

    async def _written(self) -> bool:
        """Wait for the commit under way, and do what follows; False when there is none."""
        writing, self._writing = self._writing, None
        if writing is None:
            return False
        try:
            await self._end(writing)
        except UpshotError as error:
            self._put_back(writing.items, error)
            raise
        return True

    async def _end(self, writing: Writing) -> None:
        try:
            await writing.commit
        except (Conflict, ConstraintFailure) as error:
            if not await self.work.again(writing.items, error, self._ended):
                # A timer comes again, and must not keep the loop busy until then.
                self._next_due_us = self._clock.now_us() + PAUSE_US
        else:
            self._ended(writing.batches)

    def _put_back(self, items: list[Item], error: UpshotError) -> None:
        """The store failed: callers are told, answers of providers are kept, timers come again."""
        for item in items:
            item.fail(error)
        self._inbox.put_back([i for i in items if isinstance(i.stimulus, SETTLED)])
        self._next_due_us = 0

    def _ended(self, batches: Sequence[Batch]) -> None:
        """Committed: answer, send, and wake whoever reads the log."""
        failpoint("answer.before")
        grown = False
        asked = [item.call for batch in batches for item in batch.items if item.call is not None]
        self._answered = (len(set(asked)), len(asked))
        for batch in batches:
            assert batch.decided is not None
            changes = batch.decided.changes
            grown = grown or bool(changes.outcomes)
            self._note_due(changes)
            if self._dispatcher is not None:
                self._dispatcher.submit(batch.intents)
            if changes.fetches and self._fetchers is not None:
                self._fetchers.submit(batch.workspace_id, changes.fetches)
            for item, answer in zip(batch.items, batch.decided.answers, strict=True):
                item.answer(answer)
                self.fired += isinstance(item.stimulus, RunDue | AudienceDue)
        if grown:
            self._wakeups.notify()

    def _note_due(self, changes: Changes) -> None:
        earliest = changes.earliest_us
        if earliest is not None:
            known = self._next_due_us
            self._next_due_us = earliest if known is None else min(known, earliest)
