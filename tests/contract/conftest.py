"""Fixtures of the suites that every store must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.stores import DURABLE, MAKERS, Durable, opened
from upshotd.application.ports import Store


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with one partition."""
    async with opened(MAKERS[request.param], tmp_path, 1) as made:
        yield made


@pytest.fixture(params=MAKERS)
async def partitioned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with four partitions."""
    async with opened(MAKERS[request.param], tmp_path, 4) as made:
        yield made


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    make = MAKERS[request.param]
    held = Durable(make, tmp_path, make(tmp_path, 1))
    await held.store.open()
    yield held
    await held.store.close()
