"""StreamOutcomes: at once, in order, quiet when quiet, gone when drained."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.builders import SECOND
from tests.stores import decode
from tests.streams import CLICKS, World, settled
from tests.validators import positions
from upshotd.application.outcomes import READ_LEAST, READ_ROWS, Start, StreamPage
from upshotd.application.ports import OutcomeFilter
from upshotd.domain.errors import CursorExpired, InvalidArgument, ResourceExhausted, Unavailable
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.check()


# -- the beginning ---------------------------------------------------------------------------------


async def test_the_first_page_is_a_checkpoint_and_comes_at_once(world: World) -> None:
    pages, _ = world.open()
    first = await anext(pages)
    assert (first.joined, first.partition_count) == (b"", 1)
    assert positions(first.cursor) == {0: 0}
    await pages.aclose()


async def test_now_begins_after_what_is_there(world: World) -> None:
    await world.append(3)
    pages, stream = world.open()
    await anext(pages)
    fresh = await world.append()
    page = await anext(pages)
    assert stream.ids == fresh
    assert page.partition_count == 0
    await pages.aclose()


async def test_earliest_begins_with_the_oldest_that_is_kept(world: World) -> None:
    ids = await world.append(5)
    await world.prune(2)
    pages, stream = world.open(start=Start.EARLIEST)
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids[2:]
    await pages.aclose()


async def test_a_page_carries_what_was_asked_for(world: World) -> None:
    ids = await world.append(250)
    for max_batch, sizes in ((0, [100, 100, 50]), (200, [200, 50]), (1000, [250])):
        pages, stream = world.open(start=Start.EARLIEST, max_batch=max_batch)
        await anext(pages)
        assert [len(decode((await anext(pages)).joined)) for _ in sizes] == sizes
        assert stream.ids == ids
        await pages.aclose()


async def test_a_long_log_is_read_in_pieces(world: World) -> None:
    ids = await world.append(2 * READ_ROWS + 7)
    pages, stream = world.open(start=Start.EARLIEST, max_batch=1000)
    while len(stream.ids) < len(ids):
        await anext(pages)
    assert stream.ids == ids
    await pages.aclose()


async def test_every_fault_of_a_request_is_named_at_once(world: World) -> None:
    pages, _ = world.open(
        after_cursor="no cursor",
        subscription="No Name",
        max_batch=1001,
        heartbeat_us=61 * SECOND,
        partitions=(0, 1, 0, -1),
    )
    with pytest.raises(InvalidArgument) as caught:
        await anext(pages)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == [
        *("subscription", "max_batch", "heartbeat_interval"),
        *("partitions[1]", "partitions[2]", "partitions[3]", "after_cursor"),
    ]
    assert caught.value.reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize("fields", [{"max_batch": -1}, {"heartbeat_us": SECOND - 1}])
async def test_limits_are_limits(world: World, fields: dict[str, Any]) -> None:
    pages, _ = world.open(**fields)
    with pytest.raises(InvalidArgument):
        await anext(pages)
    assert world.streams.open_streams == 0


async def test_cursors_of_elsewhere_are_refused(world: World) -> None:
    for text in (
        "garbage",
        await world.cursor({0: 0}, epoch="another"),
        await world.cursor({0: 0}, workspace="another"),
    ):
        pages, _ = world.open(after_cursor=text)
        with pytest.raises(InvalidArgument) as caught:
            await anext(pages)
        assert caught.value.reason == "CURSOR_INVALID"


async def test_a_cursor_beyond_the_head_is_refused(world: World) -> None:
    await world.append(3)
    ahead = await world.cursor({0: 4})
    pages, _ = world.open(after_cursor=ahead, subscription="relay")
    with pytest.raises(InvalidArgument) as caught:
        await anext(pages)
    assert caught.value.reason == "CURSOR_AHEAD"
    assert await world.held() is None


async def test_a_cursor_older_than_retention_names_the_earliest(world: World) -> None:
    ids = await world.append(5)
    await world.prune(3)
    old = await world.cursor({0: 2})
    pages, _ = world.open(after_cursor=old)
    with pytest.raises(CursorExpired) as caught:
        await anext(pages)
    pages, stream = world.open(after_cursor=caught.value.metadata["earliest_cursor"])
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids[3:]
    await pages.aclose()


async def test_the_edge_of_retention_is_no_loss(world: World) -> None:
    ids = await world.append(5)
    await world.prune(3)
    pages, stream = world.open(after_cursor=await world.cursor({0: 3}))
    await anext(pages)
    await anext(pages)
    assert stream.ids == ids[3:]
    await pages.aclose()


# -- quiet streams ---------------------------------------------------------------------------------


async def test_a_quiet_stream_sends_a_checkpoint_every_heartbeat(world: World) -> None:
    pages, stream = world.open(heartbeat_us=5 * SECOND)
    await anext(pages)
    for _ in range(3):
        waiting = asyncio.ensure_future(anext(pages))
        await settled()
        world.clock.advance(5 * SECOND - 1)
        await settled()
        assert not waiting.done()
        world.clock.advance(1)
        page = await waiting
        assert (page.joined, page.partition_count) == (b"", 0)
    assert len(stream.responses) == 4
    await pages.aclose()


async def test_the_heartbeat_is_ten_seconds_unless_told(world: World) -> None:
    pages, _ = world.open()
    await anext(pages)
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    world.clock.advance(10 * SECOND - 1)
    await settled()
    assert not waiting.done()
    world.clock.advance(1)
    await waiting
    await pages.aclose()


async def test_a_lone_outcome_is_not_delayed(world: World) -> None:
    pages, stream = world.open()
    await anext(pages)
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    ids = await world.append()
    await waiting
    assert stream.ids == ids
    await pages.aclose()


async def test_outcomes_put_the_next_checkpoint_off(world: World) -> None:
    pages, _ = world.open()
    await anext(pages)
    world.clock.advance(9 * SECOND)
    await world.append()
    await anext(pages)
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    world.clock.advance(9 * SECOND)
    await settled()
    assert not waiting.done()
    world.clock.advance(SECOND)
    assert not (await waiting).joined
    await pages.aclose()


async def test_a_slow_reader_is_not_sent_checkpoints_on_top(world: World) -> None:
    ids = await world.append(3)
    pages, stream = world.open(start=Start.EARLIEST, max_batch=1)
    await anext(pages)
    for _ in ids:
        page = await anext(pages)
        world.clock.advance(20 * SECOND)
        assert len(decode(page.joined)) == 1
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    assert not waiting.done()
    assert stream.ids == ids
    world.clock.advance(10 * SECOND)
    await waiting
    await pages.aclose()


async def test_checkpoints_pass_over_what_is_filtered_out(world: World) -> None:
    pages, stream = world.open(start=Start.EARLIEST, chosen=CLICKS)
    await anext(pages)
    for expected in (3, 6):
        # Wakes that bring nothing do not put the checkpoint off.
        waiting = asyncio.ensure_future(anext(pages))
        await settled()
        world.clock.advance(6 * SECOND)
        await world.append(3)
        await settled()
        assert not waiting.done()
        world.clock.advance(4 * SECOND)
        assert positions((await waiting).cursor) == {0: expected}
    clicked = await world.append(kind=OutcomeKind.MESSAGE_CLICKED)
    await world.append()
    page = await anext(pages)
    assert (stream.ids, positions(page.cursor)) == (clicked, {0: 8})
    await pages.aclose()


@pytest.mark.parametrize(
    "chosen",
    [
        CLICKS,
        OutcomeFilter(workflow_ids=frozenset({"other"})),
        OutcomeFilter(user_ids=frozenset({"ben"})),
        OutcomeFilter(channels=frozenset({Channel.SMS})),
    ],
)
async def test_a_filter_lets_through_what_passes(world: World, chosen: OutcomeFilter) -> None:
    for _ in range(3):
        await world.append()
        await world.append(
            kind=OutcomeKind.MESSAGE_CLICKED,
            workflow_id="other",
            user_id="ben",
            channel=Channel.SMS,
        )
    pages, stream = world.open(start=Start.EARLIEST, chosen=chosen, max_batch=2)
    for _ in range(3):
        await anext(pages)
    assert [seen.position for seen in stream.outcomes] == [2, 4, 6]
    await pages.aclose()


async def test_a_filter_over_a_long_log_still_sends_checkpoints(world: World) -> None:
    await world.append(3 * READ_ROWS)
    pages, _ = world.open(start=Start.EARLIEST, chosen=CLICKS)
    await anext(pages)

    async def slow() -> None:
        world.clock.advance(11 * SECOND)

    world.store.after_read = slow
    assert positions((await anext(pages)).cursor) == {0: READ_LEAST}
    await pages.aclose()


async def test_what_comes_between_the_read_and_the_wait_is_not_missed(world: World) -> None:
    pages, stream = world.open()
    await anext(pages)
    world.store.after_read = world.append
    page = await asyncio.wait_for(anext(pages), 5)  # no time passes by our clock
    assert len(decode(page.joined)) == 1
    assert len(stream.ids) == 1
    await pages.aclose()


# -- the end ---------------------------------------------------------------------------------------


async def ends_draining(waiting: "asyncio.Future[StreamPage]") -> None:
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(waiting, 5)  # no time passes by our clock
    assert caught.value.reason == "DRAINING"


async def test_draining_ends_waiting_streams_at_once(world: World) -> None:
    ends = []
    for _ in range(3):
        pages, _ = world.open()
        await anext(pages)
        ends.append(asyncio.ensure_future(anext(pages)))
    await settled()
    world.streams.drain()
    for waiting in ends:
        await ends_draining(waiting)
    assert world.streams.open_streams == 0


async def test_draining_ends_a_stream_with_much_before_it(world: World) -> None:
    await world.append(1000)
    pages, stream = world.open(start=Start.EARLIEST, max_batch=10)
    await anext(pages)
    await anext(pages)
    world.streams.drain()
    await ends_draining(asyncio.ensure_future(anext(pages)))
    assert len(stream.ids) == 10


async def test_a_drain_between_the_read_and_the_wait_is_not_missed(world: World) -> None:
    pages, _ = world.open()
    await anext(pages)

    async def drain() -> None:
        world.streams.drain()

    world.store.after_read = drain
    await ends_draining(asyncio.ensure_future(anext(pages)))


async def test_a_drain_whose_hint_is_lost_is_still_seen_before_the_wait(world: World) -> None:
    pages, _ = world.open()
    await anext(pages)

    async def drain() -> None:
        world.wakeups.notify = lambda: None  # type: ignore[method-assign]
        world.streams.drain()

    world.store.after_read = drain
    await ends_draining(asyncio.ensure_future(anext(pages)))


async def test_a_draining_server_opens_no_stream(world: World) -> None:
    world.streams.drain()
    pages, _ = world.open()
    await ends_draining(asyncio.ensure_future(anext(pages)))


async def test_open_streams_are_bounded() -> None:
    world = World(streams_max=2)
    first, _ = world.open()
    second, _ = world.open()
    await anext(first)
    await anext(second)
    third, _ = world.open()
    with pytest.raises(ResourceExhausted):
        await anext(third)
    await first.aclose()
    fourth, _ = world.open()
    await anext(fourth)
    assert world.streams.open_streams == 2
    await second.aclose()
    await fourth.aclose()
