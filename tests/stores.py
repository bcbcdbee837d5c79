"""The stores that must all behave alike: in memory, in a SQLite file, in a PostgreSQL."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests import postgres
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.storage.tail import TAIL_BYTES
from upshotd.application.outcome_page import OutcomeRead
from upshotd.application.ports import Store, Subscription
from upshotd.domain.outcome import Outcome

#: Every kind of store; another joins here, in `place` and in `made`.
KINDS = ("memory", "sqlite", "postgresql")
#: Those that keep what was written when they are closed.
DURABLE = ("sqlite", "postgresql")
#: Ways to read the log: SQLite's end of it can be in memory, which other tests leave out.
LOG_KINDS = (*KINDS, "sqlite-tail")

Encode = Callable[[Outcome, int, int], bytes]


def encode(outcome: Outcome, partition: int, position: int) -> bytes:
    """Stand in for the contract's codec: tests read places and ids in the log."""
    return f"{partition} {position} {outcome.outcome_id}\n".encode()


def decode(joined: bytes) -> list[tuple[int, int, str]]:
    """Return (partition, position, outcome_id) of what was encoded, behind each other."""
    lines = [line.split(" ", 2) for line in joined.decode().splitlines()]
    return [(int(partition), int(position), name) for partition, position, name in lines]


def found(read: OutcomeRead) -> list[tuple[int, str]]:
    """Return (position, outcome_id) of everything that was read."""
    return [(position, name) for page in read.pages for _, position, name in decode(page.joined)]


@asynccontextmanager
async def place(kind: str, folder: Path) -> AsyncIterator[str]:
    """Where a store of *kind* keeps its rows: a file in *folder*, or a database of its own."""
    if kind == "postgresql":
        async with postgres.database() as address:
            yield address
    else:
        yield str(folder / "upshot.db")


def made(kind: str, where: str, *, encode: Encode = encode, partitions: int = 1) -> Store:
    """Return a store that is not open yet; one made again has what was written before."""
    if kind == "memory":
        return MemoryStore(encode_outcome=encode, partitions=partitions)
    tail_bytes = TAIL_BYTES if kind == "sqlite-tail" else 0
    return SqlStore(where, encode_outcome=encode, partitions=partitions, tail_bytes=tail_bytes)


@asynccontextmanager
async def opened(
    kind: str, folder: Path, *, encode: Encode = encode, partitions: int = 1
) -> AsyncIterator[Store]:
    """Open a store for a while."""
    async with place(kind, folder) as where:
        store = made(kind, where, encode=encode, partitions=partitions)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


#: What takes each migration away again, that of the latest first.
UNDOING = {
    "0008": "DROP TABLE asks",
    "0007": "DROP TABLE group_members",
    "0006": "DROP TABLE audience_members",
    "0005": "DROP TABLE tallies",
    "0004": "DROP INDEX ix_messages_recipient; ALTER TABLE messages DROP COLUMN recipient",
}


@dataclass(slots=True)
class Durable:
    """A store that can be closed and opened again."""

    kind: str
    where: str
    store: Store

    async def take_back(self, version: str) -> None:
        """Close the store, and leave it as the migration *version* had it."""
        await self.store.close()
        undone = [undo for later, undo in UNDOING.items() if later > version]
        script = "; ".join((*undone, f"UPDATE alembic_version SET version_num = '{version}'"))
        if self.kind == "postgresql":
            await postgres.execute(script, urlsplit(self.where).path[1:])
            return
        with closing(sqlite3.connect(self.where)) as file, file:
            file.executescript(script)

    async def reopen(self) -> Store:
        """Close the store, and return one over what it left."""
        await self.store.close()
        self.store = made(self.kind, self.where)
        await self.store.open()
        return self.store


async def put_subscription(store: Store, workspace_id: str, subscription: Subscription) -> None:
    """Store a subscription, whatever was there."""
    await store.change_subscription(workspace_id, subscription.name, lambda _: subscription)
