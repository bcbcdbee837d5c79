"""How late 20 000 runs are that fall due within ten seconds."""

import asyncio
import time
from typing import Any

import grpc

from client import INGEST, STREAM, call_all, channel_to, check_accepted, define
from events import calls, order
from figures import Bound
from serving import Server
from upshot.v1 import event_pb2, outcome_pb2, service_pb2, workflow_pb2

RUNS, WITHIN_S = 20_000, 10.0
LIMIT_S = 1.0
_WORKFLOW = "late"
#: From the first event to the first timer: everything must be waiting by then.
_AHEAD_S = 20.0
_IN_FLIGHT = 8


async def measure(server: Server, people: int, runs: int = RUNS) -> Bound:
    """Let all wait for moments of their own, and compare when each went on."""
    async with channel_to(server) as channel:
        await define(channel, _until())
        first = time.time() + _AHEAD_S
        due = {f"late-{n}": first + WITHIN_S * n / runs for n in range(runs)}
        following = asyncio.create_task(_ended(channel, runs))
        events = [_event(name, at, n % people) for n, (name, at) in enumerate(due.items())]
        check_accepted(await call_all(channel, INGEST, calls(events), _IN_FLIGHT))
        if time.time() > first:
            raise SystemExit("the runs were not waiting before the first of them was due")
        ended = await asyncio.wait_for(following, 120)
    late = sorted(ended[name] - due[name] for name in due)
    if late[0] < 0:
        raise SystemExit(f"a timer fired {-late[0]:.3f} s early")
    what = f"p99 of {runs:,} runs due within {WITHIN_S:.0f} s"
    return Bound("lateness", what, late[int(runs * 0.99)], LIMIT_S, "s")


def _until() -> workflow_pb2.Workflow:
    workflow = workflow_pb2.Workflow(workflow_id=_WORKFLOW)
    workflow.trigger.track.event = "Due Later"
    workflow.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
    workflow.steps.add(step_id="until").delay.until.expression = "timestamp(event.properties.at)"
    return workflow


def _event(name: str, at: float, user: int) -> event_pb2.Event:
    event = order(name, user)
    event.track.event = "Due Later"
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f"{at % 1:.6f}"[1:] + "Z"
    event.track.properties.update({"at": moment})
    return event


async def _ended(channel: grpc.aio.Channel, runs: int) -> dict[str, float]:
    """Return when the run of each event ended, by the server's wall clock."""
    request = service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_NOW)
    request.filter.workflow_ids.append(_WORKFLOW)
    open_stream: Any = channel.unary_stream(STREAM)
    found: dict[str, float] = {}
    async for page in open_stream(request.SerializeToString()):
        for outcome in service_pb2.StreamOutcomesResponse.FromString(page).outcomes:
            if outcome.kind == outcome_pb2.OUTCOME_KIND_RUN_COMPLETED:
                found[outcome.event_id] = outcome.record_time.ToNanoseconds() / 1e9
        if len(found) >= runs:
            break
    return found
