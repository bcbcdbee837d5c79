"""What reaches a reviewer: their hours, their addresses, their choices; not those of the person."""

from datetime import time

import pytest

from tests.asking import (
    BOSS,
    FINANCE,
    MAIL,
    PAY,
    REQUEST,
    ROUTED,
    Room,
    asking,
    paying,
    propose,
    proposed,
    room,
)
from tests.sim import DAY, HOUR, MINUTE, START
from upshotd.domain import addresses
from upshotd.domain.caps import Cap
from upshotd.domain.consent import Topic
from upshotd.domain.definitions import Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.fetching import Fetched
from upshotd.domain.message import Accepted, Channel, Email, Purpose, Refused, Sms, Unknown
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.routing import Method, Route
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import Approve, ReviewerLevel
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.stimulus import EraseRequested, PreferenceSet, SuppressionSet
from upshotd.domain.values import replace
from upshotd.domain.window import Window

ANN, BEN = "ann@example.com", "ben@example.com"
BOUNCED = Refused("BOUNCED", "no such box")
BOTH = ["REQUEST ann", "REQUEST ben"]
#: START is at midnight in UTC.
DAYTIME = Policy(hours={Purpose.PRODUCT: Window(time(8), time(20))})
TOKYO, ALASKA = "Asia/Tokyo", "America/Anchorage"
EVERYWHERE = replace(ROUTED, routing=Route(Method.ALL, (Channel.EMAIL, Channel.SMS)))


def at_night(kind: Approve = PAY, at_us: int = START, **zones: str) -> Room:
    """Return a workspace where Pia proposes at midnight; people in other zones have their own."""
    made = room(paying(kind), policy=DAYTIME)
    made.now = at_us
    for name, zone in zones.items():
        made.identify(name, timezone=zone)
    propose(made)
    return made


# -- quiet hours ---------------------------------------------------------------------------------


def test_who_sleeps_is_asked_in_the_morning_and_has_the_approval_until_then() -> None:
    room = at_night()
    assert (room.got, room.ends) == ([], [])
    room.advance(4 * HOUR - 1)
    assert room.approval.level == 1, "nobody is out of reach who only sleeps"
    room.advance(4 * HOUR)
    assert room.got == []
    room.advance(1)
    assert sorted(room.got) == ["REQUEST ann", "REQUEST ben", "REQUEST cem"]


def test_it_is_the_night_of_the_reviewer_not_of_the_person() -> None:
    assert at_night(pia=TOKYO).got == []  # 09:00 there
    assert at_night(ann=TOKYO).got == ["REQUEST ann"]
    room = at_night(ann=TOKYO, ben=ALASKA)  # 15:00 there
    assert room.got == BOTH
    assert room.approve("ben").state.name == "RECORDED"


def test_the_time_of_a_level_goes_on_in_its_night() -> None:
    """Who is awake elsewhere is asked, though those before have seen nothing yet."""
    room = at_night(cem=TOKYO)
    room.advance(4 * HOUR)
    assert room.got == ["REQUEST cem"]
    assert room.approve("cem").state.name == "RECORDED"
    room.advance(DAY)
    assert room.got == ["REQUEST cem"], "who was to be asked in the morning is not any more"


def test_whoever_was_put_off_is_reminded_from_when_they_were_asked() -> None:
    """Reminders that were due in the night came all at once after the request."""
    room = at_night(replace(PAY, levels=(BOSS,), reminders_us=(HOUR, 3 * HOUR)))
    room.advance(9 * HOUR - 1)
    assert room.got == ["REQUEST cem"]
    room.advance(1)
    assert room.got == ["REQUEST cem", "REMINDER cem"]
    room.advance(2 * HOUR - 1)
    assert len(room.got) == 2
    room.advance(1)
    assert len(room.got) == 3


def test_of_the_reminders_of_a_night_one_comes_in_the_morning() -> None:
    kind = replace(PAY, levels=(BOSS,), reminders_us=(HOUR, 3 * HOUR, 6 * HOUR))
    room = at_night(kind, START + 19 * HOUR + 30 * MINUTE)
    assert room.got == ["REQUEST cem"]
    room.advance(12 * HOUR)
    assert room.got == ["REQUEST cem"]
    room.advance(DAY - HOUR)
    assert room.got == ["REQUEST cem", "REMINDER cem"]


def test_the_context_is_asked_again_before_what_was_put_off_goes_out() -> None:
    """The balance of the evening stood in the request of the morning."""
    summary = "Pay of {{ steps.ok.data.balance }}?"
    context = FetchStep("https://a.example/balance")
    room = at_night(replace(PAY, levels=(BOSS,), context=context, summary=summary))
    room.fetched(Fetched({"balance": 900}), room.fetches[0])
    assert room.approval.summary == "Pay of 900?"
    room.advance(8 * HOUR)
    assert room.got == []
    room.fetched(Fetched({"balance": 5}))
    assert isinstance(room.last("cem").content, Email)
    assert room.last("cem").content.subject == "REQUEST: Pay of 5?"


def test_an_answer_waits_for_the_morning_and_a_notice_does_not() -> None:
    room = at_night(replace(PAY, notice=REQUEST), START + 19 * HOUR)
    room.advance(2 * HOUR)
    room.tell("ann", EngagementKind.ASKED, body="why?")
    room.tell("ann", EngagementKind.ANSWERED, body="broken")
    assert room.got == BOTH
    room.approve("ann")
    assert room.got == [*BOTH, "NOTICE ann", "NOTICE ben"]
    room.advance(DAY)
    assert len(room.got) == 4, "an answer is of no use after the decision"


def test_an_answer_that_was_put_off_comes_in_the_morning() -> None:
    room = at_night(replace(PAY, levels=(BOSS,)), START + 19 * HOUR)
    room.advance(2 * HOUR)
    room.tell("cem", EngagementKind.ASKED, body="why?")
    room.tell("cem", EngagementKind.ANSWERED, body="broken")
    room.advance(11 * HOUR - 1)
    assert room.got == ["REQUEST cem"]
    room.advance(1)
    assert room.got == ["REQUEST cem", "ANSWER cem"]


def test_who_is_erased_in_the_night_is_not_asked_in_the_morning() -> None:
    room = at_night(replace(PAY, levels=(BOSS, FINANCE)))
    room.do(EraseRequested((IdKind.USER, "cem")))
    room.advance(8 * HOUR)
    assert room.got == BOTH


def test_an_approval_may_end_before_the_morning() -> None:
    room = at_night(replace(PAY, timeout_us=2 * HOUR))
    room.advance(DAY)
    assert (room.got, room.ends) == ([], ["TIMED_OUT TIMED_OUT"])


# -- routes --------------------------------------------------------------------------------------


def test_where_the_mail_bounces_the_reviewer_is_asked_by_text() -> None:
    room = proposed(asking(ROUTED), says={ANN: BOUNCED})
    assert room.got == ["REQUEST ann", "REQUEST ann by text", "REQUEST ben"]
    room.approve("ann")
    assert room.approval.decided_by == "ann"


@pytest.mark.parametrize("kind", [EngagementKind.BOUNCED, EngagementKind.UNDELIVERED])
def test_so_they_are_where_it_bounces_after_it_was_taken(kind: EngagementKind) -> None:
    """The approval waited for a reviewer whose request had bounced, though there was a number."""
    room = proposed(asking(ROUTED))
    room.advance(HOUR)
    room.tell("ann", kind)
    room.tell("ben", kind)
    assert room.got[2:] == ["REQUEST ann by text", "REQUEST ben by text"]
    assert room.approval.level == 1
    for name in ("ann", "ben"):
        room.tell(name, kind)
    assert room.got[4:] == ["REQUEST cem"], "nobody of the first level is left"


def test_a_bounce_that_came_before_the_answer_of_the_provider_takes_the_next_channel_once() -> None:
    room = proposed(asking(ROUTED), says={ANN: None})
    room.engage("", EngagementKind.BOUNCED, provider="smtp", provider_message_id="theirs")
    room.settle(room.of("ann")[0], Accepted("theirs"))
    assert room.got == ["REQUEST ann", "REQUEST ben", "REQUEST ann by text"]
    assert room.states("ann") == ["UNDELIVERABLE BOUNCED", "ACCEPTED"]


def test_the_reminder_of_one_whose_mail_bounced_counts_from_the_text() -> None:
    room = proposed(asking(ROUTED, levels=(BOSS,), reminders_us=(HOUR,)))
    room.advance(HOUR - MINUTE)
    room.tell("cem", EngagementKind.BOUNCED)
    room.advance(HOUR - MINUTE)
    assert room.got == ["REQUEST cem", "REQUEST cem by text"]
    room.advance(MINUTE)
    assert len(room.got) == 3


def test_who_was_reminded_by_mail_is_not_reminded_again_by_text() -> None:
    room = proposed(asking(ROUTED, levels=(BOSS,), reminders_us=(HOUR,)))
    room.advance(2 * HOUR)
    room.engage(room.of("cem")[0].message_id, EngagementKind.BOUNCED)
    room.advance(DAY)
    assert room.got == ["REQUEST cem", "REMINDER cem", "REQUEST cem by text"]


def test_a_text_of_the_night_waits_for_the_morning() -> None:
    room = at_night(asking(ROUTED, levels=(BOSS,)), START + 19 * HOUR)
    room.advance(2 * HOUR)
    room.tell("cem", EngagementKind.BOUNCED)
    assert (room.got, room.ends) == (["REQUEST cem"], [])
    room.advance(11 * HOUR)
    assert room.got == ["REQUEST cem", "REQUEST cem by text"]


def test_what_may_have_come_is_not_said_again_on_another_channel() -> None:
    room = proposed(asking(ROUTED, levels=(BOSS,)), says={"cem@example.com": Unknown("cut off")})
    room.advance(HOUR)
    assert room.got == ["REQUEST cem"]
    assert room.ends == ["TIMED_OUT UNREACHABLE"]


def test_a_request_of_which_nothing_is_known_is_sent_again_where_that_is_wanted() -> None:
    resent = replace(REQUEST, on_unknown=OnUnknown.RESEND)
    room = proposed(asking(resent, levels=(BOSS,)), says={"cem@example.com": Unknown("cut off")})
    del room.says["cem@example.com"]
    room.advance(HOUR)
    assert room.states("cem") == ["ACCEPTED"]
    assert room.last("cem").possible_duplicate


def test_a_channel_that_cannot_reach_a_reviewer_is_passed_over() -> None:
    made = room(paying(asking(ROUTED)))
    made.identify("ann", email=None)
    propose(made)
    assert made.got == ["REQUEST ann by text", "REQUEST ben"]
    assert len(made.of("ann")) == 1
    made.identify("ann", email="new@example.com")
    made.tell("ann", EngagementKind.UNDELIVERED)
    assert made.got[2:] == [], "what becomes possible later would come twice"


def test_one_of_two_channels_is_enough() -> None:
    room = proposed(asking(EVERYWHERE, levels=(BOSS,)))
    assert room.got == ["REQUEST cem", "REQUEST cem by text"]
    room.engage(room.of("cem")[0].message_id, EngagementKind.BOUNCED)
    assert not room.ends
    room.engage(room.of("cem")[1].message_id, EngagementKind.UNDELIVERED)
    assert room.ends == ["TIMED_OUT UNREACHABLE"]


def test_who_has_got_a_reminder_is_not_lost_with_the_request() -> None:
    """The request bounced days later, when another address had got the reminder."""
    room = proposed(replace(PAY, levels=(BOSS,), reminders_us=(HOUR,), notice=REQUEST))
    room.identify("cem", email="new@example.com")
    room.advance(HOUR)
    request, reminder = room.of("cem")
    room.engage(request.message_id, EngagementKind.BOUNCED)
    assert not room.ends
    room.engage(reminder.message_id, EngagementKind.APPROVED)
    assert room.got == ["REQUEST cem", "REMINDER cem", "NOTICE cem"]


# -- choices, caps, texts ------------------------------------------------------------------------


def with_topic(room: Room) -> None:
    topic = Topic("money")
    room.definitions = replace(room.definitions, topics={"money": topic})


def test_it_is_the_reviewers_choice_that_counts_and_not_that_of_the_person() -> None:
    made = room(paying(topic="money"))
    with_topic(made)
    made.do(PreferenceSet((IdKind.USER, "ann"), "money", wanted=False))
    made.do(PreferenceSet((IdKind.USER, "pia"), "money", wanted=False))
    propose(made)
    assert made.states("ann") == ["SUPPRESSED OPTED_OUT"]
    assert made.states("ben") == ["ACCEPTED"]


def test_where_all_of_a_level_want_none_of_it_the_next_one_is_asked_at_once() -> None:
    made = room(paying(topic="money"))
    with_topic(made)
    for name in ("ann", "ben"):
        made.do(PreferenceSet((IdKind.USER, name), "money", wanted=False))
    propose(made)
    assert made.got == ["REQUEST cem"]


def test_an_address_on_the_list_gets_no_request() -> None:
    made = room(paying())
    held = Suppression(Channel.EMAIL, reason="SUPPRESSED")
    made.do(SuppressionSet(held, addresses.key(Channel.EMAIL, ANN), held=True))
    propose(made)
    assert made.states("ann") == ["SUPPRESSED SUPPRESSED"]
    assert made.got == ["REQUEST ben"]


def test_whoever_unsubscribes_by_a_request_holds_back_from_themselves_alone() -> None:
    room = proposed(replace(PAY, reminders_us=(HOUR,)))
    room.tell("ann", EngagementKind.UNSUBSCRIBED)
    room.advance(HOUR)
    assert room.got[2:] == ["REMINDER ben"]
    held = {who for who, rows in room.state.suppressions.items() if rows}
    assert held == {room.profile("ann").profile_id}
    assert room.engage(room.of("ann")[0].message_id, EngagementKind.APPROVED).reason == ""


def test_an_address_that_came_a_moment_ago_is_looked_up_first() -> None:
    """There is a suppression list, and the address of a reviewer is not loaded with it."""
    made = room(paying(replace(PAY, levels=(BOSS,))))
    made.state.addresses = set()
    propose(made)
    assert (made.got, made.ends) == ([], [])
    assert made.run().due_us == made.now
    made.state.addresses = None
    made.advance(0)
    assert made.got == ["REQUEST cem"]


def test_requests_count_against_the_cap_of_the_reviewer() -> None:
    cap = Cap("daily", 1, DAY)
    made = room(paying(replace(PAY, reminders_us=(HOUR,))), policy=Policy(caps=(cap,)))
    propose(made)
    assert made.profile("pia").passes == {}
    assert len(made.profile("ann").passes["cap:daily"]) == 1
    made.advance(HOUR)
    assert made.states("ann") == ["ACCEPTED", "SUPPRESSED CAPPED"]
    made.track("ben", "Pay", properties={"amount": 1})
    assert made.states("ann")[2:] == ["SUPPRESSED CAPPED"]
    assert made.got == [*BOTH, "REQUEST cem"]


def test_one_reviewer_whose_text_fails_does_not_keep_the_others() -> None:
    text = "{{ reviewer.traits.greeting }} Pay?"
    request = Send(Channel.SMS, (Sms(text),))
    made = room(paying(asking(request)))
    made.identify("ben", greeting="Hi Ben.")
    propose(made)
    assert made.states("ann") == ["UNDELIVERABLE TEMPLATE_ERROR"]
    assert made.got == ["REQUEST ben by text"]
    assert made.last("ben").content == Sms("Hi Ben. Pay?")


def test_where_the_text_fails_for_everybody_nobody_was_asked() -> None:
    room = proposed(asking(Send(Channel.EMAIL, (MAIL._replace(subject="{{ event.no.such }}"),))))
    assert (room.got, room.ends) == ([], ["TIMED_OUT UNREACHABLE"])


def test_a_template_that_is_not_there_fails_as_one_that_is_wrong() -> None:
    room = proposed(asking(Send(Channel.EMAIL, (), template_id="none")))
    assert room.states("ann") == ["UNDELIVERABLE TEMPLATE_ERROR"]
    assert room.ends == ["TIMED_OUT UNREACHABLE"]


def test_each_reviewer_reads_of_themselves_and_of_the_person() -> None:
    text = "{{ reviewer.user_id }} {{ profile.user_id }} {{ approval.level }}"
    room = proposed(asking(Send(Channel.SMS, (Sms(text),))))
    room.advance(4 * HOUR)
    found = [room.last(name).content for name in ("ann", "ben", "cem")]
    assert found == [Sms("ann pia 1"), Sms("ben pia 1"), Sms("cem pia 2")]


# -- the person decides themselves ---------------------------------------------------------------


def test_a_person_may_be_asked_about_themselves() -> None:
    room = proposed(replace(PAY, levels=(ReviewerLevel(user_ids=("{{ profile.user_id }}",)),)))
    assert room.got == ["REQUEST pia"]
    room.advance(HOUR)
    room.tell("pia", EngagementKind.APPROVED)
    assert room.approval.decided_by == "pia"


def test_a_reviewer_may_be_named_by_an_anonymous_id_later() -> None:
    room = proposed(replace(PAY, levels=(BOSS,)))
    link = Event("i", EventType.IDENTIFY, user_id="cem", anonymous_id="a", traits={"x": 1})
    before = Event("t", EventType.TRACK, anonymous_id="a", name="Seen")
    room.event(before)
    room.event(link)
    room.approve("cem")
    assert room.approval.decided_by == "cem"
