"""A stream over a real socket, cut again and again: each outcome comes once, in order."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.crash_database import read_database
from tests.cutting_proxy import CuttingProxy
from tests.servers import Server
from tests.validators import Seen, Stream, StreamValidator
from upshot.v1 import event_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceStub

CUTS = 200
WRITERS = 2
OPTIONS = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.use_local_subchannel_pool", 1))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        server.start()
        yield server


@asynccontextmanager
async def upshot_at(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        yield UpshotServiceStub(channel)


def noting() -> workflow_pb2.Workflow:
    """Three outcomes for each event, at once."""
    workflow = workflow_pb2.Workflow(workflow_id="noting")
    workflow.trigger.track.event = "Noted"
    workflow.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
    workflow.steps.add(step_id="note").emit.event = "Note"
    return workflow


class Reader:
    """Reads the log with streams that are cut, each resumed where the last one ended."""

    def __init__(self, server: Server, proxy: CuttingProxy) -> None:
        self.validator = StreamValidator()
        self.cursor = ""
        #: How each cut came about, and how often.
        self.cuts = {"canceled": 0, "canceled while waiting": 0, "connection lost": 0}
        self._server = server
        self._proxy = proxy
        self._random = random.Random(7)

    def open(self, upshot: Any, max_batch: int) -> tuple[Any, Stream]:
        request = pb.StreamOutcomesRequest(
            after_cursor=self.cursor, start=pb.START_POSITION_EARLIEST, max_batch=max_batch
        )
        seen = self.validator.opened(after_cursor=self.cursor, max_batch=max_batch)
        return upshot.StreamOutcomes(request), seen

    async def take(self, call: Any, seen: Stream) -> None:
        response = await call.read()
        assert response is not grpc.aio.EOF, "the stream never ends by itself"
        seen.saw(response)
        self.cursor = seen.cursor

    async def cut_by_the_client(self) -> None:
        """Read a few responses, then cancel: between two, or while the next is on its way."""
        async with upshot_at(self._server.address) as upshot:
            for _ in range(8):
                call, seen = self.open(upshot, self._random.randrange(1, 12))
                for _ in range(self._random.randrange(6)):
                    await self.take(call, seen)
                if self._random.random() < 0.5:
                    call.cancel()
                    self.cuts["canceled"] += 1
                    continue
                # What is read when the cut comes is lost, and must come again.
                try:
                    async with asyncio.timeout(self._random.random() * 0.01):
                        while True:
                            await self.take(call, seen)
                except TimeoutError:
                    call.cancel()
                    self.cuts["canceled while waiting"] += 1

    async def cut_by_the_network(self) -> None:
        """Read until the connection breaks, at any byte of a response."""
        self._proxy.budget = self._random.randrange(100, 20_000)
        async with upshot_at(self._proxy.address) as upshot:
            call, seen = self.open(upshot, self._random.randrange(1, 200))
            with pytest.raises(grpc.aio.AioRpcError) as lost:
                async with asyncio.timeout(20):
                    while True:
                        await self.take(call, seen)
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        self.cuts["connection lost"] += 1

    async def read_up_to(self, head: int) -> None:
        async with upshot_at(self._server.address) as upshot:
            call, seen = self.open(upshot, 100)
            while len(self.came) < head:
                async with asyncio.timeout(10):
                    await self.take(call, seen)
            call.cancel()

    @property
    def came(self) -> list[str]:
        return [outcome_id for stream in self.validator.streams for outcome_id in stream.ids]


async def write(server: Server, number: int, enough: asyncio.Event) -> None:
    """Add outcomes until it is enough."""
    async with upshot_at(server.address) as upshot:
        count = 0
        while not enough.is_set():
            events = []
            for _ in range(10):
                count += 1
                event = event_pb2.Event(event_id=f"e{number}-{count}", user_id=f"u{count % 7}")
                event.track.event = "Noted"
                events.append(event)
            await upshot.Ingest(pb.IngestRequest(events=events))
            await asyncio.sleep(0.02)


@pytest.mark.timeout(120)
async def test_a_stream_cut_200_times_yields_each_outcome_once(server: Server) -> None:
    async with CuttingProxy(server.address).serving() as proxy:
        async with upshot_at(server.address) as upshot:
            await upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=noting()))
        reader, enough = Reader(server, proxy), asyncio.Event()
        async with asyncio.TaskGroup() as everybody:
            for number in range(WRITERS):
                everybody.create_task(write(server, number, enough))
            while sum(reader.cuts.values()) < CUTS:
                await reader.cut_by_the_client()
                await reader.cut_by_the_network()
            enough.set()
        assert min(reader.cuts.values()) >= 20, reader.cuts
        assert proxy.cuts == reader.cuts["connection lost"]

    outcomes = read_database(server.database)["outcomes"]
    log = [Seen(o.partition, o.position, o.outcome_id) for o in outcomes]
    assert len(log) > CUTS
    await reader.read_up_to(len(log))
    reader.validator.check(log)
    assert reader.came == [seen.outcome_id for seen in log]
