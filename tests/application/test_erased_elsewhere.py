"""A person whom another replica erases between a decision about them and its commit."""

import asyncio
from collections.abc import Sequence

from tests.application.test_replicas import SharedStore
from tests.flows import delay, track
from tests.world import World, world
from upshotd.application.erasing import Erasing
from upshotd.application.ports import RunFilter
from upshotd.domain.engine import decide
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes, IdKind, Wanted
from upshotd.domain.stimulus import EraseRequested, EraseResult, IngestState

ANA = (IdKind.USER, "ana")


class Elsewhere(SharedStore):
    """Commits an erasure of another replica in front of the next start."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    async def commit(self, batch: Sequence[Changes]) -> None:
        world, self.world = self.world, None
        if world is not None:
            state = await super().load("default", Wanted(identities={ANA}))
            known, now_us = world.book.known("default"), world.clock.now_us()
            erased = decide("default", known, state, EraseRequested(ANA), now_us, world.ids)
            await super().commit([erased.changes])
        await super().commit(batch)


async def test_a_start_that_was_decided_before_is_refused() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay("pause", 60_000_000)))
        await w.identify("ana", email="ana@example.com")
        store.world = w
        answer = await w.track("ana", "Go")
        assert (answer.state, answer.reason) == (IngestState.REJECTED, "ERASED")
        assert not await store.runs("default", RunFilter(), "", 9)


async def test_a_run_that_began_meanwhile_ends_with_its_person() -> None:
    store = SharedStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay("pause", 60_000_000)))
        await w.identify("ana", email="ana@example.com")
        started = await w.track("ana", "Go")
        state = await store.load("default", Wanted(identities={ANA}))
        assert state.active[state.identities[ANA]], "the store knows it"
        (answer,) = await w.loop.ask("default", [EraseRequested(ANA)])
        assert isinstance(answer, EraseResult)
        run = await store.run("default", started.started[0].run_id)
        assert run is not None
        assert (run.state, run.reason, run.profile_id) == (RunState.CANCELED, "ERASED", "")


async def test_the_rest_waits_until_others_have_ended_what_they_began() -> None:
    store = SharedStore()
    await store.open()
    async with world(store) as w:
        erasing = Erasing(store.erased_rows, w.loop, w.clock, w.codec, settle_us=30_000_000)
        await w.track("ana", "Looked", properties={"secret": "canary"})
        await erasing.erase("default", ANA)
        await erasing.finish()
        kept = await store.event("default", "e1")
        assert kept is not None
        assert b"canary" in kept.stored.payload
        w.clock.advance(30_000_001)
        await erasing.finish()
        kept = await store.event("default", "e1")
        assert kept is not None
        assert kept.stored.payload == b""


async def test_the_work_in_the_background_begins_when_it_is_woken() -> None:
    async with world() as w:
        erasing = Erasing(w.store.erased_rows, w.loop, w.clock, w.codec)
        working = asyncio.create_task(erasing.run())
        await w.track("ana", "Looked", properties={"secret": "canary"})
        await erasing.erase("default", ANA)
        async with asyncio.timeout(5):
            while (await w.store.event("default", "e1")).stored.payload:  # type: ignore[union-attr]
                await asyncio.sleep(0)
        working.cancel()
