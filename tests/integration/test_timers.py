"""Timers by the thousand: none early, each once, overdue ones in due order, through restarts."""

import random
import tempfile
from pathlib import Path

import pytest

from tests.flows import step, track
from tests.stores import KINDS, opened
from tests.world import DAY, HOUR, START, LabManualClock, World
from upshot.v1 import outcome_pb2
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.ports import Store
from upshotd.domain.event import Event, EventType
from upshotd.domain.steps.delay import Delay
from upshotd.domain.workflow import Reentry, ReentryMode

SECOND = 1_000_000
TIMERS, DAYS = 50_000, 40
OVERDUE, OUTAGE = 10_000, 6 * HOUR
PEOPLE = 500
FLOW = track(
    "Pause",
    step("pause", Delay(until="event.time + duration(event.properties.pause)")),
    reentry=Reentry(ReentryMode.ALWAYS),
)


def pauses(count: int, longest_us: int, seed: int) -> dict[str, int]:
    """Event ids and for how long each pauses, in microseconds, whole seconds."""
    chance = random.Random(seed)
    return {f"e{n}": chance.randrange(1, longest_us // SECOND) * SECOND for n in range(count)}


async def begin(w: World, paused: dict[str, int]) -> dict[str, int]:
    """Start a run for each; return when each is due."""
    await w.define(FLOW)
    named = list(paused)
    for at in range(0, len(named), 1_000):
        events = [
            Event(
                event_id,
                EventType.TRACK,
                f"u{number % PEOPLE}",
                name="Pause",
                properties={"pause": f"{paused[event_id] // SECOND}s"},
            )
            for number, event_id in enumerate(named[at : at + 1_000])
        ]
        results = await w.ingest(*events)
        assert all(result.started for result in results)
    now_us = w.clock.now_us()
    return {event_id: now_us + pause for event_id, pause in paused.items()}


async def restarted(store: Store, clock: LabManualClock, old: World | None) -> World:
    """Return a new process on what the old one left."""
    if old is not None:
        await old.stop()
    new = World(store, clock=clock)
    if old is not None:
        new.ids = new.loop._ids = new.loop.work._ids = old.ids
    await new.start()
    return new


async def completed(w: World) -> list[outcome_pb2.Outcome]:
    """Return the ends of runs, in the order of the log."""
    kind = outcome_pb2.OUTCOME_KIND_RUN_COMPLETED
    return [outcome for outcome in await w.outcomes() if outcome.kind == kind]


@pytest.mark.timeout(180)
async def test_fifty_thousand_timers_over_forty_days_none_early_each_once():
    store = MemoryStore(encode_outcome=ContractCodec().encode_outcome)
    clock, chance = LabManualClock(START, patient=False), random.Random(1)
    w = await restarted(store, clock, None)
    due = await begin(w, pauses(TIMERS, DAYS * DAY, 2))
    restarts = 0
    while clock.now_us() < START + DAYS * DAY:
        clock.advance(HOUR)
        if chance.random() < 0.05:
            w, restarts = await restarted(store, clock, w), restarts + 1
        w.loop.poke()
        await w.loop.quiet()
    ended = await completed(w)
    assert restarts > 20
    assert sorted(outcome.event_id for outcome in ended) == sorted(due)
    for outcome in ended:
        late_us = outcome.occur_time.ToMicroseconds() - due[outcome.event_id]
        assert 0 <= late_us <= HOUR + SECOND
    await w.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
async def test_ten_thousand_overdue_after_an_outage_fire_in_due_order(kind: str):
    clock = LabManualClock(START, patient=False)
    encode = ContractCodec().encode_outcome
    with tempfile.TemporaryDirectory() as folder:
        async with opened(kind, Path(folder), encode=encode) as store:
            w = await restarted(store, clock, None)
            due = await begin(w, pauses(OVERDUE, OUTAGE, 3))
            await w.stop()
            clock.advance(OUTAGE)
            w = await restarted(store, clock, None)
            await w.loop.quiet()
            ended = [outcome.event_id for outcome in await completed(w)]
            await w.stop()
    assert sorted(ended) == sorted(due)
    order = [due[event_id] for event_id in ended]
    assert order == sorted(order)
