"""Every scenario is told on every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec


@pytest.fixture(params=KINDS)
async def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    encode = ContractCodec().encode_outcome
    async with opened(request.param, tmp_path, encode=encode) as store, world(store) as running:
        yield running
