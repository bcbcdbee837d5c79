"""The channel to a server: by the key and the certificates that the environment names."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
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
    credentials = _credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(server, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(server, credentials, options=options, interceptors=interceptors)


def _credentials() -> grpc.ChannelCredentials | None:
    """Return what a server with TLS is checked by, and shown; None for one without.

    UPSHOT_TLS_CA is a file, or `system` for the authorities that this machine trusts;
    UPSHOT_TLS_CLIENT_CERT and UPSHOT_TLS_CLIENT_KEY are shown to a server that asks for them.
    """
    authority = os.environ.get("UPSHOT_TLS_CA", "")
    if not authority:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=None if authority == "system" else _file("UPSHOT_TLS_CA"),
        private_key=_file("UPSHOT_TLS_CLIENT_KEY"),
        certificate_chain=_file("UPSHOT_TLS_CLIENT_CERT"),
    )


def _file(variable: str) -> bytes | None:
    path = os.environ.get(variable, "")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{variable}: {path} cannot be read: {error.strerror}") from None


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
