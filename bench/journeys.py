"""Complete journeys per second through batched Ingest, against five raw rows per event."""

import asyncio
import time
from pathlib import Path

import grpc

from client import INGEST, call_all, channel_to, check_accepted, completed, define
from events import calls, order, person, workflow
from figures import Figure, Sample
from postgresql import postgresql
from references import copy_postgresql, raw_sqlite
from serving import Server, upshot_serve

FLOOR, FLOOR_PG, AIM = 0.04, 0.04, 0.06
#: Calls of 100 events under way at once.
_IN_FLIGHT = 8
#: Events of one round of the reference.
_REFERENCE = 20_000
_POLL_S = 0.02
_WAIT_S = 120.0


async def identify(server: Server, people: int) -> None:
    """Make the workflow and the people known."""
    async with channel_to(server) as channel:
        await define(channel, workflow())
        requests = calls([person(number) for number in range(people)])
        check_accepted(await call_all(channel, INGEST, requests, _IN_FLIGHT))


async def travel(server: Server, name: str, people: int) -> Sample:
    """Send everybody on a journey, and wait until the last one is complete."""
    requests = calls([order(f"{name}-{user}", user) for user in range(people)])
    async with channel_to(server) as channel:
        target = await completed(channel) + people
        cpu_s, begin = server.cpu_s(), time.perf_counter()
        responses = await call_all(channel, INGEST, requests, _IN_FLIGHT)
        await _complete(channel, target)
        sample = Sample(people, time.perf_counter() - begin, server.cpu_s() - cpu_s)
        check_accepted(responses)
        return sample


async def _complete(channel: grpc.aio.Channel, target: int) -> None:
    async with asyncio.timeout(_WAIT_S):
        while await completed(channel) < target:
            await asyncio.sleep(_POLL_S)


async def measure_postgresql(directory: Path, rounds: int, people: int) -> Figure:
    """The same on PostgreSQL, against COPY of the same rows, on the same server."""
    with postgresql(directory) as address:
        async with upshot_serve(directory, address) as server:
            await identify(server, people)
            await travel(server, "warm", people // 10)
            ours, reference = [], []
            for number in range(rounds):
                reference.append(await copy_postgresql(address, _REFERENCE))
                ours.append(await travel(server, f"order-{number}", people))
    unit = "complete journeys on PostgreSQL"
    return Figure("journeys-pg", unit, FLOOR_PG, tuple(ours), tuple(reference), AIM)


async def measure(server: Server, directory: Path, rounds: int, people: int) -> Figure:
    """Measure in turns; one journey of everybody beforehand warms the caches."""
    await travel(server, "warm", people // 10)
    ours, reference = [], []
    for number in range(rounds):
        reference.append(raw_sqlite(directory / "raw.db", _REFERENCE))
        ours.append(await travel(server, f"order-{number}", people))
    return Figure("journeys", "complete journeys", FLOOR, tuple(ours), tuple(reference), AIM)
