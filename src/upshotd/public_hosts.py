"""HTTP to addresses that others chose: only hosts of the internet, and no way around it.

An address may be made of what a person said. So the address that is connected to is the very one
that was looked at, and no name can change what it means in between. Whoever follows a redirect
looks at it first, as at any other address.
"""

import socket
from ipaddress import IPv6Network, ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

#: Where hosts of the internet are in the new protocol. Outside are also those of the old one in
#: other clothes, whatever they lead to.
_UNICAST: Final = IPv6Network("2000::/3")


class NotPublic(OSError):
    """An address or a name that leads to a host which is not public."""


def session(hosts: frozenset[str]) -> aiohttp.ClientSession:
    """Return a client that reaches public hosts, and *hosts* (`name:port`) whatever they are.

    It does not look at addresses in numbers: `look_at` does.
    """
    connector = aiohttp.TCPConnector(
        resolver=_PublicResolver(hosts), use_dns_cache=False, force_close=True
    )
    return aiohttp.ClientSession(
        connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    )


def look_at(url: str, hosts: frozenset[str]) -> None:
    """Raise ValueError for what is no web address, NotPublic for one in numbers that is not public.

    What a name means the session's resolver looks at.
    """
    # As the client reads it: it takes digits of every script for a number.
    parts = URL(url)
    host, user = parts.raw_host or "", parts.raw_user or parts.raw_password
    if parts.scheme not in ("http", "https") or not host or user is not None:
        raise ValueError("is no http or https address")
    if not url.isprintable():
        raise ValueError("is no http or https address")
    if f"{host}:{parts.port}" in hosts:
        return
    in_numbers = ":" in host or host.replace(".", "").isdigit()
    if in_numbers and not is_public(host):
        raise NotPublic("is not public")


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet; ValueError where it is none."""
    found = ip_address(address.partition("%")[0])
    if found.version == 6:
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found not in _UNICAST or found.sixtofour is not None or found.teredo is not None:
            return False
    return found.is_global and not found.is_multicast


def cause(error: BaseException) -> BaseException:
    """Return what lies behind an error of aiohttp: the NotPublic that it wraps, for example."""
    inner = getattr(error, "os_error", None) or error.__cause__
    return inner if isinstance(inner, OSError) else error


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
            raise NotPublic(f"{host} is not public")
        return public

    async def close(self) -> None:
        await self._system.close()
