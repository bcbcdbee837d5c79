"""Who calls and what they may do: told by the credential of a call, never by its request."""

import hmac
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from upshotd.application.keys import OF_KEYS, Keys, Scope
from upshotd.domain.errors import Unauthenticated
from upshotd.domain.language import Link

#: Where everything lives while no keys are required.
DEFAULT_WORKSPACE: Final = "default"
#: What links are good for that lead to pages; all others tell what became of a message.
_OF_PAGES: Final = {"p": Scope.CHOICE, **dict.fromkeys("adqr", Scope.REVIEW)}


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

    #: The link it has shown, which bounds what it may speak of; None without one.
    link: Link | None = None


#: What the caller of the call under way may do, for what depends on more than its method.
SCOPES: Final[ContextVar[frozenset[Scope]]] = ContextVar("scopes", default=frozenset())


class Credentials(Protocol):
    """Knows credentials."""

    async def caller(self, authorization: str | None) -> Caller:
        """Return who shows this `authorization` header.

        Raises Unauthenticated when the header is no credential of ours.
        """


#: Returns what a token that we signed says, or None.
ReadLink = Callable[[str], Link | None]


class KeyCredentials:
    """Knows API keys, the root key, and the signed links of messages (`Link TOKEN`).

    The HTTP edge passes on what the recipient of a message holds, so that an open or a click lands
    in the workspace where the message came from.
    """

    def __init__(
        self,
        keys: Keys,
        read_link: ReadLink,
        *,
        root_key: str = "",
        required: bool,
        rate: int = 0,
    ) -> None:
        """While no key is *required* whoever has none may do everything in `default`.

        *root_key* makes the first keys; empty for none. *rate* is the quota of keys without one.
        """
        self._keys = keys
        self._read_link = read_link
        self._root_key = root_key.encode()
        self._required = required
        self._rate = rate

    async def caller(self, authorization: str | None) -> Caller:
        """Return whose key it is, or who holds a link."""
        scheme, token = _parts(authorization)
        if scheme == "link":
            return _holder(self._read_link(token))
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


def _holder(link: Link | None) -> Caller:
    if link is None:
        raise Unauthenticated("the link was not signed by this server")
    scope = _OF_PAGES.get(link.kind, Scope.LINK)
    return Caller(link.workspace_id, frozenset({scope}), link=link)
