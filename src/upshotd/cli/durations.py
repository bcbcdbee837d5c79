"""Spans of time as people write them: 24h, 3d, 90m, 45s, 1h30m, 250ms."""

import re
from decimal import Decimal
from typing import Final

import click
from google.protobuf.duration_pb2 import Duration

#: What to write, for messages about what was not understood.
FORM: Final = "write it as 45s, 90m, 24h, 3d or 1h30m"

_NANOS: Final = {
    "d": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
}
#: What a Duration can say, in seconds: 10 000 years.
_SECONDS_MAX: Final = 315_576_000_000
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
# Each unit at most once, from the largest down: 30m1h is more likely an error than a wish.
_SPAN = re.compile("(-?)" + "".join(f"(?:{_NUMBER}{unit})?" for unit in _NANOS))


def parse(text: str) -> Duration:
    """Return the span that *text* says. Raises ValueError, saying what is right."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not any(match.groups()[1:]):
        raise ValueError(f"{text!r} is no duration; {FORM}")
    numbers = zip(match.groups()[1:], _NANOS.values(), strict=True)
    nanos = int(sum(Decimal(number) * unit for number, unit in numbers if number))
    seconds, rest = divmod(nanos, 10**9)
    if seconds > _SECONDS_MAX:
        raise ValueError(f"{text!r} is longer than 10 000 years")
    sign = -1 if match[1] else 1
    return Duration(seconds=sign * seconds, nanos=sign * rest)


class DurationParam(click.ParamType[Duration]):
    """A span on the command line."""

    name = "duration"

    def convert(
        self, value: str | Duration, param: click.Parameter | None, ctx: click.Context | None
    ) -> Duration:
        if isinstance(value, Duration):
            return value
        try:
            return parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def written(span: Duration) -> str:
    """Return a span in its two largest units, as `1d 2h`."""
    left, parts = span.seconds, []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _NANOS[unit] // 10**9)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
