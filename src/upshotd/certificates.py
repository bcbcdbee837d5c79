"""Certificates of the two ports, out of the files that the settings name."""

import ssl
from pathlib import Path

import grpc

from upshotd.config_network import Tls
from upshotd.domain.errors import InvalidArgument, Violation


def grpc_credentials(tls: Tls) -> grpc.ServerCredentials | None:
    """Return what gRPC shows and asks for; None for a port that is not encrypted.

    Raises InvalidArgument for a file that cannot be read.
    """
    if tls.cert is None or tls.key is None:
        return None
    pair = (_bytes(tls.key, "tls.key"), _bytes(tls.cert, "tls.cert"))
    authority = _bytes(tls.client_ca, "tls.client_ca") if tls.client_ca is not None else None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authority, require_client_auth=authority is not None
    )


def edge_context(tls: Tls) -> ssl.SSLContext | None:
    """Return what the HTTP edge shows: the same certificate; it asks nobody for one.

    Raises InvalidArgument for files that are no certificate and its key.
    """
    if tls.cert is None or tls.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_phrase)
    except _EncryptedError:
        text = "is encrypted: it is read without a pass phrase, which nobody is asked for"
        raise InvalidArgument.of([Violation("tls.key", text)]) from None
    except (OSError, ssl.SSLError) as error:
        text = f"is no certificate with this key: {error.__class__.__name__}"
        raise InvalidArgument.of([Violation("tls.cert", text)]) from None
    return context


class _EncryptedError(Exception):
    """A key wants a pass phrase."""


def _no_phrase() -> str:
    # Without this the library would ask whoever sits at the terminal, and wait.
    raise _EncryptedError


def _bytes(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
        raise InvalidArgument.of([Violation(setting, text)]) from None
