"""StreamOutcomes: at once, in order, without gaps, resumable, quiet when quiet, gone when drained."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.builders import HOUR, SECOND, an_outcome, changes
from tests.fakes import ManualClock
from tests.validators import Seen, Stream, StreamValidator, positions
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.cursor import Cursor, encode
from upshotd.application.outcomes import (
    READ_ROWS,
    OutcomeStreams,
    Start,
    StreamPage,
    StreamRequest,
)
from upshotd.application.ports import OutcomeFilter, OutcomePage, Retention, Subscription
from upshotd.application.subscriptions import Subscriptions
from upshotd.domain.errors import CursorExpired, InvalidArgument, ResourceExhausted, Unavailable
from upshotd.domain.message import Channel
from upshotd.domain.outcome import Outcome, OutcomeKind

WORKSPACE = "default"
Pages = AsyncGenerator[StreamPage, None]
CLICKS = OutcomeFilter(kinds=frozenset({OutcomeKind.MESSAGE_CLICKED}))


class ManualWakeups(LocalWakeups):
    """Waits by the clock that the test holds."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    async def wait(self, ticket: int, at_most_us: int) -> None:
        over = asyncio.ensure_future(self._clock.sleep(at_most_us))
        told = asyncio.ensure_future(super().wait(ticket, 3600 * SECOND))
        try:
            await asyncio.wait({over, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            told.cancel()


class HookedStore(MemoryStore):
    """Calls `before_read` and `after_read` once each, where a database would let others in."""

    before_read: Any = None
    after_read: Any = None

    async def read_outcomes(self, *args: Any, **kwargs: Any) -> OutcomePage:
        hook, self.before_read = self.before_read, None
        if hook is not None:
            await hook()
        page = await super().read_outcomes(*args, **kwargs)
        hook, self.after_read = self.after_read, None
        if hook is not None:
            await hook()
        return page


class World:
    """One log, its readers, and what they saw."""

    def __init__(self, partitions: int = 1, streams_max: int = 1000) -> None:
        self.store = HookedStore(encode_outcome=_body, partitions=partitions)
        self.clock = ManualClock()
        self.wakeups = ManualWakeups(self.clock)
        self.streams = OutcomeStreams(self.store, self.clock, self.wakeups, streams_max=streams_max)
        self.subscriptions = Subscriptions(self.store, self.clock)
        self.validator = StreamValidator()
        self.values: dict[str, Outcome] = {}

    async def append(self, count: int = 1, **fields: Any) -> list[str]:
        fields.setdefault("record_us", self.clock.now_us())
        made = [an_outcome(**fields) for _ in range(count)]
        await self.store.commit([changes(*made)])
        self.values.update({outcome.outcome_id: outcome for outcome in made})
        self.wakeups.notify()
        return [outcome.outcome_id for outcome in made]

    async def prune(self, limit: int) -> None:
        """Let go of the oldest *limit* outcomes."""
        await self.store.prune(Retention(0, self.clock.now_us() + 1, 0), limit)

    def open(self, **fields: Any) -> tuple[Pages, Stream]:
        request = StreamRequest(**fields)
        chosen = request.chosen
        stream = self.validator.opened(
            after_cursor=request.after_cursor,
            partitions=request.partitions,
            max_batch=request.max_batch or 100,
            passes=None if chosen.open else lambda seen: self.passes(seen, chosen),
        )
        return self.recorded(request, stream), stream

    def passes(self, seen: Seen, chosen: OutcomeFilter) -> bool:
        value = self.values[seen.outcome_id]
        return (
            (not chosen.kinds or value.kind in chosen.kinds)
            and (not chosen.workflow_ids or value.workflow_id in chosen.workflow_ids)
            and (not chosen.user_ids or value.user_id in chosen.user_ids)
            and (not chosen.channels or value.channel in chosen.channels)
        )

    async def recorded(self, request: StreamRequest, stream: Stream) -> Pages:
        async with aclosing(self.streams.stream(WORKSPACE, request)) as pages:
            async for page in pages:
                stream.saw(page)
                yield page

    async def log(self) -> list[Seen]:
        found = []
        for partition, span in (await self.store.spans(WORKSPACE)).items():
            page = await MemoryStore.read_outcomes(
                self.store, WORKSPACE, partition, 0, span.head, OutcomeFilter()
            )
            found += [Seen(partition, at, body.decode()) for at, body in page.records]
        return found

    async def cursor(self, at: dict[int, int], epoch: str = "", workspace: str = WORKSPACE) -> str:
        return encode(Cursor(epoch or await self.store.log_epoch(), workspace, at))

    async def held(self, name: str = "relay") -> Subscription | None:
        return await self.store.subscription(WORKSPACE, name)

    async def check(self) -> None:
        self.validator.check(await self.log())


def _body(outcome: Outcome) -> bytes:
    return outcome.outcome_id.encode()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.check()


# -- the beginning ---------------------------------------------------------------------------------


async def test_the_first_page_is_a_checkpoint_and_comes_at_once(world: World) -> None:
    pages, _ = world.open()
    first = await anext(pages)
    assert (list(first.records), first.partition_count) == ([], 1)
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
        assert [len((await anext(pages)).records) for _ in sizes] == sizes
        assert stream.ids == ids
        await pages.aclose()


async def test_a_long_log_is_read_in_pieces(world: World) -> None:
    ids = await world.append(2 * READ_ROWS + 7)
    pages, stream = world.open(start=Start.EARLIEST, max_batch=1000)
    for _ in range(4):
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
        assert (list(page.records), page.partition_count) == ([], 0)
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
    assert not (await waiting).records
    await pages.aclose()


async def test_a_slow_reader_is_not_sent_checkpoints_on_top(world: World) -> None:
    ids = await world.append(3)
    pages, stream = world.open(start=Start.EARLIEST, max_batch=1)
    await anext(pages)
    for _ in ids:
        page = await anext(pages)
        world.clock.advance(20 * SECOND)
        assert len(page.records) == 1
    assert stream.ids == ids
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
    assert positions((await anext(pages)).cursor) == {0: READ_ROWS}
    await pages.aclose()


async def test_what_comes_between_the_read_and_the_wait_is_not_missed(world: World) -> None:
    pages, stream = world.open()
    await anext(pages)
    world.store.after_read = world.append
    page = await asyncio.wait_for(anext(pages), 5)  # no time passes by our clock
    assert len(page.records) == 1
    assert len(stream.ids) == 1
    await pages.aclose()


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
        await world.store.put_subscription(workspace_id, Subscription(name, {0: 4}, 0, 0))
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


async def people(world: World, count: int) -> list[str]:
    return [
        outcome_id
        for number in range(count)
        for outcome_id in await world.append(profile_id=f"profile-{number}")
    ]


async def read_all(pages: Pages, stream: Stream, count: int) -> None:
    while len(stream.ids) < count:
        await asyncio.wait_for(anext(pages), 5)


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
    for cut in range(200):
        pages, stream = world.open(
            after_cursor=cursor, start=Start.EARLIEST, max_batch=chance.randint(1, 5)
        )
        streams.append(stream)
        for _ in range(chance.randint(0, 4)):
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


async def test_the_lab_moving_its_time_brings_no_checkpoints(world: World) -> None:
    class Lab(ManualClock):
        def now_us(self) -> int:
            return super().now_us() + 100 * HOUR

    streams = OutcomeStreams(world.store, Lab(), world.wakeups)
    pages = streams.stream(WORKSPACE, StreamRequest())
    await anext(pages)
    waiting = asyncio.ensure_future(anext(pages))
    await settled()
    assert not waiting.done()
    streams.drain()
    await ends_draining(waiting)
