"""Providers out of the settings: which kinds there are, what each needs, what each can carry."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import urlsplit

from upshotd.adapters.providers.console import ConsoleProvider
from upshotd.adapters.providers.mime import ascii_domain
from upshotd.adapters.providers.null import NullProvider
from upshotd.adapters.providers.options import Options
from upshotd.adapters.providers.smtp import SmtpProvider, SmtpSettings
from upshotd.adapters.providers.webhook import WebhookProvider, WebhookSettings, keys_of
from upshotd.adapters.providers.wording import has_controls
from upshotd.application.ports import Provider
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel

_ALL = frozenset(Channel) - {Channel.UNSPECIFIED}
#: Which channels a kind of provider can serve.
CHANNELS: Mapping[str, frozenset[Channel]] = MappingProxyType(
    {
        "console": _ALL,
        "null": _ALL,
        "smtp": frozenset({Channel.EMAIL}),
        "webhook": _ALL,
    }
)

_TIMEOUT_US = 15_000_000
_LONGEST_US = 120_000_000
_NAME_LENGTH = 100
_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
#: Headers that a webhook sets itself, or that the HTTP client must.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def build(
    kind: str,
    name: str,
    options: Mapping[str, object],
    now_us: Callable[[], int],
    environ: Mapping[str, str] = _NO_VARIABLES,
) -> Provider:
    """The provider called `name`, out of its table in the settings without `kind`.

    `now_us` is the wall clock in microseconds since the epoch; `environ` is where secrets named by
    `{env = ...}` are found. Raises InvalidArgument that names every option which is missing,
    wrong or unknown, as `providers.<name>.<option>`; secrets are never in its text.
    """
    make = _KINDS.get(kind)
    if make is None:
        field, known = f"providers.{name}.kind", ", ".join(_KINDS)
        raise InvalidArgument(
            f"providers.{name} is of no known kind",
            (Violation(field, f"is {kind!r}; there are: {known}"),),
        )
    return make(name, Options(name, options, environ), now_us)


def _console(name: str, options: Options, _now_us: Callable[[], int]) -> Provider:
    options.check("console")
    return ConsoleProvider(name)


def _null(name: str, options: Options, _now_us: Callable[[], int]) -> Provider:
    options.check("null")
    return NullProvider(name)


def _smtp(name: str, options: Options, now_us: Callable[[], int]) -> Provider:
    tls = _tls(options)
    from_name, from_address = _sender(options)
    settings = SmtpSettings(
        host=_host(options),
        port=options.number("port", _PORTS[tls], 1, 65_535),
        from_address=from_address,
        from_name=from_name,
        tls=tls,
        username=options.text("username"),
        password=options.text("password"),
        timeout_us=options.duration_us("timeout", _TIMEOUT_US, _LONGEST_US),
        attachment_hosts=_hosts(options),
    )
    if settings.password and not settings.username:
        options.fault("username", "is required beside a password")
    if settings.username and tls == "none" and not _is_loopback(settings.host):
        options.fault("tls", "must be starttls or tls where a password is sent")
    options.check("smtp")
    return SmtpProvider(name, settings, now_us)


def _tls(options: Options) -> Literal["none", "starttls", "tls"]:
    tls = options.text("tls") or "starttls"
    if tls not in _PORTS:
        options.fault("tls", "must be none, starttls or tls")
        return "starttls"
    return cast(Literal["none", "starttls", "tls"], tls)


def _host(options: Options) -> str:
    host = options.text("host", required=True)
    if has_controls(host) or any(character in " /@<>" for character in host):
        options.fault("host", "must be a host name or an IP address")
    return host


def _hosts(options: Options) -> frozenset[str]:
    """Hosts with their ports, with commas between."""
    given = options.text("attachment_hosts")
    hosts = frozenset(part.strip() for part in given.split(",") if part.strip())
    if any(not host or not port.isdigit() for host, _, port in (h.rpartition(":") for h in hosts)):
        options.fault("attachment_hosts", "must be host:port, with commas between")
    return hosts


def _sender(options: Options) -> tuple[str, str]:
    """Display name and address out of `Name <name@example.com>`, or the address alone."""
    given = options.text("from", required=True).strip()
    if not given:
        return "", ""
    name, bracket, rest = given.rpartition("<")
    name, address = name.strip().strip('"'), rest.removesuffix(">") if bracket else given
    try:
        address = ascii_domain(address)
    except ValueError:
        options.fault("from", "must be an e-mail address, or Name <address>")
    if has_controls(name) or len(name) > _NAME_LENGTH or not address.isascii():
        options.fault("from", "has a name or an address that cannot be a header")
    return name, address


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _webhook(name: str, options: Options, now_us: Callable[[], int]) -> Provider:
    settings = WebhookSettings(
        url=_url(options),
        keys=_keys(options),
        timeout_us=options.duration_us("timeout", _TIMEOUT_US, _LONGEST_US),
        headers=_headers(options),
    )
    options.check("webhook")
    return WebhookProvider(name, settings, now_us)


def _url(options: Options) -> str:
    url = options.text("url", required=True)
    if url and not _is_web_address(url):
        options.fault("url", "must be http:// or https:// with a host and no password in it")
    return url


def _is_web_address(url: str) -> bool:
    if has_controls(url) or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    web = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    return web and "@" not in parts.netloc


def _keys(options: Options) -> tuple[bytes, ...]:
    secrets = options.text("secret", required=True)
    if not secrets:
        return ()
    try:
        return keys_of(secrets)
    except ValueError as error:
        options.fault("secret", str(error))
        return ()


def _headers(options: Options) -> dict[str, str]:
    headers = options.texts("headers")
    for header, value in headers.items():
        if not header or not _TOKEN.issuperset(header.lower()):
            options.fault(f"headers.{header}", "is no name of a header")
        elif header.lower() in _OWN_HEADERS:
            options.fault(f"headers.{header}", "is set by Upshot itself")
        if has_controls(value) or not value.isascii():
            options.fault(f"headers.{header}", "must be printable ASCII")
    return headers


_KINDS: Mapping[str, Callable[[str, Options, Callable[[], int]], Provider]] = MappingProxyType(
    {"console": _console, "null": _null, "smtp": _smtp, "webhook": _webhook}
)
