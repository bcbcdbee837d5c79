"""`[relay.NAME]` of the settings file: read, and every fault named at once."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from upshotd.adapters.relay.envelope import KINDS_DEFAULT, NAMES_DEFAULT, OWN_DESTINATION, CallRules
from upshotd.adapters.relay.file import FileSettings
from upshotd.adapters.relay.reading import NAME, Reader
from upshotd.adapters.relay.segment import SegmentSettings
from upshotd.adapters.relay.webhook import WebhookSettings
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.outcome import OutcomeKind
from upshotd.secret_files import SecretFiles
from upshotd.signing import keys_of

#: Region -> where Segment takes batches. What goes to the wrong one is lost without an error.
ENDPOINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "us": "https://api.segment.io/v1/batch",
        "eu": "https://events.eu1.segmentapis.com/v1/batch",
    }
)
#: The relay that needs no table: an environment with a write key is enough.
SEGMENT: Final = "segment"

#: What a relay can write to.
KINDS: Final = ("segment", "webhook", "file")

_KEY_ELSEWHERE = ("write_key_env", "write_key_file")
_WRITE_KEY = re.compile(r"[\x21-\x39\x3b-\x7e]{1,256}")  # no colon: it ends the name in Basic
_NAMINGS = ("courier", "semantic")

FarEndSettings: TypeAlias = SegmentSettings | WebhookSettings | FileSettings


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Everything one relay can be told."""

    name: str
    #: Name of the subscription that keeps our place in the log.
    subscription: str
    #: What is read; empty: everything.
    kinds: frozenset[OutcomeKind]
    include_recipient: bool
    #: Where outcomes are kept that the far end does not take; None: only the log tells of them.
    dead_letters: Path | None
    far_end: FarEndSettings
    #: The files that its secrets are from.
    files: tuple[str, ...] = ()


def relay_settings(
    name: str,
    tables: Mapping[str, object],
    environ: Mapping[str, str],
    overrides: Mapping[str, object | None],
    version: str,
    secrets: SecretFiles | None = None,
) -> RelaySettings:
    """Return the settings of relay *name*; *overrides* go over its table, None is not given.

    *secrets* are the files that a table may name in place of secrets.
    Raises InvalidArgument with every fault; none of them repeats a secret.
    """
    table = _table(name, tables)
    given = {key: value for key, value in overrides.items() if value is not None}
    if "endpoint" in given:
        table = {key: value for key, value in table.items() if key != "region"}
    if "write_key" in given:
        table = {key: value for key, value in table.items() if key not in _KEY_ELSEWHERE}
    reader = Reader(f"relay.{name}", {**table, **given}, environ, secrets or SecretFiles())
    make = _MAKERS[str(reader.take("kind", name))]
    subscription, dead_letters = reader.name("subscription", name), reader.file("dead_letters")
    _check_apart(reader, name, tables, subscription, dead_letters)
    kinds = reader.kinds(KINDS_DEFAULT if make is _segment else frozenset())
    include_recipient = reader.flag("include_recipient")
    far_end = make(reader, version, kinds, include_recipient)
    reader.check()
    files = tuple(reader.files)
    return RelaySettings(name, subscription, kinds, include_recipient, dead_letters, far_end, files)


def _table(name: str, tables: Mapping[str, object]) -> Mapping[str, object]:
    faults = [fault for other in tables for fault in _faults_of(other, tables[other])]
    if name not in tables and name != SEGMENT:
        known = ", ".join(sorted({SEGMENT, *tables}))
        faults.append(Violation(f"relay.{name}", f"there is no such table; relays are: {known}"))
    if faults:
        raise InvalidArgument("the settings have faults", tuple(faults))
    table = tables.get(name, {})
    assert isinstance(table, dict)
    return table


def _faults_of(name: str, table: object) -> Iterator[Violation]:
    """Yield what is wrong with a relay as such, whichever of them is meant."""
    if not isinstance(table, dict):
        yield Violation(f"relay.{name}", "must be a table")
        return
    if not NAME.fullmatch(name):
        yield Violation(f"relay.{name}", f"a name must match {NAME.pattern}")
    # A relay that is called as a kind is of that kind.
    if table.get("kind", name) not in KINDS:
        yield Violation(f"relay.{name}.kind", f"must be one of {', '.join(KINDS)}")


def _check_apart(
    reader: Reader,
    name: str,
    tables: Mapping[str, object],
    subscription: str,
    dead_letters: Path | None,
) -> None:
    """Find what two relays may not share: each would take what is the other's."""
    for other, table in tables.items():
        if other == name or not isinstance(table, dict):
            continue
        if table.get("subscription", other) == subscription:
            reader.fault("subscription", f"is that of relay.{other}, too")
        if dead_letters is not None and table.get("dead_letters") == str(dead_letters):
            reader.fault("dead_letters", f"is that of relay.{other}, too")


def _segment(
    reader: Reader, version: str, kinds: frozenset[OutcomeKind], include_recipient: bool
) -> SegmentSettings:
    naming = reader.word("naming", _NAMINGS)
    return SegmentSettings(
        endpoint=_endpoint(reader),
        write_key=_write_key(reader),
        rules=CallRules(
            version=version,
            kinds=kinds,
            names=_names(reader, naming),
            semantic=naming == "semantic",
            include_recipient=include_recipient,
            integrations={OWN_DESTINATION: False, **reader.flags("integrations")},
        ),
        identify=reader.flag("identify"),
        timeout_us=reader.timeout_us(),
    )


def _webhook(
    reader: Reader, version: str, _kinds: frozenset[OutcomeKind], include_recipient: bool
) -> WebhookSettings:
    secrets = reader.secret("secret", "one or more whsec_... with spaces between")
    keys: tuple[bytes, ...] = ()
    if secrets:
        try:
            keys = keys_of(secrets)
        except ValueError as error:
            reader.fault("secret", str(error))
    return WebhookSettings(
        url=reader.address("url", "https://example.com/outcomes"),
        keys=keys,
        version=version,
        include_recipient=include_recipient,
        timeout_us=reader.timeout_us(),
    )


def _file(
    reader: Reader, _version: str, _kinds: frozenset[OutcomeKind], include_recipient: bool
) -> FileSettings:
    path = reader.file("path")
    if path is None:
        reader.fault("path", "is required: where lines go")
    return FileSettings(path or Path(), include_recipient)


def _endpoint(reader: Reader) -> str:
    region, endpoint = reader.take("region"), reader.take("endpoint")
    if endpoint is None:
        if region is None or str(region) in ENDPOINTS:
            return ENDPOINTS["us" if region is None else str(region)]
        reader.fault("region", f"must be one of {', '.join(ENDPOINTS)}")
        return ""
    if region is not None:
        reader.fault("region", "says nothing beside endpoint; give one of them")
    return reader.address_of("endpoint", endpoint, ENDPOINTS["us"])


def _write_key(reader: Reader) -> str:
    key = reader.secret("write_key", "the write key of the Segment source")
    if key and not _WRITE_KEY.fullmatch(key):
        reader.fault("write_key", "is no write key: it has characters that none has")
    return key


def _names(reader: Reader, naming: str) -> Mapping[OutcomeKind, str]:
    given = reader.names()
    if naming == "semantic":
        return given  # whoever counts `Email Opened` counts what was opened
    opened = given.get(OutcomeKind.MESSAGE_OPENED)
    # Whoever renames opens renames both halves, unless they say otherwise.
    ignored = {OutcomeKind.MESSAGE_IGNORED: opened} if opened else {}
    return {**NAMES_DEFAULT, **ignored, **given}


Make: TypeAlias = Callable[[Reader, str, frozenset[OutcomeKind], bool], FarEndSettings]
_MAKERS: Final[Mapping[str, Make]] = MappingProxyType(
    dict(zip(KINDS, (_segment, _webhook, _file), strict=True))
)
