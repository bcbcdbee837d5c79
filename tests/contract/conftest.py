"""The stores that must all behave alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

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


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with one partition."""
    async with _opened(MAKERS[request.param], tmp_path, 1) as made:
        yield made


@pytest.fixture(params=MAKERS)
async def partitioned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with four partitions."""
    async with _opened(MAKERS[request.param], tmp_path, 4) as made:
        yield made


@asynccontextmanager
async def _opened(make: Make, folder: Path, partitions: int) -> AsyncIterator[Store]:
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


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    make = MAKERS[request.param]
    held = Durable(make, tmp_path, make(tmp_path, 1))
    await held.store.open()
    yield held
    await held.store.close()
