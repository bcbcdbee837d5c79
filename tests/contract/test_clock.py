"""Clocks that never go back, ids that only grow, hints that are never lost."""

import asyncio
import time
import uuid
from itertools import pairwise

import pytest

from tests.builders import DAY, HOUR, NOON, SECOND
from tests.fakes import ManualClock, SeededIds
from upshotd.adapters import clock as clocks
from upshotd.adapters.clock import LabClock, SystemClock, UuidIds
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.ports import Clock
from upshotd.application.wakeups import Wakeups
from upshotd.domain.ids import Ids


class Wall:
    """A wall clock that people can set."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us * 1000


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall(NOON)
    monkeypatch.setattr(clocks.time, "time_ns", wall)
    return wall


# -- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SystemClock, LabClock, ManualClock])
async def test_time_and_patience_only_grow(make: type[Clock]) -> None:
    clock = make()
    times = [(clock.now_us(), clock.monotonic_us()) for _ in range(1000)]
    assert times == sorted(times)
    assert [patience for _, patience in times] == sorted(patience for _, patience in times)


def test_the_clock_tells_microseconds_since_1970() -> None:
    assert abs(SystemClock().now_us() - time.time() * SECOND) < 60 * SECOND


def test_a_step_back_of_the_wall_clock_stops_time_until_it_is_made_up(wall: Wall) -> None:
    clock = SystemClock()
    assert clock.now_us() == NOON
    wall.now_us = NOON - HOUR
    assert clock.now_us() == NOON
    wall.now_us = NOON + SECOND
    assert clock.now_us() == NOON + SECOND


@pytest.mark.parametrize("duration_us", [-SECOND, 0, 1000])
async def test_a_sleep_takes_at_least_its_time(duration_us: int) -> None:
    clock = SystemClock()
    before = clock.monotonic_us()
    await clock.sleep(duration_us)
    # The loop's own resolution.
    assert clock.monotonic_us() - before >= duration_us - 100


def test_the_laboratory_runs_ahead_of_the_wall_by_its_offset(wall: Wall) -> None:
    clock = LabClock(3 * DAY)
    assert clock.now_us() == NOON + 3 * DAY
    wall.now_us += SECOND
    assert clock.now_us() == NOON + 3 * DAY + SECOND


def test_advancing_moves_the_laboratory_and_its_offset_can_be_kept(wall: Wall) -> None:
    clock = LabClock()
    clock.advance_to(NOON + DAY)
    assert (clock.now_us(), clock.offset_us) == (NOON + DAY, DAY)
    assert LabClock(clock.offset_us).now_us() == NOON + DAY


def test_the_laboratory_is_never_moved_back(wall: Wall) -> None:
    clock = LabClock(DAY)
    clock.advance_to(NOON)
    assert (clock.now_us(), clock.offset_us) == (NOON + DAY, DAY)


def test_patience_in_the_laboratory_is_real() -> None:
    clock = LabClock()
    before = clock.monotonic_us()
    clock.advance_to(clock.now_us() + DAY)
    assert clock.monotonic_us() - before < HOUR


async def test_a_manual_sleep_ends_when_the_clock_has_moved_far_enough() -> None:
    clock = ManualClock()
    sleep = asyncio.create_task(clock.sleep(2 * SECOND))
    await asyncio.sleep(0)
    clock.advance(SECOND)
    await asyncio.sleep(0)
    assert not sleep.done()
    assert clock.sleepers == 1
    clock.advance(SECOND)
    await sleep
    assert clock.now_us() == NOON + 2 * SECOND


async def test_an_impatient_manual_clock_moves_itself() -> None:
    clock = ManualClock(patient=False)
    await clock.sleep(DAY)
    assert (clock.now_us(), clock.monotonic_us()) == (NOON + DAY, DAY)


# -- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [UuidIds, SeededIds])
def test_every_id_is_greater_than_the_ones_before(make: type[Ids]) -> None:
    ids = make()
    made = [ids.next() for _ in range(20_000)]
    assert all(earlier < later for earlier, later in pairwise(made))


@pytest.mark.parametrize("make", [UuidIds, SeededIds])
def test_fractions_lie_below_one_and_differ(make: type[Ids]) -> None:
    ids = make()
    drawn = [ids.fraction() for _ in range(100)]
    assert all(0 <= fraction < 1 for fraction in drawn)
    assert len(set(drawn)) > 90


def test_an_id_is_a_version_7_uuid_of_its_millisecond() -> None:
    ids = UuidIds(lambda: 0x0123_4567_89AB)
    for _ in range(100):
        made = ids.next()
        parsed = uuid.UUID(made)
        assert str(parsed) == made
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
        assert parsed.int >> 80 == 0x0123_4567_89AB


def test_ids_grow_also_when_the_wall_clock_steps_back() -> None:
    times = [1000, 1000, 1001, 5, 5, 1000, 1001, 1002]
    ids = UuidIds(iter(times).__next__)
    made = [ids.next() for _ in times]
    assert made == sorted(set(made))


def test_two_processes_in_one_millisecond_make_different_ids() -> None:
    makers = [UuidIds(lambda: 1000) for _ in range(50)]
    made = {ids.next() for ids in makers for _ in range(50)}
    assert len(made) == 2500


def test_seeded_ids_repeat_themselves() -> None:
    first, again = SeededIds(7), SeededIds(7)
    assert (first.next(), first.fraction()) == (again.next(), again.fraction())


# -- wake-ups ------------------------------------------------------------------------------------

LONG = 30 * SECOND


@pytest.fixture
def wakeups() -> Wakeups:
    return LocalWakeups()


async def test_a_hint_wakes_everyone_who_waits(wakeups: Wakeups) -> None:
    ticket = wakeups.ticket()
    waiting = [asyncio.create_task(wakeups.wait(ticket, LONG)) for _ in range(3)]
    await asyncio.sleep(0)
    wakeups.notify()
    await asyncio.gather(*waiting)


async def test_a_hint_between_the_ticket_and_the_wait_is_not_lost(wakeups: Wakeups) -> None:
    ticket = wakeups.ticket()
    wakeups.notify()
    async with asyncio.timeout(5):
        await wakeups.wait(ticket, LONG)


async def test_a_hint_before_the_ticket_wakes_nobody(wakeups: Wakeups) -> None:
    wakeups.notify()
    waiting = asyncio.create_task(wakeups.wait(wakeups.ticket(), LONG))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    wakeups.notify()
    await waiting


@pytest.mark.parametrize("at_most_us", [-1, 0, 1000])
async def test_waiting_ends_without_a_hint_and_without_an_error(
    wakeups: Wakeups, at_most_us: int
) -> None:
    async with asyncio.timeout(5):
        await wakeups.wait(wakeups.ticket(), at_most_us)


async def test_a_canceled_wait_is_canceled(wakeups: Wakeups) -> None:
    waiting = asyncio.create_task(wakeups.wait(wakeups.ticket(), LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_reader_that_waits_between_reads_sees_everything(wakeups: Wakeups) -> None:
    log: list[int] = []
    read: list[int] = []

    async def reader() -> None:
        while len(read) < 500:
            ticket = wakeups.ticket()
            read.extend(log[len(read) :])
            if len(read) < 500:
                await wakeups.wait(ticket, LONG)

    async def writer() -> None:
        for number in range(500):
            log.append(number)
            wakeups.notify()
            if number % 7 == 0:
                await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await asyncio.gather(reader(), writer())
    assert read == list(range(500))
