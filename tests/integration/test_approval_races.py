"""Two reviewers at the same instant, each at another server: one decision, and both are told."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.integration.payment_world import (
    FINANCE,
    RECORDED,
    REJECTED,
    approval,
    define_payments,
    messages,
    propose,
    say,
)
from tests.servers import Server
from tests.sinks import Mailbox, mailbox
from tests.wire import Watch, Wire, connected, kinds
from upshot.v1 import admin_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb

ONE_BY_ONE, TOGETHER, SEED = 40, 40, 6
#: What each reviewer says, and at which server.
SAYS = {"ann": ("APPROVED", 0), "ben": ("DENIED", 1)}
#: What comes of each in the log, and how its run ends.
ENDS = {"APPROVED": ("Payment Approved", ""), "DENIED": ("Payment Denied", "DENIED")}


@dataclass
class Replicas:
    """Two servers on one PostgreSQL, and the mailbox of everybody."""

    wires: list[Wire]
    box: Mailbox


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(mailbox())
        database = await stack.enter_async_context(postgres.database())
        servers = [Server(tmp_path / name, config=box.toml, database=database) for name in "ab"]
        wires = []
        for server in servers:
            stack.enter_context(server)
            await server.started()
            wires.append(await stack.enter_async_context(connected(server.address)))
        await define_payments(wires[0])
        yield Replicas(wires, box)


async def asked(replicas: Replicas, number: int) -> tuple[str, dict[str, str]]:
    """Return the run of another agent's payment, and the message that each reviewer got."""
    wire = replicas.wires[number % 2]
    run_id = await propose(wire, f"p-{number}", f"agent-{number}")
    got = await messages(wire, run_id, len(FINANCE))
    return run_id, {name: message_ids[0] for name, message_ids in got.items()}


async def decide(
    replicas: Replicas, messages_of: dict[str, str], order: list[str]
) -> dict[str, pb.EngagementResult]:
    """Let both decide at once; whose call is written first is by *order*."""
    said = [(SAYS[name], messages_of[name]) for name in order]
    results = await asyncio.gather(
        *(say(replicas.wires[at], word, message_id) for (word, at), message_id in said)
    )
    return dict(zip(order, results, strict=True))


@pytest.mark.timeout(180)
async def test_of_two_at_two_replicas_one_decides_every_time(
    replicas: Replicas, watched_stream: Watch
) -> None:
    chance = random.Random(SEED)
    runs = [await asked(replicas, number) for number in range(ONE_BY_ONE + TOGETHER)]
    orders = [chance.sample(FINANCE, 2) for _ in runs]
    told = list(zip((message_ids for _, message_ids in runs), orders, strict=True))
    results = [await decide(replicas, *one) for one in told[:ONE_BY_ONE]]
    results += await asyncio.gather(*(decide(replicas, *one) for one in told[ONE_BY_ONE:]))

    winners = [winner(result) for result in results]
    # That it was a race: each of the two servers was the faster one, several times.
    assert min(Counter(winners).values()) >= 3, Counter(winners)
    assert len(Counter(winners)) == 2
    for (run_id, _), name in zip(runs, winners, strict=True):
        await ended_by(replicas, run_id, name)
    await noticed(replicas, [run_id for run_id, _ in runs], winners)
    outcomes = await watched_stream.all(replicas.wires[1])
    for (run_id, _), name in zip(runs, winners, strict=True):
        mine = [one for one in outcomes if one.run_id == run_id]
        word = SAYS[name][0]
        (decided,) = [one for one in mine if one.event == "Approval Decided"]
        assert (decided.properties["decision"], decided.properties["decided_by"]) == (word, name)
        events = {one.event for one in mine} & {event for event, _ in ENDS.values()}
        assert events == {ENDS[word][0]}, "the run goes one way"
        assert kinds(mine).count("RUN_COMPLETED") == 1


def winner(results: dict[str, pb.EngagementResult]) -> str:
    """Return who decided; the other must have been told that they did not."""
    (name,) = [name for name, result in results.items() if result.state == RECORDED]
    (other,) = set(FINANCE) - {name}
    assert (results[other].state, results[other].reason) == (REJECTED, "ALREADY_DECIDED")
    return name


async def ended_by(replicas: Replicas, run_id: str, name: str) -> None:
    """Both servers say that *name* decided, and that the run has ended so."""
    word = SAYS[name][0]
    for wire in replicas.wires:
        found = await approval(wire, run_id)
        decision = workflow_pb2.ApprovalDecision.Name(found.decision)
        assert (found.decided_by, decision) == (name, f"APPROVAL_DECISION_{word}")
        assert found.state == admin_pb2.APPROVAL_STATE_DECIDED
        run = await wire.run(run_id)
        assert (run.state, run.reason) == (admin_pb2.RUN_STATE_COMPLETED, ENDS[word][1])


async def noticed(replicas: Replicas, run_ids: list[str], winners: list[str]) -> None:
    """Each got one request and one notice of each, by real mail."""
    for run_id in run_ids:
        got = await messages(replicas.wires[0], run_id, 2 * len(FINANCE))
        assert {name: len(message_ids) for name, message_ids in got.items()} == dict.fromkeys(
            FINANCE, 2
        )
    decided = Counter(SAYS[name][0] for name in winners)
    for name in FINANCE:
        mails = [mail for mail in replicas.box.mails if mail["To"] == f"{name}@example.com"]
        subjects = Counter(str(mail["Subject"]).partition(":")[0] for mail in mails)
        assert subjects == {"Pay Acme?": len(run_ids), **decided}
