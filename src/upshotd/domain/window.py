"""Times of the week in a time zone: whether a moment is inside, and when the next one is. Pure.

What counts is the clock on the wall. Where it is set forward, what would open in the hour that does
not exist opens when the clock has moved; a window that lies in that hour as a whole is not open on
that day. Where it is set back, both times that the clock shows one hour count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

#: Days of the week as `date.weekday` counts them, Monday first.
WEEK: Final = frozenset(range(7))
#: A window of one day a week that an hour without existence swallows opens a week later.
_SEARCH_DAYS: Final = 16
_STEP: Final = timedelta(hours=6)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def time_of_day(text: str) -> time:
    """Return the time of day that *text* says; raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("must be a time of day as 08:00")
    return time(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of day to another, on some days of the week.

    One that closes at or before its opening closes on the next day. Without `closes` it is nothing
    but the moment of its opening.
    """

    opens: time
    closes: time | None = None
    #: On which it opens; Monday is 0.
    days: frozenset[int] = WEEK

    def holds(self, local: datetime) -> bool:
        """Return whether a clock on the wall that shows *local* is inside."""
        if self.closes is None:
            return local.weekday() in self.days and local.time() == self.opens
        at = local.time()
        today = local.weekday() in self.days
        if self.opens < self.closes:
            return today and self.opens <= at < self.closes
        yesterday = (local - _DAY).weekday() in self.days
        return (today and at >= self.opens) or (yesterday and at < self.closes)


def inside(window: Window, zone: tzinfo, moment: datetime) -> bool:
    """Return whether *moment*, which is aware, is inside *window*."""
    return window.holds(moment.astimezone(zone).replace(tzinfo=None))


def next_inside(window: Window, zone: tzinfo, now: datetime) -> datetime:
    """Return the earliest moment from *now* on that is inside *window*, in UTC.

    Of a window that is only a moment, the next time that it comes: also when the clock skips it.
    """
    if window.closes is not None and inside(window, zone, now):
        return now.astimezone(UTC)
    found = min(at for at in _openings(window, zone, now) if at >= now)
    return found.astimezone(UTC)


def _openings(window: Window, zone: tzinfo, now: datetime) -> Iterator[datetime]:
    """Yield moments at which *window* opens, among them the next one."""
    today = now.astimezone(zone).date()
    for ahead in range(-1, _SEARCH_DAYS):
        day = today + ahead * _DAY
        if day.weekday() in window.days:
            yield from _moments(window, zone, day)
    if window.closes is not None:
        # A clock that is moved may land inside.
        yield from (at for at in _changes(zone, now) if inside(window, zone, at))


def _moments(window: Window, zone: tzinfo, day: date) -> Iterator[datetime]:
    """Yield when the clock shows the opening on *day*: once, twice, or when it has skipped it."""
    local = datetime.combine(day, window.opens)
    found = {at for at in _readings(local, zone) if _shows(at, zone, local)}
    if found:
        # What is only a moment comes once a day.
        yield from {min(found)} if window.closes is None else found
    elif window.closes is None:
        first, last = sorted(_readings(local, zone))
        yield _change_between(zone, first - _DAY, last + _DAY)


def _readings(local: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return both moments that *local* may mean; they differ around a change of the clock."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, second


def _shows(moment: datetime, zone: tzinfo, local: datetime) -> bool:
    return moment.astimezone(zone).replace(tzinfo=None) == local


def _changes(zone: tzinfo, now: datetime) -> Iterator[datetime]:
    """Yield when the clock is moved in the days from *now* on."""
    at = now.astimezone(UTC) - _DAY
    end = at + (_SEARCH_DAYS + 1) * _DAY
    while at < end:
        if _offset(at, zone) != _offset(at + _STEP, zone):
            yield _change_between(zone, at, at + _STEP)
        at += _STEP


def _change_between(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """Return the first second with the offset of *after*, which is another than before."""
    target = _offset(after, zone)
    while after - before > _SECOND:
        middle = before + (after - before) / 2
        middle = middle.replace(microsecond=0)
        if middle <= before:
            middle = before + _SECOND
        if _offset(middle, zone) == target:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()
