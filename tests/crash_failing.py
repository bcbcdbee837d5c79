"""A crash story over failpoints: one after the other a server is made to fail at each of them."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.crash import Crash, channel_to, pausing
from tests.servers import Server, ServerDied
from upshot.v1 import engagement_pb2, subscription_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub
from upshotd.adapters.failing import VARIABLE
from upshotd.application.failpoints import POINTS

ACTIONS = ("exit", "raise", "pause(0.5)", "disk-full")
#: How long a server lives with a failpoint, in seconds.
LIFE_S = 1.5
#: Points that are passed seldom in a life fail always, the others now and then.
SELDOM = ("prune.", "drain.", "cursor.", "define.", "engagement.", "claim.", "lease.")
CHANCE = 0.2
#: Points of other programs, and of schedules: a time of theirs comes once a minute at most, and a
#: server here lives for seconds (tests/application/test_schedules.py crashes there). Audiences are
#: filled only where some are defined (tests/scenarios/test_not_used.py).
ELSEWHERE = ("relay.", "schedule.", "filling.")
#: Points of PostgreSQL.
SHARED = ("lease.",)
#: Not passed by a database that is there already.
MIGRATIONS = ("migration.",)


def cells(*, shared: bool = False) -> list[tuple[str, str]]:
    """Return every failpoint of a server with every action."""
    left_out = ELSEWHERE if shared else (*ELSEWHERE, *SHARED)
    names = [name for name in POINTS if not name.startswith((*left_out, *MIGRATIONS))]
    return [(name, action) for name in names for action in ACTIONS]


@dataclass
class Failing(Crash):
    """Each cycle is a server that fails at one point in one way, and is started again."""

    cells: list[tuple[str, str]] = field(default_factory=cells)
    #: Cells whose point was reached.
    hit: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._died_starting = False
        # An error that nobody could foresee is told as one; and what gRPC has taken in, but not
        # yet given to the server, it ends with CANCELLED at the end of a drain.
        self.passing |= {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
        self.passing |= {grpc.StatusCode.CANCELLED}

    async def _trouble(self) -> None:
        for number, cell in enumerate(self.cells, 1):
            server = self._random.choice(self._servers)
            await self._live(server, *cell)
            self.told(number, self.recoveries_s[-1])
        for server in self._servers:
            await self._again(server, "")

    async def _live(self, server: Server, name: str, action: str) -> None:
        """Let *server* live for a while, failing."""
        chance = "" if name.startswith(SELDOM) else f":{CHANCE}"
        self._died_starting = False
        await self._again(server, f"{name}={action}{chance}")
        until = time.monotonic() + LIFE_S
        while time.monotonic() < until:
            await self._visit(server)
            if not server.running:
                self._note(server, name, action)
                await self._again(server, f"{name}={action}{chance}")
            await asyncio.sleep(0.1)
        if name.startswith("drain."):
            await server.stopped()
        self._note(server, name, action)

    def _note(self, server: Server, name: str, action: str) -> None:
        if "failpoint.hit" in server.said() or not server.running or self._died_starting:
            self.hit.add((name, action))

    async def _again(self, server: Server, failpoints: str) -> None:
        """Kill it, and start it with these failpoints; without them if it does not even start."""
        if self.replicas == 1:
            self._up.clear()
        server.kill()
        killed = time.monotonic()
        for text in (failpoints, failpoints, ""):
            server.environ[VARIABLE] = text
            try:
                await server.started()
                break
            except ServerDied:
                self._died_starting |= "failpoint.hit" in server.said()
        self.recoveries_s.append(time.monotonic() - killed)
        self._up.set()

    async def _visit(self, server: Server) -> None:
        """Do what the clients of the story do not: define, commit a cursor, tell an engagement."""
        async with channel_to(server) as channel:
            upshot: Any = UpshotServiceStub(channel)
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = pb.DefineWorkflowRequest(workflow=pausing())
                await upshot.DefineWorkflow(request, timeout=1)
            with contextlib.suppress(grpc.aio.AioRpcError):
                nobody = engagement_pb2.Engagement(message_id="nobody", engagement_id="e")
                nobody.kind = engagement_pb2.ENGAGEMENT_KIND_OPENED
                await upshot.RecordEngagement(
                    pb.RecordEngagementRequest(engagements=[nobody]), timeout=1
                )
            with contextlib.suppress(grpc.aio.AioRpcError):
                stream = upshot.StreamOutcomes(
                    pb.StreamOutcomesRequest(subscription="visitor"), timeout=1
                )
                cursor = (await stream.read()).cursor
                commit = subscription_pb2.CommitCursorRequest(subscription="visitor", cursor=cursor)
                subscriptions: Any = SubscriptionServiceStub(channel)
                await subscriptions.CommitCursor(commit, timeout=1)
