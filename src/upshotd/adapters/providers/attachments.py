"""Files that an e-mail carries: fetched from their addresses when it is sent.

An address may be made of what a person said. So only public hosts are asked, and the address that
is connected to is the very one that was looked at: no name can change what it means in between.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.message import Attachment

#: All files of one e-mail together, in bytes.
BYTES_MAX: Final = 10 * 1024 * 1024
#: What fetching all of them may take, in seconds: the rest of an attempt is the mail server's.
FETCH_S: Final = 4.0
REDIRECTS_MAX: Final = 3
_CHUNK: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429})
_TYPE = re.compile(r"(application|audio|font|image|text|video)/([a-z0-9][a-z0-9.+_-]{0,80})")
#: Addresses of the old protocol inside the new one, whatever they lead to.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it goes into an e-mail."""

    name: str
    maintype: str
    subtype: str
    data: bytes


class Unfetched(Exception):
    """A file that could not be had; *again* says whether it may be had later."""

    def __init__(self, detail: str, *, again: bool) -> None:
        super().__init__(detail)
        self.again = again


class Files:
    """Fetches attachments. *hosts* may be asked although they are not public, as `name:port`."""

    def __init__(self, hosts: frozenset[str] = frozenset()) -> None:
        self._hosts = hosts
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, attachments: Sequence[Attachment]) -> list[File]:
        """Return the files, in order. Raises Unfetched."""
        files: list[File] = []
        left = BYTES_MAX
        try:
            async with asyncio.timeout(FETCH_S):
                for attachment in attachments:
                    files.append(await self._file(attachment, left))
                    left -= len(files[-1].data)
        except TimeoutError:
            raise Unfetched(f"attachments took longer than {FETCH_S:g} s", again=True) from None
        return files

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    async def _file(self, attachment: Attachment, most: int) -> File:
        url = attachment.url
        for _ in range(REDIRECTS_MAX + 1):
            self._look_at(url)
            try:
                async with self._client().get(url, allow_redirects=False) as response:
                    if response.status in _REDIRECTS:
                        url = urljoin(url, response.headers.get("Location", ""))
                        continue
                    return await _read(response, attachment, most)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # An address that is none is a ValueError, aiohttp's own as well.
                never = isinstance(error, ValueError) or isinstance(_cause(error), _NotPublicError)
                raise Unfetched(_words(url, str(_cause(error))), again=not never) from None
        raise Unfetched(_words(url, "more redirects than are followed"), again=False)

    def _look_at(self, url: str) -> None:
        """Refuse what is no web address, and addresses in numbers that are not public."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Unfetched(_words(url, "is no address"), again=False) from None
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host or has_controls(url) or parts.username:
            raise Unfetched(_words(url, "is no http or https address"), again=False)
        if f"{host}:{port}" in self._hosts:
            return
        try:
            public = is_public(host)
        except ValueError:
            return  # a name: the resolver looks at what it means
        if not public:
            raise Unfetched(_words(url, "is not public"), again=False)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_PublicResolver(self._hosts), use_dns_cache=False, force_close=True
            )
            self._session = aiohttp.ClientSession(
                connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


class _NotPublicError(OSError):
    """A name that leads to a host which is not public."""


class _PublicResolver(AbstractResolver):
    """Finds the addresses of names, and leaves out those that are not public."""

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        if f"{host}:{port}" in self._hosts:
            return found
        public = [one for one in found if is_public(one["host"])]
        if not public:
            raise _NotPublicError(f"{host} is not public")
        return public

    async def close(self) -> None:
        await self._system.close()


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet; ValueError where it is none."""
    found = ip_address(address.partition("%")[0])
    if found.version == 6:
        if found in _TRANSLATED or found.sixtofour is not None or found.teredo is not None:
            return False
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


async def _read(response: aiohttp.ClientResponse, attachment: Attachment, most: int) -> File:
    url = attachment.url
    if response.status != 200:
        again = response.status >= 500 or response.status in _PASSING
        raise Unfetched(_words(url, f"answered {response.status}"), again=again)
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > most:
            text = f"attachments are larger than {BYTES_MAX // 2**20} MiB"
            raise Unfetched(text, again=False)
    kind = _TYPE.fullmatch(response.content_type.lower())
    maintype, subtype = kind.groups() if kind is not None else ("application", "octet-stream")
    return File(attachment.filename or _name(url), maintype, subtype, bytes(data))


def _name(url: str) -> str:
    """Return the last part of an address that is a name."""
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return last if last and not has_controls(last) else "attachment"


def _cause(error: BaseException) -> BaseException:
    inner = getattr(error, "os_error", None) or error.__cause__
    return inner if isinstance(inner, OSError) else error


def _words(url: str, what: str) -> str:
    """Return what is wrong, with the host only: the rest of an address may be a secret."""
    try:
        host = urlsplit(url).hostname or "an attachment"
    except ValueError:
        host = "an attachment"
    return f"attachment from {host[:100]}: {what[:200]}"
