"""Settings: a TOML file, UPSHOT_* variables over it, the command line over both.

`load` is pure and names every fault at once, by path.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from types import MappingProxyType
from typing import Final, TypeVar

from upshotd.application.housekeeping import KeepFor
from upshotd.config_network import Network, network, url
from upshotd.config_outside import Outside, outside
from upshotd.config_reading import (
    FromEnvironment,
    Reader,
    days,
    duration,
    flag,
    number,
    one_of,
    time_of_day,
    zone,
)
from upshotd.domain.breaker import Rules
from upshotd.domain.caps import Cap
from upshotd.domain.definitions import Policy
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel, Purpose
from upshotd.domain.profile import CONTACT_TRAITS_DEFAULT
from upshotd.domain.window import Window

PREFIX: Final = "UPSHOT_"
#: `database` that keeps nothing: for tests and trials.
IN_MEMORY: Final = "memory:"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "console")

#: Least characters of the secret of Segment's Webhooks destination.
SECRET_CHARS: Final = 16

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
#: User and password of a database. Not as in the web: a password may have any sign but @ in it.
_CREDENTIALS = re.compile(r"^([^:/?@]*)(?::[^@]*)?@")
_PROVIDER_LONGEST_US = 90_000_000
E = TypeVar("E", Channel, Purpose)


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

    network: Network = field(default_factory=Network)
    #: What links in messages begin with; without a slash at the end. Empty: the edge's address.
    public_url: str = ""
    #: Secret of Segment's Webhooks destination; empty where it has none.
    webhook_secret: str = field(default="", repr=False)
    #: The file that has it instead; empty where none has.
    webhook_secret_file: str = ""
    #: Path of the SQLite file, the address of a PostgreSQL, or `memory:`.
    database: str = "upshot.db"
    #: Whether the clock can be moved.
    lab: bool = False
    providers: Mapping[str, ProviderTable] = field(default_factory=dict)
    #: Which providers serve a channel, first choice first; empty: the console serves them all.
    channels: Mapping[Channel, tuple[str, ...]] = field(default_factory=dict)
    #: Contact field <- traits it is taken from, in order of preference.
    contact: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: CONTACT_TRAITS_DEFAULT)
    #: Region of phone numbers without a country code, as `DE`; empty refuses them.
    default_region: str = ""
    #: Time zone of people whose own is not known.
    time_zone: tzinfo = UTC
    #: When messages may go out, by purpose; at any time where none is.
    hours: Mapping[Purpose, Window] = field(default_factory=dict)
    #: How many messages a person gets.
    caps: tuple[Cap, ...] = ()
    keep: KeepFor = field(default_factory=KeepFor)
    limits: Limits = Limits()
    #: When a provider that fails is left alone.
    breaker: Rules = field(default_factory=Rules)
    log_level: str = "info"
    log_format: str = "auto"
    #: What steps may ask outside.
    outside: Outside = field(default_factory=Outside)
    #: `[relay]` as it came; `upshot relay` reads it.
    relay: Mapping[str, object] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """What decisions go by."""
        return Policy(caps=self.caps, hours=self.hours, zone=self.time_zone)

    @property
    def database_shown(self) -> str:
        """The database as people may read it: without a password."""
        scheme, separator, rest = self.database.partition("://")
        if not separator:
            return self.database
        shown = _CREDENTIALS.sub(r"\1@", rest, count=1)
        return f"{scheme}://{shown.partition('?')[0]}".replace("://@", "://")


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
    reader = Reader(table)
    given = {path: environ[name] for path, name in VARIABLES.items() if environ.get(name)}
    reader.lay_over({path: FromEnvironment(text) for path, text in given.items()})
    reader.lay_over({path: value for path, value in overrides.items() if value is not None})
    settings = _settings(reader)
    if settings.webhook_secret and settings.webhook_secret_file:
        reader.fault("segment.webhook_secret_file", "give either it or segment.webhook_secret")
    reader.check()
    return settings


def _settings(reader: Reader) -> Settings:
    keep, limits, plain = KeepFor(), Limits(), Settings()
    rules = plain.breaker
    providers = _providers(reader)
    provider_us = reader.read("limits.provider", limits.provider_us, _provider_time)
    return Settings(
        network=network(reader),
        public_url=reader.read("public_url", plain.public_url, url),
        webhook_secret=reader.read("segment.webhook_secret", "", _secret),
        webhook_secret_file=reader.read("segment.webhook_secret_file", "", _path),
        database=reader.read("database", plain.database, _database),
        lab=reader.read("lab", plain.lab, flag),
        providers=providers,
        channels=_channels(reader, providers),
        contact=_contact(reader),
        default_region=reader.read("default_region", plain.default_region, _region),
        time_zone=reader.read("time_zone", plain.time_zone, zone),
        hours=_hours(reader),
        caps=_caps(reader),
        keep=KeepFor(
            events_us=reader.read("retention.events_days", keep.events_us, days(30)),
            outcomes_us=reader.read("retention.outcomes_days", keep.outcomes_us, days(1)),
            rejected_us=reader.read("retention.rejected_days", keep.rejected_us, days(7)),
        ),
        limits=Limits(
            inbox=reader.read("limits.inbox", limits.inbox, number(1_000, 1_000_000)),
            batch=reader.read("limits.batch", limits.batch, number(1, 1_000)),
            sends=reader.read("limits.sends", limits.sends, number(1, 1_000)),
            provider_us=provider_us,
            call_us=reader.read("limits.call", limits.call_us, duration),
            reader_us=reader.read("limits.reader", limits.reader_us, duration),
            lease_us=reader.read("limits.lease", limits.lease_us, duration),
            drain_us=reader.read("limits.drain", limits.drain_us, duration),
            connection_us=reader.read("limits.connection", limits.connection_us, duration),
        ),
        breaker=Rules(
            failures=reader.read("breaker.failures", rules.failures, number(0, 1_000)),
            pause_us=reader.read("breaker.pause", rules.pause_us, duration),
            pause_max_us=reader.read("breaker.pause_max", rules.pause_max_us, duration),
            probe_us=provider_us + provider_us // 4,  # it may take a tenth longer
        ),
        log_level=reader.read("log.level", plain.log_level, one_of(LOG_LEVELS)),
        log_format=reader.read("log.format", plain.log_format, one_of(LOG_FORMATS)),
        outside=outside(reader),
        relay=reader.table("relay"),
    )


_PATHS: Final = (
    *("listen", "http", "public_url", "database", "lab", "default_region", "time_zone"),
    *("auth.required", "auth.root_key", "auth.rate", "tls.cert", "tls.key", "tls.client_ca"),
    *("insecure", "reflection", "segment.webhook_secret", "segment.webhook_secret_file"),
    *(f"retention.{name}_days" for name in ("events", "outcomes", "rejected")),
    *(f"limits.{name}" for name in ("inbox", "batch", "sends", "provider", "call")),
    *(f"limits.{name}" for name in ("reader", "lease", "drain", "connection")),
    *("log.level", "log.format", "breaker.failures", "breaker.pause", "breaker.pause_max"),
)
#: Path of a setting -> the variable over it: `limits.batch` -> UPSHOT_LIMITS_BATCH.
VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {path: PREFIX + path.replace(".", "_").upper() for path in _PATHS}
)


def _providers(reader: Reader) -> dict[str, ProviderTable]:
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


def _channels(
    reader: Reader, providers: Mapping[str, ProviderTable]
) -> dict[Channel, tuple[str, ...]]:
    known = {c.name.lower(): c for c in Channel if c is not Channel.UNSPECIFIED}
    found: dict[Channel, tuple[str, ...]] = {}
    for word, value in reader.table("channels").items():
        names = value if isinstance(value, list) else [value]
        unknown = [n for n in names if not isinstance(n, str) or n not in providers]
        if word not in known:
            reader.fault(f"channels.{word}", f"is no channel; there are: {', '.join(known)}")
        elif unknown:
            reader.fault(f"channels.{word}", f"is {unknown[0]!r}, which is no [providers.NAME]")
        elif not names or len(names) > len(set(names)):
            reader.fault(f"channels.{word}", "must name providers, each of them once")
        else:
            found[known[word]] = tuple(map(str, names))
    if providers and not found:
        reader.fault("channels", "must say which provider serves which channel, as email = 'NAME'")
    return found


def _contact(reader: Reader) -> Mapping[str, tuple[str, ...]]:
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


def _hours(reader: Reader) -> dict[Purpose, Window]:
    """When messages may go out: what `[quiet_hours]` leaves of the day."""
    known = {p.name.lower(): p for p in Purpose if p is not Purpose.TRANSACTIONAL}
    found: dict[Purpose, Window] = {}
    for word, table in reader.table("quiet_hours").items():
        path = f"quiet_hours.{word}"
        if word not in known:
            reader.fault(path, f"is none of the purposes that can wait: {', '.join(known)}")
        elif not isinstance(table, dict) or table.keys() != {"begin", "end"}:
            reader.fault(path, 'must be a table as {begin = "20:00", end = "08:00"}')
        else:
            begin, end = (
                reader.parsed(f"{path}.{name}", table[name], None, time_of_day)
                for name in ("begin", "end")
            )
            if begin is not None and begin == end:
                reader.fault(path, "would leave no time of day")
            elif begin is not None and end is not None:
                found[known[word]] = Window(end, begin)
    return found


def _caps(reader: Reader) -> tuple[Cap, ...]:
    found = []
    for name, table in reader.table("caps").items():
        path = f"caps.{name}"
        if not _NAME.fullmatch(name) or not isinstance(table, dict):
            reader.fault(path, f"must be a table, its name match {_NAME.pattern}")
            continue
        most = reader.parsed(f"{path}.max", table.get("max"), None, number(1, 1_000))
        period_us = reader.parsed(f"{path}.period", table.get("period"), None, duration)
        channels = _members(reader, path, table, "channels", Channel)
        purposes = _members(reader, path, table, "purposes", Purpose)
        topics = table.get("topics", [])
        if not isinstance(topics, list) or not all(isinstance(t, str) and t for t in topics):
            reader.fault(f"{path}.topics", "must be a list of topics")
            continue
        for key in table.keys() - {"max", "period", "channels", "purposes", "topics"}:
            reader.fault(f"{path}.{key}", "is no setting")
        if most is not None and period_us is not None:
            found.append(Cap(name, most, period_us, channels, frozenset(topics), purposes))
    return tuple(found)


def _members(
    reader: Reader, path: str, table: Mapping[str, object], name: str, kind: type[E]
) -> frozenset[E]:
    """Return members of an enumeration by their words; none are transactional or unspecified."""
    none: tuple[str, ...] = ("unspecified", "transactional")
    known = {m.name.lower(): m for m in kind if m.name.lower() not in none}
    words = table.get(name, [])
    if isinstance(words, list) and all(word in known for word in words):
        return frozenset(known[word] for word in words)
    reader.fault(f"{path}.{name}", f"must be a list of {', '.join(known)}")
    return frozenset()


def _secret(value: object) -> str:
    if not isinstance(value, str) or len(value) < SECRET_CHARS:
        raise ValueError(f"must be a text of {SECRET_CHARS} characters or more")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    return value


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


def _region(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z]{2}", value):
        return value.upper()
    raise ValueError("must be a country in two letters, as DE")


def _provider_time(value: object) -> int:
    length_us = duration(value)
    if length_us > _PROVIDER_LONGEST_US:
        raise ValueError("must be at most 90s: a message is leased to its sender for 120s")
    return length_us
