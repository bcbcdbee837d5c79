"""Whom an approval asks and when: finding people, levels, reminders, the end of its time."""

from collections import deque

import pytest

from tests.asking import (
    BOSS,
    FINANCE,
    PAY,
    REQUEST,
    ROUTED,
    Room,
    emitting,
    propose,
    proposed,
    room,
)
from tests.sim import DAY, HOUR, MINUTE, SECOND, START
from upshotd.domain.approval import Phase
from upshotd.domain.fetching import Found, ReviewersRequest, Unfetched
from upshotd.domain.message import Deferred, Refused, SendResult
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.run import RunState
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import ApprovalDecision, ReviewerLevel
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.stimulus import EraseRequested, RunDue
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

ANN, BEN, CEM = (f"{name}@example.com" for name in ("ann", "ben", "cem"))
BOUNCED = Refused("BOUNCED", "no such box")
NOBODY = ReviewerLevel(group_id="nobody", escalate_us=HOUR)
BOTH = ["REQUEST ann", "REQUEST ben"]
BROKEN = Unfetched("INTERNAL", "the server's log says why")


def levels(*given: ReviewerLevel, **options: object) -> Room:
    return proposed(replace(PAY, levels=given), **options)


def reminding(*spans: int, **options: object) -> Room:
    return proposed(replace(PAY, reminders_us=spans), **options)


def notes(room: Room, what: str) -> list[str]:
    return [entry.detail for entry in room.run().timeline if entry.what == what]


def times(room: Room, word: str) -> list[int]:
    """Return when messages were made, from the start."""
    kinds = [m for m in room.state.messages.values() if m.ask and m.ask.value == word]
    return [message.create_us - START for message in kinds]


# -- finding people ------------------------------------------------------------------------------


def test_the_run_says_whom_it_looks_for_and_whom_it_asked() -> None:
    room = proposed()
    (fetch,) = room.fetches
    assert fetch.request == ReviewersRequest("default", "", "finance", (), 25)
    assert notes(room, "requested") == ["level 1: ann, ben"]
    (told,) = [o for o in room.outcomes if o.kind is OutcomeKind.APPROVAL_REQUESTED]
    assert (told.user_id, told.reason) == ("pia", "")
    assert told.properties == {"summary": "Pay 900?", "level": 1, "reviewers": 2}


def test_of_more_than_it_may_ask_it_says_that_there_are_more() -> None:
    made = room()
    crowd = tuple(f"r{number:02}" for number in range(30))
    for name in crowd:
        made.identify(name, email=f"{name}@example.com")
    made.groups["finance"] = crowd
    propose(made)
    assert made.got == [f"REQUEST {name}" for name in crowd[:25]]
    (said,) = notes(made, "requested")
    assert said.endswith("r24, and no more than 25 of its people")


def test_looking_for_them_is_repeated_until_it_comes_to_something() -> None:
    room = proposed(finds=deque([BROKEN, BROKEN]))
    assert room.got == []
    room.advance(2 * SECOND)
    assert len(room.fetches) == 1
    room.advance(SECOND)
    assert len(room.fetches) == 2
    room.advance(5 * SECOND)
    assert [fetch.attempt for fetch in room.fetches] == [1, 2, 3]
    assert room.got == BOTH
    assert notes(room, "asking_again") == ["INTERNAL: the server's log says why"] * 2


def test_the_pauses_in_looking_for_them_grow_and_begin_anew_with_each_level() -> None:
    room = proposed(finds=deque([BROKEN] * 1_000))
    room.advance(3 * HOUR)
    assert 25 < len(room.fetches) < 40
    room.finds = deque()
    room.advance(HOUR)
    assert room.got == BOTH
    room.finds = deque([BROKEN])
    level, before = room.approval.level_us, len(room.fetches)
    room.advance(4 * HOUR)
    (asked,) = [note for note in notes(room, "requested") if note.startswith("level 2")]
    assert asked == "level 2: cem"
    assert len(room.fetches) == before + 2
    assert room.approval.level_us == level + 4 * HOUR + 5 * SECOND // 2


def test_whoever_looked_for_them_died_and_what_comes_of_it_later_counts_no_more() -> None:
    room = proposed(finds=deque([None, None]))
    room.advance(30 * SECOND)
    first, second = room.fetches
    room.fetched(Found((room.profile("cem").profile_id,)), first)
    assert (room.got, room.approval.phase) == ([], Phase.REVIEWERS)
    room.fetched(Found((room.profile("ann").profile_id,)), second)
    room.fetched(Found((room.profile("ben").profile_id,)), second)
    assert room.got == ["REQUEST ann"]


def test_it_ends_also_where_nobody_is_ever_found_out() -> None:
    room = proposed(finds=deque([None] * 100_000))
    room.advance(2 * DAY)
    assert room.ends == ["TIMED_OUT TIMED_OUT"]


def test_who_is_erased_while_they_are_looked_for_is_not_asked() -> None:
    room = proposed(finds=deque([None]))
    ids = tuple(room.profile(name).profile_id for name in ("ann", "ben"))
    room.do(EraseRequested((IdKind.USER, "ann")))
    room.fetched(Found(ids))
    assert room.got == ["REQUEST ben"]


def test_people_are_named_by_templates_and_an_empty_one_names_nobody() -> None:
    blank, subject = "{{ traits.manager | default('') }}", "{{ profile.user_id }}"
    users = (blank, " ben ", "ben", "stranger", subject)
    room = levels(ReviewerLevel(user_ids=users))
    (fetch,) = room.fetches
    assert isinstance(fetch.request, ReviewersRequest)
    assert fetch.request.user_ids == ("ben", "stranger", "pia")
    assert room.got == ["REQUEST ben", "REQUEST pia"]
    assert notes(room, "requested") == ["level 1: ben, pia; not known: stranger"]


@pytest.mark.parametrize(
    "level",
    [
        NOBODY,
        ReviewerLevel(audience_id="gone", escalate_us=HOUR),
        ReviewerLevel(user_ids=("{{ traits.manager | default('') }}",), escalate_us=HOUR),
        ReviewerLevel(group_id="{{ traits.team.of.mine }}", escalate_us=HOUR),
    ],
)
def test_a_level_of_nobody_is_passed_at_once(level: ReviewerLevel) -> None:
    room = levels(level, BOSS)
    assert room.got == ["REQUEST cem"]
    assert notes(room, "requested") == ["level 1: nobody", "level 2: cem"]
    assert room.approval.level == 2
    (told,) = [o for o in room.outcomes if o.kind is OutcomeKind.APPROVAL_REQUESTED]
    assert (told.reason, told.properties["level"]) == ("ESCALATED", 2)


def test_a_template_that_cannot_name_them_is_said() -> None:
    room = levels(ReviewerLevel(group_id="{{ traits.team.of.mine }}", escalate_us=HOUR), BOSS)
    (said,) = notes(room, "condition_failed")
    assert said.startswith("level 1: ")


@pytest.mark.parametrize(
    ("default", "end", "event"),
    [
        (None, "TIMED_OUT", "Forgotten"),
        (ApprovalDecision.APPROVED, "APPROVED", "Paid"),
        (ApprovalDecision.DENIED, "DENIED", "Refused"),
    ],
)
def test_where_nobody_is_to_be_asked_it_ends_at_once(
    default: ApprovalDecision | None, end: str, event: str
) -> None:
    kind = replace(PAY, levels=(NOBODY, NOBODY), default=default)
    room = proposed(kind if default is None else replace(kind, on_timeout=()))
    assert (room.ends, room.emitted) == ([f"{end} NO_REVIEWERS"], [event])
    assert room.run().state is RunState.COMPLETED


# -- levels --------------------------------------------------------------------------------------


def test_who_was_asked_is_not_asked_again_with_the_next_level() -> None:
    both = ReviewerLevel(user_ids=("ann", "cem"))
    room = levels(FINANCE, both)
    room.advance(4 * HOUR)
    assert room.got == [*BOTH, "REQUEST cem"]


def test_a_level_in_which_nobody_is_new_has_no_time_of_its_own() -> None:
    room = levels(FINANCE, FINANCE, BOSS)
    room.advance(4 * HOUR - MINUTE)
    assert room.got == BOTH
    room.advance(MINUTE)
    assert room.got == [*BOTH, "REQUEST cem"]
    assert room.approval.level == 3


def test_a_level_that_cannot_be_reached_is_passed_at_once_and_at_last_it_ends() -> None:
    room = proposed(says={ANN: BOUNCED, BEN: BOUNCED, CEM: BOUNCED})
    assert room.got == [*BOTH, "REQUEST cem"]
    assert room.ends == ["TIMED_OUT UNREACHABLE"]
    assert room.run().end_us == START


def test_one_who_can_be_reached_keeps_the_level() -> None:
    room = proposed(says={ANN: BOUNCED})
    room.advance(4 * HOUR - 1)
    assert room.got == BOTH
    room.advance(1)
    assert room.got == [*BOTH, "REQUEST cem"]


@pytest.mark.parametrize("kind", [EngagementKind.BOUNCED, EngagementKind.UNDELIVERED])
def test_what_turns_out_later_not_to_have_reached_anybody_asks_the_next_level(
    kind: EngagementKind,
) -> None:
    room = proposed()
    room.advance(MINUTE)
    room.tell("ann", kind)
    assert room.got == BOTH
    room.tell("ben", kind)
    assert room.got == [*BOTH, "REQUEST cem"]
    answer = room.tell("cem", kind)
    assert answer.resumed == (room.run().run_id,)
    assert room.ends == ["TIMED_OUT UNREACHABLE"]


def test_whoever_has_read_it_was_reached_whatever_the_provider_says() -> None:
    room = levels(ReviewerLevel(user_ids=("ann",)))
    room.tell("ann", EngagementKind.ASKED, body="why?")
    room.tell("ann", EngagementKind.BOUNCED)
    assert not room.ends
    assert room.approve("ann").state.name == "RECORDED"


def test_what_nobody_knows_of_may_have_reached_them_until_it_is_given_up() -> None:
    room = proposed(says={ANN: None, BEN: None})
    room.advance(4 * MINUTE - 1)
    assert room.states("ann") == ["UNKNOWN"]
    assert room.got == BOTH
    room.advance(1)
    assert room.got == [*BOTH, "REQUEST cem"]


def test_where_all_who_were_asked_are_erased_it_goes_on() -> None:
    room = levels(ReviewerLevel(user_ids=("ann",), escalate_us=HOUR), BOSS)
    room.do(EraseRequested((IdKind.USER, "ann")))
    room.advance(HOUR)
    assert room.got == ["REQUEST ann", "REQUEST cem"]


# -- reminders -----------------------------------------------------------------------------------


def test_who_was_reached_is_reminded_and_nobody_else() -> None:
    room = reminding(HOUR, 3 * HOUR, says={BEN: BOUNCED})
    room.advance(3 * HOUR)
    assert room.got == [*BOTH, "REMINDER ann", "REMINDER ann"]
    assert times(room, "REMINDER") == [HOUR, 3 * HOUR]
    said = [detail.partition(" (")[2] for detail in notes(room, "sending")]
    assert said == ["ann)", "ben)", "ann, reminder)", "ann, reminder)"]
    room.advance(2 * DAY)
    assert room.got.count("REMINDER ann") == 2


def test_whoever_is_asked_later_is_reminded_later() -> None:
    room = reminding(HOUR)
    room.advance(DAY)
    assert room.got == [*BOTH, "REMINDER ann", "REMINDER ben", "REQUEST cem", "REMINDER cem"]
    assert times(room, "REMINDER") == [HOUR, HOUR, 5 * HOUR]


def test_the_next_level_may_be_asked_before_anybody_is_reminded() -> None:
    room = reminding(5 * HOUR)
    room.advance(5 * HOUR)
    assert room.got[2:] == ["REQUEST cem", "REMINDER ann", "REMINDER ben"]


def test_a_reminder_and_the_next_level_may_come_at_the_same_instant() -> None:
    room = reminding(4 * HOUR)
    room.advance(4 * HOUR)
    assert sorted(room.got[2:]) == ["REMINDER ann", "REMINDER ben", "REQUEST cem"]
    assert len(room.fetches) == 2, "one round for both"


def test_at_the_end_of_its_time_nobody_is_reminded_or_asked() -> None:
    room = proposed(replace(PAY, reminders_us=(2 * HOUR, 3 * HOUR), timeout_us=2 * HOUR))
    room.advance(DAY)
    assert room.got == BOTH
    at_once = proposed(replace(PAY, timeout_us=4 * HOUR))
    at_once.advance(DAY)
    assert at_once.got == BOTH


def test_a_request_that_its_provider_took_late_is_followed_up_from_then() -> None:
    """The reminder came a moment after the request that it reminds of."""
    room = reminding(HOUR, says={ANN: Deferred("busy", retry_after_us=2 * HOUR)})
    room.advance(2 * HOUR - 1)
    del room.says[ANN]
    room.advance(1 + MINUTE)
    assert room.got[2:] == ["REMINDER ben", "REQUEST ann"]
    room.advance(HOUR)
    assert times(room, "REMINDER") == [HOUR, 3 * HOUR]


def test_of_reminders_that_are_late_together_one_is_sent() -> None:
    """After an outage of six hours everybody got two at once."""
    room = reminding(HOUR, 3 * HOUR, 7 * HOUR)
    room.now += 6 * HOUR
    room.advance(0)
    assert room.got.count("REMINDER ann") == 1
    room.advance(HOUR)
    assert room.got.count("REMINDER ann") == 2


def test_a_reminder_whose_text_fails_is_lost_alone() -> None:
    text = "{% if approval.kind == 'REMINDER' %}{{ traits.no.such }}{% endif %}Pay?"
    request = replace(REQUEST, contents=(replace(REQUEST.contents[0], subject=text),))
    room = proposed(replace(PAY, request=request, reminders_us=(HOUR, 2 * HOUR)))
    room.advance(90 * MINUTE)
    assert room.states("ann") == ["ACCEPTED", "UNDELIVERABLE TEMPLATE_ERROR"]
    room.engage(room.of("ann")[0].message_id, EngagementKind.APPROVED)
    assert room.ends == ["APPROVED"]


def test_after_a_decision_nobody_is_asked_or_reminded() -> None:
    room = reminding(HOUR)
    room.approve("ann")
    room.advance(3 * DAY)
    assert room.got == BOTH


# -- the end of its time -------------------------------------------------------------------------


def late(room: Room) -> None:
    """Let its time pass while nothing of ours runs."""
    room.now += 3 * DAY


def test_who_is_found_after_the_end_is_not_asked() -> None:
    room = proposed(finds=deque([None]))
    late(room)
    room.fetched(Found((room.profile("ann").profile_id,)))
    room.advance(0)
    assert (room.got, room.ends) == ([], ["TIMED_OUT TIMED_OUT"])


def test_what_fails_after_the_end_is_not_made_up_for() -> None:
    kind = replace(PAY, request=ROUTED)
    room = proposed(kind, says={ANN: None, BEN: BOUNCED, "+15550002": BOUNCED})
    late(room)
    room.settle(room.last("ann"), BOUNCED)
    room.advance(0)
    assert room.got == ["REQUEST ann", "REQUEST ben", "REQUEST ben by text"]
    assert room.ends == ["TIMED_OUT TIMED_OUT"]


@pytest.mark.parametrize("said", [None, Deferred("busy")])
def test_a_decision_before_the_late_timer_counts_however_its_message_stands(
    said: SendResult | None,
) -> None:
    room = proposed(says={ANN: said})
    late(room)
    answer = room.approve("ann")
    assert (answer.state.name, answer.resumed) == ("RECORDED", (room.run().run_id,))
    assert room.ends == ["APPROVED"]


def test_a_timer_that_comes_twice_ends_it_once() -> None:
    room = proposed()
    late(room)
    for _ in range(2):
        room.do(RunDue(room.run().run_id))
    assert room.ends == ["TIMED_OUT TIMED_OUT"]


# -- nested --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["on_approved", "on_timeout"])
def test_the_steps_of_a_decision_may_ask_again(way: str) -> None:
    second = replace(PAY, levels=(BOSS,), on_approved=emitting("Done"), on_timeout=())
    inner = Step("any", Branch((Case("true", (Step("second", second),)),)))
    room = proposed(replace(PAY, **{way: (inner,)}))
    if way == "on_approved":
        room.approve("ann")
    else:
        room.advance(2 * DAY)
    room.approve("cem")
    assert room.emitted == ["Done"]
