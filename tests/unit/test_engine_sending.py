"""A send: intent, call, result; every path leaves an outcome and the run goes on."""

import pytest

from tests.flows import DAY, delay, email, sms, track
from tests.sim import HOUR, MINUTE, SECOND, START, Sim
from upshotd.domain.addresses import LIST
from upshotd.domain.message import (
    Accepted,
    Attachment,
    Channel,
    Deferred,
    Email,
    MessageState,
    Purpose,
    Refused,
    Sms,
    Unknown,
    Webhook,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.run import RunState
from upshotd.domain.steps.send import Send
from upshotd.domain.workflow import Step


def started(*steps: Step, traits: dict[str, object] | None = None, **fields: object) -> Sim:
    sim = Sim([track("Go", *steps, **fields)])
    known = {"first_name": "U", "email": "u@example.com", "phone": "+15550000"}
    sim.identify("u", **(known if traits is None else traits))
    sim.track("u", "Go")
    return sim


def the_message(sim: Sim):
    return next(iter(sim.state.messages.values()))


def test_intent_is_leased_to_this_process_and_holds_the_run():
    sim = started(email(), sms())
    message = the_message(sim)
    assert (message.state, message.attempt, message.owner) == (MessageState.SENDING, 1, "me")
    assert message.due_us == START + 2 * MINUTE
    assert sim.run().step_id == "welcome"
    assert sim.run().due_us is None


def test_acceptance_lets_the_run_go_on_once():
    sim = started(email(), sms())
    message = the_message(sim)
    sim.settle(message, Accepted("p1"))
    sim.settle(message, Accepted("p1"))
    assert sim.messages_kinds() == ["SENT EMAIL"]
    assert sim.run().step_id == "nudge"
    assert sim.run().steps["welcome"] == {"message_id": message.message_id, "sent": True}


def test_a_missing_variable_is_undeliverable_with_its_name_and_never_half_filled():
    sim = started(email(subject="Hello {{ traits.nickname }}"), sms())
    message = the_message(sim)
    assert message.state is MessageState.UNDELIVERABLE
    assert message.reason == "TEMPLATE_ERROR"
    assert "nickname" in message.detail
    assert message.content is None
    assert sim.outcomes[1].reason == "TEMPLATE_ERROR"
    assert sim.run().step_id == "nudge"


def test_a_link_that_decides_is_missing_where_nothing_is_asked():
    sim = started(sms(body="{{ links.preferences }}"), email(subject="{{ links['approve'] }}"))
    first = the_message(sim)
    assert first.content == Sms(f"https://preferences/{first.message_id}")
    sim.settle(first, Accepted("p1"))
    message = list(sim.state.messages.values())[1]
    assert (message.reason, message.detail) == ("TEMPLATE_ERROR", "links.approve is missing")


@pytest.mark.parametrize("traits", [{}, {"email": "not an address"}])
def test_no_usable_address_is_unroutable(traits: dict[str, object]):
    sim = started(email(), traits={"first_name": "U", **traits})
    assert the_message(sim).state is MessageState.UNROUTABLE
    assert sim.outcomes[1].reason == "NO_ADDRESS"
    assert sim.run().state is RunState.COMPLETED


def test_a_channel_without_a_provider_is_unroutable():
    sim = started(Step("hook", Send(Channel.WEBHOOK, (Webhook("{}"),))))
    assert (the_message(sim).state, the_message(sim).reason) == (
        MessageState.UNROUTABLE,
        "NO_PROVIDER",
    )


def test_a_channel_that_is_none_reaches_nobody():
    sim = started(Step("none", Send(Channel.UNSPECIFIED, (Email("x", text="y"),))))
    assert the_message(sim).reason == "NO_ADDRESS"


def test_refusal_goes_on_with_the_next_step():
    sim = started(email(), sms())
    sim.settle(the_message(sim), Refused("BOUNCED", "550 unknown user"))
    assert sim.messages_kinds() == ["UNDELIVERABLE EMAIL"]
    assert sim.outcomes[-1].reason == "BOUNCED"
    assert sim.run().step_id == "nudge"
    assert sim.run().steps["welcome"]["undeliverable"] is True


def test_deferral_is_tried_again_later_with_the_same_content():
    sim = started(email())
    first = the_message(sim)
    sim.settle(first, Deferred("421 busy"))
    waiting = the_message(sim)
    assert (waiting.state, waiting.due_us) == (MessageState.RETRYING, START + 2_500_000)
    sim.advance(5 * SECOND)
    second = the_message(sim)
    assert (second.state, second.attempt) == (MessageState.SENDING, 2)
    assert second.content == first.content
    assert not second.possible_duplicate
    sim.settle(first, Accepted("late answer of an older attempt"))
    assert the_message(sim).state is MessageState.SENDING
    sim.settle(second, Accepted("p"))
    assert sim.messages_kinds() == ["SENT EMAIL"]


def test_the_providers_patience_is_honoured():
    sim = started(email())
    sim.settle(the_message(sim), Deferred("429", retry_after_us=HOUR))
    assert the_message(sim).due_us == START + HOUR


def test_what_the_provider_asks_to_wait_uses_up_no_attempt():
    sim = started(email())
    for _ in range(10):
        sim.settle(the_message(sim), Deferred("HTTP 429", retry_after_us=HOUR))
        sim.advance(HOUR)
    sim.settle(the_message(sim), Deferred("421 busy"))
    waiting = the_message(sim)
    assert (waiting.attempt, waiting.spared) == (11, 10)
    assert waiting.due_us is not None
    assert waiting.due_us <= sim.now + 5 * SECOND, "the pause of a first attempt"
    assert sim.whats().count("retrying") == 2, "a wait of hours is told once"


def test_attempts_end_after_a_day():
    sim = started(email(), sms())
    for _ in range(2000):
        if the_message(sim).state is MessageState.UNDELIVERABLE:
            break
        if the_message(sim).state is MessageState.SENDING:
            sim.settle(the_message(sim), Deferred("421 busy"))
        sim.advance(MINUTE)
    assert the_message(sim).reason == "PROVIDER_ERROR"
    assert START + DAY - HOUR < sim.now < START + DAY + HOUR
    assert sim.run().step_id == "nudge"


def test_an_unknown_result_of_an_idempotent_provider_is_simply_repeated():
    sim = started(sms())
    sim.settle(the_message(sim), Unknown("timed out"))
    assert the_message(sim).state is MessageState.RETRYING
    sim.advance(5 * SECOND)
    assert the_message(sim).attempt == 2
    assert not the_message(sim).possible_duplicate


def test_an_unknown_result_waits_for_a_callback_then_gives_up():
    sim = started(email(), sms())
    sim.settle(the_message(sim), Unknown("dropped after DATA"))
    assert the_message(sim).state is MessageState.UNKNOWN
    assert sim.run().step_id == "welcome"
    sim.advance(2 * MINUTE)
    assert (the_message(sim).state, the_message(sim).reason) == (
        MessageState.UNDELIVERABLE,
        "UNKNOWN",
    )
    assert sim.run().step_id == "nudge"


def test_a_callback_tells_that_an_unknown_one_was_accepted():
    sim = started(email(), sms())
    sim.settle(the_message(sim), Unknown("dropped after DATA"))
    sim.engage(the_message(sim).message_id, EngagementKind.DELIVERED)
    assert sim.messages_kinds() == ["SENT EMAIL", "DELIVERED EMAIL"]
    assert sim.run().step_id == "nudge"


def test_a_transactional_message_is_sent_again_and_marked():
    sim = started(email(), purpose=Purpose.TRANSACTIONAL)
    sim.settle(the_message(sim), Unknown("dropped after DATA"))
    sim.advance(2 * MINUTE)
    again = the_message(sim)
    assert (again.state, again.attempt, again.possible_duplicate) == (MessageState.SENDING, 2, True)
    sim.settle(again, Accepted("p"))
    assert sim.outcomes[-2].possible_duplicate


def test_a_lease_that_ran_out_is_an_unknown_result():
    sim = started(email())
    sim.advance(2 * MINUTE)
    assert the_message(sim).state is MessageState.UNKNOWN
    sim = started(sms())
    sim.advance(2 * MINUTE)
    assert (the_message(sim).state, the_message(sim).attempt) == (MessageState.SENDING, 2)


def test_a_callback_before_the_answer_counts_as_acceptance():
    sim = started(email(), sms())
    message = the_message(sim)
    sim.engage(message.message_id, EngagementKind.OPENED)
    assert sim.messages_kinds() == ["SENT EMAIL", "OPENED EMAIL"]
    sim.settle(message, Accepted("p1"))
    assert sim.messages_kinds() == ["SENT EMAIL", "OPENED EMAIL"]
    assert the_message(sim).provider_message_id == "p1"


def test_a_failure_reported_after_a_callback_changes_nothing():
    sim = started(email(), sms())
    message = the_message(sim)
    sim.engage(message.message_id, EngagementKind.DELIVERED)
    sim.settle(message, Unknown("timed out"))
    assert the_message(sim).state is MessageState.ACCEPTED


def test_suppression_of_the_channel_or_topic_holds_the_send_back():
    for held in (Suppression(Channel.EMAIL), Suppression(topic="news")):
        sim = Sim([track("Go", email(), sms(), topic="news")])
        sim.identify("u", first_name="U", email="u@example.com")
        sim.state.suppressions[sim.profile("u").profile_id] = {held.scope: held}
        sim.track("u", "Go")
        assert sim.messages_kinds()[0] == "SUPPRESSED EMAIL"


def test_a_suppression_that_is_over_holds_nothing_back():
    sim = Sim([track("Go", email())])
    sim.identify("u", first_name="U", email="u@example.com")
    over = Suppression(Channel.EMAIL, until_us=START)
    sim.state.suppressions[sim.profile("u").profile_id] = {over.scope: over}
    sim.track("u", "Go")
    assert sim.sent


def test_opting_out_between_two_attempts_stops_the_second():
    sim = started(email(), sms())
    sim.settle(the_message(sim), Deferred("421"))
    profile_id = sim.profile("u").profile_id
    held = Suppression(Channel.EMAIL, reason="UNSUBSCRIBED")
    sim.state.suppressions[profile_id] = {held.scope: held}
    sim.advance(MINUTE)
    assert (the_message(sim).state, the_message(sim).reason) == (
        MessageState.SUPPRESSED,
        "UNSUBSCRIBED",
    )
    assert sim.run().step_id == "nudge"


def test_every_attempt_says_by_which_row_the_person_wants_it():
    sim = started(email())
    profile = sim.profile("u")
    assert sim.changes.consents == {profile.profile_id: profile.row_version, LIST: 0}
    sim.settle(the_message(sim), Deferred("421"))
    assert sim.changes.consents == {}
    sim.advance(MINUTE)
    assert sim.changes.consents == {profile.profile_id: profile.row_version, LIST: 0}


def test_opting_out_writes_the_person_so_that_sends_decided_before_are_refused():
    sim = started(email())
    sim.settle(the_message(sim), Accepted("p1"))
    sim.engage(the_message(sim).message_id, EngagementKind.UNSUBSCRIBED)
    assert list(sim.changes.profiles.values()) == [sim.profile("u")]
    assert list(sim.changes.suppressions) == [(sim.profile("u").profile_id, "channel:1")]


def test_a_canceled_run_makes_no_second_attempt():
    sim = started(email())
    sim.settle(the_message(sim), Deferred("421"))
    sim.cancel(sim.run().run_id)
    assert (the_message(sim).state, the_message(sim).reason) == (
        MessageState.SUPPRESSED,
        "RUN_ENDED",
    )
    sim.advance(DAY)
    assert the_message(sim).attempt == 1


def test_an_unknown_transactional_message_of_an_ended_run_is_not_sent_again():
    sim = started(email(), purpose=Purpose.TRANSACTIONAL)
    sim.settle(the_message(sim), Unknown("?"))
    sim.cancel(sim.run().run_id)
    sim.advance(DAY)
    assert the_message(sim).reason == "RUN_ENDED"


def test_the_answer_to_a_send_of_a_canceled_run_is_still_recorded():
    sim = started(email(), sms())
    message = the_message(sim)
    sim.cancel(sim.run().run_id)
    sim.settle(message, Accepted("p"))
    assert sim.messages_kinds() == ["SENT EMAIL"]
    assert len(sim.state.messages) == 1


def test_a_stale_due_of_a_message_does_nothing():
    sim = started(email(), delay())
    message = sim.answer()
    from upshotd.domain.stimulus import MessageDue

    sim.do(MessageDue(message.message_id))
    sim.do(MessageDue("unknown"))
    assert sim.messages_kinds() == ["SENT EMAIL"]


def test_a_subject_is_one_line():
    sim = started(email(subject="Hello {{ traits.first_name }}"), traits={
        "first_name": "A\r\nBcc: x@y", "email": "u@example.com"})  # fmt: skip
    assert the_message(sim).content.subject == "Hello A Bcc: x@y"


def test_a_control_character_in_what_somebody_says_keeps_no_mail_back():
    sim = started(email(), traits={
        "first_name": "A\x00\x07b\x7f\x85c\u00a0\u202ed", "email": "u@example.com"})  # fmt: skip
    content = the_message(sim).content
    assert isinstance(content, Email)
    assert content.subject == "Hello Ab c \u202ed"


def test_a_template_may_name_the_links_of_its_own_message():
    mail = Email("Hi", html="<p>{{ links.preferences }}</p>", text="{{ links.unsubscribe }}")
    sim = started(Step("mail", Send(Channel.EMAIL, (mail,))))
    (message,) = sim.sent
    content = message.content
    assert isinstance(content, Email)
    assert f"https://preferences/{message.message_id}" in content.html
    assert content.text == f"https://unsubscribe/{message.message_id}"
    sim = started(Step("mail", Send(Channel.EMAIL, (Email("Hi", text="{{ links.nothing }}"),))))
    assert (sim.outcomes[-2].reason, sim.sent) == ("TEMPLATE_ERROR", [])


def test_addresses_of_attachments_are_templates_and_must_be_of_the_web():
    file = Attachment("{{ traits.invoice }}", "{{ traits.first_name }}.pdf")
    step = Step("mail", Send(Channel.EMAIL, (Email("Hi", text="Hi", attachments=(file,)),)))
    traits = {"first_name": "U", "email": "u@example.com"}
    sim = started(step, traits={**traits, "invoice": "https://files.example/1"})
    content = sim.sent[0].content
    assert isinstance(content, Email)
    assert content.attachments == (Attachment("https://files.example/1", "U.pdf"),)
    sim = started(step, traits={**traits, "invoice": "file:///etc/passwd"})
    assert not sim.sent
    assert "TEMPLATE_ERROR" in [o.reason for o in sim.outcomes]


def test_an_attachment_of_the_event_is_there_although_nothing_else_reads_the_event():
    file = Attachment("{{ event.properties.invoice }}")
    mail = Email("Hi", text="Hi", attachments=(file,))
    sim = Sim([track("Go", Step("mail", Send(Channel.EMAIL, (mail,))))])
    sim.identify("u", email="u@example.com")
    sim.track("u", "Go", properties={"invoice": "https://files.example/1"})
    content = sim.sent[0].content
    assert isinstance(content, Email)
    assert content.attachments == (Attachment("https://files.example/1"),)
