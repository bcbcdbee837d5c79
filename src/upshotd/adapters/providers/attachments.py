"""Files that an e-mail carries: fetched from their addresses when it is sent.

An address may be made of what a person said, so only public hosts are asked (`public_hosts`).
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from upshotd import public_hosts
from upshotd.adapters.providers.wording import has_controls
from upshotd.domain.message import Attachment
from upshotd.public_hosts import cause

#: All files of one e-mail together, in bytes.
BYTES_MAX: Final = 10 * 1024 * 1024
#: What fetching all of them may take, in seconds: the rest of an attempt is the mail server's.
FETCH_S: Final = 4.0
REDIRECTS_MAX: Final = 3
_CHUNK: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429})
_TYPE = re.compile(r"(application|audio|font|image|text|video)/([a-z0-9][a-z0-9.+_-]{0,80})")


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
                never = isinstance(error, ValueError) or isinstance(
                    cause(error), public_hosts.NotPublic
                )
                raise Unfetched(_words(url, str(cause(error))), again=not never) from None
        raise Unfetched(_words(url, "more redirects than are followed"), again=False)

    def _look_at(self, url: str) -> None:
        """Refuse what is no web address, and addresses in numbers that are not public."""
        try:
            public_hosts.look_at(url, self._hosts)
        except public_hosts.NotPublic:
            raise Unfetched(_words(url, "is not public"), again=False) from None
        except ValueError:
            raise Unfetched(_words(url, "is no http or https address"), again=False) from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = public_hosts.session(self._hosts)
        return self._session


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


def _words(url: str, what: str) -> str:
    """Return what is wrong, with the host only: the rest of an address may be a secret."""
    try:
        host = urlsplit(url).hostname or "an attachment"
    except ValueError:
        host = "an attachment"
    return f"attachment from {host[:100]}: {what[:200]}"
