"""Times of the week: of the contract <-> of the domain."""

from datetime import time

from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc.reading import Reading
from upshotd.domain.window import WEEK, Window, time_of_day

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
    try:
        return time_of_day(text)
    except ValueError as error:
        reading.fault(path, f"is {text!r}; {error}")
        return _HARMLESS
