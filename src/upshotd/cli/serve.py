"""`upshot serve`: the server, until it is told to end."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from upshotd import app, logs
from upshotd.adapters import failing
from upshotd.application import failpoints
from upshotd.config import Settings, load
from upshotd.domain.errors import InvalidArgument, UpshotError

#: How long a thread may keep the interpreter while another one wants it, in seconds.
SWITCH_S = 0.0005
#: New objects after which the garbage collector looks at the young ones; a batch makes thousands.
GC_OBJECTS = 200_000
#: Open files that are asked of the system, where its usual bound is lower.
FILES = 16_384
#: Exit codes of `serve`.
EXIT_FAILED, EXIT_USAGE = 1, 2


@click.command(
    epilog="""\b
    Examples:
      upshot serve
      upshot serve --listen 127.0.0.1:50051 --http 127.0.0.1:8080 --database upshot.db
      upshot serve --config upshot.toml --lab
    """
)
@click.option("--listen", metavar="HOST:PORT", help="Where gRPC listens. [127.0.0.1:7070]")
@click.option("--http", metavar="HOST:PORT", help="Where the HTTP edge listens. [127.0.0.1:7071]")
@click.option(
    "--database", metavar="URL_OR_PATH", help="SQLite file, or postgresql://... [upshot.db]"
)
@click.option(
    "--config",
    "config_file",
    envvar="UPSHOT_CONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings as TOML.  [env: UPSHOT_CONFIG]",
)
@click.option("--lab", is_flag=True, default=None, help="Let `upshot advance` move the clock.")
def serve(
    listen: str | None,
    http: str | None,
    database: str | None,
    config_file: Path | None,
    lab: bool | None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    The command line is over UPSHOT_* variables (UPSHOT_LISTEN, UPSHOT_LIMITS_BATCH ...), and they
    are over the file. SIGHUP looks at files of secrets and certificates, which it does by itself
    as well. The first of the others lets calls and sends finish, a second one ends at once.
    """
    overrides = {"listen": listen, "http": http, "database": database, "lab": lab}
    settings = read_settings(config_file, overrides)
    logs.set_up(settings.log_level, settings.log_format)
    try:
        failpoints.arm(failing.acts(os.environ.get(failing.VARIABLE, "")))
        _run(settings)
    except InvalidArgument as error:
        give_up(error, EXIT_USAGE)
    except UpshotError as error:
        give_up(error, EXIT_FAILED)


def read_settings(config_file: Path | None, overrides: Mapping[str, object | None]) -> Settings:
    """Return the settings; with faults it tells them all and ends the program."""
    try:
        text = config_file.read_text(encoding="utf-8") if config_file else ""
        return load(text, os.environ, overrides)
    except UnicodeDecodeError:
        raise click.UsageError(f"{config_file} is no UTF-8") from None
    except InvalidArgument as error:
        give_up(error, EXIT_USAGE)
        raise  # not reached: giving up ends the program


def give_up(error: UpshotError, code: int) -> None:
    """Say why it cannot be, and end the program with *code*."""
    violations = error.violations if isinstance(error, InvalidArgument) else ()
    lines = [f"  {fault.field or 'file'}: {fault.description}" for fault in violations]
    head = "the settings have faults:" if violations else str(error)
    click.echo("\n".join([f"upshot: {head}", *lines]), err=True)
    sys.exit(code)


def _open_files() -> None:
    """Let the process have as many connections as the system lets it, within reason."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(most, FILES)
    with suppress(ValueError, OSError):  # some systems have bounds of their own
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _run(settings: Settings) -> None:
    _open_files()
    # The database's thread waits this long for the interpreter, with every statement, while the
    # event loop is busy. The usual 5 ms are longer than most transactions.
    sys.setswitchinterval(SWITCH_S)
    # What is loaded now lives as long as the process: not to be looked through again and again.
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 20)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(settings))
    else:
        uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    told = asyncio.Event()
    _end_on_signals(told)
    async with app.run(settings, os.environ) as running:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, running.look_again)
        edge = f", HTTP on {running.http_address}" if running.http_address else ""
        lab = ", the clock can be moved" if settings.lab else ""
        database = settings.database_shown
        click.echo(
            f"upshot: gRPC on {running.grpc_address}{edge}, database {database}{lab}",
            err=True,
        )
        await running.wait(told)
        click.echo("upshot: going down; calls and sends under way may finish", err=True)
    click.echo("upshot: down", err=True)


def _end_on_signals(told: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if told.is_set():
            os._exit(EXIT_FAILED)  # asked twice: at once; what is not committed never happened
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
