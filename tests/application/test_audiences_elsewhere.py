"""Two replicas that learn different things of one person at once: together they bring them in."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.application.test_replicas import SharedStore
from tests.world import DAY, World, world
from upshotd.application.filling import ALONE_US, Fillings, Stage, filling_of
from upshotd.domain.audience import AllOf, Audience, Did, Holds, Membership, Often
from upshotd.domain.engine import decide
from upshotd.domain.event import Event, EventType
from upshotd.domain.state import Changes, Identity, IdKind, Wanted
from upshotd.domain.stimulus import AudienceDue, EventArrived, Stimulus
from upshotd.domain.values import replace

ANA = (IdKind.USER, "ana")
BOTH = Audience("both", AllOf((Holds('traits.plan == "pro"'), Did("Paid"))))


class Elsewhere(SharedStore):
    """Commits what another replica has decided in front of the next commit."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.stimulus: Stimulus | None = None
        #: Whom it is about.
        self.who: Identity = ANA

    async def commit(self, batch: Sequence[Changes]) -> None:
        stimulus, self.stimulus = self.stimulus, None
        if stimulus is not None and self.world is not None:
            w = self.world
            state = await super().load("default", Wanted(identities={self.who}, memberships=True))
            known, now_us = w.book.known("default"), w.clock.now_us()
            decided = decide("default", known, state, stimulus, now_us, w.ids)
            await super().commit([decided.changes])
        await super().commit(batch)


@pytest.mark.parametrize("first", ["trait", "event"])
async def test_neither_misses_what_the_other_has_written(first: str) -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.define_audience(BOTH)
        await w.identify("ana", plan="free")
        store.world = w
        paid = Event("paid", EventType.TRACK, "ana", name="Paid")
        upgraded = Event("pro", EventType.IDENTIFY, "ana", traits={"plan": "pro"})
        ours, theirs = (upgraded, paid) if first == "event" else (paid, upgraded)
        store.stimulus = EventArrived(w.event(theirs))
        await w.ingest(ours)
        assert store.stimulus is None, "the other one came in between"
        assert await w.members("both") == {"ana"}
        assert len(await w.outcomes()) == 1


async def test_a_moment_that_is_judged_elsewhere_is_told_of_once() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.define_audience(Audience("paid", Did("Paid", often=Often(within_us=DAY))))
        await w.track("ana", "Paid")
        (row,) = await store.audience_rows.members("default", "paid", "", 9)
        store.world, store.stimulus = w, AudienceDue("paid", row.profile_id)
        await w.advance(2 * DAY)
        assert store.stimulus is None
        assert len(await w.outcomes()) == 2


async def test_one_that_another_replica_fills_is_left_alone_until_it_is_gone() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.track("ana", "Paid")
        await w.define_audience(Audience("paid", Did("Paid")), fill=False)
        ((name, value),) = (await store.settings("audience/")).items()
        until_us = w.clock.now_us() + ALONE_US
        held = replace(filling_of(value), holder="other", until_us=until_us)
        await store.put_setting(name, held.encoded())
        assert await w.fillings.finish() == until_us
        assert await w.members("paid") == set()
        w.clock.advance_to(until_us)
        assert await w.fillings.finish() is None
        assert await w.members("paid") == {"ana"}


async def test_it_begins_when_nobody_can_commit_by_the_old_definitions_any_more() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        slow = Fillings(store, w.loop, w.clock, w.codec, w.book, settle_us=30_000_000)
        await w.track("ana", "Paid")
        await w.define_audience(Audience("paid", Did("Paid")), fill=False)
        assert await slow.finish() == w.clock.now_us() + 30_000_000
        await w.advance(30_000_000)
        again_us = await slow.finish()
        assert again_us is not None
        assert 29_000_000 < again_us - w.clock.now_us() <= 30_000_000, "once more before the end"
        assert await w.members("paid") == {"ana"}
        await w.advance(30_000_000)
        assert await slow.finish() is None
        ((_, value),) = (await store.settings("audience/")).items()
        assert filling_of(value).stage is Stage.DONE


async def test_one_that_is_defined_anew_meanwhile_is_filled_by_that() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.track("ana", "Paid")
        first = Audience("paid", Did("Paid", often=Often(at_least=2)))
        await w.define_audience(first, fill=False)
        assert list(await store.settings("audience/")) == ["audience/default/paid/1"]
        await w.define_audience(Audience("paid", Did("Paid")), fill=False)
        assert await w.fillings.finish() is None
        assert list(await store.settings("audience/")) == ["audience/default/paid/2"]
        assert await w.members("paid") == {"ana"}


async def test_whoever_fills_goes_on_by_itself_when_it_is_woken() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.track("ana", "Paid")
        running = asyncio.create_task(w.fillings.run())
        await asyncio.sleep(0)
        await w.define_audience(Audience("paid", Did("Paid")), fill=False)
        while await w.members("paid") != {"ana"}:
            await asyncio.sleep(0)
        running.cancel()


async def test_a_row_that_cannot_be_judged_does_not_come_again() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.define_audience(Audience("paid", Did("Paid", often=Often(within_us=DAY))))
        await w.track("ana", "Paid")

        def broken(*given: object) -> object:
            if isinstance(given[3], AudienceDue):
                raise ZeroDivisionError
            return decide(*given)  # type: ignore[arg-type]

        w.loop.work.step = broken  # type: ignore[assignment]
        await w.advance(2 * DAY)
        (row,) = await store.audience_rows.members("default", "paid", "", 9)
        assert isinstance(row, Membership)
        assert row.due_us is None
        assert await w.members("paid") == {"ana"}, "it was left as it was"
