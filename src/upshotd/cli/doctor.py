"""`upshot doctor`: whether the settings can work, and what the others must be configured with."""

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import click

from upshotd import routing
from upshotd.adapters.clock import SystemClock
from upshotd.adapters.providers.options import Home
from upshotd.adapters.providers.rotating import RotatingProvider
from upshotd.application.provider import Provider
from upshotd.certificates import edge_context, grpc_credentials
from upshotd.cli import output
from upshotd.cli.serve import EXIT_USAGE, give_up, read_settings
from upshotd.config import ProviderTable, Settings
from upshotd.domain.errors import InvalidArgument

_KEYS: Final = frozenset({"webhook_key", "webhook_key_env", "webhook_key_file"})
#: A provider did not take what it was shown.
EXIT_REFUSED: Final = 1


@runtime_checkable
class Checked(Protocol):
    """A provider that can say whether its credentials are good."""

    async def check(self) -> str:
        """Return what is wrong with them; empty when they are good. Sends nothing."""


@click.command(
    epilog="""\b
    Examples:
      upshot doctor --config upshot.toml
      upshot doctor --config upshot.toml --ask
    """
)
@click.option(
    "--config",
    "config_file",
    envvar="UPSHOT_CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The settings file. [env: UPSHOT_CONFIG]",
)
@click.option("--ask", is_flag=True, help="Show each provider its credentials; sends nothing.")
def doctor(config_file: Path | None, ask: bool) -> None:
    """Check the settings, and say what Segment and the providers must be configured with.

    Ends with 2 for faulty settings, with 1 where a provider refuses its credentials.
    """
    settings = read_settings(config_file, {})
    home = Home(SystemClock().now_us, os.environ, public_url=settings.public_url)
    try:
        providers = routing.providers(settings, home)
        routing.callback_keys(settings, home)
        routing.fetcher(settings, home)
        edge_context(settings.network.tls, home.secrets)
        grpc_credentials(settings.network.tls, home.secrets)
    except InvalidArgument as error:
        give_up(error, EXIT_USAGE)
        raise  # not reached: giving up ends the program
    states = asyncio.run(_states(providers, ask=ask))
    rows = [(n, _kind(settings, n), _channels(settings, n), states[n]) for n in providers]
    output.table(("PROVIDER", "KIND", "CHANNELS", "CREDENTIALS"), rows, "no providers")
    for line in (*_warnings(settings), *_set_up(settings)):
        click.echo(line)
    if any(state.startswith("refused") for state in states.values()):
        sys.exit(EXIT_REFUSED)


async def _states(providers: Mapping[str, Provider], *, ask: bool) -> dict[str, str]:
    async def state(provider: Provider) -> str:
        try:
            one = provider.current if isinstance(provider, RotatingProvider) else provider
            if not isinstance(one, Checked):
                return "has none that can be checked"
            wrong = await one.check() if ask else None
            return "not asked" if wrong is None else f"refused: {wrong}" if wrong else "good"
        finally:
            await provider.close()

    found = await asyncio.gather(*map(state, providers.values()))
    return dict(zip(providers, found, strict=True))


def _kind(settings: Settings, name: str) -> str:
    table = settings.providers.get(name)
    return table.kind if table is not None else routing.STAND_IN


def _channels(settings: Settings, name: str) -> str:
    if not settings.providers:
        return "all"
    served = (c.name.lower() for c, names in settings.channels.items() if name in names)
    return " ".join(served) or "none"


def _warnings(settings: Settings) -> Iterator[str]:
    """Yield what works, and not as people may expect."""
    if not settings.providers:
        yield "! no provider is configured: every message is printed, none leaves this machine"
    if not settings.public_url:
        yield "! public_url is not set: links and callbacks lead to this machine only"
    elif not settings.public_url.startswith("https://"):
        yield "! public_url is no https: Twilio and mail programs want it"
    if not settings.network.auth.required:
        yield "! auth.required is not set: whoever reaches the ports can send in your name"
    if settings.outside.model is None:
        yield "! generate.endpoint is not set: generate steps get no answer (NOT_CONFIGURED)"
    for table in settings.providers.values():
        if table.kind == "sendgrid" and not _KEYS & set(table.options):
            yield f"! providers.{table.name}.webhook_key is not set: SendGrid's events are refused"
        if last_day := routing.ends(table.kind):
            yield f"! providers.{table.name}: Twilio ends Notify on {last_day}; move to kind fcm"


def _set_up(settings: Settings) -> Iterator[str]:
    """Yield, step by step, what is to be configured elsewhere."""
    base = settings.public_url or "https://THE-ADDRESS-OF-YOUR-PROXY"
    for table in settings.providers.values():
        yield from _at_provider(table, base)
    yield ""
    yield "At Segment, events in:"
    yield f"  SDKs: host {base} (or the edge itself), write key: a key of scope ingest"
    yield f"  Webhooks (Actions): URL {base}/inbound/segment/KEY, POST, batching on; shared secret:"
    secret = settings.webhook_secret or settings.webhook_secret_file
    known = "the one of segment.webhook_secret" if secret else "(none is set here)"
    yield f"    {known}"
    yield "At Segment, outcomes out:"
    yield "  a source of kind HTTP API; its write key is UPSHOT_SEGMENT_WRITE_KEY of `upshot relay`"
    yield "  leave the source out of the destination above, so that outcomes do not come back"


def _at_provider(table: ProviderTable, base: str) -> Iterator[str]:
    if table.kind == "sendgrid":
        yield ""
        yield f"At SendGrid, for {table.name}:"
        yield "  1. Settings, API Keys: a key with Mail Send, as api_key"
        yield "  2. Settings, Sender Authentication: the domain of `from`"
        yield "  3. Settings, Mail Settings, Event Webhooks, create:"
        yield f"     Post URL {base}/callbacks/sendgrid/{table.name}"
        yield "     all events; Signature Verification on; its public key as webhook_key"
    if table.kind == "twilio":
        yield ""
        yield f"At Twilio, for {table.name}:"
        yield "  1. Nothing for what becomes of messages: each one names where it tells,"
        yield f"     {base}/callbacks/twilio/{table.name}/..."
        yield "  2. For answers (STOP too), at the number or its Messaging Service:"
        yield "     A message comes in, Webhook, HTTP POST, URL"
        yield f"     {base}/callbacks/twilio/{table.name}/inbound/default"
        yield "     with the workspace they are for in place of default"
    if table.kind == "twilio_notify":
        yield ""
        yield f"At Twilio, for {table.name}:"
        yield "  1. Account, Credentials, Push Credentials: the key of Firebase or Apple"
        yield "  2. Notify, Services: one with that credential; its SID as service_sid"
        yield "  Each notification names where Notify tells:"
        yield f"  {base}/callbacks/twilio_notify/{table.name}/..."
    if table.kind == "fcm":
        yield ""
        yield f"At Firebase, for {table.name}:"
        yield "  1. Project settings, Cloud Messaging: the API (V1) enabled; for iOS a key of APNs"
        yield "  2. Project settings, Service accounts, Generate new private key:"
        yield "     as service_account or service_account_file"
        yield "In the app: give the token as context.device.token (Segment's SDKs do), and call"
        yield "  RecordEngagement with upshot_message_id of the data when a notification is opened"
