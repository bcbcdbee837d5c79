"""What came of experiments is added up in every store, whoever adds, and read by experiment."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests import postgres
from tests.builders import a_profile, a_run, changes
from tests.stores import Durable, encode
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.ports import Store
from upshotd.domain.errors import Conflict
from upshotd.domain.state import Changes, Wanted
from upshotd.domain.trial import Tally, TallyKey

A, B, OTHER = ("flow/try", "a"), ("flow/try", "b"), ("flow/other", "a")


def counted(tallies: dict[TallyKey, Tally], workspace_id: str = "default") -> Changes:
    return changes(workspace_id=workspace_id, tallies=dict(tallies))


async def test_tallies_are_added_to_and_read_by_experiment(store: Store) -> None:
    await store.commit([counted({A: Tally(2, 0), B: Tally(1, 1)}), counted({A: Tally(1, 1)})])
    await store.commit([counted({A: Tally(0, 1), OTHER: Tally(1)})])
    await store.commit([counted({A: Tally(9, 9)}, "elsewhere")])
    expected = {A: Tally(3, 2), B: Tally(1, 1)}
    assert await store.tallies("default", {"flow/try", "flow/never"}) == expected
    assert await store.tallies("default", ()) == {}
    wanted = Wanted(experiments=frozenset({"flow/try"}))
    assert (await store.load("default", wanted)).tallies == expected
    assert (await store.load("default", Wanted())).tallies == {}


async def test_what_is_refused_counts_nothing(store: Store) -> None:
    await store.commit([changes(a_profile(), a_run(run_id="r", start_key="s"))])
    stale = changes(a_profile(), tallies={A: Tally(1, 1)})
    with pytest.raises(Conflict):
        await store.commit([stale])
    assert await store.tallies("default", {"flow/try"}) == {}


async def test_tallies_are_there_after_a_restart(durable: Durable) -> None:
    await durable.store.commit([counted({A: Tally(2, 1)})])
    store = await durable.reopen()
    await store.commit([counted({A: Tally(1, 0)})])
    assert await store.tallies("default", {"flow/try"}) == {A: Tally(3, 1)}


async def test_replicas_add_at_the_same_time_and_none_is_refused() -> None:
    async with postgres.database() as address, AsyncExitStack() as stack:
        stores = [SqlStore(address, encode_outcome=encode, partitions=1) for _ in range(3)]
        for number, one in enumerate(stores):
            await one.open()
            stack.push_async_callback(one.close)
            await one.join(f"owner-{number}")

        async def count(one: SqlStore) -> None:
            for _ in range(20):
                await one.commit([counted({A: Tally(3, 1), B: Tally(1, 0), OTHER: Tally(1, 1)})])

        await asyncio.gather(*map(count, stores))
        assert await stores[0].tallies("default", {"flow/try", "flow/other"}) == {
            A: Tally(180, 60),
            B: Tally(60, 0),
            OTHER: Tally(60, 60),
        }
