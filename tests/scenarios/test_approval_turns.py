"""Whose turn it is in an approval, where reviewers sleep, bounce or move: on every store."""

import asyncio
from collections.abc import AsyncIterator
from datetime import time
from pathlib import Path

import pytest

from tests.scenarios.test_approval import (
    BOSS,
    FINANCE,
    PAY,
    asked,
    happened,
    paying,
    proposed,
    subjects,
)
from tests.stores import KINDS, opened
from tests.world import DAY, HOUR, MINUTE, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.domain import addresses
from upshotd.domain.definitions import Policy
from upshotd.domain.fetching import Fetched
from upshotd.domain.message import Channel, Deferred, Email, Purpose, Refused, Sms
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.routing import Method, Route
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import EngagementState, SuppressionSet
from upshotd.domain.values import replace
from upshotd.domain.window import Window

DAYTIME = Policy(hours={Purpose.PRODUCT: Window(time(8), time(20))})
BOTH = ["REQUEST ann: Pay 900?", "REQUEST ben: Pay 900?"]
CEM = "REQUEST cem: Pay 900?"


@pytest.fixture(params=KINDS)
async def night(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world in which it is midnight, and nobody is asked before eight."""
    encode = ContractCodec().encode_outcome
    async with (
        opened(request.param, tmp_path, encode=encode) as store,
        world(store, policy=DAYTIME) as running,
    ):
        yield running


async def test_who_sleeps_is_asked_in_the_morning_and_then_reminded(night: World) -> None:
    """The run failed: who was asked by no message yet was not loaded with it."""
    await proposed(night, replace(PAY, levels=(FINANCE,)))
    assert subjects(night) == []
    await night.advance(8 * HOUR)
    assert subjects(night) == BOTH
    await night.advance(HOUR - MINUTE)
    assert subjects(night) == BOTH
    await night.advance(MINUTE)
    assert subjects(night)[2:] == ["REMINDER ann: Pay 900?", "REMINDER ben: Pay 900?"]
    await night.engage(asked(night, "ann"), EngagementKind.APPROVED)
    assert "Paid" in await happened(night)


async def test_what_a_sleeping_reviewer_holds_back_is_known_in_the_morning(night: World) -> None:
    await proposed(night, replace(PAY, levels=(FINANCE,), reminders_us=()))
    held = Suppression(Channel.EMAIL, reason="SUPPRESSED")
    listed = addresses.key(Channel.EMAIL, "ann@example.com")
    await night.loop.ask("default", [SuppressionSet(held, listed, held=True)])
    await night.advance(9 * HOUR)
    assert subjects(night) == BOTH[1:]


async def test_a_night_of_the_first_level_does_not_keep_the_second(night: World) -> None:
    await night.identify("cem", timezone="Asia/Tokyo")  # 09:00 there
    await proposed(night)
    await night.advance(4 * HOUR)
    assert subjects(night) == [CEM]
    await night.engage(asked(night, "cem"), EngagementKind.APPROVED)
    await night.advance(DAY)
    assert subjects(night) == [CEM, "NOTICE cem: Pay 900?"]


async def test_who_moves_while_there_is_a_list_is_asked_at_the_new_address(
    scenario: World,
) -> None:
    """Addresses on the list are loaded by what people had when the batch was loaded."""
    held = Suppression(Channel.EMAIL, reason="SUPPRESSED")
    for name in ("x", "new"):
        listed = addresses.key(Channel.EMAIL, f"{name}@example.com")
        await scenario.loop.ask("default", [SuppressionSet(held, listed, held=True)])
    await scenario.identify("cem", email="new@example.com")
    await proposed(scenario, replace(PAY, levels=(FINANCE,)))
    assert subjects(scenario) == BOTH


async def test_a_bounce_takes_the_next_channel_then_the_next_level_then_the_end(
    scenario: World,
) -> None:
    route = Route(Method.SINGLE, (Channel.EMAIL, Channel.SMS))
    routed = Send(route, (Email("{{ approval.kind }}", text="-"), Sms("Pay?")))
    scenario.email.answers = [Refused("BOUNCED"), Refused("BOUNCED")]
    for number, name in enumerate(("ann", "ben")):
        await scenario.identify(name, phone=f"+1555000{number}")
    await proposed(scenario, replace(PAY, request=routed, notice=None))
    texts = [delivery.message_id for delivery in scenario.sms.ledger]
    assert len(texts) == 2
    for message_id in texts:
        await scenario.engage(message_id, EngagementKind.UNDELIVERED)
    await scenario.settle()
    assert len(scenario.email.ledger) == 3
    await scenario.engage(asked(scenario, "cem"), EngagementKind.BOUNCED)
    await scenario.settle()
    assert "Forgotten" in await happened(scenario)
    assert "Run Failed" not in await happened(scenario)


async def test_a_decision_by_the_providers_id_before_its_answer(scenario: World) -> None:
    scenario.email.open.clear()
    await scenario.define(paying(replace(PAY, levels=(BOSS,))))
    await scenario.identify("cem", email="cem@example.com")
    await scenario.identify("agent", manager="cem")
    await scenario.track("agent", "Pay", properties={"amount": 900})
    while not scenario.email.ledger:
        await asyncio.sleep(0)
    key = {"provider": "smtp", "provider_message_id": f"p-{asked(scenario, 'cem')}"}
    early = await scenario.engage("", EngagementKind.APPROVED, **key)
    assert early.state is EngagementState.PENDING
    scenario.email.open.set()
    await scenario.settle()
    assert "Paid" in await happened(scenario)


async def test_what_waits_for_another_attempt_is_not_sent_after_the_decision(
    scenario: World,
) -> None:
    scenario.email.answers = [Deferred("busy", retry_after_us=HOUR)]
    await proposed(scenario, replace(PAY, notice=None))
    waiting, sent = (delivery.message_id for delivery in scenario.email.ledger)
    done = await scenario.engage(sent, EngagementKind.DENIED)
    assert done.state is EngagementState.RECORDED
    await scenario.advance(DAY)
    message = await scenario.store.message("default", waiting)
    assert message is not None
    assert (message.state.name, message.reason) == ("SUPPRESSED", "DECIDED")
    assert len(scenario.email.ledger) == 2


async def test_the_context_of_a_reminder_may_fail(scenario: World) -> None:
    summary = "Pay of {{ steps.ok.data.balance }}?"
    context = FetchStep("https://a.example/balance", attempts=1)
    scenario.fetcher.answers = [Fetched({"balance": 900}), Fetched({})]
    await proposed(scenario, replace(PAY, context=context, summary=summary))
    await scenario.advance(HOUR)
    assert subjects(scenario)[2:] == ["REMINDER ann: Pay of 900?", "REMINDER ben: Pay of 900?"]
