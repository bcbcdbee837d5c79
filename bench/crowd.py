"""A hundred subscribers, one of which takes one message a second: what that costs the others.

The slow one reads the whole log from its beginning. When the others are measured it stops taking
anything: it is cut off after the server's limit, and goes on where it was.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import grpc

from client import STREAM, channel_to, outcomes
from figures import Bound
from journeys import travel
from serving import Server
from stream import fill
from upshot.v1 import service_pb2

SUBSCRIBERS = 100
LIMIT_TIMES, LIMIT_MIB = 1.5, 64.0
#: A channel carries so many streams; one connection for all would be what is measured.
_PER_CHANNEL = 25
#: Longer than the 30 s that a server bears with a reader that takes nothing.
_NOTHING_S = 40.0
_LOG = 45_000
_READ_S = 60.0


@dataclass
class Slow:
    """The one that takes one message a second."""

    #: Positions in the order in which they came.
    positions: list[int] = field(default_factory=list)
    cursor: str = ""
    #: How its stream ended; empty while it goes on.
    ended: str = ""


async def measure(server: Server, rounds: int, people: int) -> list[Bound]:
    """Measure the others alone, then beside the slow one; then see it cut, and resume."""
    await fill(server, _LOG, people)  # more than fits into the buffers between server and reader
    await _delivered(server, "crowd-warm", people)
    alone = [await _delivered(server, f"crowd-alone-{n}", people) for n in range(rounds)]
    before_mib = server.rss_mib()
    slow = Slow()
    enough = asyncio.Event()
    async with channel_to(server) as channel:
        crawling = asyncio.create_task(_crawl(channel, slow, enough))
        beside = [await _delivered(server, f"crowd-beside-{n}", people) for n in range(rounds)]
        more_mib = server.rss_mib() - before_mib
        enough.set()
        await crawling
        await _resume(channel, slow)
    if not slow.ended.startswith("RESOURCE_EXHAUSTED"):
        raise SystemExit(f"the slow subscriber was not cut off: {slow.ended}")
    if slow.positions != list(range(1, len(slow.positions) + 1)):
        raise SystemExit("the slow subscriber saw a gap")
    middle = rounds // 2
    alone_s, beside_s = sorted(alone)[middle], sorted(beside)[middle]
    what = f"{SUBSCRIBERS - 1} subscribers beside a slow one: times what they take alone"
    return [
        Bound("crowd", what, beside_s / alone_s, LIMIT_TIMES, f"x {alone_s:.2f} s"),
        Bound("crowd memory", "more beside a slow subscriber", more_mib, LIMIT_MIB, "MiB"),
    ]


async def _delivered(server: Server, name: str, people: int) -> float:
    """Send people on journeys; return how long it takes until every subscriber has all of it."""
    count = SUBSCRIBERS - 1
    channels = [grpc.aio.insecure_channel(server.address) for _ in range(count // _PER_CHANNEL + 1)]
    async with channel_to(server) as channel:
        there = sum((await outcomes(channel)).values())
    ready = [asyncio.Event() for _ in range(count)]
    target = 3 * people
    following = [
        asyncio.create_task(_follow(channels[n // _PER_CHANNEL], ready[n], target))
        for n in range(count)
    ]
    await asyncio.gather(*(event.wait() for event in ready))
    begin = time.perf_counter()
    await travel(server, name, people)
    await asyncio.wait_for(asyncio.gather(*following), _READ_S)
    took_s = time.perf_counter() - begin
    async with channel_to(server) as channel:
        assert sum((await outcomes(channel)).values()) == there + target
    for channel in channels:
        await channel.close()
    return took_s


async def _follow(channel: grpc.aio.Channel, ready: asyncio.Event, target: int) -> None:
    request = service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_NOW)
    open_stream: Any = channel.unary_stream(STREAM)
    stream, seen = open_stream(request.SerializeToString()), 0
    async for page in stream:
        ready.set()
        seen += len(service_pb2.StreamOutcomesResponse.FromString(page).outcomes)
        if seen >= target:
            break
    stream.cancel()


async def _crawl(channel: grpc.aio.Channel, slow: Slow, enough: asyncio.Event) -> None:
    """Take one message a second, and nothing for a while after *enough*; then what is left."""
    request = service_pb2.StreamOutcomesRequest(
        start=service_pb2.START_POSITION_EARLIEST, max_batch=1
    )
    open_stream: Any = channel.unary_stream(STREAM)
    try:
        async for page in open_stream(request.SerializeToString()):
            _take(slow, page)
            if not enough.is_set():
                await asyncio.sleep(1.0)
                if enough.is_set():
                    await asyncio.sleep(_NOTHING_S)
    except grpc.aio.AioRpcError as error:
        slow.ended = f"{error.code().name} {error.details()}"


async def _resume(channel: grpc.aio.Channel, slow: Slow) -> None:
    """Read on from the last cursor, now as fast as it goes, to the end of the log."""
    head = sum((await outcomes(channel)).values())
    request = service_pb2.StreamOutcomesRequest(after_cursor=slow.cursor)
    open_stream: Any = channel.unary_stream(STREAM)
    stream = open_stream(request.SerializeToString())
    async with asyncio.timeout(_READ_S):
        async for page in stream:
            _take(slow, page)
            if slow.positions and slow.positions[-1] >= head:
                break
    stream.cancel()


def _take(slow: Slow, page: bytes) -> None:
    response = service_pb2.StreamOutcomesResponse.FromString(page)
    slow.positions += [outcome.position for outcome in response.outcomes]
    slow.cursor = response.cursor
