"""Asks addresses of the web: public hosts only, redirects included, and what the settings name."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp

from upshotd import public_hosts
from upshotd.adapters.fetching.answers import answer
from upshotd.domain.fetching import FetchResult, HttpMethod, HttpRequest, Parts, Secret, Unfetched

#: Longest answer, in bytes: it becomes a part of the run.
ANSWER_BYTES_MAX: Final = 64 * 1024
REDIRECTS_MAX: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class WebFetcher:
    """Asks over one session."""

    def __init__(self, hosts: frozenset[str], secret: Callable[[str], str]) -> None:
        """*hosts* may be asked although they are not public, as `name:port`. *secret* returns what
        a header may name, and raises KeyError for what it does not have."""
        self._hosts = hosts
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: HttpRequest, key: str) -> FetchResult:
        """Make one attempt; *key* is the same for every attempt of a step."""
        try:
            headers = {name: self._text(parts) for name, parts in request.headers.items()}
        except KeyError as missing:
            return Unfetched("NO_SECRET", f"the settings have no secret {missing.args[0]}")
        headers = {"accept": "application/json", "user-agent": "upshot", **_lower(headers)}
        if request.method is not HttpMethod.GET:
            headers = {"content-type": "application/json", "idempotency-key": key, **headers}
        try:
            return await self._followed(request, headers)
        except public_hosts.NotPublic:
            return Unfetched("NOT_PUBLIC", _not_public(request.url))
        except ValueError:
            return Unfetched("INVALID_URL", "the address is no http or https address")
        except (aiohttp.ClientError, OSError) as error:
            cause = public_hosts.cause(error)
            if isinstance(cause, public_hosts.NotPublic):
                return Unfetched("NOT_PUBLIC", _not_public(request.url))
            if isinstance(error, aiohttp.InvalidURL):
                return Unfetched("INVALID_URL", "the address is no http or https address")
            return Unfetched("UNREACHABLE", type(cause).__name__, again=True)

    async def _followed(self, request: HttpRequest, headers: Mapping[str, str]) -> FetchResult:
        """Ask, and go where the answer says; what was meant for one host goes to no other."""
        url = request.url
        for _ in range(REDIRECTS_MAX + 1):
            public_hosts.look_at(url, self._hosts)
            async with self._open().request(
                request.method.name,
                url,
                data=request.body.encode() or None,
                headers=headers,
                allow_redirects=False,
            ) as response:
                if response.status not in _REDIRECTS or request.method is not HttpMethod.GET:
                    return await answer(response, ANSWER_BYTES_MAX)
                there = urljoin(url, response.headers.get("Location", ""))
            if _origin(there) != _origin(url):
                headers = {"accept": "application/json", "user-agent": "upshot"}
            url = there
        return Unfetched("HTTP_ERROR", "more redirects than are followed")

    def _text(self, parts: Parts) -> str:
        """Return a header's value; raises KeyError for a secret that the settings do not have."""
        texts = (self._secret(p.name) if isinstance(p, Secret) else p for p in parts)
        return "".join(texts).strip()

    async def close(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = public_hosts.session(self._hosts)
        return self._session


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _not_public(url: str) -> str:
    return f"{_host(url)}, or where it leads, is not public, nor among fetch.hosts of the settings"


def _host(url: str) -> str:
    """Return the host of an address: the rest of it may be a secret."""
    try:
        return (urlsplit(url).hostname or "the host")[:100]
    except ValueError:
        return "the host"
