"""Waits: resolved exactly once, by what comes first, also when it came before."""

from tests.flows import (
    DAY,
    OPENED,
    delay,
    email,
    sms,
    track,
    wait_engagement,
    wait_event,
)
from tests.sim import HOUR, MINUTE, START, Sim
from upshotd.domain.message import Channel, Refused
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.run import RunState
from upshotd.domain.steps.wait import EngagementWait, EventWait, Wait
from upshotd.domain.workflow import Step

YES, NO = sms("yes", "yes"), sms("no", "no")


def started(*steps: Step, **traits: object) -> Sim:
    sim = Sim([track("Go", *steps)])
    sim.identify("u", email="u@example.com", phone="+15550000", **{"first_name": "U", **traits})
    sim.track("u", "Go")
    return sim


def bodies(sim: Sim) -> list[str]:
    return [m.content.body for m in sim.state.messages.values() if m.channel is Channel.SMS]


def test_an_engagement_before_the_wait_is_reached_counts():
    sim = started(email(), delay(), wait_engagement(on_match=(YES,), on_timeout=(NO,)))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED)
    assert sim.run().step_id == "pause"
    sim.advance(DAY)
    assert bodies(sim) == ["yes"]
    assert "IGNORED EMAIL" not in sim.messages_kinds()


def test_the_timeout_counts_from_entering_the_wait():
    sim = started(email(), wait_engagement(timeout=DAY, on_timeout=(NO,)))
    sim.advance(MINUTE)
    sim.answer()
    assert sim.run().due_us == START + MINUTE + DAY


def test_a_wait_that_matched_does_not_time_out_too():
    sim = started(email(), wait_engagement(on_match=(YES,), on_timeout=(NO,)))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.CLICKED)
    sim.advance(2 * DAY)
    assert bodies(sim) == ["yes"]


def test_an_engagement_after_the_timeout_is_recorded_and_moves_nothing():
    sim = started(email(), wait_engagement(on_match=(YES,), on_timeout=(NO,)))
    message = sim.answer()
    sim.advance(DAY)
    assert bodies(sim) == ["no"]
    answer = sim.engage(message.message_id, EngagementKind.OPENED)
    assert answer.resumed == ()
    assert sim.messages_kinds()[-1] == "OPENED EMAIL"
    assert bodies(sim) == ["no"]


def test_a_machine_open_satisfies_no_wait_unless_it_asks_for_it():
    sim = started(email(), wait_engagement(on_match=(YES,), on_timeout=(NO,)))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED, machine=True)
    assert bodies(sim) == []
    assert sim.outcomes[-1].machine
    sim.advance(DAY)
    assert bodies(sim) == ["no"]
    assert "IGNORED EMAIL" in sim.messages_kinds()


def test_a_wait_that_asks_for_machine_opens_gets_them():
    condition = EngagementWait("welcome", OPENED, include_machine=True)
    sim = started(email(), Step("opened", Wait((condition,), DAY, (YES,), (NO,))))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED, machine=True)
    assert bodies(sim) == ["yes"]


def test_a_machine_open_before_such_a_wait_counts_too():
    condition = EngagementWait("welcome", OPENED, include_machine=True)
    sim = started(email(), delay(), Step("opened", Wait((condition,), DAY, (YES,), (NO,))))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED, machine=True)
    sim.advance(DAY)
    assert bodies(sim) == ["yes"]


def test_a_kind_that_is_not_waited_for_leaves_the_run_where_it_is():
    clicked = (EngagementKind.CLICKED,)
    sim = started(email(), wait_engagement(kinds=clicked, on_match=(YES,), on_timeout=(NO,)))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED)
    assert sim.run().step_id == "opened"
    sim.advance(DAY)
    assert bodies(sim) == ["no"]
    assert "IGNORED EMAIL" not in sim.messages_kinds(), "somebody opened it"


def test_ignored_is_recorded_once_for_a_message_with_two_waits():
    sim = started(
        email(),
        wait_engagement("first", timeout=HOUR),
        wait_engagement("second", timeout=HOUR),
    )
    sim.answer()
    sim.advance(DAY)
    assert sim.messages_kinds().count("IGNORED EMAIL") == 1
    assert sim.run().steps["welcome"]["ignored"] is True


def test_a_wait_for_delivery_ignores_nothing_when_it_times_out():
    kinds = (EngagementKind.DELIVERED,)
    sim = started(email(), wait_engagement(kinds=kinds, on_timeout=(NO,)))
    sim.answer()
    sim.advance(DAY)
    assert "IGNORED EMAIL" not in sim.messages_kinds()
    assert bodies(sim) == ["no"]


def test_a_bounce_during_the_wait_goes_on_at_once_by_on_undeliverable():
    gone = sms("gone", "gone")
    sim = started(email(), wait_engagement(on_timeout=(NO,), on_undeliverable=(gone,)))
    message = sim.answer()
    answer = sim.engage(message.message_id, EngagementKind.BOUNCED, reason="550 no such user")
    assert answer.resumed == (sim.run().run_id,)
    assert bodies(sim) == ["gone"]
    assert sim.outcomes[-1].kind.name == "MESSAGE_UNDELIVERABLE"
    assert sim.outcomes[-1].reason == "BOUNCED"


def test_a_message_the_provider_refused_is_not_waited_for():
    sim = started(email(), wait_engagement(on_timeout=(NO,)))
    sim.answer(Refused("BOUNCED", "550"))
    assert bodies(sim) == ["no"]
    assert sim.messages_kinds()[0] == "UNDELIVERABLE EMAIL"


def test_a_wait_on_a_step_that_was_skipped_is_not_waited_for():
    skipped = Step("welcome", email().kind, condition="traits.first_name == 'Nobody'")
    sim = started(skipped, wait_engagement(on_timeout=(NO,)))
    assert bodies(sim) == ["no"]
    assert sim.whats()[1] == "skipped"


def test_an_event_is_matched_by_exact_name_and_condition():
    sim = started(
        wait_event(condition="event.properties.amount > 100", on_match=(YES,), on_timeout=(NO,))
    )
    assert sim.track("u", "paid", properties={"amount": 500}).resumed == ()
    assert sim.track("u", "Paid", properties={"amount": 50}).resumed == ()
    assert sim.track("u", "Paid").resumed == (), "a missing field makes the condition false"
    assert sim.whats()[-1] == "condition_failed"
    assert sim.track("u", "Paid", properties={"amount": 500}).resumed == (sim.run().run_id,)
    assert bodies(sim) == ["yes"]


def test_another_persons_event_moves_nothing():
    sim = started(wait_event(on_match=(YES,)))
    assert sim.track("somebody", "Paid").resumed == ()
    assert bodies(sim) == []


def test_an_event_before_the_wait_counts_only_since_run_started():
    sim = started(delay(), wait_event(on_match=(YES,), on_timeout=(NO,)))
    sim.track("u", "Paid")
    sim.advance(DAY)
    assert sim.run().step_id == "paid"
    sim = started(delay(), wait_event(since_run_started=True, on_match=(YES,), on_timeout=(NO,)))
    sim.track("u", "Paid")
    sim.track("u", "Paid")
    assert sim.run().step_id == "pause"
    sim.advance(DAY)
    assert bodies(sim) == ["yes"]


def test_an_event_since_the_start_is_held_against_its_condition():
    waits = wait_event(
        condition="event.properties.amount > 100",
        since_run_started=True,
        on_match=(YES,),
        on_timeout=(NO,),
    )
    sim = started(delay(), waits)
    sim.track("u", "Paid", properties={"amount": 5})
    sim.advance(DAY)
    assert sim.run().step_id == "paid"
    sim.advance(DAY)
    assert bodies(sim) == ["no"]


def any_of(*conditions: EngagementWait | EventWait) -> Step:
    return Step("either", Wait(conditions, DAY, (YES,), (NO,), any_of=True))


def test_any_of_takes_the_first_that_comes():
    sim = started(email(), any_of(EngagementWait("welcome", OPENED), EventWait("Paid")))
    message = sim.answer()
    sim.track("u", "Paid")
    sim.engage(message.message_id, EngagementKind.OPENED)
    sim.advance(DAY)
    assert bodies(sim) == ["yes"]


def test_any_of_with_an_event_waits_on_although_the_mail_bounced():
    sim = started(email(), any_of(EngagementWait("welcome", OPENED), EventWait("Paid")))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.BOUNCED)
    assert sim.run().step_id == "either"
    sim.track("u", "Paid")
    assert bodies(sim) == ["yes"]


def test_any_of_ignores_each_message_nobody_touched():
    sim = started(
        email(),
        sms(),
        any_of(EngagementWait("welcome", OPENED), EngagementWait("nudge", OPENED)),
    )
    first = sim.answer()
    sim.answer()
    sim.engage(first.message_id, EngagementKind.DELIVERED)
    sim.advance(DAY)
    assert [k for k in sim.messages_kinds() if k.startswith("IGNORED")] == [
        "IGNORED EMAIL",
        "IGNORED SMS",
    ]


def test_a_wait_in_the_end_ends_the_run():
    sim = started(wait_event())
    sim.advance(DAY)
    assert sim.run().state is RunState.COMPLETED
    assert sim.whats()[-2:] == ["timed_out", "ended"]
