"""Certificates of the two ports, out of the files that the settings name.

The files are looked at with each new connection, once a second at most: what was renewed is shown
to whoever comes next, and lines that stand are left alone. What is no certificate with its key, as
between the writing of the one and the other, changes nothing.
"""

import ssl
from pathlib import Path

import grpc

from upshotd.config_network import Tls
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.secret_files import Renewed, SecretFiles


def grpc_credentials(tls: Tls, files: SecretFiles) -> grpc.ServerCredentials | None:
    """Return what gRPC shows and asks for; None for a port that is not encrypted.

    Raises InvalidArgument for files that are no certificate and its key.
    """
    if tls.cert is None or tls.key is None:
        return None
    paths = [path for path in (tls.cert, tls.key, tls.client_ca) if path is not None]

    def make() -> grpc.ServerCertificateConfiguration:
        return _configuration(tls, files)

    first = make()
    renewed = Renewed(first, make, lambda: files.version([str(p) for p in paths]), "tls of gRPC")
    return grpc.dynamic_ssl_server_credentials(
        first, renewed, require_client_authentication=tls.client_ca is not None
    )


def edge_context(tls: Tls, files: SecretFiles) -> ssl.SSLContext | None:
    """Return what the HTTP edge shows: the same certificate; it asks nobody for one.

    Raises InvalidArgument for files that are no certificate and its key.
    """
    if tls.cert is None or tls.key is None:
        return None
    cert, key = str(tls.cert), str(tls.key)

    def make() -> ssl.SSLContext:
        _text(files, tls.cert, "tls.cert")
        _text(files, tls.key, "tls.key")
        return _context(tls.cert, tls.key)

    context = make()
    renewed = Renewed(make(), make, lambda: files.version((cert, key)), "tls of the edge")

    def show(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = renewed()

    context.sni_callback = show  # called with each handshake, also where no name is asked for
    return context


def _configuration(tls: Tls, files: SecretFiles) -> grpc.ServerCertificateConfiguration:
    pair = (_text(files, tls.key, "tls.key"), _text(files, tls.cert, "tls.cert"))
    _context(tls.cert, tls.key)  # gRPC would take one that is not of the other
    authority = _text(files, tls.client_ca, "tls.client_ca") if tls.client_ca else None
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=authority)


def _context(cert: Path | None, key: Path | None) -> ssl.SSLContext:
    assert cert is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=_no_phrase)
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


def _text(files: SecretFiles, path: Path | None, setting: str) -> bytes:
    try:
        return files.text(str(path)).encode()
    except ValueError as error:
        raise InvalidArgument.of([Violation(setting, f"{path}: {error}")]) from None
