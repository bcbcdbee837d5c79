"""`[relay.segment]` of the settings file: read, and every fault named at once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from upshotd.adapters.relay.mapping import KINDS_DEFAULT, NAMES_DEFAULT, OWN_DESTINATION, TrackRules
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.event import EVENT_NAME_MAX
from upshotd.domain.outcome import OutcomeKind

#: Region -> where Segment takes batches. What goes to the wrong one is lost without an error.
ENDPOINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "us": "https://api.segment.io/v1/batch",
        "eu": "https://events.eu1.segmentapis.com/v1/batch",
    }
)
SUBSCRIPTION_DEFAULT: Final = "segment"

_PATH = "relay.segment"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_WRITE_KEY = re.compile(r"[\x21-\x39\x3b-\x7e]{1,256}")  # no colon: it ends the name in Basic
_KINDS = {kind.name: kind for kind in OutcomeKind if kind is not OutcomeKind.UNSPECIFIED}


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """Everything `upshot relay segment` can be told."""

    #: Where batches are posted.
    endpoint: str
    #: Of the Segment source that gets the calls.
    write_key: str = field(repr=False)
    #: Name of the subscription that keeps our place in the log.
    subscription: str
    rules: TrackRules


def segment_settings(
    table: object, environ: Mapping[str, str], overrides: Mapping[str, object | None], version: str
) -> SegmentSettings:
    """Return the settings of *table*; *overrides* go over it, None is not given.

    Raises InvalidArgument with every fault; none of them repeats a write key.
    """
    if not isinstance(table, dict):
        raise InvalidArgument("the settings have faults", (Violation(_PATH, "must be a table"),))
    given = {name: value for name, value in overrides.items() if value is not None}
    if "endpoint" in given:
        table = {name: value for name, value in table.items() if name != "region"}
    reader = _Reader({**table, **given}, environ)
    settings = SegmentSettings(
        endpoint=reader.endpoint(),
        write_key=reader.write_key(),
        subscription=reader.subscription(),
        rules=TrackRules(
            version=version,
            kinds=reader.kinds(),
            names=reader.names(),
            include_recipient=reader.include_recipient(),
            integrations=reader.integrations(),
        ),
    )
    reader.check()
    return settings


class _Reader:
    """Takes the values out of the table and remembers what is wrong."""

    def __init__(self, table: dict[str, object], environ: Mapping[str, str]) -> None:
        self._table = table
        self._environ = environ
        self._faults: list[Violation] = []

    def check(self) -> None:
        for name in self._table:
            self._fault(name, "is no setting")
        if self._faults:
            raise InvalidArgument("the settings have faults", tuple(self._faults))

    def endpoint(self) -> str:
        region, endpoint = self._table.pop("region", None), self._table.pop("endpoint", None)
        if endpoint is None:
            if region is None or str(region) in ENDPOINTS:
                return ENDPOINTS["us" if region is None else str(region)]
            self._fault("region", f"must be one of {', '.join(ENDPOINTS)}")
            return ""
        if region is not None:
            self._fault("region", "says nothing beside endpoint; give one of them")
        if not isinstance(endpoint, str) or not _is_address(endpoint):
            self._fault("endpoint", f"must be an address as {ENDPOINTS['us']}")
            return ""
        return endpoint

    def write_key(self) -> str:
        key, variable = self._table.pop("write_key", None), self._table.pop("write_key_env", None)
        if key is None and isinstance(variable, str) and variable:
            key = self._environ.get(variable)
            if not key:
                # Its name is not told: it may be the key itself, put in the wrong place.
                self._fault("write_key_env", "the variable that it names is not set")
                return ""
        elif key is None and variable is not None:
            self._fault("write_key_env", "must be the name of a variable")
            return ""
        if isinstance(key, str) and _WRITE_KEY.fullmatch(key):
            return key
        self._fault("write_key", "is required: the write key of the Segment source")
        return ""

    def subscription(self) -> str:
        name = self._table.pop("subscription", SUBSCRIPTION_DEFAULT)
        if isinstance(name, str) and _NAME.fullmatch(name):
            return name
        self._fault("subscription", f"must match {_NAME.pattern}")
        return ""

    def kinds(self) -> frozenset[OutcomeKind]:
        names = self._table.pop("kinds", None)
        if names is None:
            return KINDS_DEFAULT
        if not isinstance(names, list) or not names:
            self._fault("kinds", "must be a list of kinds, as ['MESSAGE_SENT']")
            return KINDS_DEFAULT
        found = [self._kind(f"kinds[{at}]", name) for at, name in enumerate(names)]
        return frozenset(kind for kind in found if kind is not None)

    def names(self) -> Mapping[OutcomeKind, str]:
        table = self._table.pop("names", {})
        if not isinstance(table, dict):
            self._fault("names", "must be a table, as { MESSAGE_SENT = 'Email Sent' }")
            return NAMES_DEFAULT
        found: dict[OutcomeKind, str] = {}
        for word, name in table.items():
            kind = self._kind(f"names.{word}", word)
            if kind is OutcomeKind.CUSTOM:
                self._fault(f"names.{word}", "an emit step names its event itself")
            elif not isinstance(name, str) or not 1 <= len(name) <= EVENT_NAME_MAX:
                self._fault(f"names.{word}", f"must be 1 to {EVENT_NAME_MAX} characters")
            elif kind is not None:
                found[kind] = name
        opened = found.get(OutcomeKind.MESSAGE_OPENED)
        # Whoever renames opens renames both halves, unless they say otherwise.
        ignored = {OutcomeKind.MESSAGE_IGNORED: opened} if opened else {}
        return {**NAMES_DEFAULT, **ignored, **found}

    def include_recipient(self) -> bool:
        flag = self._table.pop("include_recipient", False)
        if not isinstance(flag, bool):
            self._fault("include_recipient", "must be true or false")
        return flag is True

    def integrations(self) -> Mapping[str, bool]:
        table = self._table.pop("integrations", {})
        if not isinstance(table, dict) or not all(isinstance(f, bool) for f in table.values()):
            self._fault("integrations", "must be a table, as { Amplitude = false }")
            return {}
        return {OWN_DESTINATION: False, **table}

    def _kind(self, path: str, name: object) -> OutcomeKind | None:
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            self._fault(path, f"{name!r} is no kind; there are: {', '.join(_KINDS)}")
        return kind

    def _fault(self, name: str, description: str) -> None:
        self._faults.append(Violation(f"{_PATH}.{name}", description))


def _is_address(text: str) -> bool:
    """Whether *text* is http or https and holds no credentials: they would get into logs."""
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
