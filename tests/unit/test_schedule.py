"""Cron on the clock of a place, on both sides of every change of it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim import DAY, HOUR, MINUTE
from upshotd.domain.names import instant, microseconds
from upshotd.domain.schedule import Coming, coming, fault

VIENNA = ZoneInfo("Europe/Vienna")


def at(text: str, zone: ZoneInfo = VIENNA) -> int:
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=zone))


def told(time_us: int | None) -> str:
    return "" if time_us is None else instant(time_us).astimezone(VIENNA).strftime("%d. %H:%M%z")


@pytest.mark.parametrize(
    ("cron", "complaint"),
    [
        ("0 9 * * MON-FRI", None),
        ("*/5 * * * *", None),
        ("0 9 L * *", None),
        ("0 9 * *", "five fields"),
        ("0 0 9 * * *", "five fields"),
        ("@daily", "five fields"),
        ("0 25 * * *", "bad hour"),
        ("x 9 * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("", "five fields"),
    ],
)
def test_what_is_no_schedule_is_told(cron: str, complaint: str | None):
    said = fault(cron)
    assert (said is None) if complaint is None else complaint in (said or "")


def test_the_next_time_is_told_and_the_last_that_has_come():
    monday = at("2026-11-30T08:00")
    assert coming("0 9 * * *", VIENNA, monday, monday, DAY) == Coming(None, at("2026-11-30T09:00"))
    came = coming("0 9 * * *", VIENNA, monday, at("2026-11-30T09:00"), DAY)
    assert came == Coming(at("2026-11-30T09:00"), at("2026-12-01T09:00"))
    again = coming("0 9 * * *", VIENNA, at("2026-11-30T09:00"), at("2026-11-30T09:00"), DAY)
    assert again.due_us is None


def test_of_several_that_were_missed_the_last_counts_and_none_that_is_too_old():
    since, now = at("2026-11-20T08:00"), at("2026-11-30T12:00")
    assert coming("0 9 * * *", VIENNA, since, now, 30 * DAY) == Coming(
        at("2026-11-30T09:00"), at("2026-12-01T09:00"), missed=10
    )
    assert coming("0 9 * * *", VIENNA, since, now, HOUR).due_us is None
    assert coming("0 9 * * *", VIENNA, since, now, 4 * HOUR).due_us == at("2026-11-30T09:00")


def test_where_a_clock_is_set_forward_a_time_that_is_not_there_comes_after_the_change():
    before = at("2026-03-28T12:00")
    (first,) = [coming("30 2 * * *", VIENNA, before, before, DAY).next_us]
    assert told(first) == "29. 03:00+0200"
    assert first is not None
    assert told(coming("30 2 * * *", VIENNA, first, first, DAY).next_us) == "30. 02:30+0200"


def test_where_a_clock_is_set_back_a_time_that_comes_twice_comes_once():
    before = at("2026-10-25T00:00")
    first = coming("30 2 * * *", VIENNA, before, before, DAY).next_us
    assert first is not None
    assert told(first).startswith("25. 02:30")
    assert told(coming("30 2 * * *", VIENNA, first, first, DAY).next_us) == "26. 02:30+0100"


def test_every_hour_is_an_hour_on_both_days():
    for day in ("2026-03-28T22:30", "2026-10-24T22:30"):
        now, times = at(day), []
        for _ in range(8):
            found = coming("0 * * * *", VIENNA, now, now, DAY).next_us
            assert found is not None
            times.append(found)
            now = found
        assert {b - a for a, b in pairwise(times)} == {HOUR}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        (
            "Europe/Vienna",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "America/Santiago",
            "UTC",
        )
    ),
    st.integers(0, 23),
    st.integers(0, 59),
    st.datetimes(datetime(2025, 1, 1), datetime(2030, 12, 1)),
)
def test_a_daily_time_comes_once_on_each_day_of_its_place(
    zone_name: str, hour: int, minute: int, start: datetime
):
    zone, now = ZoneInfo(zone_name), microseconds(start.replace(tzinfo=UTC))
    days = []
    for _ in range(4):
        found = coming(f"{minute} {hour} * * *", zone, now, now, DAY).next_us
        assert found is not None
        assert now < found <= now + DAY + 2 * HOUR
        local = instant(found).astimezone(zone)
        asked = local.replace(hour=hour, minute=minute, second=0)
        real = asked.astimezone(UTC).astimezone(zone)
        if real.replace(fold=0) == asked.replace(fold=0):  # it is there on this day
            assert (local.hour, local.minute) == (hour, minute)
        days.append(local.date())
        now = found
    assert all(b - a == timedelta(days=1) for a, b in pairwise(days))
    assert coming("* * * * *", zone, now, now + MINUTE, DAY).due_us is not None
