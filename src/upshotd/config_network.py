"""Settings of the network: where to listen, who may call, by which certificates."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from upshotd.config_reading import Reader, flag
from upshotd.domain.quota import rate_of


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    #: 0 lets the system choose.
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may call."""

    #: Whether every call needs a key.
    required: bool = False
    #: Makes the first keys, in every workspace, and can do nothing else; empty for none.
    root_key: str = field(default="", repr=False)
    #: Quota of keys without one, a second; 0 for none.
    rate: int = 0


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM; without a certificate the ports are not encrypted."""

    #: The certificate, and those that it was signed by behind it.
    cert: Path | None = None
    key: Path | None = None
    #: Whose certificates callers of gRPC must show; None asks for none.
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """Both ports, and what stands in front of them."""

    #: gRPC.
    listen: Address = Address("127.0.0.1", 7070)
    #: The HTTP edge.
    http: Address = Address("127.0.0.1", 7071)
    auth: Auth = Auth()
    tls: Tls = Tls()
    #: Whether gRPC tells strangers what there is to call; None: on loopback only.
    reflection: bool | None = None

    @property
    def reflected(self) -> bool:
        """Whether gRPC tells what there is to call."""
        return self.listen.loopback if self.reflection is None else self.reflection


def network(reader: Reader) -> Network:
    """Read what is said about the network.

    Others can reach it only with keys and TLS, unless it is told to do without.
    """
    plain = Network()
    found = Network(
        listen=reader.read("listen", plain.listen, address),
        http=reader.read("http", plain.http, address),
        auth=Auth(
            required=reader.read("auth.required", False, flag),
            root_key=reader.read("auth.root_key", "", _root_key),
            rate=reader.read("auth.rate", 0, _rate),
        ),
        tls=Tls(
            cert=reader.read("tls.cert", None, _file),
            key=reader.read("tls.key", None, _file),
            client_ca=reader.read("tls.client_ca", None, _file),
        ),
        reflection=reader.read("reflection", None, flag),
    )
    insecure = reader.read("insecure", False, flag)
    tls = found.tls
    if (tls.cert is None) != (tls.key is None):
        reader.fault("tls.key" if tls.key is None else "tls.cert", "is required beside the other")
    if tls.client_ca is not None and tls.cert is None:
        reader.fault("tls.cert", "is required where callers must show certificates")
    guarded = found.auth.required and tls.cert is not None
    for path, where in (("listen", found.listen), ("http", found.http)):
        if not (where.loopback or guarded or insecure):
            text = (
                f"{where} can be reached by others: set auth.required and tls.cert, or "
                "insecure = true where something in front of it checks and encrypts"
            )
            reader.fault(path, text)
    return found


def address(value: object) -> Address:
    """An address as `127.0.0.1:7070` or `[::1]:7070`; a port alone is on loopback."""
    text = f":{value}" if isinstance(value, int) and not isinstance(value, bool) else value
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, as 127.0.0.1:7070")
    return Address(host, int(port))


def url(value: object) -> str:
    """An address as the world sees it, without a slash at the end."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ValueError("must be an address as https://example.com/m")
    return str(value).rstrip("/")


def _root_key(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not 32 <= len(text) <= 200 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be 32 to 200 printable characters, without spaces")
    return text


def _rate(value: object) -> int:
    return rate_of(value if isinstance(value, str) else "")


def _file(value: object) -> Path | None:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the path of a file")
    return Path(value)
