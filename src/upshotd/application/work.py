"""Load, decide, commit: what becomes of the items that the loop has gathered."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from upshotd.application.batch import Decided, Decider, versions, wanted
from upshotd.application.codec import Codec
from upshotd.application.definitions import DefinitionBook
from upshotd.application.dispatch import Intent, intent
from upshotd.application.failpoints import failpoint
from upshotd.application.inbox import Batch, Item, by_workspace
from upshotd.application.ports import (
    Clock,
    Store,
)
from upshotd.application.touching import Key, about, touched
from upshotd.domain.engine import Decision, decide
from upshotd.domain.errors import Conflict, ConstraintFailure, LeaseLost, UpshotError
from upshotd.domain.ids import Ids
from upshotd.domain.message import Message, MessageState
from upshotd.domain.state import Changes, State, Wanted
from upshotd.domain.stimulus import Stimulus

log = structlog.get_logger()

#: Is told of batches that are committed.
Ended: TypeAlias = Callable[[Sequence[Batch]], None]

#: How often a batch is decided again after a conflict before it is split.
CONFLICTS_MAX = 5
#: How often an item alone is decided again when it breaks a constraint, before it counts as one
#: that cannot be stored.
ALONE_TRIES = 2
#: And how often after a conflict: other replicas may write a row that it needs all the time, such
#: as the suppression list during an import. From the sixth time on after a pause, in microseconds.
ALONE_CONFLICTS_MAX = 100
ALONE_PAUSE_US = 20_000


class Work:
    """Brings items to an end; those that cannot be stored together are split until they can."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        codec: Codec,
        definitions: DefinitionBook,
    ) -> None:
        self.definitions = definitions
        #: The engine's `decide`; tests put one that breaks in its place.
        self.step: Callable[..., Decision] = decide
        #: Intents of commits whose answer was lost.
        self.doubtful: list[Intent] = []
        self._store = store
        self._clock = clock
        self._ids = ids
        self._codec = codec

    # in good order: load, decide, commit

    async def load(self, items: Sequence[Item]) -> list[Batch]:
        """Return *items* in batches, each with the state that deciding it may read."""
        batches = by_workspace(items)
        for batch in batches:
            batch.state = await self._loaded(batch)
            asked = versions(batch.state, [item.stimulus for item in batch.items])
            await self.definitions.covering(batch.workspace_id, asked)
        return batches

    async def _loaded(self, batch: Batch) -> State:
        """Return what deciding *batch* by the newest definitions may read."""
        stimuli = [item.stimulus for item in batch.items]
        while True:
            definitions = await self.definitions.of(batch.workspace_id)
            want = wanted(stimuli, definitions)
            failpoint("load.before")
            state = await self._store.load(batch.workspace_id, want)
            if self.definitions.newest(batch.workspace_id, state.definitions_revision):
                return state
            # Another replica has defined something; it may ask for more to be loaded.
            await self.definitions.refresh(batch.workspace_id)

    def decide(self, batch: Batch) -> None:
        """Decide everything in a loaded batch."""
        decider = self._decider(batch.workspace_id, batch.state)
        batch.decided = decider.decide([item.stimulus for item in batch.items])
        batch.intents = self._intents(batch.decided.changes, batch.state)
        failpoint("decide.after")

    async def commit(self, batches: Sequence[Batch]) -> None:
        """Commit decided batches in one transaction. Raises what `Store.commit` raises."""
        changes = [batch.decided.changes for batch in batches if batch.decided is not None]
        changes = [c for c in changes if not c.empty]
        if not changes:
            return
        try:
            failpoint("commit.before")
            await self._store.commit(changes)
            failpoint("commit.after")
        except (Conflict, ConstraintFailure, LeaseLost):
            raise
        except UpshotError:
            # It may have been committed all the same, and then nobody has sent these.
            self.doubtful += [entry for batch in batches for entry in batch.intents]
            raise

    async def recheck(self) -> list[Intent]:
        """Return those doubtful intents that were committed after all.

        They are ours and were never begun: without this they would wait for the end of a lease
        that we go on holding, and then be taken for sends without an answer.
        """
        found: list[Intent] = []
        for workspace_id in {entry.delivery.workspace_id for entry in self.doubtful}:
            asked = [i for i in self.doubtful if i.delivery.workspace_id == workspace_id]
            want = Wanted(message_ids={entry.delivery.message_id for entry in asked})
            messages = (await self._store.load(workspace_id, want)).messages
            found += [i for i in asked if self._ours(messages.get(i.delivery.message_id), i)]
        self.doubtful = []
        return found

    def _ours(self, message: Message | None, entry: Intent) -> bool:
        return (
            message is not None
            and message.state is MessageState.SENDING
            and message.owner == self.definitions.owner
            and message.attempt == entry.delivery.attempt
        )

    # when something is in the way

    async def again(self, items: list[Item], error: Exception, ended: Ended) -> bool:
        """Bring *items*, whose commit was refused with *error*, to an end, part by part.

        What had moved on is decided again, what breaks a constraint is split; *ended* is told of
        each part that is committed. Returns False when something could not even be set aside.
        """
        tries, most = 0, CONFLICTS_MAX if len(items) > 1 else ALONE_CONFLICTS_MAX
        while tries < most and (isinstance(error, Conflict) or _may_pass(items, tries)):
            if tries >= CONFLICTS_MAX:
                await self._clock.sleep(round(ALONE_PAUSE_US * self._ids.fraction()))
            tries += 1
            batches = await self.load(items)
            for batch in batches:
                self.decide(batch)
            try:
                await self.commit(batches)
            except (Conflict, ConstraintFailure) as refused:
                error = refused
            else:
                ended(batches)
                return True
        if len(items) == 1:
            return await self._set_aside(items[0], ended)
        middle = len(items) // 2
        halved = Conflict("decided again by halves")
        first = await self.again(items[:middle], halved, ended)
        return await self.again(items[middle:], halved, ended) and first

    async def _set_aside(self, item: Item, ended: Ended) -> bool:
        """Nothing of this item can be stored: refuse it alone, and keep it where people see it."""
        (batch,) = await self.load([item])
        decision = self._decider(item.workspace_id, batch.state).set_aside(item.stimulus)
        batch.decided = Decided(decision.changes, [decision.answer])
        stored = True
        try:
            await self.commit([batch])
        except (Conflict, ConstraintFailure):
            log.exception("item.not_set_aside", stimulus=type(item.stimulus).__name__)
            batch.decided = Decided(Changes(item.workspace_id), [decision.answer])
            stored = False
        ended([batch])
        return stored

    def _decider(self, workspace_id: str, state: State) -> Decider:
        definitions = self.definitions.known(workspace_id)
        now_us = self._clock.now_us()
        return Decider(workspace_id, definitions, state, now_us, self._codec, self._ids, self.step)

    def _intents(self, changes: Changes, state: State) -> list[Intent]:
        intents: list[Intent] = []
        for message in changes.messages.values():
            if message.state is MessageState.SENDING and message.owner == self.definitions.owner:
                profile = state.profiles[message.whose(state.runs[message.run_id].profile_id)]
                intents.append(intent(changes.workspace_id, message, profile.user_id))
        return intents


def _may_pass(items: list[Item], tries: int) -> bool:
    """Return whether one item that broke a constraint may keep it when it is decided again.

    Another replica may have made the same row in the same moment; decided by what is there now it
    makes none.
    """
    return len(items) == 1 and tries < ALONE_TRIES


@dataclass(slots=True)
class Writing:
    """Batches that are being committed."""

    batches: list[Batch]
    commit: asyncio.Task[None]

    @property
    def items(self) -> list[Item]:
        """All of their items."""
        return [item for batch in self.batches for item in batch.items]

    @property
    def intents(self) -> int:
        """How many sends follow."""
        return sum(len(batch.intents) for batch in self.batches)

    @property
    def timers(self) -> bool:
        """Whether timers are among them; the store goes on naming those until the end."""
        return any(item.timer for item in self.items)


def part(batches: Sequence[Batch], writing: Sequence[Batch]) -> list[Item]:
    """Take out of loaded *batches* what is about anybody that *writing* touches; return it.

    What is taken out takes along whatever shares somebody with it and comes later, so that
    everybody's items keep their order.
    """
    held = {batch.workspace_id: _held(batch) for batch in writing}
    apart: list[Item] = []
    for batch in batches:
        keys = held.get(batch.workspace_id)
        if keys:
            free: list[Item] = []
            for item in batch.items:
                (free if _free(item.stimulus, batch.state, keys) else apart).append(item)
            batch.items = free
    return apart


def _held(batch: Batch) -> set[Key]:
    return touched(batch.decided.changes) if batch.decided is not None else set()


def _free(stimulus: Stimulus, state: State, held: set[Key]) -> bool:
    keys = set(about(stimulus, state))
    if held.isdisjoint(keys):
        return True
    held |= keys
    return False
