"""A whole history from one seed: servers, database, providers, clients, readers, and faults."""

import asyncio
import gc
import hashlib
import random
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.sim import START
from tests.simulation import accounts, policies
from tests.simulation.clients import Client, Operator, Relay
from tests.simulation.database import OUTSIDE, SimDatabase
from tests.simulation.devices import Devices
from tests.simulation.faults import Faults
from tests.simulation.fetching import FarEnd
from tests.simulation.node import Node
from tests.simulation.phones import Phone
from tests.simulation.providers import Providers
from tests.simulation.reviewers import Reviewers
from tests.simulation.virtual import VirtualLoop
from tests.simulation.vocabulary import USERS, WORKSPACES
from tests.simulation.watcher import Watcher
from tests.stores import encode
from tests.validators import StreamValidator
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.templates import SandboxTemplates
from upshotd.application import loop as loops
from upshotd.application import watching
from upshotd.domain.consent import TopicDefault
from upshotd.domain.message import Purpose
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.plan import Plan
from upshotd.domain.steps.kinds import sent_by
from upshotd.domain.steps.send import OnUnknown
from upshotd.domain.steps.wait import Wait

MINUTE = 60_000_000
HOUR = 60 * MINUTE
#: Languages keep what they have compiled: pure, and shared by all histories.
_CONDITIONS, _TEMPLATES = CelConditions(), SandboxTemplates(MESSAGE_ROOTS)


@dataclass(frozen=True)
class Shape:
    """What a history is like."""

    #: Servers on one database; 0 is a single one that nobody shares it with.
    replicas: int
    #: How long things break, in microseconds.
    span_us: int
    #: What durations in workflows are multiples of, in microseconds.
    unit_us: int
    #: Between two events of one client on average, in seconds.
    pause_s: float
    #: How long a lease is.
    lease_us: int


ALONE = Shape(0, 5 * HOUR, 15 * MINUTE, 3600.0, 60_000_000)
SHARED = Shape(3, 12 * MINUTE, MINUTE, 150.0, 30_000_000)


@dataclass(frozen=True)
class Report:
    """What one history was."""

    seed: int
    findings: list[str]
    trace: str
    faults: Counter[str]
    events: int
    commits: int
    sends: int
    kinds: Counter[Any]
    virtual_s: float


class Network:
    """Between servers and everybody, the database included."""

    def __init__(self, chance: random.Random, faults: Faults) -> None:
        self._chance = chance
        self._faults = faults
        #: Whether the database can be reached.
        self.down = False

    def delay(self) -> float:
        if self._faults.strikes("slow_database", 0.01):
            return self._chance.uniform(0.5, 8.0)
        return self._chance.uniform(0.0005, 0.005)

    def away(self) -> bool:
        return self.down

    def loses_answer(self) -> bool:
        return self._faults.strikes("answer_lost", 0.01)


class Simulation:
    """One history. `run` plays it on the loop it is called in."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        shape = ALONE if seed % 4 == 0 else SHARED
        self.shape = shape
        self.unit_us, self.span_us = shape.unit_us, shape.span_us
        self.policy = policies.policy(self._fork(), shape.unit_us, START)
        self._loop = asyncio.get_running_loop()
        self._hash = hashlib.blake2b(digest_size=8)
        self.log: list[str] | None = None
        self.faults = Faults(self._fork())
        self.network = Network(self._fork(), self.faults)
        #: How long what was decided before may still be committed: slow answers, frozen processes.
        self.settle_us = 2 * shape.lease_us if shape.replicas else 0
        #: How far the database's clock is off, in microseconds.
        self.jump_us = 0
        self.database = SimDatabase(
            encode_outcome=encode,
            partitions=1 if shape.replicas == 0 else 2,
            shared=shape.replicas > 0,
            now_us=self.now_us,
            lease_us=shape.lease_us,
        )
        self.codec = ContractCodec()
        self.conditions, self.templates = _CONDITIONS, _TEMPLATES
        self.devices = Devices(self)
        self.watcher = Watcher(self)
        self.database.watching = self.watcher
        self.providers = Providers(self, self._fork())
        self.far_end = FarEnd(self, self._fork())
        self.reviewers = Reviewers(self, self._fork())
        self.nodes = [Node(self, f"node-{n}") for n in range(max(shape.replicas, 1))]
        self.validators = {name: StreamValidator() for name in WORKSPACES}
        self.clients = [Client(self, f"client-{n}", self._fork()) for n in range(5)]
        readers = (*WORKSPACES, self.chance.choice(WORKSPACES))
        self.relays = [
            Relay(self, name, f"relay-{n}", self._fork()) for n, name in enumerate(readers)
        ]
        self._operator = Operator(self, self._fork())
        self.phones = [
            Phone(self, name, user_id, self._fork()) for name in WORKSPACES for user_id in USERS
        ]
        #: What others do that comes to an end.
        self._ending: list[asyncio.Task[Any]] = []
        self._plans: dict[tuple[str, int, bytes], Plan] = {}

    def _fork(self) -> random.Random:
        return random.Random(self.chance.random())

    # what everybody uses

    def now_us(self) -> int:
        """Return the database's time."""
        return START + round(self._loop.time() * 1_000_000) + self.jump_us

    def trace(self, text: str) -> None:
        """Add to what two runs of one seed must have in common."""
        line = f"{self._loop.time():.6f} {text}"
        self._hash.update(line.encode())
        if self.log is not None:
            self.log.append(line)

    def node(self) -> Node:
        """Return a server that a load balancer would name: one with a process, mostly."""
        up = [node for node in self.nodes if node.up]
        return self.chance.choice(up or self.nodes)

    def outside(self, work: Coroutine[Any, Any, Any], *, ends: bool = True) -> None:
        """Begin something that is no part of any server; the history waits until it *ends*."""
        task = self._loop.create_task(work, context=OUTSIDE.copy())
        if ends:
            self._ending.append(task)

    def _under_way(self) -> bool:
        self._ending = [task for task in self._ending if not task.done()]
        return bool(self._ending) or self.watcher.open_work() > 0

    # what the watcher asks about definitions

    def plan(self, workspace_id: str, workflow_id: str, version: int) -> Plan:
        stored = self.database._tables(workspace_id).workflows[workflow_id][version - 1]
        key = (workflow_id, version, stored.definition)
        if key not in self._plans:
            self._plans[key] = Plan.of(self.codec.decode_workflow(stored.definition, version))
        return self._plans[key]

    def waits(self, workspace_id: str, workflow_id: str, version: int) -> set[str]:
        """Return the wait steps of a workflow."""
        plan = self.plan(workspace_id, workflow_id, version)
        return {name for name, step in plan.steps.items() if isinstance(step.kind, Wait)}

    def topic(self, workspace_id: str, workflow_id: str, version: int) -> str:
        """Return the topic of a workflow."""
        return self.plan(workspace_id, workflow_id, version).workflow.topic

    def opted_out(self, workspace_id: str, topic_id: str) -> bool:
        """Return whether a topic is only for those who asked for it."""
        stored = self.database._tables(workspace_id).workflows[f"topic:{topic_id}"][-1]
        topic = self.codec.decode_topic(stored.definition, stored.version)
        return topic.default is TopicDefault.OPTED_OUT

    def resends(self, workspace_id: str, message_id: str) -> bool:
        """Return whether a message is sent again when nobody tells what became of it."""
        tables = self.database._tables(workspace_id)
        message = tables.messages[message_id]
        run = tables.runs[message.run_id]
        plan = self.plan(workspace_id, run.workflow_id, run.workflow_version)
        send = sent_by(plan.steps[message.step_id], message)
        assert send is not None
        if send.on_unknown is None:
            return plan.workflow.purpose is Purpose.TRANSACTIONAL
        return send.on_unknown is OnUnknown.RESEND

    # a history

    async def run(self) -> Report:
        """Play the history to its end, or to the first violation."""
        for node in self.nodes:
            node.start()
        await self._operator.define_all()
        until_us = self.now_us() + self.span_us
        span_s = self.span_us / 1e6
        for relay in self.relays:
            self.outside(relay.run(), ends=False)
        for client in self.clients:
            self.outside(client.run(until_us, self.shape.pause_s))
        self.outside(self._operator.run(until_us, span_s / 12))
        for phone in self.phones:
            self.outside(phone.run(until_us, span_s / 6))
        self.outside(self._break_things(span_s / 15), ends=False)
        while self.now_us() < until_us and not self.watcher.findings:
            await asyncio.sleep(span_s / 60)
        await self._heal()
        await self._settle()
        if not self.watcher.findings:
            self.watcher.final()
            for phone in self.phones:
                phone.holds()
        return self._report()

    async def _break_things(self, pause_s: float) -> None:
        strikes = self.faults.strikes
        while self.faults.active:
            await asyncio.sleep(self.chance.expovariate(1 / pause_s))
            node = self.chance.choice(self.nodes)
            if node.up and strikes("crash", 0.5):
                node.kill()
                self._later(self.chance.uniform(0.1, 30.0), node.start)
            elif node.up and not node.process.frozen and strikes("freeze", 0.5):
                node.process.freeze()
                self._later(self.chance.uniform(0.5, 180.0), node.process.thaw)
            elif node.server is not None and not node.process.frozen and strikes("drain", 0.5):
                self.outside(self._restart(node))
            if strikes("away", 0.3):
                self.network.down = True
                self._later(self.chance.uniform(0.1, 30.0), self._back)
            if self.shape.replicas and strikes("clock_jump", 0.3):
                self.jump_us += self.chance.randint(-300, 300) * 1_000_000

    def _later(self, delay_s: float, work: Any) -> None:
        self._loop.call_later(delay_s, work, context=OUTSIDE.copy())

    def _back(self) -> None:
        self.network.down = False

    async def _restart(self, node: Node) -> None:
        await node.drain()
        if not node.up:
            node.start()

    async def _heal(self) -> None:
        """Nothing breaks from now on; what is broken comes back."""
        self.faults.active = False
        await asyncio.sleep(200.0)
        for node in self.nodes:
            self.watcher.expect(node.up, f"{node} is not up")

    async def _settle(self) -> None:
        """Let everything come to its end; what is late is found on the way."""
        # The last time of a schedule comes after twenty minutes, and is done some minutes later.
        await asyncio.sleep(max(0.0, (START + 25 * MINUTE - self.now_us()) / 1e6))
        step_s = self.unit_us / 1e6
        # Every list of steps, one in the other, at its longest; then backoff and enrolments.
        for _ in range(2_000):
            if self.watcher.findings or not self._under_way():
                break
            self.watcher.overdue()
            await asyncio.sleep(step_s)
        # Checkpoints and the last outcomes reach every reader.
        await asyncio.sleep(200.0)

    def _report(self) -> Report:
        return Report(
            self.seed,
            self.watcher.findings,
            self._hash.hexdigest(),
            self.faults.injected,
            len(self.watcher.acks),
            self.watcher.commits,
            len(self.providers.taken),
            accounts.kinds(self.database._workspaces.values()),
            self._loop.time(),
        )


@contextmanager
def sparse_polls() -> Iterator[None]:
    """Let replicas look for each other's work as rarely as a virtual hour can bear."""
    before = loops.SLEEP_SHARED_S, watching.LOOK_US, watching.IDLE_US
    loops.SLEEP_SHARED_S, watching.LOOK_US, watching.IDLE_US = 20.0, 10_000_000, 10_000_000
    try:
        yield
    finally:
        loops.SLEEP_SHARED_S, watching.LOOK_US, watching.IDLE_US = before


def play(seed: int, log: list[str] | None = None) -> Report:
    """Play one history; *log* receives every line of its trace."""
    loop = VirtualLoop()
    broken: list[str] = []
    loop.set_exception_handler(lambda _, context: broken.append(str(context)))

    async def main() -> Report:
        simulation = Simulation(seed)
        simulation.log = log
        return await simulation.run()

    asyncio.set_event_loop(loop)
    gc.disable()  # nothing here is collected before the end
    try:
        with sparse_polls():
            report = loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.abandon()
        gc.enable()
    report.findings.extend(f"nobody caught it: {text}" for text in broken)
    return report
