"""An AI agent that pays what people let it pay: `examples/agent-payment.yaml`, on every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scenarios.examples import documents_of
from tests.stores import KINDS, opened
from tests.world import CARRIERS, DAY, HOUR, MINUTE, World, world
from upshot.v1 import outcome_pb2
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.ports import RunFilter
from upshotd.domain.definitions import Carrier
from upshotd.domain.message import Channel, Chat, Delivery, Email
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.stimulus import EngagementState, IngestResult

AGENT = "payables-agent"
WITH_CHAT = {**CARRIERS, Channel.CHAT: (Carrier("team", idempotent=False),)}
APPROVED, DENIED = EngagementKind.APPROVED, EngagementKind.DENIED
ASKED, ANSWERED = EngagementKind.ASKED, EngagementKind.ANSWERED


@pytest.fixture(params=KINDS)
async def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Ann of finance reads the chat, Ben of finance and Mia, the agent's manager, e-mail."""
    encode = ContractCodec().encode_outcome
    async with (
        opened(request.param, tmp_path, encode=encode) as store,
        world(store, carriers=WITH_CHAT) as running,
    ):
        found = documents_of("agent-payment")
        await running.define_audience(*found.audiences)
        await running.define(*found.workflows)
        await running.identify("ann", department="finance", slack_id="U-ann")
        await running.identify("ben", department="finance", email="ben@example.com")
        await running.identify("mia", department="it", email="mia@example.com")
        await running.identify("eve", department="sales", email="eve@example.com")
        await running.identify(AGENT, manager_id="mia")
        yield running


async def propose(
    scenario: World, payment_id: str = "p-1", amount: float = 900, event_id: str = ""
) -> IngestResult:
    properties = {"payment_id": payment_id, "amount": amount, "payee": "Acme", "currency": "EUR"}
    taken = await scenario.track(
        AGENT, "Payment Proposed", event_id=event_id, properties={**properties, "agent": AGENT}
    )
    await scenario.settle()
    return taken


def deliveries(scenario: World) -> list[Delivery]:
    return [*scenario.providers["team"].ledger, *scenario.email.ledger]


def got(scenario: World, name: str) -> list[str]:
    """Return what somebody got: of an e-mail its subject, of a chat its first line."""
    found = []
    for delivery in deliveries(scenario):
        if delivery.recipient in (f"U-{name}", f"{name}@example.com"):
            content = delivery.content
            assert isinstance(content, Email | Chat)
            text = content.subject if isinstance(content, Email) else content.body
            found.append(text.splitlines()[0])
    return found


def last(scenario: World, name: str) -> Delivery:
    """Return the last message that somebody got."""
    recipients = (f"U-{name}", f"{name}@example.com")
    return [one for one in deliveries(scenario) if one.recipient in recipients][-1]


async def said(scenario: World, name: str, kind: EngagementKind, **data: str) -> str:
    """Let somebody answer their last message; return why it does not count, if it does not."""
    done = await scenario.engage(last(scenario, name).message_id, kind, data=data)
    assert (done.state is EngagementState.RECORDED) is (done.reason == "")
    await scenario.settle()
    return done.reason


async def log(scenario: World) -> list[str]:
    """Return what the agent reads of its runs, with what decides."""
    return [
        " ".join(filter(None, (o.event, str(dict(o.properties).get("decision", "")), o.reason)))
        for o in await scenario.outcomes()
        if o.user_id == AGENT
    ]


async def test_up_to_five_hundred_it_is_paid_and_nobody_is_asked(scenario: World) -> None:
    await propose(scenario, amount=500)
    assert await log(scenario) == ["Run Started", "Payment Approved", "Run Completed"]
    assert deliveries(scenario) == []


async def test_a_question_is_answered_and_the_first_decision_is_told_to_both(
    scenario: World,
) -> None:
    await propose(scenario)
    assert got(scenario, "ann") == [f"{AGENT} wants to pay Acme"], "over the chat that she has"
    assert got(scenario, "ben") == ["Pay Acme?"]
    await scenario.advance(HOUR)
    assert got(scenario, "ben")[1:] == ["Still open: Pay Acme?"]
    await scenario.advance(30 * MINUTE)
    assert await said(scenario, "ben", ASKED, body="What for?") == ""
    (asked,) = [o for o in await scenario.outcomes() if o.event == "Approval Asked"]
    assert asked.kind == outcome_pb2.OUTCOME_KIND_APPROVAL_ASKED
    assert (asked.message_id, asked.user_id) == (last(scenario, "ben").message_id, AGENT)
    answer = {"body": "A lamp.", "question_id": str(asked.properties["question_id"])}
    done = await scenario.engage(asked.message_id, ANSWERED, data=answer)
    assert done.state is EngagementState.RECORDED
    await scenario.settle()
    content = last(scenario, "ben").content
    assert isinstance(content, Email)
    assert content.text.startswith("You asked: What for?\nAnswer: A lamp.\n")
    assert got(scenario, "ann")[2:] == [], "who did not ask is not written to again"
    await scenario.advance(30 * MINUTE)
    hers = last(scenario, "ann").message_id
    assert await said(scenario, "ben", APPROVED, comment="fine") == ""
    assert (await scenario.engage(hers, DENIED)).reason == "ALREADY_DECIDED"
    assert got(scenario, "ben")[-1] == "APPROVED: Pay 900.00 EUR to Acme?"
    assert got(scenario, "ann")[-1] == "Pay 900.00 EUR to Acme? APPROVED by"
    before = len(deliveries(scenario))
    await scenario.advance(3 * DAY)
    assert len(deliveries(scenario)) == before, "nobody is reminded, and no manager asked"
    assert await log(scenario) == [
        "Run Started",
        "Approval Requested",
        "Approval Asked",
        "Approval Answered",
        "Approval Decided APPROVED",
        "Payment Approved",
        "Run Completed",
    ]


async def test_silence_reminds_twice_and_then_the_manager_denies(scenario: World) -> None:
    await propose(scenario)
    times = []
    for quarter in range(1, 21):
        before = len(deliveries(scenario))
        await scenario.advance(15 * MINUTE)
        times += [quarter / 4] * (len(deliveries(scenario)) - before)
    assert times == [1, 1, 3, 3, 4, 5], "each has an hour until they are reminded"
    assert got(scenario, "ben") == ["Pay Acme?", *["Still open: Pay Acme?"] * 2]
    assert got(scenario, "mia") == ["Pay Acme?", "Still open: Pay Acme?"]
    assert await said(scenario, "mia", DENIED, comment="not ours") == ""
    denied = [o for o in await scenario.outcomes() if o.event == "Payment Denied"]
    assert [dict(o.properties) for o in denied] == [{"payment_id": "p-1", "why": "not ours"}]
    assert await log(scenario) == [
        "Run Started",
        "Approval Requested",
        "Approval Requested ESCALATED",
        "Approval Decided DENIED",
        "Payment Denied",
        "Run Completed DENIED",
    ]
    assert await said(scenario, "ann", APPROVED) == "NO_APPROVAL", "a notice asks for nothing"
    assert [got(scenario, name)[-1] for name in ("ben", "mia")] == [
        "DENIED: Pay 900.00 EUR to Acme?"
    ] * 2
    assert got(scenario, "eve") == []


async def test_what_nobody_decides_within_two_days_is_denied(scenario: World) -> None:
    await propose(scenario)
    request = last(scenario, "ann").message_id
    await scenario.advance(2 * DAY - 1)
    assert "Payment Denied" not in await log(scenario)
    await scenario.advance(1)
    assert (await log(scenario))[-3:] == [
        "Approval Decided DENIED TIMED_OUT",
        "Payment Denied",
        "Run Completed DENIED",
    ]
    content = last(scenario, "mia").content
    assert isinstance(content, Email)
    assert content.text.strip() == "By nobody."
    late = await scenario.engage(request, APPROVED)
    assert (late.state, late.reason) == (EngagementState.REJECTED, "APPROVAL_ENDED")


async def test_who_is_away_is_left_out_and_without_anybody_it_is_denied_at_once(
    scenario: World,
) -> None:
    for name in ("ann", "ben"):
        await scenario.identify(name, department="hr")
    await propose(scenario)
    assert (got(scenario, "ann"), got(scenario, "mia")) == ([], ["Pay Acme?"]), "the next level"
    await scenario.identify(AGENT, manager_id="")
    await propose(scenario, "p-2")
    assert (await log(scenario))[-3:] == [
        "Approval Decided DENIED NO_REVIEWERS",
        "Payment Denied",
        "Run Completed DENIED",
    ]


async def test_a_payment_is_proposed_once_and_withdrawn_alone(scenario: World) -> None:
    first = await propose(scenario, "p-1", event_id="p-1")
    again = await propose(scenario, "p-1", event_id="p-1")
    other_id = await propose(scenario, "p-1")
    assert again.started[0].run_id == first.started[0].run_id
    assert not other_id.started, "the key of the run is the payment"
    await propose(scenario, "p-2")
    request = last(scenario, "ann").message_id
    await scenario.track(AGENT, "Payment Withdrawn", properties={"payment_id": "p-2"})
    runs = await scenario.store.runs("default", RunFilter(), "", 9)
    assert {run.reentry_key: run.reason for run in runs} == {"p-1": "", "p-2": "EXITED"}
    assert (await scenario.engage(request, APPROVED)).reason == "APPROVAL_ENDED"
