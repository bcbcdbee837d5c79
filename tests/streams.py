"""A log with its readers, held to what StreamOutcomes promises."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from tests.builders import SECOND, an_outcome, changes
from tests.fakes import ManualClock
from tests.stores import encode as encode_outcome
from tests.stores import found
from tests.validators import Seen, Stream, StreamValidator
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.cursor import Cursor, encode
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.outcomes import OutcomeStreams, StreamPage, StreamRequest
from upshotd.application.ports import OutcomeFilter, Retention, Subscription
from upshotd.application.subscriptions import Subscriptions
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

    async def read_outcomes(self, *args: Any, **kwargs: Any) -> OutcomeRead:
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
        self.store = HookedStore(encode_outcome=encode_outcome, partitions=partitions)
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
        seen = []
        for partition, span in (await self.store.spans(WORKSPACE)).items():
            read = await MemoryStore.read_outcomes(
                self.store, WORKSPACE, partition, 0, span.head, OutcomeFilter(), 100
            )
            seen += [Seen(partition, at, name) for at, name in found(read)]
        return seen

    async def cursor(self, at: dict[int, int], epoch: str = "", workspace: str = WORKSPACE) -> str:
        return encode(Cursor(epoch or await self.store.log_epoch(), workspace, at))

    async def held(self, name: str = "relay") -> Subscription | None:
        return await self.store.subscription(WORKSPACE, name)

    async def check(self) -> None:
        self.validator.check(await self.log())


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def people(world: World, count: int) -> list[str]:
    return [
        outcome_id
        for number in range(count)
        for outcome_id in await world.append(profile_id=f"profile-{number}")
    ]


async def read_all(pages: Pages, stream: Stream, count: int) -> None:
    while len(stream.ids) < count:
        await asyncio.wait_for(anext(pages), 5)
