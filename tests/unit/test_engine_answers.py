"""Answers to text messages, by the number they come from: whose they are, and what they change."""

import pytest

from tests.flows import delay, sms, track, wait_engagement
from tests.sim import DAY, MINUTE, Sim
from upshotd.domain import addresses
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Accepted, Channel, MessageState, Refused, Unknown
from upshotd.domain.outcome import Engagement, EngagementKind, OutcomeKind
from upshotd.domain.profile import Suppression
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import (
    EngagementArrived,
    EngagementResult,
    EngagementState,
    EraseRequested,
)
from upshotd.domain.workflow import Reentry, ReentryMode, Step

REPLIED = EngagementKind.REPLIED
PHONE, OTHER = "+15550001", "+15550002"
HELD = Suppression(Channel.SMS)


def texting(*after: Step) -> Sim:
    """Return a workflow that sends ana a text message as often as she goes."""
    sim = Sim([track("Go", sms("text"), *after, reentry=Reentry(ReentryMode.ALWAYS))])
    sim.identify("ana", phone=PHONE)
    return sim


def asking() -> Sim:
    """Return a workflow that asks, and sends once more if it was answered."""
    return texting(
        wait_engagement("answer", "text", (REPLIED,), timeout=DAY, on_match=(sms("thanks"),)),
        delay("rest", DAY),
    )


def answer(sim: Sim, body: str, number: str = PHONE, **more: object) -> EngagementResult:
    sim.counter += 1
    engagement = Engagement(
        str(more.pop("engagement_id", f"answer-{sim.counter}")),
        REPLIED,
        sim.now,
        recipient=addresses.key(Channel.SMS, number),
        data={"body": body, **more},
    )
    result = sim.do(EngagementArrived(engagement))
    assert isinstance(result, EngagementResult)
    return result


def sent(sim: Sim, user_id: str = "ana") -> str:
    """Let a text message go to a person; return its id."""
    sim.track(user_id, "Go")
    return sim.answer().message_id


def reason(sim: Sim, owner: str) -> str:
    held = sim.state.suppressions.get(owner, {}).get(HELD.scope)
    return held.reason if held is not None else ""


def listed(sim: Sim, number: str = PHONE) -> str:
    return reason(sim, addresses.key(Channel.SMS, number))


# -- whose it is ---------------------------------------------------------------------------------


def test_an_answer_is_about_the_newest_message_to_the_number():
    sim = asking()
    first, second = sent(sim), sent(sim)
    result = answer(sim, "yes please")
    assert (result.state, result.message_id) == (EngagementState.RECORDED, second)
    assert "replied" not in sim.state.messages[first].facts
    assert [m.step_id for m in sim.sent] == ["thanks"], "one of the two runs goes on"
    (replied,) = [o for o in sim.outcomes if o.kind is OutcomeKind.MESSAGE_REPLIED]
    assert replied.properties == {"body": "yes please"}


def test_what_no_provider_has_taken_is_not_what_was_answered():
    """An answer by number proves nothing about a message that is on its way."""
    sim = asking()
    first = sent(sim)
    for result in (None, Unknown("cut"), Refused("PROVIDER_ERROR")):
        sim.track("ana", "Go")
        if result is not None:
            sim.answer(result)
        assert answer(sim, "fine").message_id == first
    states = [message.state for message in sim.state.messages.values()]
    assert states.count(MessageState.ACCEPTED) == 1


def test_an_answer_counts_once():
    sim = asking()
    sent(sim)
    answer(sim, "yes please", engagement_id="SM1")
    assert answer(sim, "yes please", engagement_id="SM1").state is EngagementState.DUPLICATE
    assert answer(sim, "yes please", engagement_id="SM2").state is EngagementState.RECORDED


def test_an_answer_to_nobody_is_refused():
    sim = asking()
    for words in ("HELP", "who is this?"):
        result = answer(sim, words)
        assert (result.state, result.reason) == (EngagementState.REJECTED, "UNKNOWN_MESSAGE")
        assert sim.changes.empty


def test_an_answer_long_after_the_end_is_a_fact_of_that_message():
    sim = texting()
    message_id = sent(sim)
    assert not sim.run().active
    sim.advance(300 * DAY)
    result = answer(sim, "sorry, I was away")
    assert (result.message_id, result.resumed) == (message_id, ())
    assert sim.kinds[-1] == "MESSAGE_REPLIED"
    answer(sim, "STOP")
    sim.track("ana", "Go")
    assert not sim.sent


def test_the_answer_of_a_number_that_went_to_somebody_else_is_theirs_once_they_were_written_to():
    sim = texting()
    anas = sent(sim)
    sim.identify("ana", phone=OTHER)
    sim.identify("ben", phone=PHONE)
    assert answer(sim, "who is this?").message_id == anas, "all that went to it was ana's"
    bens = sent(sim, "ben")
    assert answer(sim, "STOP").message_id == bens
    assert reason(sim, sim.profile("ben").profile_id) == "STOP"
    assert reason(sim, sim.profile("ana").profile_id) == ""
    assert sent(sim), "ana has another number"


def test_a_stop_from_a_number_of_old_holds_back_from_the_person_and_the_number():
    """Who says it may be its new owner: it costs ana too much, not too little."""
    sim = texting()
    sent(sim)
    sim.identify("ana", phone=OTHER)
    answer(sim, "STOP")
    assert (reason(sim, sim.profile("ana").profile_id), listed(sim)) == ("STOP", "STOP")
    assert listed(sim, OTHER) == ""


def test_the_stop_of_a_person_who_is_part_of_another_by_now_is_that_other_one_s():
    sim = texting()
    sim.event(Event("i", EventType.IDENTIFY, "", "anon", traits={"phone": OTHER}))
    sim.event(Event("g", EventType.TRACK, "", "anon", name="Go"))
    sim.answer()
    sim.event(Event("l", EventType.TRACK, "ana", "anon", name="Signed In"))
    answer(sim, "STOP", OTHER)
    assert reason(sim, sim.state.identities[IdKind.USER, "ana"]) == "STOP"
    sim.track("ana", "Go")
    assert not sim.sent


def test_an_answer_in_the_batch_of_an_erasure_is_to_nobody():
    sim = texting()
    sent(sim)
    sim.do(EraseRequested((IdKind.USER, "ana")))
    assert answer(sim, "hello?").reason == "UNKNOWN_MESSAGE"
    assert answer(sim, "STOP").state is EngagementState.RECORDED


def test_a_number_that_is_listed_by_its_hash_stays_listed_by_it():
    sim = texting()
    key = addresses.key(Channel.SMS, PHONE)
    stop = Suppression(Channel.SMS, reason="STOP")
    sim.state.suppressions[addresses.hidden(key)] = {HELD.scope: stop}
    answer(sim, "STOP")
    assert key not in sim.state.suppressions
    answer(sim, "START")
    assert sent(sim)


# -- STOP, START, HELP ---------------------------------------------------------------------------


def test_stop_and_help_are_recorded_and_meet_no_wait():
    sim = asking()
    message_id = sent(sim)
    for word in ("HELP", "STOP"):
        result = answer(sim, word)
        assert (result.state, result.message_id) == (EngagementState.RECORDED, message_id)
        assert result.resumed == ()
        assert sim.outcomes[-1].properties == {"body": word, "keyword": word}
    sim.advance(DAY)
    assert "timed_out" in sim.whats()
    assert "MESSAGE_IGNORED" not in sim.kinds, "somebody has said something"


def test_a_wait_that_comes_later_does_not_take_a_stop_for_an_answer():
    sim = texting(
        delay("later", MINUTE), wait_engagement("answer", "text", (REPLIED,), timeout=MINUTE)
    )
    sent(sim)
    answer(sim, "help")
    sim.advance(DAY)
    assert "timed_out" in sim.whats()


def test_yes_is_an_answer_and_lifts_a_stop():
    sim = asking()
    sent(sim)
    answer(sim, "STOP")
    result = answer(sim, "Yes!")
    assert result.resumed
    assert sim.outcomes[-1].properties == {"body": "Yes!", "keyword": "START"}
    assert [m.step_id for m in sim.sent] == ["thanks"]


def test_stop_counts_for_a_number_that_nobody_was_sent_anything_at():
    sim = texting()
    result = answer(sim, "STOP", engagement_id="SM1")
    assert (result.state, result.message_id) == (EngagementState.RECORDED, "")
    assert listed(sim) == "STOP"
    assert addresses.LIST in sim.changes.profiles, "sends that were decided without it are refused"
    sim.track("ana", "Go")
    assert not sim.sent
    assert answer(sim, "STOP", engagement_id="SM1").state is EngagementState.DUPLICATE
    assert answer(sim, "start").state is EngagementState.RECORDED
    assert listed(sim) == ""
    assert sent(sim)


def test_a_start_that_changes_nothing_is_remembered_all_the_same():
    """Told again, after a STOP, it would lift that."""
    sim = texting()
    answer(sim, "START", engagement_id="SM1")
    assert not sim.changes.empty
    answer(sim, "STOP")
    assert answer(sim, "START", engagement_id="SM1").state is EngagementState.DUPLICATE
    assert listed(sim) == "STOP"


@pytest.mark.parametrize("stronger", ["SUPPRESSED", "COMPLAINED"])
@pytest.mark.parametrize("known", [True, False])
def test_start_lifts_neither_a_complaint_nor_what_was_listed_by_hand_also_after_a_stop(
    stronger: str, known: bool
):
    sim = texting()
    if known:
        sent(sim)
    sim.state.suppressions[addresses.key(Channel.SMS, PHONE)] = {
        HELD.scope: Suppression(Channel.SMS, reason=stronger)
    }
    for word in ("START", "STOP", "START"):
        answer(sim, word)
        assert listed(sim) == stronger
    sim.track("ana", "Go")
    assert not sim.sent


def test_start_lifts_no_bounce_and_a_bounce_takes_no_stop_away():
    """Of both the STOP is kept: the bounce may be taken off the list by hand."""
    sim = texting()
    message_id = sent(sim)
    sim.engage(message_id, EngagementKind.BOUNCED)
    answer(sim, "START")
    assert listed(sim) == "BOUNCED"
    answer(sim, "STOP")
    assert listed(sim) == "STOP", "a number that texts is not dead"
    sim.engage(message_id, EngagementKind.BOUNCED)
    assert listed(sim) == "STOP"
    sim.engage(message_id, EngagementKind.COMPLAINED)
    assert listed(sim) == "COMPLAINED"


def test_a_stop_outlasts_a_pause():
    sim = texting()
    sent(sim)
    owner = sim.profile("ana").profile_id
    until = sim.now + MINUTE
    sim.state.suppressions[owner] = {
        HELD.scope: Suppression(Channel.SMS, until_us=until, reason="SUPPRESSED")
    }
    answer(sim, "STOP")
    assert reason(sim, owner) == "STOP"


def test_a_stop_and_the_answer_of_the_provider_in_one_batch():
    """The message was on its way when the batch was loaded: what was taken since is found."""
    sim = asking()
    sim.track("ana", "Go")
    assert answer(sim, "fine").state is EngagementState.REJECTED
    (message,) = sim.sent
    sim.settle(message, Accepted("p-1"))
    assert answer(sim, "fine").message_id == message.message_id
