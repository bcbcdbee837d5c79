"""The loop among others on one store: taken for dead, and what others define and append."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.fakes import ManualClock
from tests.flows import delay, sms, track
from tests.loops import TroubledStore, go
from tests.world import world
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.dispatch import Dispatcher
from upshotd.application.ports import Due, RunFilter
from upshotd.application.watching import IDLE_US, LOOK_US, watch
from upshotd.domain.errors import LeaseLost, Unavailable
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes
from upshotd.domain.stimulus import IngestState


class SharedStore(TroubledStore):
    """Others use it too, and may take this process for dead."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: list[str] = []
        self.taken_over = False
        self.size: list[int | Exception] = []
        #: Whether another replica has claimed everything.
        self.elsewhere = False

    @property
    def shared(self) -> bool:
        return True

    async def join(self, owner: str) -> None:
        self.owners.append(owner)
        self.taken_over = False

    async def commit(self, batch: Sequence[Changes]) -> None:
        if self.taken_over:
            raise LeaseLost("another replica has taken over")
        await super().commit(batch)

    async def claim(self, now_us: int, limit: int) -> list[Due]:
        found = await super().claim(now_us, limit)
        return [] if self.elsewhere else found

    async def log_size(self) -> int:
        if not self.size:
            return await super().log_size()
        answer = self.size.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def shared() -> SharedStore:
    store = SharedStore()
    await store.open()
    return store


async def test_whoever_was_taken_for_dead_tells_callers_and_goes_on_under_another_name():
    store = await shared()
    async with world(store) as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        store.taken_over = True
        with pytest.raises(Unavailable):
            await w.ingest(go("x"))
        (again,) = await w.ingest(go("x"))
        assert again.state is IngestState.ACCEPTED
        await w.settle()
        assert len(store.owners) == 1
        assert w.book.owner == store.owners[0] != "me"
        assert await w.story() == ["SENT SMS"]


async def test_nothing_is_sent_while_the_lease_is_in_doubt():
    store = await shared()
    async with world(store) as w:
        sure = False
        dispatcher = Dispatcher(
            {"smtp": w.email, "texts": w.sms}, w.loop.settle, may_send=lambda: sure
        )
        w.loop.attach(dispatcher)
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        await w.track("u", "Go")
        await w.settle()
        assert w.sms.ledger == []
        sure = True
        await w.advance(60_000_000)
        assert len(w.sms.ledger) == 1
        assert await w.story() == ["SENT SMS"]


async def test_a_workflow_that_another_replica_defined_starts_at_once():
    store = await shared()
    async with world(store) as w:
        await w.ingest(go("before"))
        flow = track("Go", sms())
        definition = w.codec.encode_workflow(flow)
        # As another process would: nobody tells this one.
        await store.define("default", flow.workflow_id, definition, None, w.clock.now_us())
        (result,) = await w.ingest(go("after"))
        assert [run.workflow_id for run in result.started] == [flow.workflow_id]


async def test_timers_that_others_set_are_looked_for():
    store = await shared()
    async with world(store) as w:
        await w.settle()
        looks = store.looks
        w.loop._next_due_us = None
        async with asyncio.timeout(5):
            while store.looks == looks:
                await asyncio.sleep(0.05)


async def test_what_others_are_at_is_not_asked_for_again_and_again():
    store = await shared()
    async with world(store) as w:
        await w.define(track("Go", delay("pause", 60_000_000)))
        await w.track("u", "Go")
        await w.settle()
        store.elsewhere = True
        w.clock.advance(61_000_000)
        w.loop.poke()
        await asyncio.sleep(0.05)
        looks = store.looks
        await asyncio.sleep(0.25)
        assert store.looks - looks <= 2
        store.elsewhere = False
        w.clock.advance(1_000_000)
        await w.settle()
        assert (await w.store.runs("default", RunFilter(), "", 9))[0].state is RunState.COMPLETED


async def test_readers_are_woken_by_what_others_append():
    store, clock, wakeups = await shared(), ManualClock(), LocalWakeups()
    store.size = [3, 3, Unavailable("away"), 4, 4, 4, 4]
    watching = asyncio.create_task(watch(store, wakeups, clock))
    waiting = asyncio.create_task(wakeups.wait(wakeups.ticket(), 3_600_000_000))
    try:
        tickets = []
        for _ in range(5):
            while not clock.sleepers:
                await asyncio.sleep(0)
            clock.advance(max(LOOK_US, IDLE_US))
            for _ in range(5):
                await asyncio.sleep(0)
            tickets.append(wakeups.ticket())
            if waiting.done():
                waiting = asyncio.create_task(wakeups.wait(wakeups.ticket(), 3_600_000_000))
                await asyncio.sleep(0)
    finally:
        for task in (watching, waiting):
            task.cancel()
    # Told for 3, not for 3 again, not while nobody could know, told for 4.
    assert tickets[-1] == 2


async def test_nobody_is_asked_while_nobody_waits():
    store, clock = await shared(), ManualClock()
    store.size = [1]
    watching = asyncio.create_task(watch(store, LocalWakeups(), clock))
    for _ in range(5):
        await asyncio.sleep(0)
        clock.advance(IDLE_US)
    watching.cancel()
    assert store.size == [1]
