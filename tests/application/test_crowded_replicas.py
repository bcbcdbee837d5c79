"""Two replicas that count or collect for one person in the same moment: one is decided again."""

import pytest

from tests.flows import email, track
from tests.world import DAY, HOUR, World
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.inbox import Batch, Item
from upshotd.domain.errors import Conflict
from upshotd.domain.event import Event, EventType
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.stimulus import CancelRequested, EventArrived, RunDue, Stimulus
from upshotd.domain.workflow import Reentry, ReentryMode, Step

TRAITS = {"email": "ana@example.com", "first_name": "Ana"}
ALWAYS = Reentry(ReentryMode.ALWAYS)


@pytest.fixture
async def replicas() -> tuple[World, World]:
    store = MemoryStore(encode_outcome=ContractCodec().encode_outcome)
    await store.open()
    return World(store), World(store)


async def prepared(replicas: tuple[World, World], *steps: Step) -> None:
    one, other = replicas
    await one.define(track("Go", *steps, email(), reentry=ALWAYS))
    await other.book.refresh("default")
    person = Event("i1", EventType.IDENTIFY, "ana", traits=TRAITS)
    await one.loop.work.commit(await decided(one, EventArrived(one.event(person))))


async def decided(world: World, stimulus: Stimulus) -> list[Batch]:
    """Load and decide, as a replica does before it commits."""
    batches = await world.loop.work.load([Item("default", stimulus)])
    for batch in batches:
        world.loop.work.decide(batch)
    return batches


def go(world: World, event_id: str) -> Stimulus:
    return EventArrived(world.event(Event(event_id, EventType.TRACK, "ana", name="Go")))


async def at_once(replicas: tuple[World, World], *stimuli: Stimulus) -> None:
    """Let both decide by the same rows; the second one is refused, and decides again."""
    one, other = replicas
    first, second = await decided(one, stimuli[0]), await decided(other, stimuli[1])
    await one.loop.work.commit(first)
    with pytest.raises(Conflict):
        await other.loop.work.commit(second)
    await other.loop.work.commit(await decided(other, stimuli[1]))


async def runs(world: World) -> list[tuple[str, str, bool]]:
    """Return (step, reason, whether it has a timer) of all runs, oldest first."""
    found = world.store._tables("default").runs.values()
    return [(run.step_id, run.reason, run.due_us is not None) for run in found]


async def test_two_never_take_the_last_place_of_a_throttle(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, Step("limit", Throttle(1, DAY)))
    await at_once(replicas, go(one, "e1"), go(other, "e2"))
    assert await runs(one) == [("welcome", "", False), ("", "THROTTLED", False)]


async def test_two_never_open_two_digests(replicas: tuple[World, World]) -> None:
    one, other = replicas
    await prepared(replicas, Step("digest", Digest(max_window_us=HOUR)))
    await at_once(replicas, go(one, "e1"), go(other, "e2"))
    assert await runs(one) == [("digest", "", False), ("digest", "", True)]


async def test_one_that_joins_while_the_digest_closes_opens_the_next(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, Step("digest", Digest(max_window_us=HOUR)))
    batches = await decided(one, go(one, "e1"))
    await one.loop.work.commit(batches)
    (run_id,) = one.store._tables("default").runs
    for world in replicas:
        world.clock.advance(HOUR)
    await at_once(replicas, RunDue(run_id), go(other, "e2"))
    assert await runs(one) == [("welcome", "", False), ("digest", "", True)]


async def test_one_that_joins_while_the_one_with_the_timer_is_canceled_has_it(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, Step("digest", Digest(max_window_us=HOUR)))
    await one.loop.work.commit(await decided(one, go(one, "e1")))
    (run_id,) = one.store._tables("default").runs
    await at_once(replicas, CancelRequested(run_id, ""), go(other, "e2"))
    assert await runs(one) == [("", "CANCELED", False), ("digest", "", True)]


async def test_two_never_take_the_last_place_of_everybody(replicas: tuple[World, World]) -> None:
    one, other = replicas
    limit = Throttle(1, DAY, scope=ThrottleScope.WORKSPACE)
    await prepared(replicas, Step("limit", limit))
    ben = Event("e2", EventType.TRACK, "ben", name="Go")
    await at_once(replicas, go(one, "e1"), EventArrived(other.event(ben)))
    assert await runs(one) == [("welcome", "", False), ("", "THROTTLED", False)]
