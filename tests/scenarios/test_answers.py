"""People text back: a nudge is answered, stopped, and wanted again. Told on every store."""

import asyncio

from tests.dumps import dump
from tests.flows import delay, sms, track, wait_engagement
from tests.sim import DAY, HOUR, MINUTE
from tests.world import World
from upshotd.application.erasing import Erasing
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Deferred
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import EngagementState
from upshotd.domain.workflow import Reentry, ReentryMode, Workflow

PHONE, OTHER = "+15550001", "+15550002"


def nudging() -> Workflow:
    """Asks by text message, thanks for the answer, and asks again after a day without one."""
    return track(
        "Cart Left",
        sms("nudge", "Shall we keep it?"),
        wait_engagement(
            "answer",
            "nudge",
            (EngagementKind.REPLIED,),
            timeout=DAY,
            on_match=(sms("thanks", "We do."),),
            on_timeout=(sms("again", "Still there?"),),
        ),
        delay("rest", HOUR),
        reentry=Reentry(ReentryMode.ALWAYS),
    )


async def begin(scenario: World, **people: str) -> None:
    await scenario.define(nudging())
    for user_id, number in people.items():
        await scenario.identify(user_id, phone=number)


async def leaves(scenario: World, user_id: str = "ana") -> None:
    await scenario.track(user_id, "Cart Left")
    await scenario.settle()


def said(scenario: World) -> list[str]:
    return [delivery.content.body for delivery in scenario.sms.ledger]


async def test_whoever_answers_gets_what_follows(scenario: World) -> None:
    await begin(scenario, ana=PHONE)
    await leaves(scenario)
    await scenario.advance(HOUR)
    result = await scenario.answer(PHONE, "Yes please")
    await scenario.settle()
    assert result.state is EngagementState.RECORDED
    assert len(result.resumed) == 1
    assert said(scenario) == ["Shall we keep it?", "We do."]
    await scenario.advance(2 * DAY)
    assert await scenario.story("ana") == ["SENT SMS", "REPLIED SMS", "SENT SMS"]


async def test_stop_holds_the_next_one_back_and_start_lets_it_through(scenario: World) -> None:
    await begin(scenario, ana=PHONE, ben=PHONE)
    await leaves(scenario)
    stop = await scenario.answer(PHONE, "STOP", "SM1")
    assert (stop.state, stop.resumed) == (EngagementState.RECORDED, ())
    again = await scenario.answer(PHONE, "STOP", "SM1")
    assert again.state is EngagementState.DUPLICATE
    await leaves(scenario)
    await leaves(scenario, "ben")
    await scenario.advance(2 * DAY)
    assert said(scenario) == ["Shall we keep it?"]
    # The second nudge with its reminder, and the reminder of the first: STOP was no answer to it.
    assert await scenario.story("ana") == ["SENT SMS", "REPLIED SMS", *["SUPPRESSED SMS"] * 3]
    reasons = [o.reason for o in await scenario.outcomes() if o.message_id and o.reason]
    assert set(reasons) == {"STOP"}
    await scenario.answer(PHONE, "Start!")
    await leaves(scenario)
    await leaves(scenario, "ben")
    assert said(scenario) == ["Shall we keep it?"] * 3


async def test_help_is_no_answer_and_the_reminder_still_comes(scenario: World) -> None:
    await begin(scenario, ana=PHONE)
    await leaves(scenario)
    await scenario.answer(PHONE, "HELP")
    await scenario.advance(DAY)
    assert said(scenario) == ["Shall we keep it?", "Still there?"]


async def test_a_stop_before_anything_was_sent_counts(scenario: World) -> None:
    """Somebody stops a number that they know from elsewhere, and signs up a month later."""
    await begin(scenario)
    assert (await scenario.answer(PHONE, "Stop")).state is EngagementState.RECORDED
    assert (await scenario.answer(PHONE, "hello?")).reason == "UNKNOWN_MESSAGE"
    await scenario.advance(30 * DAY)
    await scenario.identify("ana", phone=PHONE)
    await leaves(scenario)
    assert said(scenario) == []
    await scenario.answer(PHONE, "START")
    await leaves(scenario)
    assert said(scenario) == ["Shall we keep it?"]


async def test_a_stop_between_two_attempts_stops_the_second(scenario: World) -> None:
    await begin(scenario, ana=PHONE)
    scenario.sms.answers.append(Deferred("busy"))
    await leaves(scenario)
    await scenario.answer(PHONE, "STOP")
    await scenario.advance(HOUR)
    assert len(said(scenario)) == 1
    assert await scenario.story("ana") == ["SUPPRESSED SMS"] * 2, "the nudge, and its reminder"


async def test_the_answer_of_a_guest_who_signed_in_is_theirs(scenario: World) -> None:
    await begin(scenario)
    guest = Event("i", EventType.IDENTIFY, "", "device", traits={"phone": PHONE})
    await scenario.ingest(guest, Event("t", EventType.TRACK, "", "device", name="Cart Left"))
    await scenario.settle()
    await scenario.ingest(Event("s", EventType.TRACK, "ana", "device", name="Signed In"))
    result = await scenario.answer(PHONE, "yes please")
    await scenario.settle()
    assert len(result.resumed) == 1
    assert said(scenario) == ["Shall we keep it?", "We do."]
    await scenario.answer(PHONE, "STOP")
    await scenario.identify("ana", phone=OTHER)
    await leaves(scenario)
    assert len(said(scenario)) == 2, "ana said it, under whatever number"


async def test_a_number_that_went_to_somebody_else_answers_for_them(scenario: World) -> None:
    await begin(scenario, ana=PHONE)
    await leaves(scenario)
    await scenario.advance(300 * DAY)
    await scenario.identify("ana", phone=OTHER)
    await scenario.identify("ben", phone=PHONE)
    await leaves(scenario, "ben")
    before = len(said(scenario))
    assert len((await scenario.answer(PHONE, "ok thanks")).resumed) == 1
    await scenario.answer(PHONE, "STOP")
    await leaves(scenario, "ben")
    await leaves(scenario)
    assert [d.recipient for d in scenario.sms.ledger[before:]] == [PHONE, OTHER]


async def test_who_was_erased_answers_no_more_and_their_stop_is_kept_by_its_hash(
    scenario: World,
) -> None:
    await begin(scenario, ana=PHONE)
    await leaves(scenario)
    await scenario.answer(PHONE, "STOP")
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ana"))
    await scenario.advance(MINUTE)
    await erasing.finish()
    assert (await scenario.answer(PHONE, "hello?")).reason == "UNKNOWN_MESSAGE"
    assert (await scenario.answer(PHONE, "STOP")).state is EngagementState.RECORDED
    assert PHONE not in await dump(scenario.store)
    # Whoever has the number now is left in peace until they want it otherwise.
    await scenario.identify("ben", phone=PHONE)
    await leaves(scenario, "ben")
    assert len(said(scenario)) == 1
    await scenario.answer(PHONE, "START")
    await leaves(scenario, "ben")
    assert len(said(scenario)) == 2


async def test_a_number_that_an_erased_person_shared_answers_for_the_other_one(
    scenario: World,
) -> None:
    await begin(scenario, ben=PHONE, ana=PHONE)
    await leaves(scenario, "ben")
    await leaves(scenario, "ana")
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ana"))
    assert len((await scenario.answer(PHONE, "yes please")).resumed) == 1
    assert (await scenario.story("ben"))[-1] == "REPLIED SMS"


async def test_answers_and_sends_at_the_same_moment_keep_their_order(scenario: World) -> None:
    """Whatever is decided in one batch: nothing is begun after a STOP that was taken before."""
    await begin(scenario, ana=PHONE)
    await leaves(scenario)
    calls = []
    for n in range(10):
        calls.append(scenario.track("ana", "Cart Left"))
        calls.append(scenario.answer(PHONE, "START" if n % 2 else "STOP"))
    await asyncio.gather(*calls)
    await scenario.settle()
    # Each after a STOP is held back, each after a START goes; the first came before them all.
    assert said(scenario).count("Shall we keep it?") == 1 + 5
    await scenario.advance(MINUTE)
    story = await scenario.story("ana")
    assert story.count("SUPPRESSED SMS") == 2 * 5, "nudges and their reminders"
    assert story.count("REPLIED SMS") == 10
