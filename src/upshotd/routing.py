"""Which provider serves which channel, as the settings say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from upshotd.adapters.fetching import OutsideFetcher
from upshotd.adapters.fetching.model import Endpoint, ModelFetcher
from upshotd.adapters.fetching.web import WebFetcher
from upshotd.adapters.http import sendgrid
from upshotd.adapters.http.callbacks import Keys
from upshotd.adapters.providers.build import CHANNELS, build
from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.twilio_notify import LAST_DAY
from upshotd.application.breakers import Breakers
from upshotd.application.health import ProviderHealth
from upshotd.application.provider import Provider
from upshotd.config import SECRET_CHARS, Settings
from upshotd.domain.definitions import Carrier
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.secret_files import Renewed

log = structlog.get_logger("upshot.app")

#: Name and kind of the provider that stands in when none is configured.
STAND_IN = "console"
#: Kinds whose callbacks a token of Twilio signs.
TWILIO = frozenset({"twilio", "twilio_notify"})


def providers(settings: Settings, home: Home) -> dict[str, Provider]:
    """Return the providers by name; the console alone when none is configured, and say so.

    Raises InvalidArgument with every fault of every table.
    """
    if not settings.providers:
        log.warning(
            "provider.none_configured",
            consequence="NO MESSAGE LEAVES THIS MACHINE: every channel is printed on stdout",
        )
        return {STAND_IN: build(STAND_IN, STAND_IN, {}, home)}
    made: dict[str, Provider] = {}
    faults = _unfit(settings)
    for table in settings.providers.values():
        try:
            made[table.name] = build(table.kind, table.name, table.options, home)
        except InvalidArgument as error:
            faults += error.violations
    if faults:
        raise InvalidArgument("the settings have faults", tuple(faults))
    for table in settings.providers.values():
        if last_day := ends(table.kind):
            consequence = "no push leaves after that day; kind fcm is the way forward"
            log.warning("provider.ends", provider=table.name, on=last_day, consequence=consequence)
    return made


def ends(kind: str) -> str:
    """Return the last day of a kind of provider; empty for one that has none."""
    return LAST_DAY if kind == "twilio_notify" else ""


def carriers(
    settings: Settings, made: Mapping[str, Provider]
) -> dict[Channel, tuple[Carrier, ...]]:
    """Return who serves each channel, first choice first; without any it is UNROUTABLE."""
    if not settings.providers:
        every = (channel for channel in Channel if channel is not Channel.UNSPECIFIED)
        return {channel: (Carrier(STAND_IN, made[STAND_IN].idempotent),) for channel in every}
    return {
        channel: tuple(Carrier(name, made[name].idempotent) for name in names)
        for channel, names in settings.channels.items()
    }


@dataclass(frozen=True, slots=True)
class Sending:
    """What a server sends by, and asks by."""

    providers: Mapping[str, Provider]
    carriers: Mapping[Channel, tuple[Carrier, ...]]
    breakers: Breakers
    health: ProviderHealth
    fetcher: OutsideFetcher


def sending(settings: Settings, home: Home, now_us: Callable[[], int]) -> Sending:
    """Return it; *now_us* is the clock of messages, a lab's too. Raises as `providers` does."""
    made = providers(settings, home)
    serving, breakers = carriers(settings, made), Breakers(now_us, settings.breaker)
    health = ProviderHealth(serving, breakers, now_us)
    return Sending(made, serving, breakers, health, fetcher(settings, home))


def callback_keys(settings: Settings, home: Home) -> Keys:
    """Return by what callbacks are checked; raises InvalidArgument with every fault."""
    sendgrid_keys, twilio_tokens = {}, {}
    faults: list[Violation] = []
    for table in settings.providers.values():
        options = Options(table.name, table.options, home.environ, home.secrets)
        if table.kind in TWILIO:
            tokens = (options.text("auth_token"), options.text("secondary_auth_token"))
            twilio_tokens[table.name] = tuple(token for token in tokens if token)
        if table.kind == "sendgrid":
            text = options.text("webhook_key")
            try:
                sendgrid_keys[table.name] = sendgrid.public_keys(text)
            except ValueError as error:
                faults.append(Violation(f"providers.{table.name}.webhook_key", str(error)))
    segment = _webhook_secret(settings, home, faults)
    if faults:
        raise InvalidArgument("the settings have faults", tuple(faults))
    return Keys(
        sendgrid={name: keys for name, keys in sendgrid_keys.items() if keys},
        twilio=twilio_tokens,
        segment=segment,
        public_url=home.public_url,
    )


def fetcher(settings: Settings, home: Home) -> OutsideFetcher:
    """Return who asks what steps want to know. Raises InvalidArgument with every fault."""
    outside, faults = settings.outside, []

    def secret(name: str) -> str:
        """Return a secret as it is now: a file may change. KeyError for one that is not there."""
        where, what = outside.secrets[name]
        if where == "env":
            return home.environ[what]
        home.secrets.version()
        return home.secrets.text(what)

    for name in outside.secrets:
        try:
            secret(name)
        except KeyError:
            text = "the environment variable that it names is not set"
            faults.append(Violation(f"secrets.{name}", text))
        except ValueError as error:
            faults.append(Violation(f"secrets.{name}", str(error)))
    model = outside.model
    if model is not None and model.secret and model.secret not in outside.secrets:
        faults.append(Violation("generate.secret", f"is {model.secret!r}, which is no [secrets]"))
    if faults:
        raise InvalidArgument("the settings have faults", tuple(faults))
    endpoint = None
    if model is not None:
        endpoint = Endpoint(model.endpoint, model.model, model.secret)
    return OutsideFetcher(WebFetcher(outside.hosts, secret), ModelFetcher(endpoint, secret))


def current_keys(settings: Settings, home: Home) -> Renewed[Keys]:
    """Return the same as they are at each time: what is in files may change."""

    def make() -> Keys:
        return callback_keys(settings, home)

    return Renewed(make(), make, home.secrets.version, "callbacks")


def _webhook_secret(settings: Settings, home: Home, faults: list[Violation]) -> str:
    path = settings.webhook_secret_file
    if not path:
        return settings.webhook_secret
    try:
        text = home.secrets.text(path)
    except ValueError as error:
        text = ""
        faults.append(Violation("segment.webhook_secret_file", f"{path}: {error}"))
    if 0 < len(text) < SECRET_CHARS:
        words = f"{path}: must have {SECRET_CHARS} characters or more"
        faults.append(Violation("segment.webhook_secret_file", words))
    return text


def _unfit(settings: Settings) -> list[Violation]:
    """Return the channels whose provider cannot carry them."""
    found = []
    for channel, name in ((c, name) for c, names in settings.channels.items() for name in names):
        kind = settings.providers[name].kind
        if channel not in CHANNELS.get(kind, frozenset(Channel)):
            text = f"is {name!r}, of kind {kind}, which does not carry it"
            found.append(Violation(f"channels.{channel.name.lower()}", text))
    return found
