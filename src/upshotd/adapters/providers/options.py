"""Reads a provider's options out of the settings and collects every fault of them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from upshotd.adapters.providers.mime import ascii_domain
from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.secret_files import SecretFiles

#: What one attempt may take where nothing is said, and at most, in microseconds.
TIMEOUT_US: Final = 15_000_000
_LONGEST_US: Final = 120_000_000
_NAME_LENGTH: Final = 100
_WORD_LENGTH: Final = 255

#: Where a text may come from.
_WAYS: Final = ("env", "file")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000}


def _no_token(_workspace_id: str, _message_id: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Home:
    """What a provider knows of the server that it sends for."""

    #: The wall clock in microseconds since 1970, never a lab's: others compare it with theirs.
    now_us: Callable[[], int]
    #: Where secrets named by `{env = ...}` are found.
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Signs the token by which a callback names a message: (workspace_id, message_id) -> token.
    callback_token: Callable[[str, str], str] = _no_token
    #: What the addresses of this server begin with, without a slash at the end.
    public_url: str = ""
    #: Where secrets named by `{file = ...}` are found.
    secrets: SecretFiles = field(default_factory=SecretFiles, repr=False)


class Options:
    """The options of one provider; ask for each, then `check`.

    Any text may come from the environment or from a file: `password = {env = "NAME"}` or
    `password_env = "NAME"`, `password = {file = "PATH"}` or `password_file = "PATH"`.
    What is missing or wrong is remembered and read as an empty value, so that one look names all.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, object],
        environ: Mapping[str, str],
        secrets: SecretFiles | None = None,
    ) -> None:
        self._path = f"providers.{name}"
        self._options = options
        self._environ = environ
        self._secrets = secrets or SecretFiles()
        #: The files that were read.
        self.files: set[str] = set()
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

    def header(self, option: str) -> str:
        """Text that is required, and goes into a header."""
        text = self.text(option, required=True)
        if has_controls(text) or not text.isascii():
            self.fault(option, "cannot be a header")
        return text

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

    def flag(self, option: str) -> bool:
        """True or false; false where nothing is given."""
        value = self._take(option)
        if value is not None and not isinstance(value, bool):
            self.fault(option, "must be true or false")
        return value is True

    def words(self, option: str) -> tuple[str, ...]:
        """A list of short texts."""
        value = self._take(option)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(item, str) and 0 < len(item) <= _WORD_LENGTH for item in value
        ):
            self.fault(option, f"must be a list of texts of 1 to {_WORD_LENGTH} characters")
            return ()
        return tuple(value)

    def timeout_us(self) -> int:
        """`timeout`: what one attempt may take."""
        return self.duration_us("timeout", TIMEOUT_US, _LONGEST_US)

    def web_address(self, option: str, *, required: bool = False) -> str:
        """An http or https address without a password in it, or ""."""
        url = self.text(option, required=required)
        if url and not _is_web_address(url):
            self.fault(option, "must be http:// or https:// with a host and no password in it")
        return url

    def hosts(self, option: str) -> frozenset[str]:
        """Hosts with their ports, with commas between."""
        given = self.text(option)
        hosts = frozenset(part.strip() for part in given.split(",") if part.strip())
        parts = (host.rpartition(":") for host in hosts)
        if any(not host or not port.isdigit() for host, _, port in parts):
            self.fault(option, "must be host:port, with commas between")
        return hosts

    def sender(self) -> tuple[str, str]:
        """`from`: display name and address of `Name <name@example.com>`, or the address alone."""
        given = self.text("from", required=True).strip()
        if not given:
            return "", ""
        name, bracket, rest = given.rpartition("<")
        name, address = name.strip().strip('"'), rest.removesuffix(">") if bracket else given
        try:
            address = ascii_domain(address)
        except ValueError:
            self.fault("from", "must be an e-mail address, or Name <address>")
        if has_controls(name) or len(name) > _NAME_LENGTH or not address.isascii():
            self.fault("from", "has a name or an address that cannot be a header")
        return name, address

    def check(self, kind: str) -> None:
        """Raise InvalidArgument with all faults, unknown options among them."""
        for option in self._options:
            if option not in self._known:
                known = ", ".join(sorted(self._known - _ways(self._known)))
                self.fault(option, f"is no option of {kind}; there are: {known or 'none'}")
        if self._violations:
            raise InvalidArgument(f"{self._path} cannot be used as it is", tuple(self._violations))

    def _take(self, option: str) -> object:
        self._known.add(option)
        return self._options.get(option)

    def _given(self, option: str) -> object:
        value = self._take(option)
        for way in _WAYS:
            named = self._take(f"{option}_{way}")
            if named is None:
                continue
            if value is not None:
                self.fault(
                    f"{option}_{way}", f"give either {option}, {option}_env or {option}_file"
                )
            value = {way: named}
        return value

    def _resolved(self, option: str, value: object) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping) or len(value) != 1 or not set(value) <= set(_WAYS):
            self.fault(option, 'must be text, {env = "NAME"} or {file = "PATH"}')
            return ""
        return self._by_file(option, value) if "file" in value else self._by_name(option, value)

    def _by_name(self, option: str, value: Mapping[str, object]) -> str:
        variable = value["env"]
        if not isinstance(variable, str) or not self._environ.get(variable):
            # Its name is not told: it may well be the secret, put in the wrong place.
            self.fault(option, "the environment variable that it names is not set")
            return ""
        return self._environ[variable]

    def _by_file(self, option: str, value: Mapping[str, object]) -> str:
        path = value["file"]
        if not isinstance(path, str) or not path:
            self.fault(option, "must name a file")
            return ""
        try:
            text = self._secrets.text(path)
        except ValueError as error:
            self.fault(option, f"{path}: {error}")
            return ""
        self.files.add(path)
        return text


def _ways(known: Iterable[str]) -> set[str]:
    """Return what options may be called beside their names."""
    return {f"{option}_{way}" for option in known for way in _WAYS}


def _length_us(value: object) -> int:
    """Microseconds, or 0 for what is no length of time."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        # Comparing first keeps infinities and NaN away from int().
        return int(value * 1_000_000) if 0 < value < 1_000_000 else 0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return int(float(match[1]) * _UNIT_US[match[2]]) if match else 0


def _is_web_address(url: str) -> bool:
    if has_controls(url) or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    web = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    return web and "@" not in parts.netloc
