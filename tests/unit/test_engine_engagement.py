"""Facts about messages: counted once, in any order, nothing regresses."""

from tests.flows import email, sms, track
from tests.sim import DAY, START, Sim
from upshotd.domain.message import Accepted, Channel, MessageState, Unknown
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.stimulus import EngagementState


def sent(topic: str = "") -> tuple[Sim, str]:
    sim = Sim([track("Go", email(), topic=topic)])
    sim.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    sim.track("u", "Go")
    return sim, sim.answer().message_id


def test_the_same_engagement_id_counts_once():
    sim, message_id = sent()
    first = sim.engage(message_id, EngagementKind.OPENED, engagement_id="x")
    again = sim.engage(message_id, EngagementKind.OPENED, engagement_id="x")
    assert (first.state, again.state) == (EngagementState.RECORDED, EngagementState.DUPLICATE)
    assert sim.messages_kinds() == ["SENT EMAIL", "OPENED EMAIL"]


def test_a_late_delivery_after_a_click_adds_a_fact_and_changes_none():
    sim, message_id = sent()
    sim.engage(message_id, EngagementKind.CLICKED)
    sim.now += DAY
    sim.engage(message_id, EngagementKind.DELIVERED)
    sim.engage(message_id, EngagementKind.CLICKED)
    facts = sim.state.messages[message_id].facts
    assert facts["clicked"] == START
    assert facts["delivered"] == START + DAY


def test_an_unknown_message_is_rejected():
    sim, _ = sent()
    answer = sim.engage("nobody", EngagementKind.OPENED)
    assert (answer.state, answer.reason) == (EngagementState.REJECTED, "UNKNOWN_MESSAGE")


def test_a_message_that_was_never_sent_cannot_be_opened():
    sim = Sim([track("Go", email())])
    sim.identify("u", first_name="U")
    sim.track("u", "Go")
    (message_id,) = sim.state.messages
    answer = sim.engage(message_id, EngagementKind.OPENED)
    assert (answer.state, answer.reason) == (EngagementState.REJECTED, "MESSAGE_NOT_SENT")


def test_a_callback_that_overtakes_the_answer_is_kept_and_applied():
    sim = Sim([track("Go", email(), sms())])
    sim.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    sim.track("u", "Go")
    by_provider = {"provider": "smtp", "provider_message_id": "p1"}
    answer = sim.engage("", EngagementKind.OPENED, engagement_id="x", **by_provider)
    assert answer.state is EngagementState.PENDING
    again = sim.engage("", EngagementKind.OPENED, engagement_id="x", **by_provider)
    assert again.state is EngagementState.DUPLICATE
    sim.answer(Accepted("p1"))
    assert sim.messages_kinds() == ["SENT EMAIL", "OPENED EMAIL"]
    assert sim.state.pending == {}
    later = sim.engage("", EngagementKind.CLICKED, **by_provider)
    assert later.state is EngagementState.RECORDED


def test_that_the_provider_has_it_settles_a_send_without_an_answer():
    sim = Sim([track("Go", email(), sms())])
    sim.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    sim.track("u", "Go")
    (message,) = sim.sent
    sim.settle(message, Unknown("cut off"))
    answer = sim.engage(message.message_id, EngagementKind.ACCEPTED)
    assert (answer.state, answer.message_id) == (EngagementState.RECORDED, message.message_id)
    assert sim.messages_kinds() == ["SENT EMAIL"]
    assert [m.channel.name for m in sim.sent] == ["SMS"], "the run went on"
    before = sim.state.messages[message.message_id]
    assert sim.engage(message.message_id, EngagementKind.ACCEPTED).state is EngagementState.RECORDED
    assert sim.state.messages[message.message_id] == before
    assert sim.state.engagement_ids == set(), "nothing of it is kept"
    sim.advance(DAY)
    assert sim.messages_kinds().count("SENT EMAIL") == 1, "nor is it sent once more"


def test_that_the_provider_has_a_message_it_alone_can_name_waits_for_its_answer():
    sim = Sim([track("Go", email())])
    sim.identify("u", first_name="U", email="u@example.com")
    sim.track("u", "Go")
    by_provider = {"provider": "smtp", "provider_message_id": "p1"}
    answer = sim.engage("", EngagementKind.ACCEPTED, **by_provider)
    assert answer.state is EngagementState.RECORDED
    assert sim.state.pending == {}
    assert sim.answer(Accepted("p1")).provider_message_id == "p1"
    assert sim.messages_kinds() == ["SENT EMAIL"]


def test_a_pending_callback_is_applied_when_the_name_comes_after_acceptance():
    sim = Sim([track("Go", email())])
    sim.identify("u", first_name="U", email="u@example.com")
    sim.track("u", "Go")
    (message,) = sim.sent
    sim.engage("", EngagementKind.CLICKED, provider="smtp", provider_message_id="p1")
    sim.engage(message.message_id, EngagementKind.DELIVERED)
    sim.settle(message, Accepted("p1"))
    assert sim.messages_kinds() == ["SENT EMAIL", "DELIVERED EMAIL", "CLICKED EMAIL"]


def test_two_providers_may_use_the_same_id_for_two_messages():
    sim = Sim([track("Go", email(), sms())])
    sim.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    sim.track("u", "Go")
    sim.answer(Accepted("1"))
    sim.answer(Accepted("1"))
    sim.engage("", EngagementKind.REPLIED, provider="sms", provider_message_id="1")
    assert sim.messages_kinds() == ["SENT EMAIL", "SENT SMS", "REPLIED SMS"]


def test_unsubscribing_stops_the_topic_and_subscribing_again_lifts_it():
    sim, message_id = sent(topic="news")
    sim.engage(message_id, EngagementKind.UNSUBSCRIBED)
    profile_id = sim.profile("u").profile_id
    (held,) = sim.state.suppressions[profile_id].values()
    assert (held.topic, held.reason, held.until_us) == ("news", "UNSUBSCRIBED", None)
    sim.engage(message_id, EngagementKind.RESUBSCRIBED)
    assert sim.state.suppressions[profile_id] == {}
    assert sim.messages_kinds() == ["SENT EMAIL", "UNSUBSCRIBED EMAIL"]


def test_unsubscribing_without_a_topic_stops_the_channel():
    sim, message_id = sent()
    sim.engage(message_id, EngagementKind.UNSUBSCRIBED)
    (held,) = sim.state.suppressions[sim.profile("u").profile_id].values()
    assert held.channel is Channel.EMAIL


def test_a_complaint_stops_the_channel_for_good():
    sim, message_id = sent(topic="news")
    sim.engage(message_id, EngagementKind.COMPLAINED)
    (held,) = sim.state.suppressions[sim.profile("u").profile_id].values()
    assert (held.channel, held.reason) == (Channel.EMAIL, "COMPLAINED")


def test_a_bounce_after_a_click_leaves_the_message_accepted():
    sim, message_id = sent()
    sim.engage(message_id, EngagementKind.CLICKED)
    sim.engage(message_id, EngagementKind.BOUNCED)
    assert sim.state.messages[message_id].state is MessageState.ACCEPTED
    assert sim.messages_kinds()[-1] == "UNDELIVERABLE EMAIL"


def test_a_bounce_makes_the_message_undeliverable_once():
    sim, message_id = sent()
    sim.engage(message_id, EngagementKind.UNDELIVERED, reason="mailbox full")
    sim.engage(message_id, EngagementKind.BOUNCED)
    message = sim.state.messages[message_id]
    assert (message.state, message.reason) == (MessageState.UNDELIVERABLE, "UNDELIVERED")
    assert sim.outcomes[-2].properties == {"detail": "mailbox full"}


def test_deferral_leaves_a_fact_and_no_outcome():
    sim, message_id = sent()
    before = len(sim.outcomes)
    sim.engage(message_id, EngagementKind.DEFERRED)
    assert "deferred" in sim.state.messages[message_id].facts
    assert len(sim.outcomes) == before


def test_data_and_link_travel_with_the_outcome():
    sim, message_id = sent()
    sim.engage(message_id, EngagementKind.CLICKED, link_url="https://x.example", data={"a": 1})
    assert sim.outcomes[-1].link_url == "https://x.example"
    assert sim.outcomes[-1].properties == {"a": 1}
