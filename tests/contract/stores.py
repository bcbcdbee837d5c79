"""The stores that must all behave alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from upshotd.application.ports import Store
from upshotd.domain.outcome import Outcome


def encode(outcome: Outcome) -> bytes:
    """Stand in for the contract's codec: tests read ids in the log."""
    return outcome.outcome_id.encode()


def _memory(_: Path, partitions: int) -> Store:
    from upshotd.adapters.memory import MemoryStore

    return MemoryStore(encode_outcome=encode, partitions=partitions)


def _sqlite(folder: Path, partitions: int) -> Store:
    from upshotd.adapters.storage.store import SqlStore

    return SqlStore(folder / "upshot.db", encode_outcome=encode, partitions=partitions)


Make = Callable[[Path, int], Store]
#: Every kind of store; another joins here. A maker called again opens what was written before,
#: where the kind is durable.
MAKERS: dict[str, Make] = {"memory": _memory, "sqlite": _sqlite}
DURABLE = ("sqlite",)


@asynccontextmanager
async def opened(make: Make, folder: Path, partitions: int) -> AsyncIterator[Store]:
    """Open a store for a while."""
    made = make(folder, partitions)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@dataclass(slots=True)
class Durable:
    """A store that can be closed and opened again."""

    make: Make
    folder: Path
    store: Store

    async def reopen(self) -> Store:
        """Close the store, and return one over what it left."""
        await self.store.close()
        self.store = self.make(self.folder, 1)
        await self.store.open()
        return self.store
