"""Takes the settings of one relay out of its table, and remembers everything that is wrong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from upshotd.adapters.relay.posting import TIMEOUT_US
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.event import EVENT_NAME_MAX
from upshotd.domain.outcome import OutcomeKind
from upshotd.secret_files import SecretFiles

#: What relays and subscriptions can be called.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KINDS: Final = {kind.name: kind for kind in OutcomeKind if kind is not OutcomeKind.UNSPECIFIED}
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000}
_TIMEOUT_MOST_US = 120_000_000


class Reader:
    """The table of one relay. No fault repeats a secret."""

    def __init__(
        self,
        path: str,
        table: Mapping[str, object],
        environ: Mapping[str, str],
        secrets: SecretFiles,
    ) -> None:
        self._path = path
        self._table = dict(table)
        self._environ = environ
        self._secrets = secrets
        #: The files of secrets that were read.
        self.files: list[str] = []
        self._faults: list[Violation] = []

    def fault(self, name: str, description: str) -> None:
        """Note one fault."""
        self._faults.append(Violation(f"{self._path}.{name}", description))

    def check(self) -> None:
        """Raise InvalidArgument if anything was wrong or is left."""
        for name in self._table:
            self.fault(name, "is no setting")
        if self._faults:
            raise InvalidArgument("the settings have faults", tuple(self._faults))

    def take(self, name: str, default: object = None) -> object:
        """Take one value away."""
        return self._table.pop(name, default)

    def secret(self, name: str, description: str) -> str:
        """Return a text that is required: from the table, or a variable or a file that it names."""
        by_name = f"{name}_env"
        text, variable, file = self.take(name), self.take(by_name), self.take(f"{name}_file")
        if file is not None:
            if text is not None or variable is not None:
                self.fault(f"{name}_file", f"give either {name}, {by_name} or {name}_file")
            return self._in_file(f"{name}_file", file)
        if text is None and isinstance(variable, str) and variable:
            text = self._environ.get(variable)
            if not text:
                # Its name is not told: it may be the secret itself, put in the wrong place.
                self.fault(by_name, "the variable that it names is not set")
                return ""
        elif text is None and variable is not None:
            self.fault(by_name, "must be the name of a variable")
            return ""
        if isinstance(text, str) and text:
            return text
        self.fault(name, f"is required: {description}")
        return ""

    def _in_file(self, name: str, file: object) -> str:
        try:
            text = self._secrets.text(file if isinstance(file, str) else "")
        except ValueError as error:
            self.fault(name, f"{file}: {error}")
            return ""
        self.files.append(str(file))
        return text

    def address(self, name: str, example: str) -> str:
        """Return an http or https address."""
        return self.address_of(name, self.take(name), example)

    def address_of(self, name: str, text: object, example: str) -> str:
        """Return *text*, an address without credentials: they would get into logs."""
        if isinstance(text, str) and _is_address(text):
            return text
        self.fault(name, f"must be an address as {example}")
        return ""

    def word(self, name: str, words: tuple[str, ...]) -> str:
        """Return one of *words*; the first of them where nothing is said."""
        given = self.take(name, words[0])
        if isinstance(given, str) and given in words:
            return given
        self.fault(name, f"must be one of {', '.join(words)}")
        return words[0]

    def flag(self, name: str) -> bool:
        """Return a truth; false where nothing is said."""
        given = self.take(name, False)
        if not isinstance(given, bool):
            self.fault(name, "must be true or false")
        return given is True

    def file(self, name: str) -> Path | None:
        """Return the path of a file."""
        given = self.take(name)
        if given is None:
            return None
        path = Path(given) if isinstance(given, str) and given and "\0" not in given else None
        if path is None or not path.name:
            self.fault(name, "must be the path of a file")
        elif not path.absolute().parent.is_dir():
            self.fault(name, f"is in {path.parent}, which is no folder")
        return path

    def name(self, name: str, default: str) -> str:
        """Return what something is called."""
        given = self.take(name, default)
        if isinstance(given, str) and NAME.fullmatch(given):
            return given
        self.fault(name, f"must match {NAME.pattern}")
        return ""

    def timeout_us(self) -> int:
        """Return `timeout`: what one attempt may take, in microseconds."""
        given = self.take("timeout")
        if given is None:
            return TIMEOUT_US
        match = _DURATION.fullmatch(given) if isinstance(given, str) else None
        length_us = int(float(match[1]) * _UNIT_US[match[2]]) if match else 0
        if not 0 < length_us <= _TIMEOUT_MOST_US:
            self.fault("timeout", "must be text as 30s or 500ms, up to 120s")
        return length_us

    def kinds(self, default: frozenset[OutcomeKind]) -> frozenset[OutcomeKind]:
        """Return the kinds of outcomes that go out."""
        names = self.take("kinds")
        if names is None:
            return default
        if not isinstance(names, list) or not names:
            self.fault("kinds", "must be a list of kinds, as ['MESSAGE_SENT']")
            return default
        found = [self._kind(f"kinds[{at}]", name) for at, name in enumerate(names)]
        return frozenset(kind for kind in found if kind is not None)

    def names(self) -> dict[OutcomeKind, str]:
        """Return the names of events that are given, by kind."""
        table = self.take("names", {})
        if not isinstance(table, dict):
            self.fault("names", "must be a table, as { MESSAGE_SENT = 'Email Sent' }")
            return {}
        found: dict[OutcomeKind, str] = {}
        for word, name in table.items():
            kind = self._kind(f"names.{word}", word)
            if kind is OutcomeKind.CUSTOM:
                self.fault(f"names.{word}", "an emit step names its event itself")
            elif not isinstance(name, str) or not 1 <= len(name) <= EVENT_NAME_MAX:
                self.fault(f"names.{word}", f"must be 1 to {EVENT_NAME_MAX} characters")
            elif kind is not None:
                found[kind] = name
        return found

    def flags(self, name: str) -> dict[str, bool]:
        """Return a table of truths."""
        table = self.take(name, {})
        if not isinstance(table, dict) or not all(isinstance(f, bool) for f in table.values()):
            self.fault(name, "must be a table, as { Amplitude = false }")
            return {}
        return dict(table)

    def _kind(self, path: str, name: object) -> OutcomeKind | None:
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            self.fault(path, f"{name!r} is no kind; there are: {', '.join(_KINDS)}")
        return kind


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and parts.username is None
            and not parts.fragment
        )
    except ValueError:
        return False
