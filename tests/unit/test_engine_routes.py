"""A send over several channels: the first that reaches the person, or every one."""

import pytest

from tests.flows import DAY, delay, track
from tests.sim import HOUR, MINUTE, Sim
from upshotd.domain.definitions import Carrier, Policy
from upshotd.domain.message import (
    Accepted,
    Channel,
    Content,
    Deferred,
    Email,
    MessageState,
    Purpose,
    Push,
    Refused,
    Sms,
    Unknown,
)
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.run import RunState
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.wait import EngagementWait, Wait
from upshotd.domain.stimulus import EngagementArrived
from upshotd.domain.workflow import Step

EMAIL, SMS, PUSH = Channel.EMAIL, Channel.SMS, Channel.PUSH
CONTENTS: dict[Channel, Content] = {EMAIL: Email("Hi", text="Hi"), SMS: Sms("Hi"), PUSH: Push("Hi")}
FIRST = Route(Method.SINGLE, (PUSH, EMAIL, SMS))
ALL = Route(Method.ALL, (PUSH, EMAIL, SMS))
CARRIERS = {
    EMAIL: (Carrier("smtp", idempotent=False),),
    SMS: (Carrier("sms", idempotent=True),),
    PUSH: (Carrier("fcm", idempotent=False),),
}
REACHED = {"email": "u@example.com", "phone": "+15550000"}
GONE = Refused("BOUNCED", "no such address")


def send(routing: Channel | Route, **fields: object) -> Step:
    contents = tuple(CONTENTS.values()) if isinstance(routing, Route) else (CONTENTS[routing],)
    return Step("tell", Send(routing, contents, **fields))  # type: ignore[arg-type]


def started(*steps: Step, device: bool = True, policy: Policy | None = None, **traits: str) -> Sim:
    sim = Sim([track("Go", *steps, delay())], carriers=CARRIERS, policy=policy or Policy())
    sim.identify("u", **(traits or REACHED))
    context = {"device": {"token": "t-1"}} if device else {}
    sim.track("u", "Go", context=context)
    return sim


def sent(sim: Sim) -> list[str]:
    return [message.channel.name for message in sim.sent]


# -- SINGLE ------------------------------------------------------------------------------------


def test_single_takes_the_first_channel_that_reaches_the_person():
    sim = started(send(FIRST))
    assert sent(sim) == ["PUSH"]
    sim.answer()
    assert sim.messages_kinds() == ["SENT PUSH"]
    assert sim.run().step_id == "pause"


def test_single_passes_over_what_cannot_reach_them_and_says_so():
    sim = started(send(FIRST), device=False)
    assert sent(sim) == ["EMAIL"]
    assert sim.messages_kinds() == []
    assert ("passed_over", "push: NO_ADDRESS") in [(e.what, e.detail) for e in sim.run().timeline]


def test_single_takes_the_next_channel_when_a_message_fails_for_certain():
    sim = started(send(FIRST))
    sim.answer(GONE)
    assert sim.run().step_id == "tell"
    sim.answer(GONE, EMAIL)
    sim.answer(None, SMS)
    assert sim.messages_kinds() == ["UNDELIVERABLE PUSH", "UNDELIVERABLE EMAIL", "SENT SMS"]
    assert sim.run().step_id == "pause"
    assert sim.run().steps["tell"]["sent"] is True
    assert not sim.run().steps["tell"].get("undeliverable")


def test_single_goes_on_from_a_bounce_that_overtakes_the_answer():
    opened = Step("opened", Wait((EngagementWait("tell", (EngagementKind.CLICKED,)),), DAY))
    sim = started(send(FIRST), opened, device=False)
    bounce = Engagement("b", EngagementKind.BOUNCED, sim.now, "", "smtp", "p-1")
    sim.do(EngagementArrived(bounce))
    sim.state.pending["smtp", "p-1"] = (bounce,)
    sim.answer(Accepted("p-1"), EMAIL)
    assert sent(sim) == ["SMS"]
    sim.answer(None, SMS)
    assert sim.messages_kinds() == ["SENT EMAIL", "UNDELIVERABLE EMAIL", "SENT SMS"]
    assert sim.run().step_id == "opened", "the text can still be clicked"


def test_single_sends_nothing_else_while_nobody_knows_what_became_of_a_message():
    sim = started(send(FIRST))
    sim.answer(Unknown("timed out"))
    sim.advance(HOUR)
    assert sim.messages_kinds() == ["UNDELIVERABLE PUSH"]
    assert sim.outcomes[-1].reason == "UNKNOWN"
    assert not sim.sent
    assert sim.run().step_id == "pause"


def test_single_does_not_come_back_to_a_channel_that_was_passed_over():
    sim = started(send(FIRST), device=False)
    sim.track("u", "Opened the App", context={"device": {"token": "t-1"}})
    sim.answer()
    assert sim.messages_kinds() == ["SENT EMAIL"]
    assert sim.run().step_id == "pause"


def test_single_that_reaches_the_person_on_no_channel_leaves_one_outcome():
    sim = started(send(FIRST), device=False, first_name="U")
    assert sim.messages_kinds() == ["UNROUTABLE PUSH"]
    assert sim.run().step_id == "pause"


def test_an_opt_out_of_a_channel_leads_to_the_next_one():
    mute = Step("mute", Suppress(PUSH))
    sim = started(mute, send(FIRST))
    assert sent(sim) == ["EMAIL"]


# -- ALL and nested ----------------------------------------------------------------------------


def test_all_sends_on_every_channel_and_goes_on_when_each_is_settled():
    sim = started(send(ALL))
    assert sent(sim) == ["PUSH", "EMAIL", "SMS"]
    sim.answer(None, EMAIL)
    sim.answer(GONE, PUSH)
    assert sim.run().step_id == "tell"
    sim.answer(None, SMS)
    assert sim.run().step_id == "pause"
    left = sim.run().steps["tell"]
    assert left["sent"] is True
    assert not left.get("undeliverable")


def test_all_says_of_each_channel_that_it_does_not_reach_them():
    sim = started(send(ALL), device=False, email="u@example.com")
    assert sim.messages_kinds() == ["UNROUTABLE PUSH", "UNROUTABLE SMS"]
    assert sent(sim) == ["EMAIL"]


def test_a_route_inside_a_route_is_one_of_its_options():
    nested = Route(Method.SINGLE, (PUSH, Route(Method.ALL, (EMAIL, SMS))))
    sim = started(send(nested), device=False)
    assert sent(sim) == ["EMAIL", "SMS"]
    sim = started(send(nested))
    assert sent(sim) == ["PUSH"]
    sim.answer(GONE)
    assert sent(sim) == ["EMAIL", "SMS"]


def test_a_run_that_ends_drops_every_message_that_waits_for_another_attempt():
    sim = started(send(ALL))
    for channel in (EMAIL, SMS):
        sim.answer(Deferred("busy"), channel)
    sim.cancel(run_id=sim.run().run_id)
    assert sim.messages_kinds() == ["SUPPRESSED EMAIL", "SUPPRESSED SMS"]
    sim.answer(None, PUSH)
    assert sim.messages_kinds()[-1] == "SENT PUSH"


def waiting(routing: Route) -> Sim:
    kinds = (EngagementKind.OPENED, EngagementKind.CLICKED)
    ignored = (Step("ignored", Emit("Nobody Looked")),)
    wait = Step("opened", Wait((EngagementWait("tell", kinds),), DAY, on_timeout=ignored))
    sim = started(send(routing), wait)
    while sim.sent:
        sim.answer()
    return sim


def test_engagement_with_any_of_them_is_engagement_with_the_step():
    sim = waiting(ALL)
    message = next(m for m in sim.state.messages.values() if m.channel is SMS)
    sim.engage(message.message_id, EngagementKind.CLICKED)
    assert sim.run().step_id == "pause"


def test_each_of_them_that_nobody_touched_is_ignored():
    sim = waiting(ALL)
    sim.advance(DAY)
    assert sim.messages_kinds()[3:] == ["IGNORED PUSH", "IGNORED EMAIL", "IGNORED SMS"]


def test_a_bounce_of_one_is_no_end_of_the_wait_a_bounce_of_all_is():
    sim = waiting(ALL)
    one, *others = sim.state.messages.values()
    sim.engage(one.message_id, EngagementKind.BOUNCED)
    assert sim.run().step_id == "opened"
    for message in others:
        sim.engage(message.message_id, EngagementKind.BOUNCED)
    assert "undeliverable" in sim.whats()
    assert sim.run().step_id == "pause"


# -- several providers of a channel ------------------------------------------------------------


def two_providers(**fields: object) -> Sim:
    carriers = {EMAIL: (Carrier("first", idempotent=True), Carrier("second", idempotent=False))}
    sim = Sim([track("Go", send(EMAIL), delay(), **fields)], carriers=carriers)
    sim.identify("u", **REACHED)
    sim.track("u", "Go")
    return sim


def test_a_provider_that_did_not_take_it_is_followed_by_the_next_at_once():
    sim = two_providers()
    sim.answer(Deferred("HTTP 503"))
    (message,) = sim.sent
    assert (message.provider, message.attempt, message.possible_duplicate) == ("second", 2, False)
    assert "failed_over" in sim.whats()
    sim.answer()
    assert sim.outcomes[-1].provider == "second"


def test_after_the_last_provider_the_first_is_asked_again_later():
    sim = two_providers()
    sim.answer(Deferred("HTTP 503"))
    sim.answer(Deferred("connection refused"))
    assert not sim.sent
    sim.advance(MINUTE)
    (message,) = sim.sent
    assert (message.provider, message.attempt) == ("first", 3)


def test_an_answer_that_is_not_known_is_never_failed_over():
    sim = two_providers()
    sim.answer(Unknown("timed out"))
    sim.advance(MINUTE)
    (message,) = sim.sent
    assert (message.provider, message.attempt) == ("first", 2)
    sim.answer(Deferred("HTTP 503"))
    assert not sim.sent, "the first attempt may have been taken"
    sim.advance(HOUR)
    assert [m.provider for m in sim.sent] == ["first"]


def test_what_was_put_off_by_ourselves_stays_with_its_provider():
    sim = two_providers()
    sim.answer(Deferred("the server went down before it was sent", put_off=True))
    sim.advance(MINUTE)
    assert [m.provider for m in sim.sent] == ["first"]


def test_an_opt_out_counts_before_another_provider_is_asked():
    sim = two_providers()
    message = sim.sent[0]
    sim.engage(message.message_id, EngagementKind.UNSUBSCRIBED)
    assert sim.messages_kinds() == ["SENT EMAIL", "UNSUBSCRIBED EMAIL"]
    sim.track("u", "Go")
    assert not sim.sent


# -- late, failed, unknown ---------------------------------------------------------------------


def test_a_message_that_would_be_late_is_expired():
    sim = started(delay("before", HOUR), send(EMAIL, max_lateness_us=10 * MINUTE))
    run = sim.run()
    assert run.due_us is not None
    sim.now = run.due_us + 11 * MINUTE  # the server was down
    sim.advance(0)
    assert sim.messages_kinds() == ["UNDELIVERABLE EMAIL"]
    assert sim.outcomes[-1].reason == "EXPIRED"
    assert sim.run().step_id == "pause"


def test_a_message_that_is_a_little_late_goes_out():
    sim = started(delay("before", HOUR), send(EMAIL, max_lateness_us=10 * MINUTE))
    run = sim.run()
    assert run.due_us is not None
    sim.now = run.due_us + 9 * MINUTE
    sim.advance(0)
    assert sent(sim) == ["EMAIL"]


def test_attempts_end_when_the_message_is_of_no_use_any_more():
    sim = started(send(EMAIL, max_lateness_us=MINUTE))
    while sim.run().step_id == "tell":
        if sim.sent:
            sim.answer(Deferred("busy"))
        sim.advance(5_000_000)
    assert sim.outcomes[-1].reason == "EXPIRED"
    assert sim.now <= sim.run().start_us + 2 * MINUTE


def test_every_failure_takes_the_steps_of_on_failure_and_goes_on():
    other = (Step("other", Emit("Not Reached")),)
    for traits, result in (({"first_name": "U"}, None), ({}, GONE)):
        sim = started(send(EMAIL, on_failure=other), device=False, **traits)
        if result is not None:
            sim.answer(result)
        assert "CUSTOM" in sim.kinds
        assert sim.run().step_id == "pause"
    sim = started(send(EMAIL, on_failure=other))
    sim.answer()
    assert "CUSTOM" not in sim.kinds


def test_on_failure_may_end_the_run():
    sim = started(send(EMAIL, on_failure=(Step("stop", Exit("LOST")),)), first_name="U")
    assert (sim.run().state, sim.run().reason) == (RunState.COMPLETED, "LOST")


@pytest.mark.parametrize(
    ("purpose", "on_unknown", "again"),
    [
        (Purpose.MARKETING, OnUnknown.RESEND, True),
        (Purpose.TRANSACTIONAL, OnUnknown.GIVE_UP, False),
        (Purpose.TRANSACTIONAL, None, True),
        (Purpose.PRODUCT, None, False),
    ],
)
def test_the_step_says_what_an_unknown_answer_means_else_the_purpose(
    purpose: Purpose, on_unknown: OnUnknown | None, again: bool
):
    flow = track("Go", send(EMAIL, on_unknown=on_unknown), purpose=purpose)
    sim = Sim([flow], carriers=CARRIERS)
    sim.identify("u", **REACHED)
    sim.track("u", "Go")
    sim.answer(Unknown("timed out"))
    sim.advance(10 * MINUTE)
    assert [m.possible_duplicate for m in sim.sent] == ([True] if again else [])
    if not again:
        (message,) = sim.state.messages.values()
        assert (message.state, message.reason) == (MessageState.UNDELIVERABLE, "UNKNOWN")


def test_a_callback_for_a_channel_that_was_given_up_lets_nothing_be_sent_twice():
    sim = started(send(FIRST))
    push = sim.sent[0]
    sim.settle(push, GONE)
    sim.engage(push.message_id, EngagementKind.DELIVERED)
    assert sim.messages_kinds() == ["UNDELIVERABLE PUSH", "SENT PUSH", "DELIVERED PUSH"]
    assert sent(sim) == ["EMAIL"], "it was begun before the callback came"
    sim.answer(Accepted("p"), EMAIL)
    assert sim.run().step_id == "pause"
    assert sim.messages_kinds()[3:] == ["SENT EMAIL"]
