"""Certificates for tests: an authority, what it signed, and a stranger's."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass
class Files:
    """An authority, and what it signed: `files.ca`, `files.server`, `files.server_key` ..."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


def made(folder: Path) -> Files:
    """Write them into *folder*: `ca` signs server and client, `other` signs a stranger."""
    found = Files(folder)
    for authority, names in (("ca", ("server", "client")), ("other", ("stranger",))):
        by = generate_private_key(SECP256R1())
        (folder / f"{authority}.pem").write_bytes(_signed(authority, by, authority, by))
        for name in names:
            key = generate_private_key(SECP256R1())
            text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}_key.pem").write_bytes(text)
            (folder / f"{name}.pem").write_bytes(_signed(name, key, authority, by))
    return found


def trusting(files: Files, authority: str = "ca", client: str = "") -> grpc.ChannelCredentials:
    """Return what a client of gRPC trusts, and shows where *client* names a certificate."""
    pair = [None, None]
    if client:
        names = (f"{client}_key.pem", f"{client}.pem")
        pair = [(files.folder / name).read_bytes() for name in names]
    root = (files.folder / f"{authority}.pem").read_bytes()
    return grpc.ssl_channel_credentials(root, *pair)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    name: str, key: EllipticCurvePrivateKey, issuer: str, by: EllipticCurvePrivateKey
) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(by, SHA256()).public_bytes(Encoding.PEM)
