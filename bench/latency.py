"""From sending an event to its provider's answer, at half load, in commits of the database.

The unit is what one commit of five rows takes the driver alone, in the same minutes: what is left
of the machine is divided out. The null provider answers at once.
"""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import grpc

from client import INGEST, STREAM, channel_to, timed_calls
from events import calls, order
from figures import Bound
from references import commit_s
from serving import Server
from upshot.v1 import outcome_pb2, service_pb2

LIMIT_P50, LIMIT_P99 = 120.0, 300.0
AIM_P50, AIM_P99 = 5.0, 20.0
_SECONDS = 6.0
_IN_FLIGHT = 64
_NAME = "latency-"


async def measure(server: Server, directory: Path, people: int) -> list[Bound]:
    """Find the full load of single events, offer half of it, and follow each message by the log."""
    orders = [order(f"full-{n}", n) for n in range(people)]
    sample, _ = await timed_calls(server, INGEST, calls(orders, per_call=1), _IN_FLIGHT)
    full = sample.rate
    rate = full / 2
    count = min(int(rate * _SECONDS), people)
    async with channel_to(server) as channel:
        listening = asyncio.create_task(_answered(channel, count))
        await asyncio.sleep(0.2)
        began = await _offered(channel, rate, count, people)
        answered = await asyncio.wait_for(listening, 60)
    unit_s = commit_s(directory / "unit.db")
    waits = sorted(answered[name] - began[name] for name in began)
    p50, p99 = statistics.median(waits) / unit_s, waits[int(len(waits) * 0.99)] / unit_s
    what = f"of {count:,} at {rate:,.0f}/s, until the provider's answer, in commits"
    unit = f"of {unit_s * 1e3:.2f} ms"
    return [
        Bound("latency p50", what, p50, LIMIT_P50, unit, aim=AIM_P50),
        Bound("latency p99", what, p99, LIMIT_P99, unit, aim=AIM_P99),
    ]


async def _offered(
    channel: grpc.aio.Channel, rate: float, count: int, people: int
) -> dict[str, float]:
    """Send *count* events, each at its time; returns when each was sent, by wall clock."""
    call: Any = channel.unary_unary(INGEST)
    events = [order(f"{_NAME}{n}", n % people) for n in range(count)]
    requests = calls(events, per_call=1)
    began: dict[str, float] = {}
    under_way = set()

    async def ask(request: bytes) -> None:
        await call(request)

    start = time.perf_counter()
    for number, request in enumerate(requests):
        wait = start + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        began[events[number].event_id] = time.time()
        under_way.add(asyncio.create_task(ask(request)))
    await asyncio.gather(*under_way)
    return began


async def _answered(channel: grpc.aio.Channel, count: int) -> dict[str, float]:
    """Return when each message was sent, by the event of its run, by the server's wall clock."""
    request = service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_NOW)
    open_stream: Any = channel.unary_stream(STREAM)
    found: dict[str, float] = {}
    async for page in open_stream(request.SerializeToString()):
        for outcome in service_pb2.StreamOutcomesResponse.FromString(page).outcomes:
            ours = outcome.event_id.startswith(_NAME)  # the full load may still be under way
            if ours and outcome.kind == outcome_pb2.OUTCOME_KIND_MESSAGE_SENT:
                found[outcome.event_id] = outcome.occur_time.ToNanoseconds() / 1e9
        if len(found) >= count:
            break
    return found
