"""One SQLite file: one thread that writes, a few connections that read, and the lock that keeps
others out.

Work is a plain function over a connection and one transaction. What writes runs whole in a thread
of ours, one hop for all its statements; what reads goes through aiosqlite, a hop each, for it has
few. `postgresql` runs the same functions; what differs besides is how rows go in and out (`bulk`)
and how errors are told apart.

The writing connection also does every checkpoint, because the others only read: the condition of
SQLite's WAL-reset bug (two connections that write or checkpoint at once, versions up to 3.51.2) is
thereby never met, whatever the version.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO, TypeVar

import aiosqlite
import structlog
from sqlalchemy import (
    AsyncAdaptedQueuePool,
    Connection,
    Engine,
    StaticPool,
    create_engine,
    event,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import create_async_engine

from upshotd.adapters.storage.migrating import migrate
from upshotd.adapters.storage.running import Running
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
    UpshotError,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

READERS = 3
#: Prepared statements kept by a connection: the sizes of `bulk` times its statements.
STATEMENTS = 512
#: Pages (4 KiB) after which the writer copies the log into the database.
CHECKPOINT_PAGES = 4096

_SHARED_PRAGMAS = ("busy_timeout = 5000", "foreign_keys = ON", "temp_store = MEMORY")
WRITER_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    "journal_size_limit = 67108864",
    "cache_size = -65536",
    # What was erased or deleted is overwritten: it is not to be found in the file.
    "secure_delete = ON",
    *_SHARED_PRAGMAS,
)
READER_PRAGMAS = (
    "query_only = ON",
    "wal_autocheckpoint = 0",
    "cache_size = -16384",
    *_SHARED_PRAGMAS,
)

#: Errors are logged; what people are called is not.
_ENGINE: dict[str, Any] = {"hide_parameters": True}
_CONNECT = {"cached_statements": STATEMENTS, "check_same_thread": False}

#: Primary result codes and extended ones that a full disk shows as.
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


class SqliteDatabase:
    """The file, its threads and its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = ThreadPoolExecutor(1, "upshot-writer")
        self._writer = create_engine(
            f"sqlite+pysqlite:///{path}", poolclass=StaticPool, connect_args=_CONNECT, **_ENGINE
        )
        _set_up(self._writer, WRITER_PRAGMAS)
        #: The one connection that writes, from `open` on; of that thread.
        self._connection: Connection | None = None
        self._readers = create_async_engine(
            f"sqlite+aiosqlite:///{path}",
            poolclass=AsyncAdaptedQueuePool,
            pool_size=READERS,
            max_overflow=0,
            # The one that was used last has its pages in memory.
            pool_use_lifo=True,
            # Every transaction has ended when its connection goes back: no rollback is needed.
            pool_reset_on_return=None,
            connect_args=_CONNECT,
            **_ENGINE,
        )
        _set_up(self._readers.sync_engine, READER_PRAGMAS)
        event.listen(self._readers.sync_engine, "begin", _begin)
        self._running = Running()
        #: Transactions that the writing connection has to do.
        self._writes = 0
        self._lock: TextIO | None = None
        self._open = False

    async def open(self) -> None:
        """Take the lock and migrate. Raises FailedPrecondition when another process has it."""
        self._lock = _locked(self._path)
        self._open = True
        try:
            await self._in_writer(self._connect)
            await self.write(migrate)
            # A reader takes room when it is opened: one is, for the day when there is none.
            await self.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM sqlite_master").one())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for what is running, then close everything; the writer last, it checkpoints."""
        self._open = False
        await self._running.all_ended()
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        await self._readers.dispose()
        await self._in_writer(self._disconnect)
        self._writing.shutdown(wait=False)
        lock.close()

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a transaction of the writing connection."""
        self._check_open()
        return await self._in_writer(lambda: _transaction(self._writable(), work))

    async def _in_writer(self, work: Callable[[], T]) -> T:
        self._writes += 1
        future = asyncio.wrap_future(self._writing.submit(work))
        # Counted by its end, not by the caller's: that one may be canceled before.
        future.add_done_callback(self._wrote)
        return await self._running.finished(future)

    def _wrote(self, _: object) -> None:
        self._writes -= 1

    def _connect(self) -> None:
        self._connection = self._writer.connect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._writer.dispose()

    def _writable(self) -> Connection:
        assert self._connection is not None, "it is open"
        return self._connection

    async def truncate_log(self) -> None:
        """Copy the write-ahead log into the database and empty it, as far as readers let us."""
        self._check_open()
        await self._in_writer(lambda: _truncate(self._writable()))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run *work* on a snapshot, beside the writer."""
        self._check_open()
        return await self._running.finished(asyncio.ensure_future(self._snapshot(work)))

    async def _snapshot(self, work: Callable[[Connection], T]) -> T:
        try:
            async with self._readers.begin() as connection:
                return await connection.run_sync(work)
        except DatabaseError as error:
            raise _unavailable(error.orig) from error

    async def fetch(self, text: str, values: tuple[object, ...]) -> Iterable[Any]:
        """Return the rows of one statement that reads: a snapshot too, and a single hop."""
        self._check_open()
        return await self._running.finished(asyncio.ensure_future(self._fetched(text, values)))

    async def _fetched(self, text: str, values: tuple[object, ...]) -> Iterable[Any]:
        async with self._readers.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, aiosqlite.Connection)
            try:
                return await driver.execute_fetchall(text, values)
            except sqlite3.DatabaseError as error:
                raise _unavailable(error) from error

    async def load(self, work: Callable[[Connection], T], *, small: bool) -> T:
        """Run *work*, which only reads: on the writing connection while it has nothing to do.

        Only that connection keeps its pages in memory; the others forget theirs at every commit.
        A *small* one is done at once, in the thread of the event loop.
        """
        if self._writes:
            return await self.read(work)
        if small:
            self._check_open()
            return _transaction(self._writable(), work)
        return await self.write(work)

    def _check_open(self) -> None:
        if not self._open:
            raise Unavailable("the store is closed")


def _set_up(engine: Engine, pragmas: tuple[str, ...]) -> None:
    """Set up the connections of *engine*. Their transactions are begun by us.

    The driver's own begin at the first write, after what was read: updates are lost without an
    error.
    """

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _locked(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(path.name + ".lock")
    file = name.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        text = f"{path} is in use by another process, which holds {name}"
        raise FailedPrecondition(text, reason="DATABASE_LOCKED") from None
    return file


def _transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Run *work* in a transaction of the writing connection.

    It is begun and ended on the driver's own connection. SQLAlchemy's transaction around it never
    ends: making one, and a connection from the pool, costs more than a small batch.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        driver.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            driver.execute("COMMIT")
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise
    except (DatabaseError, sqlite3.Error) as error:
        raise _told(error.orig if isinstance(error, DatabaseError) else error) from error
    return result


def _truncate(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _told(error: BaseException | None) -> UpshotError:
    """Return what an error of the driver means to callers.

    A row that appeared since the load is a Conflict, another constraint a ConstraintFailure.
    """
    if not isinstance(error, sqlite3.IntegrityError):
        return _unavailable(error)
    if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
        return Conflict(f"a row is there already: {error}")
    return ConstraintFailure(f"a constraint does not hold: {error}")


def _unavailable(error: BaseException | None) -> UpshotError:
    code = getattr(error, "sqlite_errorcode", 0)
    log.error("database.failed", code=getattr(error, "sqlite_errorname", ""))
    if code & 0xFF in _FULL or code in _FULL:
        return ResourceExhausted("the database is full", reason="DATABASE_FULL")
    return Unavailable(f"the database failed: {error}", reason="DATABASE_FAILED")
