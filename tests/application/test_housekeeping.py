"""Housekeeping: what is too old goes in small pieces, and nobody loses outcomes unwarned."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from tests.builders import DAY, HOUR, NOON, an_outcome, changes
from tests.fakes import ManualClock
from upshotd.adapters.memory import MemoryStore
from upshotd.application.housekeeping import BATCH, INTERVAL_US, Housekeeping, KeepFor
from upshotd.application.ports import Retention
from upshotd.application.subscriptions import Subscriptions
from upshotd.domain.errors import Unavailable

WORKSPACE = "default"


class CountingStore(MemoryStore):
    """Counts rounds, and breaks when told to."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=lambda *_: b"")
        self.rounds: list[int] = []
        self.asked: list[Retention] = []
        self.broken = False

    async def prune(self, retention: Retention, limit: int) -> int:
        assert limit == BATCH
        if self.broken:
            raise Unavailable("the database is gone")
        gone = await super().prune(retention, limit)
        self.rounds.append(gone)
        self.asked.append(retention)
        return gone


class World:
    def __init__(self) -> None:
        self.store = CountingStore()
        self.clock = ManualClock()
        self.stop = asyncio.Event()

    async def append(self, count: int) -> None:
        made = [an_outcome(record_us=self.clock.now_us()) for _ in range(count)]
        await self.store.commit([changes(*made)])

    @asynccontextmanager
    async def housekeeping(self, keep: KeepFor) -> AsyncIterator[None]:
        running = asyncio.create_task(
            Housekeeping(self.store, self.clock, keep).run_until(self.stop)
        )
        await settled()
        yield
        self.stop.set()
        await asyncio.wait_for(running, 5)

    async def pass_time(self, duration_us: int) -> None:
        self.clock.advance(duration_us)
        await settled()


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_it_prunes_at_once_and_every_hour() -> None:
    world = World()
    async with world.housekeeping(KeepFor()):
        assert world.store.rounds == [0]
        await world.pass_time(INTERVAL_US - 1)
        assert world.store.rounds == [0]
        await world.pass_time(1)
        assert world.store.rounds == [0, 0]
    assert world.store.asked[0] == Retention(NOON - 30 * DAY, NOON - 30 * DAY, NOON - 7 * DAY)


async def test_much_goes_in_small_pieces() -> None:
    world = World()
    await world.append(2 * BATCH + 1)
    await world.pass_time(2 * DAY)
    with capture_logs() as logs:
        async with world.housekeeping(KeepFor(outcomes_us=DAY)):
            assert world.store.rounds == [BATCH, BATCH, 1, 0]
    assert [entry for entry in logs if entry["event"] == "rows.pruned"] == [
        {"event": "rows.pruned", "rows": 2 * BATCH + 1, "log_level": "info"}
    ]


async def test_what_is_young_stays() -> None:
    world = World()
    await world.append(3)
    async with world.housekeeping(KeepFor(outcomes_us=DAY)):
        await world.pass_time(DAY - 1)
        assert (await world.store.spans(WORKSPACE))[0].earliest == 1
        await world.pass_time(HOUR)
        assert (await world.store.spans(WORKSPACE))[0].earliest == 4


async def test_a_subscription_that_will_lose_outcomes_is_warned_about() -> None:
    world = World()
    subscriptions = Subscriptions(world.store, world.clock)
    await subscriptions.open(WORKSPACE, "late", {0: 0})
    await world.append(2)
    await subscriptions.open(WORKSPACE, "done", {0: 2})
    await world.pass_time(80 * HOUR)
    with capture_logs() as logs:
        async with world.housekeeping(KeepFor(outcomes_us=100 * HOUR)):
            assert logs == []
            await world.pass_time(HOUR)
    assert logs == [
        {
            "event": "subscription.lagging",
            "log_level": "warning",
            "workspace_id": WORKSPACE,
            "subscription": "late",
            "lag": 2,
            "lag_us": 81 * HOUR,
            "retention_us": 100 * HOUR,
        }
    ]


async def test_a_round_that_fails_is_logged_and_the_next_one_comes() -> None:
    world = World()
    world.store.broken = True
    with capture_logs() as logs:
        async with world.housekeeping(KeepFor()):
            assert [entry["event"] for entry in logs] == ["housekeeping.failed"]
            world.store.broken = False
            await world.pass_time(INTERVAL_US)
            assert world.store.rounds == [0]


async def test_it_stops_in_the_middle_of_much() -> None:
    world = World()
    await world.append(3 * BATCH)
    await world.pass_time(2 * DAY)

    class Stopping(ManualClock):
        async def sleep(self, duration_us: int) -> None:
            world.stop.set()

    keep = KeepFor(outcomes_us=DAY)
    clock = Stopping(world.clock.now_us())
    await asyncio.wait_for(Housekeeping(world.store, clock, keep).run_until(world.stop), 5)
    assert world.store.rounds == [BATCH]


async def test_it_does_nothing_once_stopped() -> None:
    world = World()
    world.stop.set()
    async with world.housekeeping(KeepFor()):
        assert world.store.rounds == []
