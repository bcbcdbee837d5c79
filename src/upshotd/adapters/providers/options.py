"""Reads a provider's options out of the settings and collects every fault of them."""

import re
from collections.abc import Mapping

from upshotd.domain.errors import InvalidArgument, Violation

_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000}


class Options:
    """The options of one provider; ask for each, then `check`.

    Any text may come from the environment: `password = {env = "NAME"}` or `password_env = "NAME"`.
    What is missing or wrong is remembered and read as an empty value, so that one look names all.
    """

    def __init__(
        self, name: str, options: Mapping[str, object], environ: Mapping[str, str]
    ) -> None:
        self._path = f"providers.{name}"
        self._options = options
        self._environ = environ
        self._known: set[str] = set()
        self._violations: list[Violation] = []

    def fault(self, option: str, description: str) -> None:
        """Remember what is wrong with one option."""
        self._violations.append(Violation(f"{self._path}.{option}", description))

    def text(self, option: str, *, required: bool = False) -> str:
        """Text, or "" where none is given."""
        value = self._given(option)
        if value is None or value == "":
            if required:
                self.fault(option, "is required")
            return ""
        return self._resolved(option, value)

    def number(self, option: str, default: int, low: int, high: int) -> int:
        """A whole number between `low` and `high`."""
        value = self._take(option)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fault(option, f"must be a whole number from {low} to {high}")
            return default
        return value

    def duration_us(self, option: str, default_us: int, most_us: int) -> int:
        """Microseconds out of seconds as a number, or text as `10s`, `500ms`, `1m`."""
        value = self._take(option)
        if value is None:
            return default_us
        length_us = _length_us(value)
        if not 0 < length_us <= most_us:
            most = most_us // 1_000_000
            self.fault(option, f"must be seconds, or text as 10s or 500ms, up to {most}s")
            return default_us
        return length_us

    def texts(self, option: str) -> dict[str, str]:
        """A table of texts; each may come from the environment as `{env = "NAME"}`."""
        value = self._take(option)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.fault(option, "must be a table of texts")
            return {}
        return {str(key): self._resolved(f"{option}.{key}", item) for key, item in value.items()}

    def check(self, kind: str) -> None:
        """Raise InvalidArgument with all faults, unknown options among them."""
        for option in self._options:
            if option not in self._known:
                known = ", ".join(sorted(self._known - {f"{k}_env" for k in self._known}))
                self.fault(option, f"is no option of {kind}; there are: {known or 'none'}")
        if self._violations:
            raise InvalidArgument(f"{self._path} cannot be used as it is", tuple(self._violations))

    def _take(self, option: str) -> object:
        self._known.add(option)
        return self._options.get(option)

    def _given(self, option: str) -> object:
        by_name = f"{option}_env"
        value, variable = self._take(option), self._take(by_name)
        if variable is None:
            return value
        if value is not None:
            self.fault(by_name, f"give either {option} or {by_name}")
        return {"env": variable}

    def _resolved(self, option: str, value: object) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping) or set(value) != {"env"}:
            self.fault(option, 'must be text, or {env = "NAME"}')
            return ""
        variable = value["env"]
        if not isinstance(variable, str) or not self._environ.get(variable):
            self.fault(option, f"environment variable {variable} is not set")
            return ""
        return self._environ[variable]


def _length_us(value: object) -> int:
    """Microseconds, or 0 for what is no length of time."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        # Comparing first keeps infinities and NaN away from int().
        return int(value * 1_000_000) if 0 < value < 1_000_000 else 0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return int(float(match[1]) * _UNIT_US[match[2]]) if match else 0
