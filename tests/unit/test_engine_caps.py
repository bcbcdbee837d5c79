"""Frequency caps: how many messages one person gets, over all workflows."""

from tests.flows import email, sms, track
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.caps import Cap
from upshotd.domain.definitions import Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel, Message, MessageState, Purpose, Refused
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.workflow import Reentry, ReentryMode, Step

ALWAYS = Reentry(ReentryMode.ALWAYS)
TWO = Cap("daily", 2, DAY, purposes=frozenset({Purpose.MARKETING}))


def capped(*caps: Cap, steps: tuple[Step, ...] = (email(),), **fields: object) -> Sim:
    """Two workflows, as different teams have them, that send to the same person."""
    fields.setdefault("purpose", Purpose.MARKETING)
    flows = [track(f"Go {n}", *steps, workflow_id=f"w{n}", reentry=ALWAYS, **fields) for n in "ab"]
    sim = Sim(flows, policy=Policy(caps=caps))
    sim.identify("u", email="u@example.com", phone="+15550000", first_name="U")
    return sim


def states(sim: Sim) -> list[str]:
    return [message.state.name for message in sim.state.messages.values()]


def last(sim: Sim) -> Message:
    return list(sim.state.messages.values())[-1]


def test_messages_of_all_workflows_are_counted_together():
    sim = capped(TWO)
    for name in ("Go a", "Go b", "Go a"):
        sim.track("u", name)
    assert states(sim) == ["SENDING", "SENDING", "SUPPRESSED"]


def test_a_capped_message_is_an_outcome_that_says_which_cap_and_the_run_goes_on():
    sim = capped(Cap("one", 1, DAY), steps=(email(), sms()))
    sim.track("u", "Go a")
    sim.track("u", "Go b")
    assert last(sim).reason == "CAPPED"
    told = [o for o in sim.outcomes if o.kind is OutcomeKind.MESSAGE_SUPPRESSED]
    assert [(o.reason, dict(o.properties)) for o in told] == [("CAPPED", {"detail": "one"})] * 2
    assert sim.run().state.name == "COMPLETED", "its SMS was capped as well"
    assert sim.run().steps["welcome"]["reason"] == "CAPPED"


def test_there_is_room_again_when_the_period_is_over():
    sim = capped(TWO)
    sim.track("u", "Go a")
    sim.now += HOUR
    sim.track("u", "Go b")
    sim.now += DAY - HOUR - 1
    sim.track("u", "Go a")
    sim.now += 1
    sim.track("u", "Go b")
    sim.track("u", "Go b")
    assert states(sim) == ["SENDING", "SENDING", "SUPPRESSED", "SENDING", "SUPPRESSED"]


def test_what_is_transactional_is_neither_capped_nor_counted():
    sim = capped(Cap("all", 1, DAY), purpose=Purpose.TRANSACTIONAL)
    for _ in range(3):
        sim.track("u", "Go a")
    assert states(sim) == ["SENDING"] * 3
    assert sim.profile("u").passes == {}


def test_a_cap_is_about_its_channels_topics_and_purposes():
    texts = Cap("texts", 1, DAY, channels=frozenset({Channel.SMS}))
    assert texts.covers(Channel.SMS, "", Purpose.PRODUCT)
    assert not texts.covers(Channel.EMAIL, "", Purpose.PRODUCT)
    news = Cap("news", 1, DAY, topics=frozenset({"news"}))
    assert news.covers(Channel.EMAIL, "news", Purpose.MARKETING)
    assert not news.covers(Channel.EMAIL, "tips", Purpose.MARKETING)
    assert not TWO.covers(Channel.EMAIL, "", Purpose.PRODUCT)
    assert not Cap("all", 1, DAY).covers(Channel.EMAIL, "", Purpose.TRANSACTIONAL)


def test_the_tightest_of_several_caps_counts():
    sim = capped(Cap("wide", 5, DAY), Cap("texts", 1, DAY, frozenset({Channel.SMS})),
                 steps=(sms(),))  # fmt: skip
    sim.track("u", "Go a")
    sim.track("u", "Go b")
    assert last(sim).detail == "texts"
    assert len(sim.profile("u").passes["cap:wide"]) == 1, "what was not sent counts nowhere"


def test_what_never_became_a_message_does_not_count():
    sim = capped(Cap("one", 1, DAY), steps=(email(subject="{{ traits.missing }}"),))
    sim.track("u", "Go a")
    assert last(sim).reason == "TEMPLATE_ERROR"
    assert sim.profile("u").passes == {}


def test_a_message_that_fails_later_stays_counted():
    """The provider may have told somebody; two instead of none is the worse mistake."""
    sim = capped(Cap("one", 1, DAY))
    sim.track("u", "Go a")
    sim.answer(Refused("BOUNCED", "no such box"))
    sim.track("u", "Go b")
    assert states(sim) == ["UNDELIVERABLE", "SUPPRESSED"]


def test_another_attempt_is_not_counted_again():
    sim = capped(TWO)
    sim.track("u", "Go a")
    message = sim.sent[0]
    sim.state.messages[message.message_id] = message._replace(
        state=MessageState.RETRYING, due_us=sim.now + 1
    )
    sim.advance(1)
    assert last(sim).attempt == 2
    assert len(sim.profile("u").passes["cap:daily"]) == 1


def test_two_who_become_one_have_had_what_both_had():
    sim = capped(Cap("three", 3, DAY))
    contact = {"email": "a@example.com", "first_name": "A"}
    sim.event(Event("i", EventType.IDENTIFY, anonymous_id="a", traits=contact))
    for number in range(2):
        sim.event(Event(f"a{number}", EventType.TRACK, anonymous_id="a", name="Go a"))
    sim.track("u", "Go a")
    sim.event(Event("alias", EventType.ALIAS, user_id="u", previous_id="a"))
    sim.track("u", "Go b")
    assert states(sim) == ["SENDING"] * 3 + ["SUPPRESSED"]
