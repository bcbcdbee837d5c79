"""The client of all figures: calls of bytes, so that its own work is the same for everybody."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from events import WORKFLOW_ID
from figures import Sample
from serving import Server
from upshot.v1 import admin_pb2, outcome_pb2, service_pb2, workflow_pb2
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub

INGEST = "/upshot.v1.UpshotService/Ingest"
STREAM = "/upshot.v1.UpshotService/StreamOutcomes"


@asynccontextmanager
async def channel_to(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """Connect, and return when the server answers."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        yield channel


async def call_all(
    channel: grpc.aio.Channel, method: str, requests: Sequence[bytes], in_flight: int
) -> list[bytes]:
    """Make all calls, *in_flight* at once; returns the responses in no order."""
    call: Any = channel.unary_unary(method)
    waiting = iter(requests)
    responses: list[bytes] = []

    async def work() -> None:
        for request in waiting:
            response: bytes = await call(request)
            responses.append(response)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return responses


async def timed_calls(
    server: Server, method: str, requests: Sequence[bytes], in_flight: int
) -> tuple[Sample, list[bytes]]:
    """Time `call_all` over a connection of its own."""
    async with channel_to(server) as channel:
        cpu_s, begin = server.cpu_s(), time.perf_counter()
        responses = await call_all(channel, method, requests, in_flight)
        took = time.perf_counter() - begin
        return Sample(len(requests), took, server.cpu_s() - cpu_s), responses


def check_accepted(responses: Iterable[bytes]) -> None:
    """End the run when an event was not accepted: it would have been measured all the same."""
    for response in responses:
        for result in service_pb2.IngestResponse.FromString(response).results:
            if result.state != service_pb2.INGEST_STATE_ACCEPTED:
                raise SystemExit(f"an event was not accepted: {result}")


async def define(channel: grpc.aio.Channel, workflow: workflow_pb2.Workflow) -> None:
    """Define *workflow*."""
    request = service_pb2.DefineWorkflowRequest(workflow=workflow)
    await UpshotServiceStub(channel).DefineWorkflow(request)


async def outcomes(channel: grpc.aio.Channel) -> dict[int, int]:
    """Return how many outcomes of each kind the log has of the workflow of the figures."""
    request = admin_pb2.CountOutcomesRequest(workflow_id=WORKFLOW_ID)
    response = await AdminServiceStub(channel).CountOutcomes(request)
    found: dict[int, int] = {}
    for count in response.counts:
        found[count.kind] = found.get(count.kind, 0) + count.count
    return found


async def completed(channel: grpc.aio.Channel) -> int:
    """Return how many journeys are complete: sent, settled, ended, all of it committed."""
    found = await outcomes(channel)
    return min(
        found.get(outcome_pb2.OUTCOME_KIND_MESSAGE_SENT, 0),
        found.get(outcome_pb2.OUTCOME_KIND_RUN_COMPLETED, 0),
    )
