"""Every scenario is told on every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.ports import Store


def made(kind: str, folder: Path) -> Store:
    """Return a store that is not open yet; PostgreSQL joins here."""
    encode_outcome = ContractCodec().encode_outcome
    if kind == "memory":
        return MemoryStore(encode_outcome=encode_outcome)
    return SqlStore(folder / "upshot.db", encode_outcome=encode_outcome)


@pytest.fixture(params=["memory", "sqlite"])
async def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    store = made(request.param, tmp_path)
    await store.open()
    async with world(store) as running:
        yield running
    await store.close()
