"""Marketing that keeps to the day of each person, and is not too much. Told on every store."""

from collections.abc import AsyncIterator
from datetime import time
from pathlib import Path

import pytest

from tests.scenarios.examples import workflow_of
from tests.stores import KINDS, opened
from tests.world import DAY, HOUR, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.domain.caps import Cap
from upshotd.domain.definitions import Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Purpose
from upshotd.domain.values import replace
from upshotd.domain.window import Window
from upshotd.domain.workflow import Reentry, ReentryMode

MARKETING = frozenset({Purpose.MARKETING})
POLICY = Policy(
    caps=(Cap("weekly", 2, 7 * DAY, purposes=MARKETING),),
    hours={Purpose.MARKETING: Window(time(8), time(20))},
)


@pytest.fixture(params=KINDS)
async def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    encode = ContractCodec().encode_outcome
    async with opened(request.param, tmp_path, encode=encode) as store:
        async with world(store, policy=POLICY) as running:
            yield running


async def visit(scenario: World, user_id: str) -> None:
    event = Event(scenario.next_event_id(), EventType.PAGE, user_id, name="Pricing")
    await scenario.ingest(event)


async def test_each_in_their_own_morning(scenario: World) -> None:
    """It begins on Thursday the 1st of January 2026, at midnight in UTC."""
    await scenario.define(workflow_of("pricing-visit"))
    for user_id, zone in (("ana", "Europe/Berlin"), ("ben", "America/New_York"), ("cleo", "")):
        await scenario.identify(user_id, plan="free", email=f"{user_id}@example.com", timezone=zone)
        await visit(scenario, user_id)
    await scenario.identify("dan", plan="pro", email="dan@example.com")
    await visit(scenario, "dan")
    told = []
    for hour in range(24):
        before = len(scenario.email.ledger)
        await scenario.advance(HOUR)
        told += [(d.user_id, hour + 1) for d in scenario.email.ledger[before:]]
    assert told == [("ana", 8), ("cleo", 9), ("ben", 14)]


async def test_a_clock_that_is_set_forward_in_the_night_between(scenario: World) -> None:
    """On the 29th of March, a Sunday, Berlin's nine o'clock comes an hour earlier."""
    await scenario.define(workflow_of("pricing-visit"))
    await scenario.advance(87 * DAY)  # Sunday the 29th, 00:00 in UTC
    await scenario.identify("ana", plan="free", email="a@example.com", timezone="Europe/Berlin")
    await visit(scenario, "ana")
    await scenario.advance(DAY + 7 * HOUR - 1)
    assert scenario.email.ledger == []
    await scenario.advance(1)
    assert len(scenario.email.ledger) == 1


async def test_two_teams_share_what_a_person_may_get(scenario: World) -> None:
    again = Reentry(ReentryMode.ALWAYS)
    first = replace(workflow_of("pricing-visit"), reentry=again)
    await scenario.define(first, replace(first, workflow_id="upsell"))
    await scenario.identify("ana", plan="free", email="ana@example.com")
    for _ in range(2):
        await visit(scenario, "ana")
    await scenario.advance(DAY)
    assert sorted(await scenario.story("ana")) == ["SENT EMAIL"] * 2 + ["SUPPRESSED EMAIL"] * 2
    capped = [o for o in await scenario.outcomes() if o.reason == "CAPPED"]
    assert [dict(o.properties) for o in capped] == [{"detail": "weekly"}] * 2
    await scenario.advance(7 * DAY)
    await visit(scenario, "ana")
    await scenario.advance(4 * DAY)
    assert len(scenario.email.ledger) == 4


async def test_a_message_of_the_evening_waits_for_the_morning(scenario: World) -> None:
    workflow = workflow_of("pricing-visit")
    at_once = replace(workflow, steps=workflow.steps[1:])
    await scenario.define(at_once)
    await scenario.identify("ana", plan="free", email="ana@example.com")
    await scenario.advance(21 * HOUR)
    await visit(scenario, "ana")
    await scenario.advance(11 * HOUR - 1)
    assert scenario.email.ledger == []
    await scenario.advance(1)
    assert [d.user_id for d in scenario.email.ledger] == ["ana"]
