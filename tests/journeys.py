"""Journeys past a far end in a bad mood: who drives them, and who judges what is left.

A real `upshot serve` in a lab, killed now and then if wanted. Each order starts two journeys: a
receipt (transactional: what is unknown is sent again) by webhook and by text message, a tip (given
up rather than sent twice) by e-mail and by text message. The clock is then moved until nothing is
due any more.
"""

import asyncio
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import orjson

from tests import far_end
from tests.crash import PASSING, channel_to
from tests.far_end import Request
from tests.servers import Server
from upshot.v1 import event_pb2, lab_pb2, outcome_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub

CLIENTS: Final = 4
BATCH: Final = 25
DAY_S: Final = 86_400
#: Most that one call may take, in seconds.
CALL_S: Final = 60.0
ADVANCE_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the outcomes say of one message."""

    sent: int
    #: Reasons of what did not arrive.
    failed: tuple[str, ...]
    possible_duplicate: bool


@dataclass
class Journeys:
    """What everybody remembers of it."""

    wanted: int
    ledger: list[Request] = field(default_factory=list)
    #: By workflow/step/event.
    told: dict[str, Told] = field(default_factory=dict)
    #: Outcomes by kind.
    kinds: Counter[str] = field(default_factory=Counter)
    #: Messages and runs that still have something due, or have not ended.
    stuck: int = 0
    #: How often a breaker opened.
    opened: int = 0
    took_s: float = 0.0

    @property
    def taken(self) -> Counter[str]:
        """How often the far end took each message."""
        return Counter(line.key for line in self.ledger if line.taken)


def workflow(
    name: str, purpose: "workflow_pb2.Purpose.ValueType", first: outcome_pb2.Channel.ValueType
) -> workflow_pb2.Workflow:
    """Send by *first*, then a text message; each says in its text which message it is."""
    made = workflow_pb2.Workflow(workflow_id=name, purpose=purpose)
    made.trigger.track.event = "Ordered"
    made.reentry.mode = workflow_pb2.REENTRY_MODE_ALWAYS
    opening = made.steps.add(step_id="first").send
    opening.channel = first
    text = f"{name}/first/{{{{ event.id }}}}"
    if first == outcome_pb2.CHANNEL_EMAIL:
        opening.email.subject = text
        opening.email.text = "Thank you."
    else:
        opening.webhook.body = text
    closing = made.steps.add(step_id="text").send
    closing.channel = outcome_pb2.CHANNEL_SMS
    closing.sms.body = f"{name}/text/{{{{ event.id }}}}"
    return made


WORKFLOWS: Final = (
    workflow("receipt", workflow_pb2.PURPOSE_TRANSACTIONAL, outcome_pb2.CHANNEL_WEBHOOK),
    workflow("tip", workflow_pb2.PURPOSE_PRODUCT, outcome_pb2.CHANNEL_EMAIL),
)


async def travel(
    folder: Path,
    journeys: int,
    seed: int,
    *,
    kills: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Journeys:
    """Let so many journeys happen, all of them to their end; return what is remembered.

    While they begin the server is killed *kills* times, and started again.
    """
    began = time.monotonic()
    ledger = folder / "ledger.jsonl"
    async with _far_end(ledger, seed) as port:
        with Server(folder / "server", config=far_end.config(port), lab=True) as server:
            server.environ["UPSHOT_PUBLIC_URL"] = f"http://{server.http_address}"
            await server.started()
            await _ordered(server, journeys // len(WORKFLOWS), kills)
            say(f"{journeys} journeys begun after {time.monotonic() - began:.0f} s")
            await _advanced(server)
            assert await server.stopped() == 0
            found = Journeys(journeys, took_s=time.monotonic() - began)
            found.opened = server.said_ever().count("provider.opened")
            _read(Path(server.database), found)
    found.ledger = [Request(**orjson.loads(line)) for line in ledger.read_bytes().splitlines()]
    return found


@asynccontextmanager
async def _far_end(ledger: Path, seed: int) -> AsyncIterator[int]:
    command = (sys.executable, "-m", "tests.far_end", str(ledger), "--seed", str(seed))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=Path(__file__).parents[1], stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def _ordered(server: Server, orders: int, kills: int) -> None:
    async with channel_to(server) as channel:
        upshot: Any = UpshotServiceStub(channel)
        for one in WORKFLOWS:
            await upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=one), timeout=CALL_S)
        numbers = iter(range(orders))
        ends = {orders * (kill + 1) // (kills + 1) // BATCH * BATCH for kill in range(kills)}

        async def client() -> None:
            while batch := [n for _, n in zip(range(BATCH), numbers, strict=False)]:
                if ends.intersection(batch):
                    server.kill()
                    await server.started()
                await _ingested(upshot, [event for n in batch for event in _events(n)])

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def _ingested(upshot: Any, events: list[event_pb2.Event]) -> None:
    """Send until it is answered, with the same ids: the server may be killed in between."""
    while True:
        try:
            await upshot.Ingest(pb.IngestRequest(events=events), timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def _events(number: int) -> Iterator[event_pb2.Event]:
    person = event_pb2.Event(event_id=f"person-{number}", user_id=f"user-{number}")
    address = {"email": f"user-{number}@example.com", "phone": f"+4915123{number:06d}"}
    person.identify.traits.update(address)
    yield person
    order = event_pb2.Event(event_id=f"order-{number}", user_id=f"user-{number}")
    order.track.event = "Ordered"
    yield order


async def _advanced(server: Server) -> None:
    """Move the clock past everything that can still be due: a message is tried for a day."""
    async with channel_to(server) as channel:
        lab: Any = LabServiceStub(channel)
        request = lab_pb2.AdvanceTimeRequest()
        request.duration.FromSeconds(3 * DAY_S)
        await lab.AdvanceTime(request, timeout=ADVANCE_S)


def _read(database: Path, found: Journeys) -> None:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT body FROM outcomes ORDER BY position").fetchall()
        due = "SELECT (SELECT COUNT(*) FROM messages WHERE due_us IS NOT NULL)"
        due += " + (SELECT COUNT(*) FROM runs WHERE due_us IS NOT NULL)"
        ((found.stuck,),) = connection.execute(due)
    finally:
        connection.close()
    by_message: defaultdict[str, list[outcome_pb2.Outcome]] = defaultdict(list)
    for (body,) in rows:
        (outcome,) = pb.StreamOutcomesResponse.FromString(body).outcomes
        found.kinds[_kind(outcome)] += 1
        if outcome.message_id:
            key = f"{outcome.workflow_id}/{outcome.step_id}/{outcome.event_id}"
            by_message[key].append(outcome)
    found.told = {key: _told(outcomes) for key, outcomes in by_message.items()}


def _told(outcomes: Iterable[outcome_pb2.Outcome]) -> Told:
    kinds = [(_kind(outcome), outcome.reason) for outcome in outcomes]
    sent = sum(kind == "MESSAGE_SENT" for kind, _ in kinds)
    failed = tuple(reason for kind, reason in kinds if kind == "MESSAGE_UNDELIVERABLE")
    return Told(sent, failed, any(outcome.possible_duplicate for outcome in outcomes))


def _kind(outcome: outcome_pb2.Outcome) -> str:
    return outcome_pb2.OutcomeKind.Name(outcome.kind).removeprefix("OUTCOME_KIND_")


# -- what must hold ------------------------------------------------------------------------------


def ended(found: Journeys) -> Iterable[str]:
    """Every journey has ended, with both of its messages, and nothing waits for anything."""
    for kind in ("RUN_STARTED", "RUN_COMPLETED"):
        if found.kinds[kind] != found.wanted:
            yield f"{found.kinds[kind]} {kind} of {found.wanted}"
    if len(found.told) != 2 * found.wanted:
        yield f"{len(found.told)} messages of {2 * found.wanted}"
    if found.stuck:
        yield f"{found.stuck} runs and messages are stuck"


def settled(found: Journeys) -> Iterable[str]:
    """Each message was either sent or given up, once; a late callback may mend the second."""
    for key, told in found.told.items():
        mended = (told.sent, told.failed) == (1, ("UNKNOWN",))
        if told.sent + len(told.failed) != 1 and not mended:
            yield f"{key}: sent {told.sent} times, failed {told.failed}"


def true(found: Journeys) -> Iterable[str]:
    """What was sent is in the ledger; what is in the ledger was sent, or is said to be unknown."""
    taken = found.taken
    for key, told in found.told.items():
        if told.sent and not taken[key]:
            yield f"{key}: told as sent, and the far end knows nothing of it"
        if taken[key] and not told.sent and told.failed != ("UNKNOWN",):
            yield f"{key}: the far end has it, and it is told as {told.failed}"
    for key in taken.keys() - found.told.keys():
        yield f"{key}: the far end has it, and nothing is told"


def marked(found: Journeys) -> Iterable[str]:
    """Whatever the far end has twice says so. By a provider that knows repetitions nothing is."""
    hooks = Counter(line.key for line in found.ledger if line.taken and line.by == "hooks")
    for key, times in found.taken.items():
        told = found.told.get(key)
        if times > 1 and not (told and told.possible_duplicate):
            yield f"{key}: taken {times} times, and not marked"
    yield from (f"{key}: acted on {n} times under several ids" for key, n in hooks.items() if n > 1)


def not_given_up(found: Journeys) -> Iterable[str]:
    """What may be repeated always arrives: by a provider that knows repetitions."""
    for key, told in found.told.items():
        if key.startswith("receipt/first/") and not told.sent:
            yield f"{key}: never sent, although it could be asked again: {told.failed}"


RULES: Final = (ended, settled, true, marked, not_given_up)


def audit(found: Journeys) -> list[str]:
    """Return what does not hold."""
    return [f"{rule.__name__}: {text}" for rule in RULES for text in rule(found)]


def report(found: Journeys) -> str:
    """Return the figures as a table."""
    moods = Counter(line.mood for line in found.ledger)
    twice = sum(times > 1 for times in found.taken.values())
    repeated = sum(not line.taken and bool(line.known_by) for line in found.ledger)
    told = found.told.values()
    reasons = Counter(reason for one in told for reason in one.failed)
    rows: list[tuple[str, object]] = [
        (
            "journeys",
            f"{found.kinds['RUN_COMPLETED']} ended of {found.wanted}, {found.stuck} stuck",
        ),
        ("messages", f"{found.kinds['MESSAGE_SENT']} sent, not sent: {dict(reasons) or 'none'}"),
        ("requests at the far end", f"{len(found.ledger)}, {sum(found.taken.values())} taken"),
        ("moods", ", ".join(f"{mood} {n}" for mood, n in moods.most_common())),
        ("taken twice or more", f"{twice}, all marked unless a violation says so"),
        ("marked as possible", sum(one.possible_duplicate for one in told)),
        ("repeated under a known id", repeated),
        ("told by callbacks", found.kinds["MESSAGE_DELIVERED"]),
        ("breakers opened", found.opened),
        ("took", f"{found.took_s:.0f} s"),
    ]
    return "\n".join(f"  {name:<26} {value}" for name, value in rows)
