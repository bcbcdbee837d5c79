"""`upshot relay`: tells other systems what happened, until it is told to end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import click

from upshotd import logs
from upshotd.adapters import failing
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.adapters.providers.secret_files import Renewed, SecretFiles
from upshotd.adapters.relay.outcome_log import (
    CHANNEL_OPTIONS,
    LogRefused,
    OutcomeLog,
    OutcomesLost,
    Reading,
)
from upshotd.adapters.relay.pauses import Pauses
from upshotd.adapters.relay.segment import SegmentRefused, SegmentRelay, Tally
from upshotd.adapters.relay.segment_api import SegmentApi
from upshotd.adapters.relay.settings import SegmentSettings, segment_settings, write_key_of
from upshotd.application import failpoints
from upshotd.cli import keyed
from upshotd.config import load
from upshotd.domain.errors import InvalidArgument, Violation

#: Exit codes of `relay`; 0 is drained (--once) or told to stop.
EXIT_FAILED, EXIT_USAGE, EXIT_LOST, EXIT_BARRED = 1, 2, 3, 4


@click.group()
def relay() -> None:
    """Tell other systems what happened."""


@relay.command(
    epilog="""\b
    Exit codes:
      0  told to stop (SIGTERM, SIGINT), or drained (--once)
      1  the server refuses the subscription; nothing is lost
      2  used wrongly, or with faulty settings
      3  outcomes were lost: older than the server keeps them
      4  Segment takes nothing: write key or endpoint; nothing is lost

    \b
    Examples:
      UPSHOT_SEGMENT_WRITE_KEY=... upshot relay segment
      upshot relay segment --server 127.0.0.1:7070 --config upshot.toml
      upshot relay segment --endpoint http://127.0.0.1:9000/v1/batch --write-key test --once
    """
)
@click.option(
    "--server",
    envvar="UPSHOT_SERVER",
    metavar="HOST:PORT",
    default="127.0.0.1:7070",
    help="The Upshot server. [127.0.0.1:7070; env: UPSHOT_SERVER]",
)
@click.option(
    "--config",
    "config_file",
    envvar="UPSHOT_CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings as TOML; [relay.segment] is read. [env: UPSHOT_CONFIG]",
)
@click.option("--endpoint", metavar="URL", help="Where batches go. [Segment's, by region]")
@click.option(
    "--write-key",
    envvar="UPSHOT_SEGMENT_WRITE_KEY",
    metavar="KEY",
    help="Of the Segment source. Others on this machine see options; the variable they do not. "
    "[env: UPSHOT_SEGMENT_WRITE_KEY]",
)
@click.option("--subscription", metavar="NAME", help="Keeps the place in the log. [segment]")
@click.option("--once", is_flag=True, help="End when everything in the log is posted.")
def segment(
    server: str,
    config_file: Path | None,
    endpoint: str | None,
    write_key: str | None,
    subscription: str | None,
    once: bool,
) -> None:
    """Post outcomes to Segment as track calls, from the oldest one on.

    At least once, in order: the cursor moves only after Segment's answer, and what is posted
    again has the same messageId. While Segment or the server is away it tries again for ever.
    """
    overrides = {"endpoint": endpoint, "write_key": write_key, "subscription": subscription}
    secrets = SecretFiles(SystemClock().monotonic_us)
    settings = _settings(config_file, overrides, secrets)
    try:
        tally = asyncio.run(_relay(server, settings, secrets, once))
    except OutcomesLost as error:
        _give_up(_lost(error, settings.subscription), EXIT_LOST)
    except LogRefused as error:
        _give_up(f"the server refuses the stream: {error}", EXIT_FAILED)
    except SegmentRefused as error:
        _give_up(f"Segment takes nothing: {error}; check write key and endpoint", EXIT_BARRED)
    else:
        click.echo(f"upshot: {tally.posted} calls posted, {tally.rejected} rejected", err=True)


def _settings(
    config_file: Path | None, overrides: Mapping[str, object | None], secrets: SecretFiles
) -> SegmentSettings:
    try:
        text = config_file.read_text(encoding="utf-8") if config_file else ""
        given = load(text, os.environ, {})
        for name in given.relay.keys() - {"segment"}:
            raise InvalidArgument("", (Violation(f"relay.{name}", "is no setting"),))
        table = given.relay.get("segment", {})
        settings = segment_settings(table, os.environ, overrides, version("upshot"), secrets.text)
        logs.set_up(given.log_level, given.log_format)
        failpoints.arm(failing.acts(os.environ.get(failing.VARIABLE, "")))
        return settings
    except UnicodeDecodeError:
        raise click.UsageError(f"{config_file} is no UTF-8") from None
    except InvalidArgument as error:
        lines = [f"  {fault.field or 'file'}: {fault.description}" for fault in error.violations]
        _give_up("\n".join(["the settings have faults:", *lines]), EXIT_USAGE)
        raise  # not reached: giving up ends the program


def _write_key(settings: SegmentSettings, secrets: SecretFiles) -> Renewed[str]:
    """Return the write key as it is at each time: a file that has it may change."""
    file = settings.write_key_file

    def again() -> str:
        return write_key_of(secrets.text(file))

    files = (file,) if file else ()
    return Renewed(settings.write_key, again, lambda: secrets.version(files), "relay.segment")


def _give_up(text: str, code: int) -> None:
    click.echo(f"upshot: {text}", err=True)
    sys.exit(code)


def _lost(error: OutcomesLost, subscription: str) -> str:
    earliest = f" What is kept begins at {error.earliest_cursor}" if error.earliest_cursor else ""
    return (
        f"outcomes after the cursor of {subscription!r} are older than the server keeps them and "
        f"were lost to Segment.{earliest}\nTo go on with what is kept, commit that cursor to the "
        "subscription (SubscriptionService.CommitCursor), or use another --subscription."
    )


async def _relay(server: str, settings: SegmentSettings, secrets: SecretFiles, once: bool) -> Tally:
    clock, stop, rules = SystemClock(), asyncio.Event(), settings.rules
    _end_on_signals(stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, secrets.look)
    pauses = Pauses(clock.sleep, UuidIds().fraction, stop)
    heartbeat_seconds = 1 if once else 10
    reading = Reading(settings.subscription, rules.kinds, heartbeat_seconds)
    write_key = _write_key(settings, secrets)
    api = SegmentApi(settings.endpoint, write_key, rules.version, clock.now_us)
    try:
        async with keyed.channel(server, CHANNEL_OPTIONS) as channel:
            segment_relay = SegmentRelay(OutcomeLog(channel, reading, pauses), api, rules, pauses)
            await segment_relay.run(once=once)
    finally:
        await api.close()
    return segment_relay.tally


def _end_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if stop.is_set():
            os._exit(EXIT_FAILED)  # asked twice: at once; what is not committed is posted again
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
