"""kill -9 under load, again and again: who drives it, and what everybody remembers of it.

Real servers: one on a SQLite file, or several on one PostgreSQL; four clients that ingest events
with ids of their own choosing and repeat what was not answered; a provider with a ledger; a
subscriber that resumes by its cursor.
Every event starts a run of `pause of 1 to 2 s, then a text message`. `crash_audit` judges.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.crash_audit import Ack, History
from tests.crash_database import count_outcomes, read_database
from tests.servers import Server
from tests.sms_ledger import SmsLedger
from tests.validators import StreamValidator
from upshot.v1 import admin_pb2, event_pb2, lab_pb2, outcome_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub

CLIENTS = 4
PEOPLE = 40
BATCH = 20
#: Share of events whose id was used before.
REPEATED = 0.05
#: Pause of a client between two calls, in seconds; it keeps the load to some hundred events/s.
PAUSE_S = 0.08
#: When a server is killed after it served, in seconds.
LIVES_S = (0.2, 1.5)
#: What a kill follows within a millisecond, where it does not fall anywhere: the client's answer,
#: the provider's call, the subscriber's outcome. What was told too early is caught so.
MOMENTS = ("anywhere", "answered", "called", "streamed")
#: Longest wait for such a moment, in seconds.
MOMENT_S = 1.0
#: Share of cycles in which it is killed while it starts.
STILLBORN = 0.1
#: Longest wait of the clients for an answer, of the end for its timers, in seconds.
CALL_S = 10.0
DRAIN_S = 1_000.0
#: Longest that the provider thinks, in seconds; a kill then finds some calls taken, not answered.
ANSWER_S = 0.1
#: Moves the clock past what a kill left leased, and past the longest pause between attempts.
LEASES_S = 3600
#: What a client sees when a server dies, starts, or is busy. Any other status is a finding.
PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Every channel has a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
)


@asynccontextmanager
async def channel_to(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address, CHANNEL_OPTIONS) as channel:
        yield channel


def pausing() -> workflow_pb2.Workflow:
    """Takes a variant, pauses for as long as the event says, then sends a text message.

    The person's next event is the goal of the variant.
    """
    workflow = workflow_pb2.Workflow(workflow_id="crash")
    workflow.trigger.track.event = "Crashed"
    workflow.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
    experiment = workflow.steps.add(step_id="try").experiment
    for name in ("a", "b"):
        experiment.variants.add(variant_id=name)
    experiment.optimize.goal.event.event = "Crashed"
    experiment.optimize.window.seconds = 86_400
    delay = workflow.steps.add(step_id="pause").delay
    delay.until.expression = "event.time + duration(event.properties.pause)"
    send = workflow.steps.add(step_id="text").send
    send.channel = outcome_pb2.CHANNEL_SMS
    send.sms.body = "{{ event.id }} came {{ event.properties.pause }} ago"
    return workflow


def person(number: int) -> event_pb2.Event:
    """Tell who a user is."""
    event = event_pb2.Event(event_id=f"person-{number}", user_id=f"user-{number}")
    event.identify.traits.update({"phone": f"+4915123{number:06d}"})
    return event


@dataclass
class Crash:
    """The whole story; `run` it, then look at what the parts remember."""

    folder: Path
    cycles: int
    seed: int
    #: Address of a PostgreSQL; empty: a SQLite file in the folder.
    database: str = ""
    #: Servers; more than one only on PostgreSQL. One of them is killed at a time.
    replicas: int = 1
    #: How long a server that says nothing is taken for alive, in seconds.
    lease_s: float = 15.0
    #: Called after each cycle with its number and the seconds until it served again.
    told: Callable[[int, float], None] = lambda _cycle, _seconds: None
    acks: list[Ack] = field(default_factory=list)
    #: event id -> pause in microseconds, of every event that was ever sent.
    sent: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    #: From each SIGKILL to the first answer of the next server, in seconds.
    recoveries_s: list[float] = field(default_factory=list)
    #: Calls that ended without an answer and were repeated.
    unanswered: int = 0
    #: Statuses that are no finding.
    passing: set[grpc.StatusCode] = field(default_factory=lambda: set(PASSING))
    ledger: SmsLedger = field(default_factory=SmsLedger)
    validator: StreamValidator = field(default_factory=StreamValidator)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.ledger.answer_s = self._thinking
        self._loading = True
        self._reading = True
        self._up = asyncio.Event()
        self._awaited = ""
        self._come = asyncio.Event()
        self._cursor = ""

    async def run(self) -> History:
        """Do it all; return what is there in the end."""
        async with self.ledger.serving():
            with ExitStack() as stack:
                self._servers = [stack.enter_context(self._server(n)) for n in range(self.replicas)]
                await asyncio.gather(*(server.started() for server in self._servers))
                await self._prepare()
                async with asyncio.TaskGroup() as everybody:
                    clients = [
                        everybody.create_task(self._client(number)) for number in range(CLIENTS)
                    ]
                    reader = everybody.create_task(self._read())
                    await self._trouble()
                    self._loading = False
                    await asyncio.wait(clients)
                    runs = await self._drained()
                    await self._read_to_the_end(reader)
                for server in self._servers:
                    code = await server.stopped()
                    if code != 0:
                        self.faults.append(f"SIGTERM ended a server with {code}")
        return History(
            acks=tuple(self.acks),
            sent=dict(self.sent),
            calls=tuple(self.ledger.calls),
            listed_runs=runs,
            faults=(*self.faults, *self.ledger.faults),
            validator=self.validator,
            **read_database(self._database),
        )

    @property
    def _database(self) -> str:
        """Where the rows are, without anything between."""
        return self.database or self._servers[0].database

    def _server(self, number: int) -> Server:
        lease = f'[limits]\nlease = "{self.lease_s:g}s"\n'
        return Server(
            self.folder / f"replica-{number}",
            config=lease + self.ledger.config(),
            lab=not self.database,
            database=self.database,
        )

    # kills

    async def _prepare(self) -> None:
        async with channel_to(self._servers[0]) as channel:
            upshot = UpshotServiceStub(channel)
            await upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=pausing()))
            people = [person(number) for number in range(PEOPLE)]
            answer = await upshot.Ingest(pb.IngestRequest(events=people))
            assert all(r.state == pb.INGEST_STATE_ACCEPTED for r in answer.results), answer
        self._up.set()

    async def _trouble(self) -> None:
        """Kill one of them again and again."""
        for cycle in range(1, self.cycles + 1):
            await asyncio.sleep(self._random.uniform(*LIVES_S))
            await self._moment(self._random.choice(MOMENTS))
            victim = self._random.choice(self._servers)
            if self.replicas == 1:
                self._up.clear()
            victim.kill()
            killed = time.monotonic()
            if self._random.random() < STILLBORN:
                victim.launch()
                await asyncio.sleep(self._random.uniform(*LIVES_S))
                victim.kill()
                killed = time.monotonic()
            await victim.started()
            await self._serving(victim)
            self.recoveries_s.append(time.monotonic() - killed)
            self._up.set()
            self.told(cycle, self.recoveries_s[-1])

    async def _moment(self, moment: str) -> None:
        """Return just after something of this kind has happened."""
        if moment == "anywhere":
            return
        self._awaited = moment
        self._come.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_S):
                await self._come.wait()

    def _happened(self, moment: str) -> None:
        if moment == self._awaited:
            self._come.set()

    def _thinking(self) -> float:
        self._happened("called")
        return self._random.uniform(0, ANSWER_S)

    async def _serving(self, server: Server) -> None:
        """Return when a stranger is told that it serves."""
        async with channel_to(server) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="upshot.v1.UpshotService")
            answer = await health.Check(request, timeout=CALL_S, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    # clients

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed}-{number}")
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(channel_to(s)) for s in self._servers]
            upshots = [UpshotServiceStub(channel) for channel in channels]
            while self._loading:
                events = [self._event(number, chance) for _ in range(BATCH)]
                await self._until_answered(upshots, events, chance)
                await asyncio.sleep(PAUSE_S * chance.random() * 2)

    def _event(self, client: int, chance: random.Random) -> event_pb2.Event:
        if self.sent and chance.random() < REPEATED:
            # Of any client, answered or not, or of this very call.
            event_id = chance.choice(list(self.sent)[-2_000:])
        else:
            event_id = f"e{client}-{len(self.sent)}"
            self.sent[event_id] = chance.randrange(1_000, 2_000) * 1_000
        event = event_pb2.Event(
            event_id=event_id, user_id=f"user-{crc32(event_id.encode()) % PEOPLE}"
        )
        event.track.event = "Crashed"
        event.track.properties.update({"pause": f"{self.sent[event_id] // 1_000}ms"})
        return event

    async def _until_answered(
        self, upshots: list[Any], events: list[event_pb2.Event], chance: random.Random
    ) -> None:
        """Ask any server, and after no answer any again, with the same ids."""
        while True:
            try:
                request = pb.IngestRequest(events=events)
                answer = await chance.choice(upshots).Ingest(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                self._passing("Ingest", error)
                self.unanswered += 1
                await asyncio.sleep(0.02)
                await self._up.wait()
                continue
            self.acks += [
                Ack(
                    result.event_id,
                    pb.IngestState.Name(result.state).removeprefix("INGEST_STATE_"),
                    tuple(run.run_id for run in result.started_runs),
                )
                for result in answer.results
            ]
            self._happened("answered")
            return

    def _passing(self, call: str, error: grpc.aio.AioRpcError) -> None:
        if error.code() not in self.passing:
            self.faults.append(f"{call} ended with {error.code().name}: {error.details()}")

    # the subscriber

    async def _read(self) -> None:
        while self._reading:
            await self._up.wait()
            async with channel_to(self._random.choice(self._servers)) as channel:
                try:
                    await self._read_one(UpshotServiceStub(channel))
                except grpc.aio.AioRpcError as error:
                    self._passing("StreamOutcomes", error)
                    await asyncio.sleep(0.02)

    async def _read_one(self, upshot: Any) -> None:
        request = pb.StreamOutcomesRequest(
            after_cursor=self._cursor, start=pb.START_POSITION_EARLIEST
        )
        seen = self.validator.opened(after_cursor=self._cursor)
        async for response in upshot.StreamOutcomes(request):
            seen.saw(response)
            self._cursor = seen.cursor
            if response.outcomes:
                self._happened("streamed")

    async def _read_to_the_end(self, reader: "asyncio.Task[None]") -> None:
        """Give the subscriber time for what is left, then send it home."""
        head = count_outcomes(self._database)
        until = time.monotonic() + DRAIN_S
        while sum(len(s.ids) for s in self.validator.streams) < head and time.monotonic() < until:
            await asyncio.sleep(0.1)
        self._reading = False
        reader.cancel()

    # the end

    async def _drained(self) -> dict[str, str]:
        """Wait until no timer is left, then for what a kill left leased; return runs by event."""
        async with channel_to(self._servers[0]) as channel:
            admin, lab = AdminServiceStub(channel), LabServiceStub(channel)
            # Without a lab nothing can be hurried: leases, then the pauses between attempts.
            steps = {"pause", "text"} if self.database else {"pause"}
            until = time.monotonic() + DRAIN_S
            while await self._standing(admin, steps) and time.monotonic() < until:
                await asyncio.sleep(0.25)
            if not self.database:
                advance = lab_pb2.AdvanceTimeRequest()
                advance.duration.FromSeconds(LEASES_S)
                await lab.AdvanceTime(advance, timeout=DRAIN_S)
            return await self._listed(admin)

    async def _standing(self, admin: Any, steps: set[str]) -> bool:
        """Whether a run still stands at one of *steps*."""
        request = admin_pb2.ListRunsRequest(page_size=500, state=admin_pb2.RUN_STATE_ACTIVE)
        runs = (await admin.ListRuns(request, timeout=CALL_S)).runs
        return any(run.step_id in steps for run in runs)

    async def _listed(self, admin: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        request = admin_pb2.ListRunsRequest(page_size=500)
        while True:
            page = await admin.ListRuns(request, timeout=CALL_S)
            for run in page.runs:
                if run.event_id in found:
                    self.faults.append(f"ListRuns has two runs of {run.event_id}")
                found[run.event_id] = run.run_id
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token
