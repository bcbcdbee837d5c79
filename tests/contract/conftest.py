"""Fixtures of the suites that every store must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stores import DURABLE, KINDS, Durable, made, opened, place
from upshotd.application.ports import Store


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store it is; suites of a part that has more kinds name them here."""
    return str(request.param)


@pytest.fixture
async def store(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with one partition."""
    async with opened(kind, tmp_path) as store:
        yield store


@pytest.fixture
async def partitioned(kind: str, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with four partitions."""
    async with opened(kind, tmp_path, partitions=4) as store:
        yield store


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Durable]:
    async with place(request.param, tmp_path) as where:
        held = Durable(request.param, where, made(request.param, where))
        await held.store.open()
        yield held
        await held.store.close()
