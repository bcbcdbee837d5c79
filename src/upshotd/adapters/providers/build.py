"""Providers out of the settings: which kinds there are and what each can carry."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from upshotd.adapters.providers import (
    console,
    fcm,
    null,
    resend,
    sendgrid,
    slack,
    smtp,
    twilio,
    twilio_notify,
    webhook,
)
from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.rotating import RotatingProvider
from upshotd.application.provider import Provider
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.secret_files import Renewed

_ALL = frozenset(Channel) - {Channel.UNSPECIFIED}
#: Which channels a kind of provider can serve.
CHANNELS: Mapping[str, frozenset[Channel]] = MappingProxyType(
    {
        "console": _ALL,
        "null": _ALL,
        "smtp": frozenset({Channel.EMAIL}),
        "sendgrid": frozenset({Channel.EMAIL}),
        "resend": frozenset({Channel.EMAIL}),
        "twilio": frozenset({Channel.SMS}),
        "slack": frozenset({Channel.CHAT}),
        "fcm": frozenset({Channel.PUSH}),
        "twilio_notify": frozenset({Channel.PUSH}),
        "webhook": _ALL,
    }
)
_KINDS: Mapping[str, Callable[[str, Options, Home], Provider]] = MappingProxyType(
    {
        "console": console.make,
        "null": null.make,
        "smtp": smtp.make,
        "sendgrid": sendgrid.make,
        "resend": resend.make,
        "twilio": twilio.make,
        "slack": slack.make,
        "fcm": fcm.make,
        "twilio_notify": twilio_notify.make,
        "webhook": webhook.make,
    }
)


def build(kind: str, name: str, options: Mapping[str, object], home: Home) -> Provider:
    """The provider called *name*, out of its table in the settings without `kind`.

    Raises InvalidArgument that names every option which is missing, wrong or unknown, as
    `providers.<name>.<option>`; secrets are never in its text.
    """
    make = _KINDS.get(kind)
    if make is None:
        field, known = f"providers.{name}.kind", ", ".join(_KINDS)
        raise InvalidArgument(
            f"providers.{name} is of no known kind",
            (Violation(field, f"is {kind!r}; there are: {known}"),),
        )
    read = Options(name, options, home.environ, home.secrets)
    provider = make(name, read, home)
    if not read.files:
        return provider

    def again() -> Provider:
        return make(name, Options(name, options, home.environ, home.secrets), home)

    return RotatingProvider(
        Renewed(provider, again, lambda: home.secrets.version(read.files), name)
    )
