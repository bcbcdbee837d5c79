"""Fixtures of the suites that every store must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stores import DURABLE, KINDS, Durable, made, opened, place
from upshotd.application.ports import Store


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with one partition."""
    async with opened(request.param, tmp_path) as store:
        yield store


@pytest.fixture(params=KINDS)
async def partitioned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with four partitions."""
    async with opened(request.param, tmp_path, partitions=4) as store:
        yield store


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    async with place(request.param, tmp_path) as where:
        held = Durable(request.param, where, made(request.param, where))
        await held.store.open()
        yield held
        await held.store.close()
