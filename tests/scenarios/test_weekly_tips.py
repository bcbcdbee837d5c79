"""Every Monday to everybody it is for, across the change of the clocks. On every store."""

from datetime import datetime
from zoneinfo import ZoneInfo

from tests.scenarios.examples import workflow_of
from tests.sim import DAY, HOUR
from tests.world import World
from upshotd.domain.names import microseconds

VIENNA = ZoneInfo("Europe/Vienna")


async def until(scenario: World, text: str) -> None:
    moment = datetime.fromisoformat(text).replace(tzinfo=VIENNA)
    await scenario.lab.advance(microseconds(moment) - scenario.clock.now_us())


async def sent(scenario: World) -> list[str]:
    """Return who got a mail since it was asked last."""
    found = sorted(delivery.recipient for delivery in scenario.email.ledger)
    scenario.email.ledger.clear()
    return found


async def test_a_tip_goes_out_on_mondays_at_nine_whatever_the_clocks_do(scenario: World) -> None:
    for name in ("ana", "ben", "cleo"):
        plan = "team" if name == "cleo" else "free"
        await scenario.identify(name, email=f"{name}@example.com", first_name=name, plan=plan)
    await scenario.identify("dora", first_name="Dora", plan="free")
    await scenario.define(workflow_of("weekly-tips"))
    both = ["ana@example.com", "ben@example.com"]
    await until(scenario, "2026-01-05T08:59")
    assert await sent(scenario) == []
    await until(scenario, "2026-01-05T10:00")
    assert await sent(scenario) == both
    await until(scenario, "2026-03-23T12:00")
    await sent(scenario)
    for monday in ("2026-03-30", "2026-04-06"):  # the Sunday before the first, clocks went forward
        await until(scenario, f"{monday}T08:59")
        assert await sent(scenario) == []
        await until(scenario, f"{monday}T10:00")
        assert await sent(scenario) == both


async def test_a_server_that_was_away_makes_up_for_it_while_it_is_worth_it(scenario: World) -> None:
    await scenario.identify("ana", email="ana@example.com", first_name="Ana", plan="free")
    await scenario.define(workflow_of("weekly-tips"))
    await until(scenario, "2026-01-05T08:00")
    scenario.clock.advance_to(scenario.clock.now_us() + 3 * HOUR)
    await scenario.lab.advance(HOUR)
    assert await sent(scenario) == ["ana@example.com"]
    await until(scenario, "2026-01-12T08:00")
    scenario.clock.advance_to(scenario.clock.now_us() + DAY)
    await scenario.lab.advance(HOUR)
    assert await sent(scenario) == []
