"""`upshot relay`: tells other systems what happened, until it is told to end."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import click

from upshotd import logs
from upshotd.adapters import failing
from upshotd.adapters.clock import SystemClock
from upshotd.adapters.relay.dead_letters import NoDeadLetter
from upshotd.adapters.relay.outcome_log import LogRefused, OutcomesLost
from upshotd.adapters.relay.relay import FarEndRefused
from upshotd.adapters.relay.settings import (
    SEGMENT,
    FarEndSettings,
    RelaySettings,
    relay_settings,
)
from upshotd.application import failpoints
from upshotd.cli.relay_process import EXIT_FAILED, RelayProcess
from upshotd.config import load
from upshotd.domain.errors import InvalidArgument
from upshotd.secret_files import Renewed, SecretFiles

#: Exit codes beside EXIT_FAILED; 0 is drained (--once) or told to stop.
EXIT_USAGE, EXIT_LOST, EXIT_BARRED = 2, 3, 4
_WRITE_KEY = "UPSHOT_SEGMENT_WRITE_KEY"


@click.command(
    epilog="""\b
    Exit codes:
      0  told to stop (SIGTERM, SIGINT), or drained (--once)
      1  the server refuses the subscription; nothing is lost
      2  used wrongly, or with faulty settings
      3  outcomes were lost: older than the server keeps them
      4  the far end takes nothing: its address or our credentials; nothing is lost
    SIGUSR1 logs the lag at once; SIGHUP opens a file anew.

    \b
    Examples:
      UPSHOT_SEGMENT_WRITE_KEY=... upshot relay segment
      upshot relay segment --server 127.0.0.1:7070 --config upshot.toml
      upshot relay segment --endpoint http://127.0.0.1:9000/v1/batch --write-key test --once
      upshot relay archive --config upshot.toml
      upshot relay archive --config upshot.toml --retry-dead-letters
    """
)
@click.argument("name", metavar="NAME")
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
    help="Settings as TOML; [relay.NAME] is read. [env: UPSHOT_CONFIG]",
)
@click.option("--endpoint", metavar="URL", help="Where batches to Segment go. [by region]")
@click.option(
    "--write-key",
    metavar="KEY",
    help="Of the Segment source. Others on this machine see options; the variable they do not. "
    "[env, of the relay `segment`: UPSHOT_SEGMENT_WRITE_KEY]",
)
@click.option("--subscription", metavar="NAME", help="Keeps the place in the log. [as the relay]")
@click.option("--once", is_flag=True, help="End when everything in the log is posted.")
@click.option(
    "--retry-dead-letters",
    "retry",
    is_flag=True,
    help="Post what was set aside once more, and end.",
)
def relay(
    name: str,
    server: str,
    config_file: Path | None,
    endpoint: str | None,
    write_key: str | None,
    subscription: str | None,
    once: bool,
    retry: bool,
) -> None:
    """Post outcomes to Segment, a webhook or a file, from the oldest one on.

    NAME is a table [relay.NAME] of the settings; `segment` needs none. At least once, in order:
    the cursor moves only after the far end's answer, and what is posted again has the same id.
    While the far end or the server is away it tries again for ever.
    """
    if write_key is None and name == SEGMENT:
        write_key = os.environ.get(_WRITE_KEY) or None
    overrides = {"endpoint": endpoint, "write_key": write_key, "subscription": subscription}
    secrets = SecretFiles(SystemClock().monotonic_us)
    settings, again = _settings(name, config_file, overrides, secrets)
    if retry and settings.dead_letters is None:
        raise click.UsageError(f"relay.{name}.dead_letters is not set: none are kept")
    current = Renewed(
        settings.far_end, again, lambda: secrets.version(settings.files), f"relay.{name}"
    )
    process = RelayProcess(server, settings, current, secrets.look)
    try:
        tally = asyncio.run(process.retry() if retry else process.run(once=once))
    except OutcomesLost as error:
        _give_up(_lost(error, settings), EXIT_LOST)
    except LogRefused as error:
        _give_up(f"the server refuses the stream: {error}", EXIT_FAILED)
    except FarEndRefused as error:
        far_end = process.far_end
        _give_up(f"{far_end.name} takes nothing: {error}; {far_end.advice}", EXIT_BARRED)
    except NoDeadLetter as error:
        _give_up(str(error), EXIT_USAGE)
    else:
        click.echo(f"upshot: {tally.posted} calls posted, {tally.rejected} rejected", err=True)


def _settings(
    name: str,
    config_file: Path | None,
    overrides: Mapping[str, object | None],
    secrets: SecretFiles,
) -> tuple[RelaySettings, Callable[[], FarEndSettings]]:
    """Return the settings, and what reads those of the far end again."""

    def read(tables: Mapping[str, object]) -> RelaySettings:
        return relay_settings(name, tables, os.environ, overrides, version("upshot"), secrets)

    try:
        text = config_file.read_text(encoding="utf-8") if config_file else ""
        given = load(text, os.environ, {})
        settings = read(given.relay)
        logs.set_up(given.log_level, given.log_format)
        failpoints.arm(failing.acts(os.environ.get(failing.VARIABLE, "")))
        return settings, lambda: read(given.relay).far_end
    except UnicodeDecodeError:
        raise click.UsageError(f"{config_file} is no UTF-8") from None
    except InvalidArgument as error:
        lines = [f"  {fault.field or 'file'}: {fault.description}" for fault in error.violations]
        _give_up("\n".join(["the settings have faults:", *lines]), EXIT_USAGE)
        raise  # not reached: giving up ends the program


def _give_up(text: str, code: int) -> None:
    click.echo(f"upshot: {text}", err=True)
    sys.exit(code)


def _lost(error: OutcomesLost, settings: RelaySettings) -> str:
    earliest = f" What is kept begins at {error.earliest_cursor}" if error.earliest_cursor else ""
    return (
        f"outcomes after the cursor of {settings.subscription!r} are older than the server keeps "
        f"them and were lost to {settings.name}.{earliest}\nTo go on with what is kept, commit "
        "that cursor to the subscription (SubscriptionService.CommitCursor), or use another "
        "--subscription."
    )
