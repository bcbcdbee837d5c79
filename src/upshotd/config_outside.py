"""What steps may ask outside: `[fetch]`, `[secrets]`, `[generate]`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from upshotd.config_network import url
from upshotd.config_reading import Reader
from upshotd.domain import fetch_validation
from upshotd.domain.validation import Faults
from upshotd.domain.workflow import Workflow

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Model:
    """`[generate]`: a language model behind an endpoint of chat completions."""

    endpoint: str
    model: str
    #: Name of the secret that is its key; empty where it needs none.
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What steps may ask."""

    #: Hosts that a fetch may ask although they are not public, as `name:port`.
    hosts: frozenset[str] = frozenset()
    #: Where the secrets are that steps may name, by their names: `("env", variable)`, or
    #: `("file", path)`.
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: None: steps that ask a model get no answer.
    model: Model | None = None

    def warned(self, workflow: Workflow, faults: Faults) -> Faults:
        """Return the *faults* of *workflow* with warnings of what the settings do not have."""
        model = self.model is not None
        missing = tuple(fetch_validation.unanswered(workflow, self.secrets.keys(), model=model))
        return replace(faults, warnings=faults.warnings + missing)


def outside(reader: Reader) -> Outside:
    """Return what the settings say; faults go into *reader*."""
    return Outside(_hosts(reader), _secrets(reader), _model(reader))


def _hosts(reader: Reader) -> frozenset[str]:
    table = reader.table("fetch")
    for key in table.keys() - {"hosts"}:
        reader.fault(f"fetch.{key}", "is no setting")
    hosts = table.get("hosts", [])
    if isinstance(hosts, list) and all(isinstance(host, str) and _is_host(host) for host in hosts):
        return frozenset(hosts)
    reader.fault("fetch.hosts", "must be a list of host:port")
    return frozenset()


def _is_host(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and text.isprintable()


def _secrets(reader: Reader) -> Mapping[str, tuple[str, str]]:
    found = {}
    for name, value in reader.table("secrets").items():
        given = list(value.items()) if isinstance(value, dict) else []
        where, what = given[0] if len(given) == 1 else ("", "")
        if not _NAME.fullmatch(name):
            reader.fault(f"secrets.{name}", f"a name must match {_NAME.pattern}")
        elif where not in ("env", "file") or not isinstance(what, str) or not what:
            reader.fault(f"secrets.{name}", 'must be {env = "VARIABLE"} or {file = "PATH"}')
        else:
            found[name] = (where, what)
    return found


def _model(reader: Reader) -> Model | None:
    table = reader.table("generate")
    if not table:
        return None
    for key in table.keys() - {"endpoint", "model", "secret"}:
        reader.fault(f"generate.{key}", "is no setting")
    endpoint = reader.parsed("generate.endpoint", table.get("endpoint"), "", url)
    texts = {}
    for key, required in (("model", True), ("secret", False)):
        value = table.get(key, "")
        if not isinstance(value, str) or (required and not value):
            reader.fault(f"generate.{key}", "must be a text")
            value = ""
        texts[key] = value
    return Model(endpoint, **texts)
