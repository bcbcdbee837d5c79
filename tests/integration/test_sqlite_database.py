"""One SQLite file: who reads on which connection, and when."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from upshotd.adapters.storage import definitions
from upshotd.adapters.storage.sqlite import SqliteDatabase


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "upshot.db")
    await database.open()
    yield database
    await database.close()


def thread_and_value(connection: Connection) -> tuple[int, str | None]:
    return threading.get_ident(), definitions.setting(connection, "name")


async def test_a_small_load_is_done_where_it_is_asked_for(database: SqliteDatabase) -> None:
    await database.write(lambda c: definitions.put_setting(c, "name", "ana"))
    assert await database.load(thread_and_value, small=True) == (threading.get_ident(), "ana")
    elsewhere, value = await database.load(thread_and_value, small=False)
    assert (elsewhere != threading.get_ident(), value) == (True, "ana")


async def test_a_load_beside_a_write_that_nobody_waits_for_sees_what_was_before(
    database: SqliteDatabase,
) -> None:
    """The writing connection is busy until the write ends, not until its caller is gone."""
    begun, may_end = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        definitions.put_setting(connection, "name", "ben")
        begun.set()
        may_end.wait(10)

    task = asyncio.create_task(database.write(slow))
    async with asyncio.timeout(10):
        await asyncio.to_thread(begun.wait)
        while not task.done():  # the second cancellation abandons the transaction
            task.cancel()
            await asyncio.sleep(0)
        _, value = await database.load(thread_and_value, small=True)
        assert value is None
        may_end.set()
        while (await database.load(thread_and_value, small=True))[1] is None:
            await asyncio.sleep(0)
