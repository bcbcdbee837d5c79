"""Times of the week: of the contract <-> of the domain."""

import re
from datetime import time
from zoneinfo import ZoneInfo

from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc.reading import Reading
from upshotd.domain.window import WEEK, Window

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_HARMLESS = time(0)


def window(message: pb.WeeklyWindow, path: str, reading: Reading) -> tuple[Window, str]:
    """Return the window and the name of its time zone, empty for the person's own."""
    opens = _time(message.opens, f"{path}.opens", reading)
    closes = _time(message.closes, f"{path}.closes", reading) if message.closes else None
    days = set()
    for index, number in enumerate(message.days):
        if number not in pb.DayOfWeek.values() or not number:
            reading.fault(f"{path}.days[{index}]", f"{number} is no day")
        else:
            days.add(number - 1)
    _check_zone(message.time_zone, f"{path}.time_zone", reading)
    return Window(opens, closes, frozenset(days) or WEEK), message.time_zone


def message(window: Window, time_zone: str) -> pb.WeeklyWindow:
    """Return *window* as a message."""
    numbers = [] if window.days == WEEK else sorted(window.days)
    return pb.WeeklyWindow(
        opens=f"{window.opens:%H:%M}",
        closes=f"{window.closes:%H:%M}" if window.closes is not None else "",
        days=[pb.DayOfWeek.ValueType(day + 1) for day in numbers],
        time_zone=time_zone,
    )


def _time(text: str, path: str, reading: Reading) -> time:
    match = _TIME.fullmatch(text)
    if match is None:
        reading.fault(path, f"{text!r} is no time of day as 09:00")
        return _HARMLESS
    return time(int(match[1]), int(match[2]))


def _check_zone(name: str, path: str, reading: Reading) -> None:
    if not name:
        return
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        reading.fault(path, f"{name!r} is no name of the IANA time zone database")
