"""A batch is decided while another is committed: only about other people, and in their order."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.flows import delay, sms, track
from tests.loops import ALWAYS, TroubledStore, go
from tests.world import MINUTE, World, world
from upshotd.application.inbox import Limits
from upshotd.application.loop import AHEAD
from upshotd.domain.errors import Conflict, Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.state import Changes, State, Wanted
from upshotd.domain.stimulus import IngestResult, IngestState
from upshotd.domain.workflow import Reentry, ReentryMode

CROWD = AHEAD * 2


class GatedStore(TroubledStore):
    """Commits only while its gate is open; remembers who was loaded meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        #: Set when a commit stands before the closed gate.
        self.waiting = asyncio.Event()
        #: The ids of the events of each load.
        self.loads: list[set[str]] = []

    async def load(self, workspace_id: str, wanted: Wanted) -> State:
        self.loads.append(set(wanted.event_ids))
        return await super().load(workspace_id, wanted)

    async def commit(self, batch: Sequence[Changes]) -> None:
        if not self.gate.is_set():
            self.waiting.set()
            await self.gate.wait()
        await super().commit(batch)


async def _gated() -> GatedStore:
    store = GatedStore()
    await store.open()
    return store


def crowd(first: str, count: int = CROWD) -> list[Event]:
    """Events of as many people."""
    return [go(f"{first}{n}", f"{first}{n}") for n in range(count)]


async def committing(w: World, store: GatedStore) -> "asyncio.Task[list[IngestResult]]":
    """Let the events of a crowd stand before the closed gate, decided and not committed."""
    store.gate.clear()
    first = asyncio.create_task(w.ingest(*crowd("a")))
    await store.waiting.wait()
    return first


async def test_other_people_are_decided_while_a_commit_is_under_way():
    store = await _gated()
    async with world(store) as w:
        first = await committing(w, store)
        second = asyncio.create_task(w.ingest(*crowd("b")))
        while len(store.loads) < 2:
            await asyncio.sleep(0)
        assert "b0" in store.loads[1]
        assert not first.done()
        store.gate.set()
        results = [*await first, *await second]
        assert {r.state for r in results} == {IngestState.ACCEPTED}
        assert store.commits == [CROWD, CROWD]


async def test_few_items_wait_for_the_end_of_the_commit_to_share_the_next_one():
    store = await _gated()
    async with world(store) as w:
        first = await committing(w, store)
        few = [asyncio.create_task(w.ingest(go(f"b{n}", f"b{n}"))) for n in range(AHEAD - 1)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(store.loads) == 1
        store.gate.set()
        await asyncio.gather(first, *few)
        assert store.commits == [CROWD, AHEAD - 1]


async def test_whoever_is_being_committed_waits_and_keeps_the_order():
    store = await _gated()
    async with world(store) as w:
        await w.define(track("Go", delay(), reentry=Reentry(ReentryMode.ONCE_ACTIVE)))
        first = await committing(w, store)
        again = [go(f"again{n}", f"a{n}") for n in range(5)]
        others = crowd("b")
        second = asyncio.create_task(w.ingest(*again, *others))
        while len(store.loads) < 2:
            await asyncio.sleep(0)
        store.gate.set()
        await first
        results = await second
        # Decided on what the first commit left: their runs were active then.
        assert [r.started for r in results[:5]] == [()] * 5
        assert all(len(r.started) == 1 for r in results[5:])
        assert store.commits == [CROWD, CROWD, 5]


async def test_who_waits_takes_along_whoever_shares_somebody_with_them():
    store = await _gated()
    async with world(store) as w:
        await w.define(track("Go", sms("say", "{{ group.plan }}")))
        await w.identify("new", phone="+15550000")
        first = await committing(w, store)
        joins = Event("g1", EventType.GROUP, "a0", group_id="acme", traits={"plan": "old"})
        renames = Event("g2", EventType.GROUP, "new", group_id="acme", traits={"plan": "new"})
        second = asyncio.create_task(w.ingest(joins, renames, *crowd("b")))
        while "b0" not in store.loads[-1]:
            await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(first, second)
        state = await store.load("default", Wanted(group_ids={"acme"}))
        assert state.groups["acme"].traits == {"plan": "new"}


async def test_a_refused_commit_is_decided_again_and_the_batch_ahead_stands():
    store = await _gated()
    async with world(store) as w:
        first = await committing(w, store)
        store.troubles = [Conflict("moved on")]
        second = asyncio.create_task(w.ingest(*crowd("b")))
        while len(store.loads) < 2:
            await asyncio.sleep(0)
        store.gate.set()
        results = [*await first, *await second]
        assert {r.state for r in results} == {IngestState.ACCEPTED}
        assert store.commits == [CROWD, CROWD]


async def test_a_store_that_goes_away_tells_both_and_keeps_what_providers_said():
    store = await _gated()
    async with world(store) as w:
        await w.define(track("Text", sms()))
        await w.identify("u", phone="+15550000")
        w.sms.open.clear()
        await w.track("u", "Text")
        first = await committing(w, store)
        w.sms.open.set()
        second = asyncio.create_task(w.ingest(*crowd("b")))
        while "b0" not in store.loads[-1]:
            await asyncio.sleep(0)
        store.troubles = [Unavailable("away")]
        store.gate.set()
        for lost in (first, second):
            with pytest.raises(Unavailable):
                await lost
        await w.settle()
        assert await w.story("u") == ["SENT SMS"]
        assert len(w.sms.ledger) == 1


async def test_sends_of_the_batch_that_is_written_count_as_under_way():
    store = await _gated()
    async with world(store, limits=Limits(in_flight=CROWD)) as w:
        await w.define(track("Go", sms()))
        contact = [
            Event(f"i-{e.user_id}", EventType.IDENTIFY, e.user_id, traits={"phone": "+15550000"})
            for e in (*crowd("a"), *crowd("b"))
        ]
        await w.ingest(*contact)
        w.sms.open.clear()
        store.gate.clear()
        before = len(store.loads)
        first = asyncio.create_task(w.ingest(*crowd("a")))
        await store.waiting.wait()
        second = asyncio.create_task(w.ingest(*crowd("b")))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(store.loads) == before + 1
        store.gate.set()
        w.sms.open.set()
        await asyncio.gather(first, second)


async def test_timers_that_are_being_committed_do_not_fire_again():
    store = await _gated()
    async with world(store) as w:
        await w.define(track("Go", delay(duration=MINUTE)))
        await w.ingest(*crowd("a"))
        store.gate.clear()
        w.clock.advance(MINUTE)
        w.loop.poke()
        await store.waiting.wait()
        other = asyncio.create_task(w.ingest(*crowd("b")))
        for _ in range(50):
            await asyncio.sleep(0)
        store.gate.set()
        await other
        await w.settle()
        assert w.loop.fired == CROWD
        assert store.commits == [CROWD, 0, CROWD]


class SlowStore(TroubledStore):
    """Takes a random number of turns of the event loop for each commit, and refuses some."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    async def commit(self, batch: Sequence[Changes]) -> None:
        for _ in range(self._random.randrange(30)):
            await asyncio.sleep(0)
        if self._random.random() < 0.1:
            raise Conflict("somebody was faster")
        await super().commit(batch)


@pytest.mark.parametrize("seed", range(8))
async def test_a_thousand_events_of_a_few_people_come_out_as_one_by_one(seed: int):
    """Each person's events add up in the order sent, whatever was decided ahead."""
    store = SlowStore(seed)
    await store.open()
    chance = random.Random(seed)
    people = [f"u{n}" for n in range(60)]
    async with world(store, limits=Limits(batch=100)) as w:
        await w.define(track("Go", sms("say", "{{ traits.n }}"), reentry=ALWAYS))
        calls, sent = [], dict.fromkeys(people, 0)
        for number in range(25):
            events = []
            for at in range(40):
                user_id = chance.choice(people)
                sent[user_id] += 1
                traits = {"n": sent[user_id], "phone": "+15550000"}
                name = f"{number}-{at}"
                events.append(Event(f"i{name}", EventType.IDENTIFY, user_id, traits=traits))
                events.append(go(f"g{name}", user_id))
            calls.append(asyncio.create_task(w.ingest(*events)))
        await asyncio.gather(*calls)
        await w.settle()
        for user_id, count in sent.items():
            said = [d.content.body for d in w.sms.ledger if d.user_id == user_id]
            assert said == [str(n + 1) for n in range(count)]
