"""Settings: a TOML file, UPSHOT_* variables over it, the command line over both.

`load` is pure and names every fault at once, by path.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final, TypeVar
from urllib.parse import urlsplit

from upshotd.application.housekeeping import KeepFor
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.domain.profile import CONTACT_TRAITS_DEFAULT

PREFIX: Final = "UPSHOT_"
#: `database` that keeps nothing: for tests and trials.
IN_MEMORY: Final = "memory:"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "console")

_DAY_US: Final = 86_400_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_UNIT_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_PROVIDER_LONGEST_US = 90_000_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    #: 0 lets the system choose.
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class ProviderTable:
    """One `[providers.NAME]`: what the provider itself reads is left as it came."""

    name: str
    kind: str
    options: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process takes on."""

    #: Most items waiting to be decided; above it callers get RESOURCE_EXHAUSTED.
    inbox: int = 20_000
    #: Most items in one transaction.
    batch: int = 500
    #: Provider calls under way at once.
    sends: int = 64
    #: Most of one provider call, in microseconds.
    provider_us: int = 20_000_000
    #: Most of a call without a deadline, in microseconds.
    call_us: int = 30_000_000
    #: Most that a stream waits for its reader, in microseconds.
    reader_us: int = 30_000_000
    #: How long a replica that says nothing is taken for alive, in microseconds.
    lease_us: int = 15_000_000
    #: Most that calls under way may take while the server goes down, in microseconds.
    drain_us: int = 20_000_000
    #: Age at which connections are asked to begin anew, in microseconds; 0 is never.
    connection_us: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `upshot serve` can be told."""

    #: gRPC.
    listen: Address = Address("127.0.0.1", 7070)
    #: The HTTP edge.
    http: Address = Address("127.0.0.1", 7071)
    #: What links in messages begin with; without a slash at the end. Empty: the edge's address.
    public_url: str = ""
    #: Path of the SQLite file, the address of a PostgreSQL, or `memory:`.
    database: str = "upshot.db"
    #: Whether the clock can be moved.
    lab: bool = False
    providers: Mapping[str, ProviderTable] = field(default_factory=dict)
    #: Which provider serves a channel; empty: the console serves them all.
    channels: Mapping[Channel, str] = field(default_factory=dict)
    #: Contact field <- traits it is taken from, in order of preference.
    contact: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: CONTACT_TRAITS_DEFAULT)
    #: Region of phone numbers without a country code, as `DE`; empty refuses them.
    default_region: str = ""
    keep: KeepFor = field(default_factory=KeepFor)
    limits: Limits = Limits()
    log_level: str = "info"
    log_format: str = "auto"
    #: `[relay]` as it came; `upshot relay` reads it.
    relay: Mapping[str, object] = field(default_factory=dict)

    @property
    def database_shown(self) -> str:
        """The database as people may read it: without a password."""
        if "://" not in self.database:
            return self.database
        parts = urlsplit(self.database)
        user, _, place = parts.netloc.rpartition("@")
        name = user.partition(":")[0]
        return f"{parts.scheme}://{name}{'@' if name else ''}{place}{parts.path}"


def load(
    toml_text: str, environ: Mapping[str, str], overrides: Mapping[str, object | None]
) -> Settings:
    """Return the settings; *overrides* are by path (`listen`, `limits.batch`), None is not given.

    Raises InvalidArgument with every fault: unknown keys, wrong types, values out of range.
    Variables that begin with UPSHOT_ and are no setting are left to others.
    """
    try:
        table = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        fault = Violation("", f"is no TOML: {error}")
        raise InvalidArgument("the settings cannot be read", (fault,)) from None
    reader = _Reader(table)
    reader.lay_over({path: environ[name] for path, name in VARIABLES.items() if environ.get(name)})
    reader.lay_over({path: value for path, value in overrides.items() if value is not None})
    settings = _settings(reader)
    reader.check()
    return settings


class _Reader:
    """Takes values out of the table by path, and remembers what is wrong."""

    def __init__(self, table: dict[str, object]) -> None:
        self._table = table
        self._over: dict[str, object] = {}
        self.faults: list[Violation] = []

    def lay_over(self, values: Mapping[str, object]) -> None:
        self._over.update(values)

    def fault(self, path: str, description: str) -> None:
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
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            secret = isinstance(value, str) and "://" in value  # it may hold a password
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
            if key in _SECTIONS and not isinstance(value, dict):
                self.fault(key, "must be a table")
            elif key in _SECTIONS and isinstance(value, dict):
                for inner in value:
                    self.fault(f"{key}.{inner}", "is no setting")
            else:
                self.fault(key, "is no setting")
        if self.faults:
            text = "; ".join(f"{f.field} {f.description}".strip() for f in self.faults)
            raise InvalidArgument(f"the settings have faults: {text}", tuple(self.faults))


def _settings(reader: _Reader) -> Settings:
    keep, limits, plain = KeepFor(), Limits(), Settings()
    providers = _providers(reader)
    return Settings(
        listen=reader.read("listen", plain.listen, _address),
        http=reader.read("http", plain.http, _address),
        public_url=reader.read("public_url", plain.public_url, _url),
        database=reader.read("database", plain.database, _database),
        lab=reader.read("lab", plain.lab, _flag),
        providers=providers,
        channels=_channels(reader, providers),
        contact=_contact(reader),
        default_region=reader.read("default_region", plain.default_region, _region),
        keep=KeepFor(
            events_us=reader.read("retention.events_days", keep.events_us, _days(30)),
            outcomes_us=reader.read("retention.outcomes_days", keep.outcomes_us, _days(1)),
            rejected_us=reader.read("retention.rejected_days", keep.rejected_us, _days(7)),
        ),
        limits=Limits(
            inbox=reader.read("limits.inbox", limits.inbox, _number(1_000, 1_000_000)),
            batch=reader.read("limits.batch", limits.batch, _number(1, 1_000)),
            sends=reader.read("limits.sends", limits.sends, _number(1, 1_000)),
            provider_us=reader.read("limits.provider", limits.provider_us, _provider_time),
            call_us=reader.read("limits.call", limits.call_us, _duration),
            reader_us=reader.read("limits.reader", limits.reader_us, _duration),
            lease_us=reader.read("limits.lease", limits.lease_us, _duration),
            drain_us=reader.read("limits.drain", limits.drain_us, _duration),
            connection_us=reader.read("limits.connection", limits.connection_us, _duration),
        ),
        log_level=reader.read("log.level", plain.log_level, _one_of(LOG_LEVELS)),
        log_format=reader.read("log.format", plain.log_format, _one_of(LOG_FORMATS)),
        relay=reader.table("relay"),
    )


_SECTIONS: Final = frozenset({"retention", "limits", "log"})
_PATHS: Final = (
    *("listen", "http", "public_url", "database", "lab", "default_region"),
    *(f"retention.{name}_days" for name in ("events", "outcomes", "rejected")),
    *(f"limits.{name}" for name in ("inbox", "batch", "sends", "provider", "call")),
    *(f"limits.{name}" for name in ("reader", "lease", "drain", "connection")),
    *("log.level", "log.format"),
)
#: Path of a setting -> the variable over it: `limits.batch` -> UPSHOT_LIMITS_BATCH.
VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {path: PREFIX + path.replace(".", "_").upper() for path in _PATHS}
)


def _providers(reader: _Reader) -> dict[str, ProviderTable]:
    found = {}
    for name, table in reader.table("providers").items():
        path = f"providers.{name}"
        if not _NAME.fullmatch(name):
            reader.fault(path, f"a name must match {_NAME.pattern}")
        if not isinstance(table, dict):
            reader.fault(path, "must be a table")
            continue
        kind = table.pop("kind", None)
        if isinstance(kind, str) and kind:
            found[name] = ProviderTable(name, kind, MappingProxyType(table))
        else:
            reader.fault(f"{path}.kind", "is required, as kind = 'smtp'")
    return found


def _channels(reader: _Reader, providers: Mapping[str, ProviderTable]) -> dict[Channel, str]:
    known = {c.name.lower(): c for c in Channel if c is not Channel.UNSPECIFIED}
    found: dict[Channel, str] = {}
    for word, name in reader.table("channels").items():
        if word not in known:
            reader.fault(f"channels.{word}", f"is no channel; there are: {', '.join(known)}")
        elif not isinstance(name, str) or name not in providers:
            reader.fault(f"channels.{word}", f"is {name!r}, which is no [providers.NAME]")
        else:
            found[known[word]] = name
    if providers and not found:
        reader.fault("channels", "must say which provider serves which channel, as email = 'NAME'")
    return found


def _contact(reader: _Reader) -> Mapping[str, tuple[str, ...]]:
    traits = dict(CONTACT_TRAITS_DEFAULT)
    for name, value in reader.table("contact").items():
        names: list[object] = value if isinstance(value, list) else [value]
        if name not in traits:
            known = ", ".join(traits)
            reader.fault(f"contact.{name}", f"is no contact field; there are: {known}")
        elif not names or not all(isinstance(trait, str) and trait for trait in names):
            reader.fault(f"contact.{name}", "must be a list of names of traits")
        else:
            traits[name] = tuple(map(str, names))
    return MappingProxyType(traits)


def _address(value: object) -> Address:
    """An address as `127.0.0.1:7070` or `[::1]:7070`; a port alone is on loopback."""
    text = f":{value}" if isinstance(value, int) and not isinstance(value, bool) else value
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, as 127.0.0.1:7070")
    address = Address(host, int(port))
    if not address.loopback:
        raise ValueError(
            "this release listens on loopback only (127.0.0.1, ::1, localhost): it has no keys "
            "and no TLS yet, so that everybody who could reach it could send in your name"
        )
    return address


def _url(value: object) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ValueError("must be an address as https://example.com/m")
    return str(value).rstrip("/")


def _database(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    scheme, separator, rest = text.partition(":///")
    if separator and scheme in ("sqlite", "sqlite+aiosqlite"):
        text = rest
    elif text.startswith(("postgresql://", "postgresql+asyncpg://")):
        return text
    elif "://" in text:
        raise ValueError("must be a path, sqlite:///PATH or postgresql://USER@HOST/NAME")
    if not text or "\0" in text:
        raise ValueError("must be the path of a SQLite file")
    return IN_MEMORY if text == ":memory:" else text


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else ""
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _region(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z]{2}", value):
        return value.upper()
    raise ValueError("must be a country in two letters, as DE")


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        digits = isinstance(value, str) and value.isascii() and value.isdigit()
        if digits or (isinstance(value, int) and not isinstance(value, bool)):
            number = int(str(value))
            if low <= number <= high:
                return number
        raise ValueError(f"must be a whole number from {low} to {high}")

    return parse


def _days(low: int) -> Callable[[object], int]:
    count = _number(low, 3_650)
    return lambda value: count(value) * _DAY_US


def _duration(value: object) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    length_us = round(float(match[1]) * _UNIT_US[match[2]]) if match else 0
    if length_us <= 0:
        raise ValueError("must be a time as 30s, 500ms or 2m")
    return length_us


def _provider_time(value: object) -> int:
    length_us = _duration(value)
    if length_us > _PROVIDER_LONGEST_US:
        raise ValueError("must be at most 90s: a message is leased to its sender for 120s")
    return length_us


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        raise ValueError(f"must be one of {', '.join(words)}")

    return parse
