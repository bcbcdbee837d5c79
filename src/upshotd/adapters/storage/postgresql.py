"""PostgreSQL by asyncpg, in a thread with an event loop of its own.

Work is the same plain functions that SQLite runs: over one connection, in one transaction, one hop
between threads for all its statements. The thread is what lets a transaction go on, and a lease be
renewed, while the event loop of the server decides a large batch.

Nothing is kept in a session but prepared statements, so that PgBouncer can stand between in
transaction mode (with `?prepared_statement_cache_size=0` in the address).
"""

import asyncio
import secrets
import threading
from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, TypeVar

import asyncpg
import structlog
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from upshotd.adapters.storage.migrating import migrate
from upshotd.adapters.storage.running import Running
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    UpshotError,
    Violation,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Connections kept, and those more under load.
POOL, POOL_MORE = 4, 4
#: Longest wait for a connection of the pool, and for a new one, in seconds.
POOL_WAIT_S, CONNECT_S = 5.0, 5.0
#: Longest wait for any one answer, in seconds: above the statement's own time limit.
COMMAND_S = 15.0
#: What every session runs under. A lost connection is noticed after 10 + 3 x 5 s.
SETTINGS = {
    "application_name": "upshot",
    "statement_timeout": "10s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # SQL of a few keys and rows: planning for the machine's own compiler costs more than it saves.
    "jit": "off",
}
#: Of replicas that start at once one makes the tables; the others look so often whether it has.
MIGRATE_ATTEMPTS = 20

_UNIQUE, _PRIMARY = "23505", "pk_"
#: Classes of SQLSTATE: another transaction was in the way, and the same again may go through.
#: The last three: a table or column that another replica made in the same moment.
_AGAIN = frozenset({"40001", "40P01", "55P03", "42P07", "42701", "42710"})
_FULL = frozenset({"53100", "53200", "53400"})
#: A value that is none of its kind, breaks a constraint, or is too long for an index.
_UNSTORABLE = frozenset({"22", "23", "54"})
#: What the pool, the driver and the network raise when there is no connection.
_AWAY = (DBAPIError, PoolTimeout, asyncpg.InterfaceError, OSError, TimeoutError)


#: What an address may say beside what the driver takes.
_OF_DIALECT = frozenset({"prepared_statement_cache_size"})


def url_of(named: str) -> URL:
    """Return the address of a PostgreSQL, for the driver used here; no matter which is named.

    Raises InvalidArgument, which does not repeat it, for what the driver would stumble over.
    """
    try:
        url = make_url(named).set(drivername="postgresql+asyncpg")
        dialect: Any = url.get_dialect()()
        _, options = dialect.create_connect_args(url)
    except (ArgumentError, ValueError):
        raise _faulty("is no address as postgresql://USER@HOST/NAME") from None
    strange = options.keys() - signature(asyncpg.connect).parameters - _OF_DIALECT
    if strange:
        raise _faulty(f"has what the driver does not take: {', '.join(sorted(strange))}")
    return url


def _faulty(text: str) -> InvalidArgument:
    return InvalidArgument.of([Violation("database", text)])


class PostgresqlDatabase:
    """A pool of connections, and the thread that uses them."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="upshot-postgresql", daemon=True
        )
        self._engine: AsyncEngine | None = None
        self._running = Running()
        self._open = False

    async def open(self) -> None:
        """Connect and migrate. Raises Unavailable when there is no database, and
        FailedPrecondition when it would lose what it has acknowledged."""
        self._thread.start()
        self._open = True
        try:
            await self._hop(self._begin())
            await self.read(_check)
            await self._migrate()
        except BaseException:
            await self.close()
            raise

    async def _begin(self) -> None:
        self._engine = create_async_engine(
            self._url,
            pool_size=POOL,
            max_overflow=POOL_MORE,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=False,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            connect_args={
                "timeout": CONNECT_S,
                "command_timeout": COMMAND_S,
                "server_settings": SETTINGS,
                # Behind PgBouncer two sessions may meet in one: names must not.
                "prepared_statement_name_func": _Names(),
                **_uncached(self._url),
            },
        )

    async def _migrate(self) -> None:
        for attempt in range(MIGRATE_ATTEMPTS):
            try:
                await self.write(migrate)
            except (Conflict, ConstraintFailure):
                # Another replica makes the same tables; it is done when its transaction ends.
                if attempt + 1 == MIGRATE_ATTEMPTS:
                    raise
                log.info("database.migrated_elsewhere")
            else:
                return

    async def close(self) -> None:
        """Wait for what is running, then close everything."""
        self._open = False
        await self._running.all_ended()
        if not self._thread.is_alive():
            return
        if self._engine is not None:
            await self._hop(self._engine.dispose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a transaction."""
        return await self._run(work, "READ COMMITTED")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run *work* on one snapshot."""
        try:
            return await self._run(work, "REPEATABLE READ")
        except ConstraintFailure:
            raise InvalidArgument("what is looked for cannot be stored: nothing has it") from None

    async def load(self, work: Callable[[Connection], T], *, small: bool) -> T:
        """Run *work* on one snapshot; there is nothing quicker for a *small* one."""
        return await self.read(work)

    async def _run(self, work: Callable[[Connection], T], isolation: str) -> T:
        if not self._open:
            raise Unavailable("the store is closed")
        return await self._running.finished(self._in_thread(self._transaction(work, isolation)))

    async def _transaction(self, work: Callable[[Connection], T], isolation: str) -> T:
        assert self._engine is not None, "it is open"
        engine = self._engine.execution_options(isolation_level=isolation)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        except UpshotError:
            raise
        except Exception as error:
            raise _told(error) from error

    # for what runs in the thread all the time

    def time_s(self) -> float:
        """Return the time of the thread's event loop, in seconds; it never jumps."""
        return self._loop.time()

    async def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begin *work* in the thread; it goes on by itself."""

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(work())

        return await self._hop(begin())

    async def end(self, task: asyncio.Task[None]) -> None:
        """Cancel what was spawned, and wait for its end."""

        async def cancel() -> None:
            task.cancel()
            await asyncio.wait([task])

        await self._hop(cancel())

    async def here(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a transaction; for callers in the thread."""
        return await self._transaction(work, "READ COMMITTED")

    async def pause(self, duration_s: float) -> None:
        """Wait, in the thread."""
        over = self._loop.create_future()
        timer = self._loop.call_later(duration_s, over.set_result, None)
        try:
            await over
        finally:
            timer.cancel()

    async def _hop(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._in_thread(work)

    def _in_thread(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


def _uncached(url: URL) -> dict[str, int]:
    """Turn off the driver's own statements too, where SQLAlchemy's are turned off."""
    off = url.query.get("prepared_statement_cache_size") == "0"
    return {"statement_cache_size": 0} if off else {}


class _Names:
    """Names of prepared statements that no other session of this or another process uses."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = 0

    def __call__(self) -> str:
        self._count += 1
        return f"__upshot_{self._prefix}_{self._count}__"


def _check(connection: Connection) -> None:
    """Raise FailedPrecondition where a commit would be answered before it is on the disk."""
    for setting in ("synchronous_commit", "fsync"):
        value = connection.execute(text(f"SHOW {setting}")).scalar()
        if value == "off":
            said = f"{setting} is off: what was acknowledged could be lost; turn it on"
            raise FailedPrecondition(said, reason="DATABASE_NOT_DURABLE")


def _told(error: Exception) -> Exception:
    """Return what *error* means to callers; one that no database raised stays what it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = str(getattr(cause, "sqlstate", "") or "")
    if state in _AGAIN:
        return Conflict(f"another transaction was in the way ({state})")
    if state == _UNIQUE:
        name = getattr(getattr(cause, "__cause__", cause), "constraint_name", "") or ""
        if name.startswith(_PRIMARY):
            return Conflict(f"a row is there already: {name}")
        return ConstraintFailure(f"a constraint does not hold: {name}")
    if state[:2] in _UNSTORABLE:
        return ConstraintFailure(f"a value cannot be stored ({state})")
    if not (state or isinstance(error, _AWAY)):
        return error
    log.error("database.failed", code=state, error=type(cause).__name__)
    if state in _FULL:
        return ResourceExhausted("the database is full", reason="DATABASE_FULL")
    return Unavailable("the database does not answer", reason="DATABASE_FAILED")
