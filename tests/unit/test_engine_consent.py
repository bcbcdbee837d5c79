"""Who wants what: topics and their defaults, choices, channels, STOP and START."""

import pytest

from tests.flows import delay, track
from tests.sim import DAY, Sim
from upshotd.domain.consent import Keyword, Preference, Topic, TopicDefault, keyword, preference
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel, Email, MessageState, Sms
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.state import IdKind
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.stimulus import PreferenceResult, PreferenceSet
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode, Step

IN, OUT, REQUIRED = TopicDefault
EMAIL, SMS = Channel.EMAIL, Channel.SMS
ANA = (IdKind.USER, "ana")


def about(topic: str, default: TopicDefault | None, *before: Step) -> Sim:
    """Return a workflow on both channels about a topic; None does not define it."""
    both = Route(Method.ALL, (EMAIL, SMS))
    send = Step("tell", Send(both, (Email("Hi", text="Hi"), Sms("Hi"))))
    always = Reentry(ReentryMode.ALWAYS)
    sim = Sim([track("Go", *before, send, delay(), topic=topic, reentry=always)])
    if default is not None:
        topics = {topic: Topic(topic, default=default)}
        sim.definitions = replace(sim.definitions, topics=topics)
    sim.identify("ana", email="ana@example.com", phone="+15550001")
    return sim


def choose(sim: Sim, wanted: bool | None = None, off: set[Channel] | None = None) -> str:
    channels = None if off is None else frozenset(off)
    answer = sim.do(PreferenceSet(ANA, "news", wanted, channels))
    assert isinstance(answer, PreferenceResult)
    return answer.reason


def go(sim: Sim) -> list[str]:
    """Return what a run sends, and why it does not send."""
    before = len(sim.outcomes)
    sim.track("ana", "Go")
    sent = [message.channel.name for message in sim.sent]
    while sim.sent:
        sim.answer()
    held = [f"{o.channel.name} {o.reason}" for o in sim.outcomes[before:] if o.reason]
    return sent + held


BOTH = ["EMAIL", "SMS"]


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        (None, BOTH),
        (IN, BOTH),
        (OUT, ["EMAIL NOT_OPTED_IN", "SMS NOT_OPTED_IN"]),
        (REQUIRED, BOTH),
    ],
)
def test_who_has_not_chosen_gets_what_the_topic_says(
    default: TopicDefault | None, expected: list[str]
):
    assert go(about("news", default)) == expected


def test_a_choice_counts_from_then_on_and_can_be_taken_back():
    sim = about("news", IN)
    assert choose(sim, wanted=False) == ""
    assert go(sim) == ["EMAIL OPTED_OUT", "SMS OPTED_OUT"]
    assert choose(sim, wanted=True) == ""
    assert go(sim) == BOTH


def test_who_asks_for_it_gets_what_is_off_by_default():
    sim = about("news", OUT)
    choose(sim, wanted=True)
    assert go(sim) == BOTH
    choose(sim, wanted=False)
    assert go(sim) == ["EMAIL OPTED_OUT", "SMS OPTED_OUT"]


def test_channels_are_chosen_by_topic():
    sim = about("news", IN)
    choose(sim, off={SMS})
    assert go(sim) == ["EMAIL", "SMS CHANNEL_OFF"]
    choose(sim, off=set())
    assert go(sim) == BOTH
    other = about("orders", IN)
    other.state.suppressions.update(sim.state.suppressions)
    assert go(other) == BOTH


def test_nobody_opts_out_of_what_is_required():
    sim = about("news", REQUIRED)
    assert choose(sim, wanted=False) == "TOPIC_REQUIRED"
    sim.track("ana", "Go")
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.UNSUBSCRIBED)
    while sim.sent:
        sim.answer()
    assert go(sim) == BOTH
    sim.engage(message.message_id, EngagementKind.COMPLAINED)
    assert go(sim) == ["SMS", "EMAIL COMPLAINED"], "a complaint is about the channel"


def test_a_topic_that_nobody_defined_is_no_choice():
    sim = about("news", None)
    assert choose(sim, wanted=False) == "UNKNOWN_TOPIC"
    assert sim.changes.empty


def test_an_unsubscription_takes_the_opt_in_back_and_a_resubscription_gives_it():
    sim = about("news", OUT)
    choose(sim, wanted=True)
    sim.track("ana", "Go")
    message = sim.answer()
    while sim.sent:
        sim.answer()
    sim.engage(message.message_id, EngagementKind.UNSUBSCRIBED)
    assert go(sim) == ["EMAIL UNSUBSCRIBED", "SMS UNSUBSCRIBED"]
    sim.engage(message.message_id, EngagementKind.RESUBSCRIBED)
    assert go(sim) == BOTH


def test_a_pause_by_a_workflow_does_not_forget_that_the_person_asked_for_it():
    pause = Step("pause_it", Suppress(topic="news", duration_us=DAY))
    sim = about("news", OUT, pause)
    choose(sim, wanted=True)
    assert go(sim) == ["EMAIL SUPPRESSED", "SMS SUPPRESSED"]
    sim.definitions = replace(
        sim.definitions, plans=about("news", OUT).definitions.plans,
        current=about("news", OUT).definitions.current,
        listening=about("news", OUT).definitions.listening,
    )  # fmt: skip
    sim.advance(DAY)
    assert go(sim) == BOTH


def test_an_opt_out_during_a_delay_stops_what_comes_after_it():
    """A peer sent the mail all the same: consent was read when the run started."""
    sim = about("news", IN, delay("first", DAY))
    sim.track("ana", "Go")
    choose(sim, wanted=False)
    sim.advance(DAY)
    assert not sim.sent
    assert {m.state for m in sim.state.messages.values()} == {MessageState.SUPPRESSED}


def test_who_chooses_before_anything_is_known_of_them_is_remembered():
    sim = about("news", IN)
    sim.state.identities.clear()
    sim.state.profiles.clear()
    choose(sim, wanted=False)
    sim.identify("ana", email="ana@example.com", phone="+15550001")
    assert go(sim) == ["EMAIL OPTED_OUT", "SMS OPTED_OUT"]


def test_of_two_who_are_one_the_opt_out_counts():
    sim = about("news", OUT)
    choose(sim, wanted=True)
    sim.event(Event("a", EventType.TRACK, "", "anon", name="Seen"))
    sim.do(PreferenceSet((IdKind.ANONYMOUS, "anon"), "news", wanted=False))
    sim.event(Event("b", EventType.TRACK, "ana", "anon", name="Signed In"))
    assert go(sim) == ["EMAIL OPTED_OUT", "SMS OPTED_OUT"]


STOP, START, HELP = Keyword.STOP, Keyword.START, Keyword.HELP


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("STOP", STOP),
        (" stop. ", STOP),
        ("'Stop'!!", STOP),
        ("stop \N{OCTAGONAL SIGN}", STOP),
        ("Stop all", STOP),
        ("stopall", STOP),
        ("Unsubscribe", STOP),
        ("CANCEL", STOP),
        ("end", STOP),
        ("Quit\n", STOP),
        ("opt-out", STOP),
        ("Opt out", STOP),
        ("revoke", STOP),
        ("stop it", None),
        ("please stop", None),
        ("Start!", START),
        ("yes", START),
        ("YES.", START),
        ("un-stop", START),
        ("yes please", None),
        ("help", HELP),
        ("INFO?", HELP),
        ("help me", None),
        ("hello", None),
        ("", None),
        ("\N{OCTAGONAL SIGN}", None),
    ],
)
def test_words_of_replies(text: str, word: Keyword | None):
    assert keyword({"body": text}) is word
    assert keyword({"text": text}) is word


def test_what_the_provider_has_understood_wins():
    """Twilio's Advanced Opt-Out knows words of other languages, and may have had STOP taken out."""
    assert keyword({"body": "arrêt", "opt_out_type": "STOP"}) is STOP
    assert keyword({"body": "STOP", "opt_out_type": "start"}) is START
    assert keyword({"body": "hilfe", "opt_out_type": "HELP"}) is HELP
    assert keyword({"body": "stop", "opt_out_type": "later"}) is STOP, "a word nobody knows"
    assert keyword({"body": "stop", "opt_out_type": 3}) is STOP
    assert keyword({"body": 3}) is None
    assert keyword({}) is None


def test_stop_holds_text_messages_back_and_start_lets_them_through():
    sim = about("news", IN)
    sim.track("ana", "Go")
    message = sim.answer(None, SMS)
    sim.answer()
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "STOP"})
    assert go(sim) == ["EMAIL", "SMS STOP"]
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "what?"})
    assert go(sim) == ["EMAIL", "SMS STOP"]
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "START"})
    assert go(sim) == BOTH


def test_what_holds_is_told_for_each_topic():
    sim = about("news", OUT)
    topic = sim.definitions.topics["news"]

    def told() -> Preference:
        held = sim.state.suppressions.get(sim.profile("ana").profile_id, {}).values()
        return preference(topic, held, sim.now)

    assert told() == Preference(topic, wanted=False, chosen=False)
    choose(sim, wanted=True, off={SMS})
    assert told() == Preference(topic, wanted=True, chosen=True, channels_off=frozenset({SMS}))
    choose(sim, wanted=False)
    assert not told().wanted
    required = Topic("news", default=REQUIRED)
    held = sim.state.suppressions[sim.profile("ana").profile_id].values()
    assert preference(required, held, sim.now).wanted
