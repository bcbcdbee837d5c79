"""Three relays beside each other, everybody killed at random: `python -m tests.relay_story`.

    python -m tests.relay_story --rounds 50 --seed 7

A real server under load; `upshot relay` to Segment, to a webhook and to a file; one collector that
answers 429 and 500, hangs, hangs up and takes what it does not answer for. Collector, relays and
server are killed with SIGKILL again and again, and the file is moved away under its writer. In the
end each far end must hold each outcome exactly once after repetitions are dropped by their ids, in
order for each person, and nothing else. Exits with 1 when one does not.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import orjson

from tests.servers import Server, free_port, leashed
from upshot.v1 import event_pb2, outcome_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshotd.adapters import failing
from upshotd.adapters.relay.envelope import KINDS_DEFAULT

ROOT = Path(__file__).parents[1]
PEOPLE = 12
BATCH = 6
#: Of an event: RUN_STARTED, MESSAGE_SENT, CUSTOM, RUN_COMPLETED.
OUTCOMES_OF_AN_EVENT = 4
#: Between two batches of the client, and between two kills, in seconds.
PAUSES_S = (0.02, 0.25)
LIVES_S = (0.5, 1.2)
#: Share of the posts after which a relay dies before its cursor is stored.
DYING = {"segment": 0.05, "partner": 0.005, "archive": 0.05}
#: Who is killed in a round, in any order; what is moved away is the file.
VICTIMS = ("collector", "segment", "partner", "archive", "file")
#: In every how-manieth round the server is killed, too.
SERVER_ROUNDS = 2
#: Longest way to the end once all is calm, in seconds.
CALM_S = 60.0
RELAYS = ("segment", "partner", "archive")
SECRET = "whsec_" + "A" * 32


class Process:
    """A process that can be killed and started again."""

    def __init__(self, folder: Path, name: str, command: list[str]) -> None:
        self.log = folder / f"{name}.err"
        self._folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str, **environ: str) -> Self:
        with self.log.open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, *self._command, *more],
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                stdout=subprocess.DEVNULL,
                stderr=err,
            )
        return self

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ended(self) -> int:
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, CALM_S)


@dataclass
class RelayStory:
    """The whole story; `run` it, then look at what is left."""

    folder: Path
    #: How often everybody is killed.
    rounds: int
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    events: int = 0
    #: Everything in the log, in its order.
    log: list[outcome_pb2.Outcome] = field(default_factory=list)
    #: What each far end has been told, in order, with repetitions: (id, person, what was said).
    told: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    #: How the collector behaved.
    manners: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._loading = True
        self._server = Server(
            self.folder / "server", config='[providers.p]\nkind = "null"\n[channels]\nsms = "p"\n'
        )
        port = free_port()
        self._ledger = self.folder / "ledger.jsonl"
        command = [*leashed("tests.collector"), str(port), str(self._ledger)]
        self._collector = Process(self.folder, "collector", command)
        (self.folder / "relay.toml").write_text(_config(port))
        words = ["--server", self._server.address, "--config", "relay.toml"]
        self._relays = {
            name: Process(self.folder, name, [*leashed("upshotd"), "relay", name, *words])
            for name in RELAYS
        }

    async def run(self) -> list[str]:
        """Do it all; return what is wrong."""
        with self._server:
            try:
                await self._server.started()
                self._start_collector()
                for name in RELAYS:
                    self._start_relay(name)
                await self._define()
                await self._trouble()
                await self._calm()
            finally:
                for process in (self._collector, *self._relays.values()):
                    process.kill()
        self._read_ledgers()
        return self.findings + self._audit()

    def _start_collector(self, *more: str) -> None:
        # Another seed for each life, or each would begin as the one before.
        self._collector.start(f"{self.seed}-{self.kills['collector']}", *more)

    def _start_relay(self, name: str) -> None:
        chance = f"relay.posted=exit:{DYING[name]}"
        self._relays[name].start(**{failing.VARIABLE: chance})

    # trouble

    async def _define(self) -> None:
        workflow = workflow_pb2.Workflow(workflow_id="order")
        workflow.trigger.track.event = "Ordered"
        workflow.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
        send = workflow.steps.add(step_id="text").send
        send.channel, send.sms.body = outcome_pb2.CHANNEL_SMS, "{{ event.id }}"
        emit = workflow.steps.add(step_id="told").emit
        emit.event = "Order Told"
        people = [event_pb2.Event(event_id=f"p-{n}", user_id=f"user-{n}") for n in range(PEOPLE)]
        for number, person in enumerate(people):
            person.identify.traits.update({"phone": f"+4915123{number:06d}"})
        async with grpc.aio.insecure_channel(self._server.address) as channel:
            upshot = UpshotServiceStub(channel)
            await upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=workflow))
            await upshot.Ingest(pb.IngestRequest(events=people))

    async def _trouble(self) -> None:
        load = asyncio.create_task(self._load())
        victims = [victim for number in range(self.rounds) for victim in self._round(number)]
        try:
            for victim in victims:
                await asyncio.sleep(self._random.uniform(*LIVES_S))
                await self._strike(victim)
                for name, relay in self._relays.items():
                    if not relay.running:
                        self.kills[f"{name} before its cursor"] += 1
                        self._start_relay(name)
            self._loading = False
            await load
        finally:
            load.cancel()

    def _round(self, number: int) -> list[str]:
        server = ("server",) if number % SERVER_ROUNDS == 0 else ()
        return self._random.sample([*VICTIMS, *server], len(VICTIMS) + len(server))

    async def _strike(self, victim: str) -> None:
        self.kills[victim] += 1
        if victim == "server":
            self._server.kill()
            await self._server.started()
            return
        if victim == "file":
            self._move_away()
            return
        process = self._collector if victim == "collector" else self._relays[victim]
        process.kill()
        await asyncio.sleep(self._random.uniform(0, 0.4))
        if victim == "collector":
            self._start_collector()
        else:
            self._start_relay(victim)

    def _move_away(self) -> None:
        """Move the file away, as logrotate does; its writer is not told."""
        path = self.folder / "outcomes.jsonl"
        if path.exists():
            path.rename(self.folder / f"outcomes.jsonl.{self.kills['file']:04d}")

    async def _load(self) -> None:
        chance = random.Random(f"{self.seed}-load")
        async with grpc.aio.insecure_channel(self._server.address, _OPTIONS) as channel:
            upshot = UpshotServiceStub(channel)
            while self._loading:
                events = [self._event(chance) for _ in range(BATCH)]
                await self._until_answered(upshot, pb.IngestRequest(events=events))
                await asyncio.sleep(chance.uniform(*PAUSES_S))

    def _event(self, chance: random.Random) -> event_pb2.Event:
        self.events += 1
        event = event_pb2.Event(event_id=f"e-{self.events}")
        event.user_id = f"user-{chance.randrange(PEOPLE)}"
        event.track.event = "Ordered"
        return event

    async def _until_answered(self, upshot: UpshotServiceStub, request: pb.IngestRequest) -> None:
        while True:
            try:
                await upshot.Ingest(request, timeout=10)
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)  # it was killed; the ids are the same next time

    # the end

    async def _calm(self) -> None:
        """Let everybody do what is left to do, and read the log."""
        self._collector.kill()
        self._start_collector("--calm")
        await self._read_log()
        for name, relay in self._relays.items():
            relay.signal(signal.SIGTERM)
            code = await relay.ended()
            # SIGTERM may have come before anybody listened to it, or after the failpoint.
            if code not in (0, -signal.SIGTERM, failing.EXIT_CODE):
                self.findings.append(f"SIGTERM ended the relay {name} with {code}")
        for relay in self._relays.values():
            relay.start("--once")
        for name, relay in self._relays.items():
            code = await relay.ended()
            if code != 0:
                self.findings.append(f"the relay {name} --once ended with {code}")

    async def _read_log(self) -> None:
        wanted = self.events * OUTCOMES_OF_AN_EVENT
        request = pb.StreamOutcomesRequest(start=pb.START_POSITION_EARLIEST)
        async with grpc.aio.insecure_channel(self._server.address) as channel:
            async with asyncio.timeout(CALM_S):
                async for response in UpshotServiceStub(channel).StreamOutcomes(request):
                    self.log += response.outcomes
                    if len(self.log) >= wanted:
                        return

    def _read_ledgers(self) -> None:
        for line in self._ledger.read_bytes().splitlines():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # torn by a kill, and never answered for
            if "manner" in row:
                self.manners[row["manner"]] += 1
            else:
                self._heard(row["end"], row["id"].removeprefix("upshot-"), row["user"], row["said"])
        for path in sorted(self.folder.glob("outcomes.jsonl.*")) + [self.folder / "outcomes.jsonl"]:
            for line in path.read_bytes().splitlines() if path.exists() else ():
                outcome = orjson.loads(line)  # no line is torn
                self._heard("archive", outcome["outcomeId"], outcome["userId"], line.decode())

    def _heard(self, end: str, outcome_id: str, user_id: str, said: str) -> None:
        self.told.setdefault(end, []).append((outcome_id, user_id, said))

    # judging

    def _audit(self) -> list[str]:
        found = []
        ids = [outcome.outcome_id for outcome in self.log]
        if len(ids) != self.events * OUTCOMES_OF_AN_EVENT or len(set(ids)) != len(ids):
            found.append(f"{len(ids)} outcomes of {self.events} events in the log")
        for end in RELAYS:
            exported = [o for o in self.log if end != "segment" or o.kind in _TO_SEGMENT]
            found += [f"{end}: {wrong}" for wrong in _wrong(exported, self.told.get(end, []))]
        for process in (self._collector, *self._relays.values()):
            if "Traceback" in process.log.read_text(errors="replace"):
                found.append(f"a traceback is in {process.log}")
        return found


_OPTIONS = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50))
_TO_SEGMENT = frozenset(map(int, KINDS_DEFAULT))


def _wrong(exported: list[outcome_pb2.Outcome], told: list[tuple[str, str, str]]) -> list[str]:
    """Return what is wrong with what one far end was told of *exported*."""
    found = []
    first: dict[str, tuple[str, str]] = {}
    for outcome_id, user_id, said in told:
        if first.setdefault(outcome_id, (user_id, said)) != (user_id, said):
            found.append(f"{outcome_id} was told again as something else")
    wanted = [outcome.outcome_id for outcome in exported]
    missing, unknown = set(wanted) - first.keys(), first.keys() - set(wanted)
    if missing or unknown:
        found.append(f"{len(missing)} of {len(wanted)} are missing, {len(unknown)} are unknown")
    for person in {outcome.user_id for outcome in exported}:
        in_order = [o.outcome_id for o in exported if o.user_id == person]
        if [one for one, (user_id, _) in first.items() if user_id == person] != in_order:
            found.append(f"{person} was told of in another order")
    return found


def _config(port: int) -> str:
    return f"""
[relay.segment]
endpoint = "http://127.0.0.1:{port}/v1/batch"
write_key = "key"
timeout = "500ms"

[relay.partner]
kind = "webhook"
url = "http://127.0.0.1:{port}/outcomes"
secret = "{SECRET}"
timeout = "500ms"

[relay.archive]
kind = "file"
path = "outcomes.jsonl"
"""


def report(story: RelayStory) -> str:
    """Return the figures as a table."""
    rows = [
        ("kill -9", ", ".join(f"{name} {n}" for name, n in sorted(story.kills.items()))),
        ("collector answered", ", ".join(f"{m} {n}" for m, n in sorted(story.manners.items()))),
        ("events, outcomes", f"{story.events}, {len(story.log)}"),
    ]
    for end, told in sorted(story.told.items()):
        once = len({outcome_id for outcome_id, _, _ in told})
        rows.append((f"told to {end}", f"{once} and {len(told) - once} repeats"))
    return "\n".join(f"{name:<22}{value}" for name, value in rows)


def main() -> int:
    """Run the program; return its exit code."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10, help="everybody is killed [10]")
    parser.add_argument("--seed", type=int, default=None, help="what happens when [random]")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    folder = Path(tempfile.mkdtemp(prefix="upshot-relays-"))
    print(f"seed {seed}, {options.rounds} rounds", flush=True)
    story = RelayStory(folder, options.rounds, seed)
    findings = asyncio.run(story.run())
    print(report(story))
    print("\n".join([f"VIOLATIONS, see {folder}:", *findings]) if findings else "Nothing is wrong.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
