"""Reading settings: values out of a table by path, and what is right for each kind of value."""

import re
from collections.abc import Callable, Mapping
from datetime import time, tzinfo
from typing import Final, TypeVar

from upshotd.adapters import zones
from upshotd.domain import window
from upshotd.domain.errors import InvalidArgument, Violation

T = TypeVar("T")

#: Tables whose values are settings by themselves.
SECTIONS: Final = frozenset({"auth", "segment", "tls", "retention", "limits", "log", "breaker"})
_DAY_US: Final = 86_400_000_000
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": _DAY_US}


class FromEnvironment(str):
    """A value that could be nothing but a text where it was written."""

    __slots__ = ()


class Reader:
    """Takes values out of the table by path, and remembers what is wrong."""

    def __init__(self, table: dict[str, object]) -> None:
        self._table = table
        self._over: dict[str, object] = {}
        self.faults: list[Violation] = []

    def lay_over(self, values: Mapping[str, object]) -> None:
        """Let *values*, by path, count in place of the table's."""
        self._over.update(values)

    def fault(self, path: str, description: str) -> None:
        """Note one fault."""
        self.faults.append(Violation(path, description))

    def take(self, path: str) -> object | None:
        """Take a value away, so that what is left at the end is unknown."""
        section, _, key = path.rpartition(".")
        table = self._table.get(section, {}) if section else self._table
        value = table.pop(key, None) if isinstance(table, dict) else None
        return self._over.get(path, value)

    def read(self, path: str, default: T, parse: Callable[[object], T]) -> T:
        """Return a parsed value; *parse* raises ValueError with what would be right."""
        value = self.take(path)
        return default if value is None else self.parsed(path, value, default, parse)

    def parsed(self, path: str, value: object, default: T, parse: Callable[[object], T]) -> T:
        """Return what *parse* makes of a value taken from *path*; *default* where it is wrong."""
        try:
            return parse(value)
        except ValueError as error:
            # An address may hold a password.
            secret = path in ("auth.root_key", "segment.webhook_secret") or (
                isinstance(value, str) and ("://" in value or "@" in value)
            )
            self.fault(path, str(error) if secret else f"is {value!r}; {error}")
            return default

    def table(self, path: str) -> dict[str, object]:
        """Take a whole table away."""
        value = self._table.pop(path, {})
        if isinstance(value, dict):
            return value
        self.fault(path, "must be a table")
        return {}

    def check(self) -> None:
        """Raise InvalidArgument if anything was wrong or is left."""
        for key, value in self._table.items():
            if key in SECTIONS and not isinstance(value, dict):
                self.fault(key, "must be a table")
            elif key in SECTIONS and isinstance(value, dict):
                for inner in value:
                    self.fault(f"{key}.{inner}", "is no setting")
            else:
                self.fault(key, "is no setting")
        if self.faults:
            text = "; ".join(f"{f.field} {f.description}".strip() for f in self.faults)
            raise InvalidArgument(f"the settings have faults: {text}", tuple(self.faults))


def flag(value: object) -> bool:
    """Return a truth of the file; a variable of the environment, which is a text, has words."""
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, FromEnvironment) else ""
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def number(low: int, high: int) -> Callable[[object], int]:
    """Return what reads whole numbers in a range."""

    def parse(value: object) -> int:
        digits = isinstance(value, str) and value.isascii() and value.isdigit()
        if digits or (isinstance(value, int) and not isinstance(value, bool)):
            number = int(str(value))
            if low <= number <= high:
                return number
        raise ValueError(f"must be a whole number from {low} to {high}")

    return parse


def days(low: int) -> Callable[[object], int]:
    """Return what reads a number of days, in microseconds."""
    count = number(low, 3_650)
    return lambda value: count(value) * _DAY_US


def duration(value: object) -> int:
    """Return a length of time in microseconds."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    length_us = round(float(match[1]) * _UNIT_US[match[2]]) if match else 0
    if length_us <= 0:
        raise ValueError("must be a time as 30s, 500ms, 2m or 7d")
    return length_us


def one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    """Return what reads one of some words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        raise ValueError(f"must be one of {', '.join(words)}")

    return parse


def time_of_day(value: object) -> time:
    """Return a time of day."""
    return window.time_of_day(value if isinstance(value, str) else "")


def zone(value: object) -> tzinfo:
    """Return a time zone."""
    found = zones.zone(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a name of the IANA database, as Europe/Berlin")
    return found
