"""Outcomes per second to one subscriber from a filled log, against a bare stream of its bytes."""

import asyncio
import time
from pathlib import Path
from typing import Any

from client import STREAM, channel_to, outcomes
from figures import Figure, Sample
from journeys import travel
from references import PAGES, write_pages
from serving import Server, reference
from upshot.v1 import service_pb2

FLOOR, AIM = 0.40, 0.60
#: Outcomes of one journey: run started, message sent, run completed.
_PER_JOURNEY = 3
_PER_WRITE = 100
#: Readings of a round. Two processes and a quarter of a second: where the scheduler puts them moves
#: the reference by a factor of 2.5, so that only many of them are an answer.
_READINGS = 5
#: Most that one reading may take, in seconds.
_READ_S = 60.0


async def fill(server: Server, wanted: int, people: int) -> int:
    """Send people on journeys until the log has *wanted* outcomes; returns how many it has."""
    number = 0
    while (held := await _held(server)) < wanted:
        missing = -(-(wanted - held) // _PER_JOURNEY)
        await travel(server, f"fill-{number}", min(people, missing))
        number += 1
    return held


async def _held(server: Server) -> int:
    async with channel_to(server) as channel:
        return sum((await outcomes(channel)).values())


async def read(server: Server, method: str, count: int) -> tuple[Sample, list[bytes]]:
    """Read *count* outcomes from the beginning; returns also the pages as they came."""
    request = service_pb2.StreamOutcomesRequest(
        start=service_pb2.START_POSITION_EARLIEST, max_batch=_PER_WRITE
    )
    pages: list[bytes] = []
    async with channel_to(server) as channel:
        open_stream: Any = channel.unary_stream(method)
        cpu_s, begin = server.cpu_s(), time.perf_counter()
        stream = open_stream(request.SerializeToString())
        read = 0
        async with asyncio.timeout(_READ_S):
            while read < count:
                page = await stream.read()
                read += len(service_pb2.StreamOutcomesResponse.FromString(page).outcomes)
                pages.append(page)
        sample = Sample(read, time.perf_counter() - begin, server.cpu_s() - cpu_s)
        stream.cancel()
    return sample, pages


async def measure(server: Server, directory: Path, rounds: int, wanted: int, people: int) -> Figure:
    """Measure in turns; the pages of a first reading are what the reference streams."""
    count = await fill(server, wanted, people)
    _, pages = await read(server, STREAM, count)
    file = directory / "pages"
    write_pages(file, pages)
    ours, bare = [], []
    async with reference(directory, "pages", str(file)) as source:
        await read(source, PAGES, count)
        for _ in range(rounds * _READINGS):
            bare.append((await read(source, PAGES, count))[0])
            ours.append((await read(server, STREAM, count))[0])
    return Figure("stream", "outcomes", FLOOR, tuple(ours), tuple(bare), AIM)
