"""Why an event started nothing, and why a message did not go: asked afterwards. On every store."""

from tests.flows import delay, email, track
from tests.world import DAY, World
from upshotd.application.admin import Admin
from upshotd.domain.caps import Cap
from upshotd.domain.definitions import Policy
from upshotd.domain.event import EventType
from upshotd.domain.message import Channel, MessageState, Purpose
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode, Trigger

RICH = Trigger(EventType.TRACK, "Paid", condition="event.properties.total > 100")


async def reasons(scenario: World, event_id: str) -> dict[str, str]:
    """Return what each workflow that listened made of an event, with the values it looked at."""
    event = await Admin(scenario.store).event("default", event_id)
    return {e.workflow_id: f"{e.reason} {e.detail}".strip() for e in event.explanations}


async def test_every_workflow_says_what_it_made_of_an_event(scenario: World) -> None:
    await scenario.define(track("Paid", email(), workflow_id="rich", trigger=RICH))
    await scenario.define(track("Paid", delay(), workflow_id="once"))
    keyed = Reentry(ReentryMode.ONCE_EVER, key="event.properties.order")
    await scenario.define(track("Paid", delay(), workflow_id="keyed", reentry=keyed))
    await scenario.track("ana", "Paid", event_id="first", properties={"total": 500, "order": "o"})
    told = await reasons(scenario, "first")
    assert {reason.split()[0] for reason in told.values()} == {"STARTED"}
    await scenario.track("ana", "Paid", event_id="second", properties={"total": 5})
    told = await reasons(scenario, "second")
    assert told["rich"] == (
        "CONDITION_FALSE event.properties.total > 100, where event.properties.total is 5"
    )
    assert told["once"].startswith("ACTIVE run ")
    assert told["keyed"].startswith("NO_KEY")


async def test_a_message_that_did_not_go_says_what_held_it(scenario: World) -> None:
    cap = Cap("daily", 1, DAY, purposes=frozenset({Purpose.PRODUCT}))
    scenario.book._blank = replace(scenario.book._blank, policy=Policy(caps=(cap,)))
    always = Reentry(ReentryMode.ALWAYS)
    await scenario.define(track("Go", email(), reentry=always, topic="tips"))
    await scenario.identify("ana", email="ana@example.com", first_name="Ana")
    for _ in range(2):
        await scenario.track("ana", "Go")
        await scenario.settle()
    (sent,) = scenario.email.ledger
    await scenario.engage(sent.message_id, EngagementKind.UNSUBSCRIBED)
    await scenario.track("ana", "Go")
    await scenario.settle()
    page = await Admin(scenario.store).messages(
        "default", run_id="", workflow_id="", user_id="ana", page_size=10, page_token=""
    )
    said = [(m.state, m.reason, m.detail) for m in page.items if m.channel is Channel.EMAIL]
    held = MessageState.SUPPRESSED
    assert said[:2] == [(held, "UNSUBSCRIBED", ""), (held, "CAPPED", "daily")]
