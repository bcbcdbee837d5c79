"""Windows of the week: against looking at each minute, on both sides of every clock change."""

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from upshotd.domain.window import WEEK, Window, inside, next_inside

MINUTE = timedelta(minutes=1)
WORK = frozenset(range(5))
BERLIN, NEW_YORK, LORD_HOWE = (
    ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
)
ZONES = sorted(available_timezones())


@cache
def changes(name: str) -> list[datetime]:
    """Return the days from 2025 to 2030 on which a clock is moved."""
    zone, found, at = ZoneInfo(name), [], datetime(2025, 1, 1, tzinfo=UTC)
    while at.year < 2031:
        after = at + timedelta(days=1)
        if at.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            found.append(at)
        at = after
    return found


times = st.builds(time, st.integers(0, 23), st.sampled_from((0, 1, 15, 30, 59)))
days = st.sets(st.integers(0, 6), min_size=1).map(frozenset) | st.just(WEEK)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    """A zone, and a minute around one of the changes of its clock, or anywhere."""
    name = draw(st.sampled_from(ZONES))
    moved = changes(name)
    if moved and draw(st.integers(0, 3)):
        change = draw(st.sampled_from(moved))
        return ZoneInfo(name), change + draw(st.integers(-36 * 60, 36 * 60)) * MINUTE
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return ZoneInfo(name), start + draw(st.integers(0, 6 * 365 * 1440)) * MINUTE


def by_looking(window: Window, zone: ZoneInfo, now: datetime, end: datetime) -> datetime:
    """Return the first minute that is inside, or *end*, by looking at each."""
    while now < end and not inside(window, zone, now):
        now += MINUTE
    return now


@settings(max_examples=300, deadline=None)
@given(cases(), times, times, days)
def test_the_moment_is_inside_the_earliest_and_never_before_now(
    case: tuple[ZoneInfo, datetime], opens: time, closes: time, on: frozenset[int]
) -> None:
    zone, now = case
    window = Window(opens, closes, on)
    found = next_inside(window, zone, now)
    assert found >= now
    assert inside(window, zone, found)
    assert found - now < timedelta(days=15)
    # Each minute of the first day and of the last; those of two weeks would be many.
    day = timedelta(days=1)
    first_end = min(found, now + day)
    assert by_looking(window, zone, now, first_end) == first_end
    assert by_looking(window, zone, max(now, found - day), found) == found


@settings(max_examples=300, deadline=None)
@given(cases(), times, days)
def test_a_moment_of_the_day_comes_once_on_each_of_its_days(
    case: tuple[ZoneInfo, datetime], opens: time, on: frozenset[int]
) -> None:
    zone, now = case
    window = Window(opens, None, on)
    found = next_inside(window, zone, now)
    assert found >= now
    local = found.astimezone(zone).replace(tzinfo=None)
    if local.time() != opens:
        # The clock has skipped it: it comes when the clock has moved.
        before = (found - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
        assert before.time() < opens < local.time() or before.date() != local.date()
    after = next_inside(window, zone, found + timedelta(seconds=1))
    assert after.astimezone(zone).date() != found.astimezone(zone).date() or len(on) == 1
    assume(len(on) == 7)
    assert timedelta(hours=20) < after - found < timedelta(hours=49)


def at(zone: ZoneInfo, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=zone)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("zone", "window", "now", "expected"),
    [
        # An ordinary day: before, inside, after.
        (BERLIN, Window(time(9), time(18)), (2026, 7, 1, 8), "2026-07-01T07:00"),
        (BERLIN, Window(time(9), time(18)), (2026, 7, 1, 12), "2026-07-01T10:00"),
        (BERLIN, Window(time(9), time(18)), (2026, 7, 1, 18), "2026-07-02T07:00"),
        # Weekdays only: Friday evening is Monday morning.
        (
            BERLIN,
            Window(time(9), time(18), frozenset(range(5))),
            (2026, 7, 3, 19),
            "2026-07-06T07:00",
        ),
        # Over midnight: it belongs to the day on which it opens.
        (BERLIN, Window(time(22), time(6), frozenset({4})), (2026, 7, 4, 3), "2026-07-04T01:00"),
        (BERLIN, Window(time(22), time(6), frozenset({4})), (2026, 7, 5, 3), "2026-07-10T20:00"),
        # Set forward, 02:00 is 03:00: it opens when the clock has moved.
        (BERLIN, Window(time(2, 30), time(5)), (2026, 3, 29, 0), "2026-03-29T01:00"),
        (BERLIN, Window(time(2, 30)), (2026, 3, 29, 0), "2026-03-29T01:00"),
        # The window lies in the hour that is not there: the next day.
        (BERLIN, Window(time(2, 10), time(2, 50)), (2026, 3, 29, 0), "2026-03-30T00:10"),
        # Set back, 03:00 is 02:00: between the two it is closed, then open again.
        (BERLIN, Window(time(2), time(2, 30)), (2026, 10, 25, 0), "2026-10-25T00:00"),
        (BERLIN, Window(time(2, 30)), (2026, 10, 25, 0), "2026-10-25T00:30"),
        (NEW_YORK, Window(time(9)), (2026, 3, 7, 12), "2026-03-08T13:00"),
        (NEW_YORK, Window(time(9)), (2026, 10, 31, 12), "2026-11-01T14:00"),
        # A clock that moves by half an hour.
        (LORD_HOWE, Window(time(2, 15), time(4)), (2026, 10, 4, 1), "2026-10-03T15:30"),
    ],
)
def test_known_days(zone: ZoneInfo, window: Window, now: tuple[int, ...], expected: str) -> None:
    found = next_inside(window, zone, at(zone, *now))
    assert found.strftime("%Y-%m-%dT%H:%M") == expected


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    window = Window(time(2), time(2, 30))
    first_end = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert not inside(window, BERLIN, first_end)
    assert next_inside(window, BERLIN, first_end) == datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
