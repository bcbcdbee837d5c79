"""API keys: making, listing and revoking them, and knowing them again in every call.

A key's text is `up_ID_SECRET`. The store has the hash of the secret, as a setting of its own; each
process keeps them all in memory and reads them again every few seconds.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from upshotd.application.ports import Clock, Store
from upshotd.domain.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    UpshotError,
    Violation,
)
from upshotd.domain.quota import RATE_MAX
from upshotd.domain.values import replace

log = structlog.get_logger("upshot.keys")

#: Keys are read again this often, in microseconds: what is revoked elsewhere ends here within it.
REFRESH_US: Final = 2_000_000
#: One that is not known is looked for at once, but not more often than this, in microseconds.
_LOOK_US: Final = 250_000
LABEL_MAX: Final = 100
_PREFIX: Final = "key/"
_SECRET_BYTES: Final = 32
_TEXT = re.compile(r"up_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
#: What a workspace may be called.
WORKSPACE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Scope(StrEnum):
    """What a caller may do."""

    INGEST = "ingest"
    ENGAGE = "engage"
    STREAM = "stream"
    WORKFLOW = "workflow"
    ADMIN = "admin"
    #: Erasing people, also by events where it may ingest.
    ERASE = "erase"
    #: Of whoever holds a signed link: what became of its message, and of no other.
    LINK = "link"
    #: Of whoever holds the link to the page of preferences: what its person wants.
    CHOICE = "choice"
    #: Of whoever holds a link to decide: what its message asks for, and what they say to it.
    REVIEW = "review"
    #: Of the root key: makes keys in every workspace, and nothing else.
    ROOT = "root"


#: Those that a key can have.
OF_KEYS: Final = frozenset(Scope) - {Scope.LINK, Scope.CHOICE, Scope.REVIEW, Scope.ROOT}


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept."""

    key_id: str
    workspace_id: str
    scopes: frozenset[Scope]
    label: str
    #: SHA-256 of the secret, in hex: it has 256 random bits, nothing slower is needed.
    hash: str = field(repr=False)
    create_us: int
    #: None while it works.
    revoke_us: int | None = None
    #: Its quota, a second; 0 for that of keys without one.
    rate: int = 0


class Keys:
    """Makes keys and knows them again. Loads nothing before `refresh`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, Key] = {}
        self._looked_us = -_LOOK_US
        #: Called with the ids of keys that were found revoked.
        self.on_revoked: Callable[[Collection[str]], None] = lambda _: None

    async def find(self, text: str) -> Key | None:
        """Return the working key whose text this is, or None."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        key_id, secret = match.groups()
        if key_id not in self._known:
            await self._look()
        key = self._known.get(key_id)
        # Compared also for one that is not known, so that both take the same time.
        same = hmac.compare_digest(_hash(secret), key.hash if key is not None else "")
        return key if key is not None and same and key.revoke_us is None else None

    async def create(
        self, workspace_id: str, scopes: Iterable[Scope], label: str, rate: int = 0
    ) -> tuple[Key, str]:
        """Return a new key and its text; raises InvalidArgument with every fault."""
        wanted, faults = frozenset(scopes), []
        if not wanted or not wanted <= OF_KEYS:
            known = ", ".join(sorted(OF_KEYS))
            faults.append(Violation("scopes", f"must be some of {known}"))
        if len(label) > LABEL_MAX or not label.isprintable():
            text = f"must be printable, at most {LABEL_MAX} characters"
            faults.append(Violation("label", text))
        if not 0 <= rate <= RATE_MAX:
            faults.append(Violation("rate", f"must be 1 to {RATE_MAX} a second, or 0 for none"))
        if not WORKSPACE.fullmatch(workspace_id):
            faults.append(Violation("workspace_id", f"must match {WORKSPACE.pattern}"))
        if faults:
            raise InvalidArgument.of(faults)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        now_us = self._clock.now_us()
        hashed = _hash(secret)
        key = Key(secrets.token_hex(8), workspace_id, wanted, label, hashed, now_us, rate=rate)
        await self._keep(key)
        log.info("key.created", key_id=key.key_id, workspace_id=workspace_id)
        return key, f"up_{key.key_id}_{secret}"

    async def list(self, workspace_id: str) -> list[Key]:
        """Return the keys of a workspace, the newest first."""
        await self.refresh()
        found = [key for key in self._known.values() if key.workspace_id == workspace_id]
        return sorted(found, key=lambda key: (key.create_us, key.key_id), reverse=True)

    async def revoke(self, workspace_id: str, key_id: str) -> Key:
        """Let a key work no more; raises NotFound where the workspace has none of this id."""
        await self.refresh()
        key = self._known.get(key_id)
        if key is None or key.workspace_id != workspace_id:
            raise NotFound("key")  # its id may be the text of one
        if key.revoke_us is None:
            key = replace(key, revoke_us=self._clock.now_us())
            await self._keep(key)
            log.info("key.revoked", key_id=key_id, workspace_id=workspace_id)
            self.on_revoked([key_id])
        return key

    async def refresh(self) -> None:
        """Read all keys."""
        rows = await self._store.settings(_PREFIX)
        found = {key.key_id: key for key in (_decoded(value) for value in rows.values())}
        ended = [
            key_id
            for key_id, key in self._known.items()
            if key.revoke_us is None
            and (key_id not in found or found[key_id].revoke_us is not None)
        ]
        self._known = found
        if ended:
            self.on_revoked(ended)

    async def run(self) -> None:
        """Refresh again and again."""
        while True:
            await self._clock.sleep(REFRESH_US)
            try:
                await self.refresh()
            except UpshotError as error:  # what is known holds until the database is back
                log.warning("keys.not_read", reason=error.reason)

    async def _look(self) -> None:
        """Look for a key that another process may have made a moment ago."""
        now_us = self._clock.monotonic_us()
        if now_us - self._looked_us >= _LOOK_US:
            self._looked_us = now_us
            await self.refresh()

    async def _keep(self, key: Key) -> None:
        await self._store.put_setting(_PREFIX + key.key_id, _encoded(key))
        self._known[key.key_id] = key


def allowed_workspace(caller_id: str, named_id: str) -> str:
    """Return the workspace whose keys a caller is after; raises PermissionDenied for another's.

    The root key has none of its own, and must name one.
    """
    if caller_id and named_id not in ("", caller_id):
        raise PermissionDenied("a key makes, lists and revokes keys of its own workspace only")
    if not caller_id and not named_id:
        raise InvalidArgument.of([Violation("workspace_id", "is required with the root key")])
    return named_id or caller_id


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _encoded(key: Key) -> str:
    values = [key.key_id, key.workspace_id, sorted(key.scopes), key.label, key.hash]
    return json.dumps([*values, key.create_us, key.revoke_us, key.rate])


def _decoded(value: str) -> Key:
    key_id, workspace_id, scopes, label, hashed, create_us, revoke_us, *later = json.loads(value)
    held = frozenset(map(Scope, scopes))
    # Those made before there were quotas have no rate.
    return Key(key_id, workspace_id, held, label, hashed, create_us, revoke_us, *later)
