"""Everything a store has, as text: what is searched for things that must not be there."""

from pathlib import Path

from sqlalchemy import Connection, select

from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.storage.tables import metadata
from upshotd.application.ports import Store


async def dump(store: Store) -> str:
    """Return every value of every row."""
    if isinstance(store, MemoryStore):
        return "".join(_of_memory(store))
    assert isinstance(store, SqlStore)
    return await store._database.read(_of_tables)


def files(folder: Path) -> bytes:
    """Return what stands in the files of a SQLite database, in its log and in its free pages."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.db*")))


def _of_memory(store: MemoryStore) -> list[str]:
    found = [repr(store._settings)]
    for tables in store._workspaces.values():
        found += [repr(tables), repr(tables.log._partitions)]
    return found


def _of_tables(connection: Connection) -> str:
    found = []
    for table in metadata.sorted_tables:
        for row in connection.execute(select(table)):
            found += [_text(value) for value in row]
    return "\n".join(found)


def _text(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)
