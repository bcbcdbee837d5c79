"""The agent of `examples/agent`: it pays once what people let it pay, also when it is killed."""

import asyncio
import json
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.integration.payment_world import (
    AGENT,
    EXAMPLES,
    FINANCE,
    MANAGER,
    RECORDED,
    approval,
    define_payments,
    messages,
    say,
)
from tests.servers import Server
from tests.wire import DAY_S, HOUR_S, NOWHERE, PATIENCE_S, Wire, connected, track
from upshot.v1 import admin_pb2
from upshot.v1.subscription_pb2 import ListSubscriptionsRequest

PAYMENT = json.loads((EXAMPLES / "agent" / "payment.json").read_text())
BILL = [(PAYMENT["payment_id"], PAYMENT["amount"])]
PAID, NOT_PAID = 0, 3


@dataclass
class There:
    """A server, and the folder where the agent and its bank work."""

    server: Server
    wire: Wire
    folder: Path

    @asynccontextmanager
    async def agent(self, **fields: object) -> AsyncIterator[Process]:
        """Start the agent with the payment, *fields* of which are others; kill it in the end."""
        (self.folder / "payment.json").write_text(json.dumps({**PAYMENT, **fields}))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", str(EXAMPLES / "agent" / "agent.py"), "payment.json"),
            cwd=self.folder,
            env={**self.server.environ, "UPSHOT_SERVER": self.server.address},
            stdout=PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def bank(self) -> sqlite3.Connection:
        """Open the bank's book."""
        return sqlite3.connect(self.folder / "bank.db", isolation_level=None)

    def paid(self) -> list[tuple[str, float]]:
        """Return the payments that the bank has made."""
        with closing(self.bank()) as bank:
            found = bank.execute("SELECT name FROM sqlite_master").fetchall()
            return bank.execute("SELECT payment_id, amount FROM paid").fetchall() if found else []

    async def run(self) -> admin_pb2.Run:
        """Return the agent's run, which must be its only one."""
        (run,) = (await self.wire.admin.ListRuns(admin_pb2.ListRunsRequest())).runs
        return run

    async def subscriptions(self) -> list[str]:
        """Return what the server keeps of agents."""
        listed = await self.wire.subscriptions.ListSubscriptions(ListSubscriptionsRequest())
        return [one.subscription for one in listed.subscriptions]


@pytest_asyncio.fixture
async def there(tmp_path: Path) -> AsyncIterator[There]:
    with Server(tmp_path / "server", config=NOWHERE, lab=True) as server:
        await server.started()
        async with connected(server.address) as wire:
            await define_payments(wire)
            yield There(server, wire, tmp_path)


async def hears(process: Process, *words: str) -> None:
    """Return once the agent has said each of *words*, in lines that come after each other."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        for word in words:
            while word not in (line := (await process.stdout.readline()).decode()):
                assert line, f"it ended and did not say {word!r}"


async def ended(process: Process) -> int:
    async with asyncio.timeout(PATIENCE_S):
        return await process.wait()


async def test_it_answers_a_question_and_pays_once_what_was_approved(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed (accepted)")
        run_id = (await there.run()).run_id
        asked = await messages(there.wire, run_id, 2)
        assert set(asked) == set(FINANCE)
        question = "What is the invoice, and when is it due?"
        assert (await say(there.wire, "ASKED", asked["ben"][0], body=question)).state == RECORDED
        await hears(agent, f"ben asks: {question}", "answered: invoice: 2026-0311; due: 2026-12-15")
        (told,) = (await approval(there.wire, run_id)).questions
        assert (told.question, told.answer) == (question, "invoice: 2026-0311; due: 2026-12-15")
        asked = await messages(there.wire, run_id, 3)
        assert there.paid() == []
        yes = await say(there.wire, "APPROVED", asked["ben"][-1], comment="in the budget")
        no = await say(there.wire, "DENIED", asked["ann"][0])
        assert (yes.state, no.reason) == (RECORDED, "ALREADY_DECIDED")
        await hears(agent, "decided: APPROVED ben in the budget", "paid")
        assert await ended(agent) == PAID
    assert there.paid() == BILL
    assert await there.subscriptions() == [], "it leaves nothing behind"
    async with there.agent() as again:
        await hears(again, "proposed (duplicate)", "paid before")
        assert await ended(again) == PAID
    assert there.paid() == BILL
    assert (await there.run()).state == admin_pb2.RUN_STATE_COMPLETED
    assert len((await approval(there.wire, run_id)).questions) == 1


async def test_killed_after_it_proposed_it_goes_on_where_it_was(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed (accepted)")
        run_id = (await there.run()).run_id
        asked = await messages(there.wire, run_id, 2)
        agent.kill()
        await agent.wait()
    await say(there.wire, "ASKED", asked["ann"][0], body="Which payee?")
    assert (await approval(there.wire, run_id)).questions[0].answer == ""
    async with there.agent() as again:
        await hears(again, "proposed (duplicate)", "answered: payee: Acme Hosting")
        again.kill()
        await again.wait()
    assert (await say(there.wire, "APPROVED", asked["ben"][0])).state == RECORDED
    async with there.agent() as third:
        assert await ended(third) == PAID
    assert there.paid() == BILL
    assert (await there.run()).run_id == run_id


async def test_killed_between_paying_and_saying_so_it_does_not_pay_again(there: There) -> None:
    """The bank makes it wait while the server is stopped: it pays, and can tell nobody."""
    async with there.agent() as agent:
        await hears(agent, "proposed")
        asked = await messages(there.wire, (await there.run()).run_id, 2)
        with closing(there.bank()) as bank:
            bank.execute("BEGIN EXCLUSIVE")
            assert (await say(there.wire, "APPROVED", asked["ann"][0])).state == RECORDED
            await hears(agent, "decided")
            there.server.pause()
            bank.execute("ROLLBACK")
        await hears(agent, "paid")
        agent.kill()
        await agent.wait()
    there.server.resume()
    assert there.paid() == BILL
    assert await there.subscriptions() == ["payment-p-1042"], "it could not say that it has ended"
    async with there.agent() as again:
        await hears(again, "proposed (duplicate)", "decided: APPROVED ann", "paid before")
        assert await ended(again) == PAID
    assert there.paid() == BILL
    assert await there.subscriptions() == []


async def test_killed_before_it_paid_it_pays(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed")
        asked = await messages(there.wire, (await there.run()).run_id, 2)
        with closing(there.bank()) as bank:
            bank.execute("BEGIN EXCLUSIVE")
            await say(there.wire, "APPROVED", asked["ann"][0])
            await hears(agent, "decided")
            agent.kill()
            await agent.wait()
            bank.execute("ROLLBACK")
    assert there.paid() == []
    async with there.agent() as again:
        assert await ended(again) == PAID
    assert there.paid() == BILL


async def test_a_server_that_is_killed_meanwhile_is_waited_for(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed (accepted)")
        asked = await messages(there.wire, (await there.run()).run_id, 2)
        there.server.kill()
        await there.server.started()
        await hears(agent, "proposed (duplicate)")
        async with connected(there.server.address) as wire:
            assert (await say(wire, "APPROVED", asked["ben"][0])).state == RECORDED
        assert await ended(agent) == PAID
    assert there.paid() == BILL


async def test_what_is_denied_is_not_paid(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed")
        asked = await messages(there.wire, (await there.run()).run_id, 2)
        await say(there.wire, "DENIED", asked["ann"][0], comment="not ours")
        await hears(agent, "decided: DENIED ann not ours", "not paid")
        assert await ended(agent) == NOT_PAID
    assert there.paid() == []
    async with there.agent() as again:
        assert await ended(again) == NOT_PAID
    assert there.paid() == []


async def test_what_nobody_decides_is_not_paid(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed")
        run_id = (await there.run()).run_id
        await messages(there.wire, run_id, 2)
        await there.wire.advance(5 * HOUR_S)
        asked = (await approval(there.wire, run_id)).reviewers
        assert [one.user_id for one in asked] == [*FINANCE, MANAGER]
        await there.wire.advance(2 * DAY_S)
        await hears(agent, "decided: DENIED TIMED_OUT", "not paid")
        assert await ended(agent) == NOT_PAID
    assert there.paid() == []


async def test_what_is_withdrawn_is_not_paid(there: There) -> None:
    async with there.agent() as agent:
        await hears(agent, "proposed")
        asked = await messages(there.wire, (await there.run()).run_id, 2)
        event = track("w", "Payment Withdrawn", AGENT, payment_id=PAYMENT["payment_id"])
        await there.wire.ingest(event)
        assert await ended(agent) == NOT_PAID
    late = await say(there.wire, "APPROVED", asked["ann"][0])
    assert late.reason == "APPROVAL_ENDED"
    assert there.paid() == []


async def test_a_small_sum_is_paid_without_a_question(there: There) -> None:
    async with there.agent(amount=20) as agent:
        assert await ended(agent) == PAID
    assert there.paid() == [(PAYMENT["payment_id"], 20)]
    assert await there.wire.messages() == []
