"""StreamOutcomes across reconnects: subscriptions, partitions, and no gap that is silent."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tests.stores import put_subscription
from tests.streams import CLICKS, WORKSPACE, Pages, World, people, read_all, settled
from tests.validators import positions
from upshotd.application.outcomes import Start
from upshotd.application.ports import OutcomeFilter, Subscription
from upshotd.domain.errors import CursorExpired
from upshotd.domain.outcome import OutcomeKind


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.check()


# -- subscriptions ---------------------------------------------------------------------------------


async def test_an_unknown_subscription_is_stored_before_the_first_checkpoint(
    world: World,
) -> None:
    await world.append(3)
    pages, _ = world.open(subscription="relay")
    first = await anext(pages)
    held = await world.held()
    assert held is not None
    assert held.positions == {0: 3} == positions(first.cursor)
    await pages.aclose()
    # What comes while nobody reads is not lost, although it began at NOW.
    ids = await world.append(2)
    pages, stream = world.open(subscription="relay")
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids
    await pages.aclose()


async def test_a_known_subscription_resumes_where_it_was_committed(world: World) -> None:
    ids = await world.append(5)
    pages, _ = world.open(subscription="relay", start=Start.EARLIEST, max_batch=2)
    await anext(pages)
    page = await anext(pages)
    await pages.aclose()
    await world.subscriptions.commit(WORKSPACE, "relay", page.cursor, False)
    pages, stream = world.open(subscription="relay", start=Start.EARLIEST)
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids[2:]
    await pages.aclose()


async def test_a_cursor_wins_over_the_subscription(world: World) -> None:
    ids = await world.append(5)
    await world.subscriptions.open(WORKSPACE, "relay", {0: 4})
    pages, stream = world.open(subscription="relay", after_cursor=await world.cursor({0: 1}))
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids[1:]
    held = await world.held()
    assert held is not None
    assert held.positions == {0: 4}
    await pages.aclose()


async def test_an_unknown_subscription_with_a_cursor_begins_there(world: World) -> None:
    await world.append(5)
    pages, _ = world.open(subscription="relay", after_cursor=await world.cursor({0: 2}))
    await anext(pages)
    held = await world.held()
    assert held is not None
    assert held.positions == {0: 2}
    await pages.aclose()


async def test_a_subscription_past_retention_is_told_so(world: World) -> None:
    await world.append(5)
    await world.subscriptions.open(WORKSPACE, "relay", {0: 1})
    await world.prune(3)
    pages, _ = world.open(subscription="relay")
    with pytest.raises(CursorExpired) as caught:
        await anext(pages)
    assert positions(caught.value.metadata["earliest_cursor"]) == {0: 3}


async def test_a_place_committed_while_a_stream_opens_is_not_ahead(world: World) -> None:
    await world.append(2)
    await world.subscriptions.open(WORKSPACE, "relay", {0: 0})
    held = world.store.subscription

    async def late(workspace_id: str, name: str) -> Subscription | None:
        await world.append(2)
        await put_subscription(world.store, workspace_id, Subscription(name, {0: 4}, 0, 0))
        return await held(workspace_id, name)

    world.store.subscription = late  # type: ignore[method-assign]
    pages, _ = world.open(subscription="relay")
    assert positions((await anext(pages)).cursor) == {0: 4}
    await pages.aclose()


async def test_two_readers_of_one_subscription_both_get_everything(world: World) -> None:
    readers = [world.open(subscription="relay") for _ in range(2)]
    for pages, _ in readers:
        await anext(pages)
    ids = await world.append(3)
    for pages, stream in readers:
        await anext(pages)
        assert stream.ids == ids
        await pages.aclose()


# -- partitions ------------------------------------------------------------------------------------


async def test_readers_with_partitions_split_the_work() -> None:
    world = World(partitions=4)
    split = [
        world.open(subscription="relay", start=Start.EARLIEST, partitions=mine)
        for mine in ((3, 0), (1, 2))
    ]
    for pages, _ in split:
        assert (await anext(pages)).partition_count == 4
    ids = await people(world, 60)
    heads = {p: span.head for p, span in (await world.store.spans(WORKSPACE)).items()}
    for pages, stream in split:
        await read_all(pages, stream, sum(heads[p] for p in stream.partitions))
        await pages.aclose()
        await world.subscriptions.commit(WORKSPACE, "relay", stream.cursor, False)
    assert sorted(split[0][1].ids + split[1][1].ids) == sorted(ids)
    held = await world.held()
    assert held is not None
    assert held.positions == heads
    await world.check()


async def test_a_partition_that_a_cursor_lacks_begins_at_start() -> None:
    world = World(partitions=4)
    await people(world, 60)
    heads = {p: span.head for p, span in (await world.store.spans(WORKSPACE)).items()}
    text = await world.cursor({2: 1})
    for start, others in ((Start.NOW, heads), (Start.EARLIEST, dict.fromkeys(heads, 0))):
        pages, _ = world.open(after_cursor=text, start=start)
        assert positions((await anext(pages)).cursor) == {**others, 2: 1}
        await pages.aclose()
    await world.check()


async def test_what_others_lost_does_not_stop_a_reader_of_other_partitions() -> None:
    world = World(partitions=4)
    await people(world, 60)
    await world.prune(1)  # of partition 0, the first
    text = await world.cursor(dict.fromkeys(range(4), 0))
    pages, _ = world.open(after_cursor=text, partitions=(1, 2))
    await anext(pages)
    await pages.aclose()
    pages, _ = world.open(after_cursor=text)
    with pytest.raises(CursorExpired) as caught:
        await anext(pages)
    assert positions(caught.value.metadata["earliest_cursor"]) == {0: 1, 1: 0, 2: 0, 3: 0}


# -- gaps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [OutcomeFilter(), CLICKS])
async def test_a_stream_that_pruning_overtakes_ends_and_skips_nothing(
    world: World, chosen: OutcomeFilter
) -> None:
    pages, stream = world.open(chosen=chosen)
    await anext(pages)
    await world.append(6, kind=OutcomeKind.MESSAGE_CLICKED)

    async def overtake() -> None:
        await world.prune(4)

    world.store.before_read = overtake
    with pytest.raises(CursorExpired) as caught:
        await anext(pages)
    assert positions(caught.value.metadata["earliest_cursor"]) == {0: 4}
    assert stream.ids == []


async def test_everything_pruned_unseen_is_noticed_with_the_next_outcome(world: World) -> None:
    pages, _ = world.open()
    await anext(pages)
    await world.append(3)
    await world.prune(3)
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    await world.append()
    with pytest.raises(CursorExpired):
        await waiting


async def test_pruning_behind_the_reader_is_no_loss(world: World) -> None:
    ids = await world.append(4)
    pages, stream = world.open(start=Start.EARLIEST)
    await anext(pages)
    await anext(pages)
    await world.prune(4)
    ids += await world.append(2)
    await anext(pages)
    assert stream.ids == ids
    await pages.aclose()


async def test_cut_at_random_200_times_each_outcome_comes_once_and_in_order() -> None:
    world, chance = World(partitions=3), random.Random(11)
    ids = await people(world, 5)
    cursor, streams = "", []
    for _ in range(200):
        pages, stream = world.open(
            after_cursor=cursor, start=Start.EARLIEST, max_batch=chance.randint(1, 5)
        )
        streams.append(stream)
        for _page in range(chance.randint(0, 4)):
            if chance.random() < 0.5:  # the writer is slow, and writes in between
                number = chance.randrange(12)
                ids += await world.append(chance.randint(1, 3), profile_id=f"profile-{number}")
            await _next_or_cut(pages, chance)
        await pages.aclose()
        cursor = stream.cursor
    pages, stream = world.open(after_cursor=cursor, start=Start.EARLIEST)
    streams.append(stream)
    await read_all(pages, stream, len(ids) - sum(len(s.ids) for s in streams[:-1]))
    await pages.aclose()
    came = [outcome_id for stream in streams for outcome_id in stream.ids]
    assert len(came) == len(set(came)) == len(ids) > 200
    for profile_id in {outcome.profile_id for outcome in world.values.values()}:
        theirs = [i for i in ids if world.values[i].profile_id == profile_id]
        assert [i for i in came if world.values[i].profile_id == profile_id] == theirs
    assert world.streams.open_streams == 0
    await world.check()


async def _next_or_cut(pages: Pages, chance: random.Random) -> None:
    """Read a page; one that does not come soon is cut while it is waited for."""
    waiting = asyncio.ensure_future(anext(pages, None))
    for _ in range(chance.randint(1, 20)):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_slow_reader_costs_a_fast_one_nothing_beside_a_slow_writer() -> None:
    world = World(partitions=2)
    (fast, fast_stream), (slow, slow_stream) = (world.open(max_batch=4) for _ in range(2))
    await anext(fast)
    await anext(slow)
    ids: list[str] = []
    for number in range(50):
        ids += await world.append(2, profile_id=f"profile-{number % 7}")
        await read_all(fast, fast_stream, len(ids))
        if number % 10 == 0:
            await anext(slow)
    await read_all(slow, slow_stream, len(ids))
    await fast.aclose()
    await slow.aclose()
    assert sorted(fast_stream.ids) == sorted(slow_stream.ids) == sorted(ids)
    await world.check()
