"""Streams that are judged: no test of the whole server opens one without."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration import cli_world, relay_world
from tests.wire import Watch, Wire, running


@pytest.fixture
def watched_stream() -> Iterator[Watch]:
    """Opens streams: `watched_stream(wire, **request)`. Judges what they saw after the test."""
    watch = Watch()
    yield watch
    watch.finish()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a server of this test keeps everything."""
    return tmp_path / "upshot.db"


@pytest.fixture
async def wire(database: Path) -> AsyncIterator[Wire]:
    """A running lab whose messages all arrive."""
    async with running(database) as started:
        yield started


@pytest.fixture
async def world() -> AsyncIterator[relay_world.World]:
    """A relay between a server and a Segment, both of which can be told to fail."""
    world = relay_world.World()
    await world.start()
    yield world
    await world.end()


@pytest.fixture(scope="module")
def cli_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for the command line, with nothing in it at first."""
    yield from cli_world.serving(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def ask(cli_server: str) -> cli_world.Ask:
    """The command line; each call is one command."""
    return cli_world.Ask(cli_server)
