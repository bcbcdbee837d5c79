"""One database that several processes share, in memory, as PostgreSQL behaves: leases, fences and
claims in the same transactions as the rows; and a connection to it that can fail.

`adapters/storage/leases.py` is the model; `test_database.py` holds both to the same stories.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, Protocol, TypeVar

from tests.simulation.virtual import Process
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.memory.due import MESSAGE
from upshotd.adapters.storage.running import Running
from upshotd.application.ports import Due
from upshotd.domain.errors import LeaseLost, Unavailable, UpshotError
from upshotd.domain.message import MessageState
from upshotd.domain.state import Changes
from upshotd.domain.values import replace

T = TypeVar("T")

#: As `Replica` has them.
BEATS, MARGIN = 3, 0.2
_LONG_AGO_US = 1
#: What is not part of any process.
OUTSIDE = Context()


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what *work*, which waits for nothing, returns."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waited")


class Watching(Protocol):
    """Sees every transaction that was applied, and what was there before."""

    def before(self, batch: Sequence[Changes]) -> Any:
        """Return the rows that *batch* is about to replace."""

    def committed(self, owner: str, batch: Sequence[Changes], before: Any) -> None:
        """Look at what *owner* has written."""

    def ticked(self) -> None:
        """Note that a process was told the time."""


class SimDatabase(MemoryStore):
    """Rows of all processes, and who they are. Every method is one transaction."""

    def __init__(
        self,
        *,
        encode_outcome: Any,
        partitions: int,
        shared: bool,
        now_us: Callable[[], int],
        lease_us: int,
    ) -> None:
        super().__init__(encode_outcome=encode_outcome, partitions=partitions)
        self.between_processes = shared
        self.lease_us = lease_us
        self.now_us = now_us
        self.watching: Watching | None = None
        #: Process -> until when it is taken for alive.
        self.leases: dict[str, int] = {}
        #: (workspace, run or message) -> who is at it.
        self.claims: dict[tuple[str, str], str] = {}

    def join_as(self, owner: str) -> None:
        """Begin a lease; alone, whoever held one before is dead."""
        if not self.between_processes:
            self._release(None)
        self.leases[owner] = self.now_us() + self.lease_us

    def beat(self, owner: str) -> int:
        """Extend a lease, end those that ran out, and return the time."""
        now_us = self.now_us()
        if owner not in self.leases:
            raise LeaseLost("another replica has taken over")
        self.leases[owner] = now_us + self.lease_us
        if self.watching is not None:
            self.watching.ticked()
        gone = {o for o, until in self.leases.items() if until < now_us and o != owner}
        for other in sorted(gone):
            del self.leases[other]
        self._release(gone)
        return now_us

    def leave_as(self, owner: str) -> None:
        """End a lease at once."""
        self.leases.pop(owner, None)
        self._release({owner})

    def commit_as(self, owner: str, batch: Sequence[Changes]) -> None:
        """Write *batch*, if *owner* is not taken for dead."""
        if self.fenced(owner):
            raise LeaseLost("another replica has taken over")
        before = self.watching.before(batch) if self.watching is not None else None
        at_once(super().commit(batch))
        if self.watching is not None:
            self.watching.committed(owner, batch, before)
        for changes in batch:
            for run_id in changes.runs:
                self.claims.pop((changes.workspace_id, run_id), None)
            for message_id, message in changes.messages.items():
                self.claims[changes.workspace_id, message_id] = message.owner
            for profile_id, audience_id in changes.memberships:
                self.claims.pop((changes.workspace_id, f"{profile_id} {audience_id}"), None)

    def fenced(self, owner: str) -> bool:
        """Return whether somebody has taken over what *owner* had."""
        return self.between_processes and owner not in self.leases

    def claim_as(self, owner: str, now_us: int, limit: int) -> list[Due]:
        """Claim what is due and nobody else is at; alone there is nobody else."""
        if not self.between_processes:
            return self._timers.due(now_us, limit)
        found = self._timers.due(now_us, limit + len(self.claims))
        free = [due for due in found if self._free(due, owner)][:limit]
        for due in free:
            self.claims[due.workspace_id, due.key] = owner
        return free

    def _free(self, due: Due, owner: str) -> bool:
        holder = self.claims.get((due.workspace_id, due.key), "")
        return holder in ("", owner) or holder not in self.leases

    def _release(self, owners: set[str] | None) -> None:
        """Make due what *owners* (None: everybody) were sending."""
        if owners is not None and not owners:
            return
        for (workspace_id, row_id), owner in self.claims.items():
            message = self._tables(workspace_id).messages.get(row_id)
            if message is None or message.due_us is None:
                continue
            if (owners is None and message.state is MessageState.SENDING) or (
                owners is not None and owner in owners
            ):
                held = self._tables(workspace_id).messages
                held[row_id] = replace(message, due_us=_LONG_AGO_US)
                self._timers.add((_LONG_AGO_US, row_id, workspace_id, MESSAGE))


class Network(Protocol):
    """What happens to a question on its way, and to its answer."""

    def delay(self) -> float:
        """Return how long one way takes, in seconds."""

    def away(self) -> bool:
        """Return whether the database cannot be reached now."""

    def loses_answer(self) -> bool:
        """Return whether this answer is lost."""


class SimStore:
    """The `Store` as one process has it: every method is a question over a network."""

    def __init__(
        self,
        database: SimDatabase,
        process: Process,
        network: Network,
        told_time: Callable[[int], None],
    ) -> None:
        self._database = database
        self._process = process
        self._network = network
        self._told_time = told_time
        self._running = Running()
        self._loop = asyncio.get_running_loop()
        self.owner = ""
        self._until_s = 0.0
        self._beating: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._database, name)
        return lambda *args, **named: self._ask(lambda: at_once(method(*args, **named)))

    @property
    def shared(self) -> bool:
        return self._database.between_processes

    @property
    def erased_rows(self) -> "SimErasedRows":
        return SimErasedRows(self)

    @property
    def audience_rows(self) -> "SimRows":
        return SimRows(self, self._database.audience_rows)

    @property
    def partitions(self) -> int:
        return self._database.partitions

    async def log_epoch(self) -> str:
        return await self._database.log_epoch()

    async def commit(self, batch: Sequence[Changes]) -> None:
        owner = self.owner
        await self._ask(lambda: self._database.commit_as(owner, batch))

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        owner = self.owner
        return await self._ask(lambda: self._database.claim_as(owner, now_us, limit))

    # the lease, as `Replica` keeps it

    async def join(self, owner: str) -> None:
        await self._stop()
        began_s = self._loop.time()
        await self._ask(lambda: self._database.join_as(owner))
        self.owner = owner
        if self.shared:
            self._hold(began_s)
            await self._beat()
            self._beating = asyncio.create_task(self._beat_on())

    async def leave(self) -> None:
        await self._stop()
        owner, self.owner = self.owner, ""
        if owner:
            await self._ask(lambda: self._database.leave_as(owner))

    def holds_lease(self) -> bool:
        return not self.shared or self._loop.time() < self._until_s

    async def _beat(self) -> None:
        began_s, owner = self._loop.time(), self.owner
        try:
            now_us = await self._ask(lambda: self._database.beat(owner))
        except LeaseLost:
            self._until_s = 0.0
            raise
        self._hold(began_s)
        self._told_time(now_us)

    def _hold(self, began_s: float) -> None:
        self._until_s = began_s + self._database.lease_us * (1 - MARGIN) / 1e6

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._database.lease_us / BEATS / 1e6)
            try:
                await self._beat()
            except LeaseLost:
                return
            except UpshotError:
                continue

    async def _stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    # the network

    async def ask(self, question: Callable[[], T]) -> T:
        """Return what the database says to *question*, if the answer comes."""
        return await self._ask(question)

    async def _ask(self, question: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        self._loop.call_later(
            self._network.delay(), self._arrive, question, answer, context=OUTSIDE.copy()
        )
        return await self._running.finished(answer)

    def _arrive(self, question: Callable[[], T], answer: "asyncio.Future[T]") -> None:
        """Do it, whatever has become of who asked; a dead process has no file open."""
        if self._process.dead and not self.shared:
            return
        result: T | None = None
        error: UpshotError | None = None
        if self._network.away():
            error = Unavailable("the database does not answer", reason="DATABASE_FAILED")
        else:
            try:
                result = question()
            except UpshotError as refused:
                error = refused
            if self._network.loses_answer():
                error = Unavailable("the connection broke", reason="DATABASE_FAILED")
        self._loop.call_later(
            self._network.delay(), self._deliver, answer, result, error, context=OUTSIDE.copy()
        )

    def _deliver(
        self, answer: "asyncio.Future[Any]", result: object, error: UpshotError | None
    ) -> None:
        if answer.done() or self._process.dead:
            return
        if error is not None:
            answer.set_exception(error)
            answer.exception()  # whoever asked may be killed before they hear of it
        else:
            answer.set_result(result)


class SimErasedRows:
    """What is looked through for erased people, over the same network."""

    def __init__(self, store: SimStore) -> None:
        self._store = store

    def partition_of(self, profile_id: str) -> int:
        return self._rows.partition_of(profile_id)

    @property
    def _rows(self) -> Any:
        return self._store._database.erased_rows

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._rows, name)
        return lambda *args, **named: self._store.ask(lambda: at_once(method(*args, **named)))


class SimRows:
    """Rows that are read by methods of their own, over the same network."""

    def __init__(self, store: SimStore, rows: Any) -> None:
        self._store = store
        self._rows = rows

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._rows, name)
        return lambda *args, **named: self._store.ask(lambda: at_once(method(*args, **named)))
