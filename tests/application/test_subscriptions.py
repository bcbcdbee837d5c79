"""Subscriptions: durable places that move forward, and how far they are behind."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.builders import HOUR, NOON, an_outcome, changes
from tests.fakes import ManualClock
from upshotd.adapters.memory import MemoryStore
from upshotd.application.cursor import Cursor, decode, encode
from upshotd.application.ports import Retention, Subscription
from upshotd.application.subscriptions import Subscriptions
from upshotd.domain.errors import InvalidArgument, NotFound

WORKSPACE = "default"


class SlowStore(MemoryStore):
    """Lets others run between reading and writing, as a database does."""

    async def subscription(self, workspace_id: str, name: str) -> Subscription | None:
        held = await super().subscription(workspace_id, name)
        await asyncio.sleep(0)
        return held


class World:
    def __init__(self, partitions: int = 1) -> None:
        self.store = SlowStore(encode_outcome=lambda *_: b"", partitions=partitions)
        self.clock = ManualClock()
        self.subscriptions = Subscriptions(self.store, self.clock)

    async def append(self, count: int = 1, profile_id: str = "profile-ana") -> None:
        made = [
            an_outcome(record_us=self.clock.now_us(), profile_id=profile_id) for _ in range(count)
        ]
        await self.store.commit([changes(*made)])

    async def cursor(self, positions: Mapping[int, int], workspace_id: str = WORKSPACE) -> str:
        return encode(Cursor(await self.store.log_epoch(), workspace_id, positions))

    async def commit(
        self, positions: Mapping[int, int], name: str = "relay", rewind: bool = False
    ) -> Mapping[int, int]:
        text = await self.subscriptions.commit(
            WORKSPACE, name, await self.cursor(positions), rewind
        )
        return decode(text, await self.store.log_epoch(), WORKSPACE, 16, "cursor")

    async def held(self, name: str = "relay") -> Subscription:
        held = await self.store.subscription(WORKSPACE, name)
        assert held is not None
        return held


@pytest.fixture
async def world() -> World:
    """Ten outcomes in one partition, and a subscription that has read none."""
    world = World()
    await world.append(10)
    await world.subscriptions.open(WORKSPACE, "relay", {0: 0})
    return world


async def test_a_commit_moves_forward_only(world: World) -> None:
    world.clock.advance(HOUR)
    assert await world.commit({0: 5}) == {0: 5}
    assert await world.commit({0: 3}) == {0: 5}
    held = await world.held()
    assert (held.positions, held.create_us, held.commit_us) == ({0: 5}, NOON, NOON + HOUR)


async def test_rewind_moves_back(world: World) -> None:
    await world.commit({0: 5})
    assert await world.commit({0: 3}, rewind=True) == {0: 3}


async def test_commits_merge_by_partition() -> None:
    world = World(partitions=4)
    for number in range(40):
        await world.append(profile_id=f"profile-{number}")
    heads = {p: span.head for p, span in (await world.store.spans(WORKSPACE)).items()}
    assert min(heads.values()) >= 3
    await world.subscriptions.open(WORKSPACE, "relay", {0: 0, 1: 0})
    assert await world.commit({0: 3, 1: 1}) == {0: 3, 1: 1}
    assert await world.commit({1: 3, 2: 2}) == {0: 3, 1: 3, 2: 2}
    assert await world.commit({0: 1, 1: 1}, rewind=True) == {0: 1, 1: 1, 2: 2}


async def test_commits_at_once_take_nothing_back(world: World) -> None:
    await asyncio.gather(*(world.commit({0: position}) for position in (10, 4, 7, 1)))
    assert (await world.held()).positions == {0: 10}


async def test_opening_at_once_stores_one_start(world: World) -> None:
    opened = await asyncio.gather(
        *(world.subscriptions.open(WORKSPACE, "new", {0: start}) for start in (3, 9))
    )
    assert opened == [{0: 3}, {0: 3}]


async def test_a_known_one_opens_where_it_was_committed(world: World) -> None:
    await world.commit({0: 5})
    assert await world.subscriptions.open(WORKSPACE, "relay", {0: 9}) == {0: 5}


async def test_a_commit_names_every_fault(world: World) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.subscriptions.commit(WORKSPACE, "No Name", "no cursor", False)
    assert [v.field for v in caught.value.violations] == ["subscription", "cursor"]
    with pytest.raises(InvalidArgument) as caught:
        await world.subscriptions.commit(WORKSPACE, "relay", "no cursor", False)
    assert caught.value.reason == "CURSOR_INVALID"
    with pytest.raises(InvalidArgument) as caught:
        await world.commit({0: 11})
    assert caught.value.reason == "CURSOR_AHEAD"
    assert (await world.held()).positions == {0: 0}


@pytest.mark.parametrize("name", ["", "A", "-a", "a" * 64, "a\n", "ä", "a b"])
async def test_names_are_plain(world: World, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.commit({0: 1}, name=name)
    assert [v.field for v in caught.value.violations] == ["subscription"]


async def test_an_unknown_one_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.commit({0: 1}, name="a" * 63)
    with pytest.raises(NotFound):
        await world.subscriptions.delete(WORKSPACE, "other")


async def test_a_deleted_one_is_forgotten(world: World) -> None:
    await world.subscriptions.delete(WORKSPACE, "relay")
    assert await world.subscriptions.list(WORKSPACE) == []
    with pytest.raises(NotFound):
        await world.commit({0: 1})


async def test_lag_is_in_outcomes_and_in_age(world: World) -> None:
    await world.subscriptions.open(WORKSPACE, "fast", {0: 10})
    world.clock.advance(HOUR)
    await world.append(2)
    await world.commit({0: 10}, name="fast")
    world.clock.advance(HOUR)
    fast, relay = await world.subscriptions.list(WORKSPACE)
    assert (fast.name, fast.lag, fast.lag_us) == ("fast", 2, HOUR)
    assert (relay.name, relay.lag, relay.lag_us) == ("relay", 12, 2 * HOUR)
    assert (fast.create_us, fast.commit_us) == (NOON, NOON + HOUR)
    assert fast.cursor == await world.cursor({0: 10})
    await world.commit({0: 12}, name="fast")
    assert (await world.subscriptions.list(WORKSPACE))[0].lag_us == 0


async def test_what_is_gone_is_still_counted_as_lag(world: World) -> None:
    world.clock.advance(HOUR)
    await world.store.prune(Retention(0, world.clock.now_us(), 0), 100)
    (relay,) = await world.subscriptions.list(WORKSPACE)
    assert (relay.lag, relay.lag_us) == (10, 0)
