"""A channel whose every call brings the key of UPSHOT_KEY."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
import grpc
from grpc.aio import (
    ClientCallDetails,
    Metadata,
    UnaryStreamClientInterceptor,
    UnaryUnaryClientInterceptor,
)

#: Where the key is: not on the command line, which every user of the machine can read.
VARIABLE: Final = "UPSHOT_KEY"


def channel(server: str, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
    """Return a channel to *server*; without the variable its calls bring no key."""
    key = os.environ.get(VARIABLE, "")
    if not key.isascii() or not key.isprintable():
        raise click.UsageError(f"{VARIABLE} is no key: it has characters that none has")
    interceptors = [_Unary(key), _Stream(key)] if key else None
    return grpc.aio.insecure_channel(server, options=options, interceptors=interceptors)


class _Unary(UnaryUnaryClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with(details, self._key), request)


class _Stream(UnaryStreamClientInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], details: ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(_with(details, self._key), request)


def _with(details: ClientCallDetails, key: str) -> ClientCallDetails:
    metadata = Metadata(*(details.metadata or ()), ("authorization", f"Bearer {key}"))
    return ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
