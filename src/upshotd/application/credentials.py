"""Who calls and what they may do: told by the credential of a call, never by its request."""

import hmac
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from upshotd.application.keys import OF_KEYS, Keys, Scope
from upshotd.domain.errors import Unauthenticated

#: Where everything lives while no keys are required.
DEFAULT_WORKSPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    #: Empty for the root key, which works in none.
    workspace_id: str
    scopes: frozenset[Scope]
    #: The key it has shown; empty without one.
    key_id: str = ""
    #: Its quota: events of Ingest and other calls, in a second; 0 for none.
    rate: int = 0


#: What the caller of the call under way may do, for what depends on more than its method.
SCOPES: Final[ContextVar[frozenset[Scope]]] = ContextVar("scopes", default=frozenset())


class Credentials(Protocol):
    """Knows credentials."""

    async def caller(self, authorization: str | None) -> Caller:
        """Return who shows this `authorization` header.

        Raises Unauthenticated when the header is no credential of ours.
        """


#: Returns the workspace that a signed link carries, or None.
LinkWorkspace = Callable[[str], str | None]


class KeyCredentials:
    """Knows API keys, the root key, and the signed links of messages (`Link TOKEN`).

    The HTTP edge passes on what the recipient of a message holds, so that an open or a click lands
    in the workspace where the message came from.
    """

    def __init__(
        self,
        keys: Keys,
        workspace_of_link: LinkWorkspace,
        *,
        root_key: str = "",
        required: bool,
        rate: int = 0,
    ) -> None:
        """While no key is *required* whoever has none may do everything in `default`.

        *root_key* makes the first keys; empty for none. *rate* is the quota of keys without one.
        """
        self._keys = keys
        self._workspace_of_link = workspace_of_link
        self._root_key = root_key.encode()
        self._required = required
        self._rate = rate

    async def caller(self, authorization: str | None) -> Caller:
        """Return whose key it is, or who holds a link."""
        scheme, token = _parts(authorization)
        if scheme == "link":
            return _holder(self._workspace_of_link(token))
        if scheme == "bearer" and token:
            if self._root_key and hmac.compare_digest(self._root_key, token.encode()):
                return Caller("", frozenset({Scope.ROOT}))
            key = await self._keys.find(token)
            if key is not None:
                return Caller(key.workspace_id, key.scopes, key.key_id, key.rate or self._rate)
        if not self._required:
            return Caller(DEFAULT_WORKSPACE, OF_KEYS)
        if not token:
            raise Unauthenticated("a key is required: authorization: Bearer KEY")
        raise Unauthenticated("the key is not known, or was revoked")


def _parts(authorization: str | None) -> tuple[str, str]:
    scheme, _, token = (authorization or "").partition(" ")
    return scheme.lower(), token.strip()


def _holder(workspace_id: str | None) -> Caller:
    if workspace_id is None:
        raise Unauthenticated("the link was not signed by this server")
    return Caller(workspace_id, frozenset({Scope.LINK}))
