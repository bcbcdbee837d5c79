"""The context of an approval: asked before each round, and never in the way of it."""

from collections import deque

import pytest

from tests.asking import BOSS, FINANCE, PAY, Room, proposed
from tests.sim import DAY, HOUR, MINUTE, SECOND, START
from upshotd.domain.approval import Phase
from upshotd.domain.fetching import Fetch, Fetched, HttpRequest, Unfetched
from upshotd.domain.message import Email
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.values import replace

BALANCE = FetchStep("https://a.example/{{ profile.user_id }}", attempts=2)
SUMMARY = "Pay of {{ steps.ok.data.balance | default('?') }}?"
STRICT = "Pay of {{ steps.ok.data.balance }}?"
SOUND = replace(PAY, context=BALANCE, summary=SUMMARY)
BUSY = Unfetched("HTTP_ERROR", "answered 503", again=True)
TOO_MUCH = Unfetched("BUSY", "too much to ask", again=True, put_off=True)
WRONG = Unfetched("HTTP_ERROR", "answered 404")
BOTH = ["REQUEST ann", "REQUEST ben"]


def asked(room: Room) -> list[Fetch]:
    """Return what was asked of the address."""
    return [fetch for fetch in room.fetches if isinstance(fetch.request, HttpRequest)]


def knows(room: Room, balance: int) -> None:
    room.fetched(Fetched({"balance": balance}), asked(room)[-1])


def subject(room: Room, name: str) -> str:
    content = room.last(name).content
    assert isinstance(content, Email)
    return content.subject


def rounds(kind: Approve = SOUND, **options: object) -> Room:
    """Return a workspace where the first level was asked with a balance of 900."""
    room = proposed(kind, **options)
    knows(room, 900)
    return room


def test_nobody_is_asked_before_its_answer_and_all_see_it() -> None:
    room = proposed(SOUND)
    assert (room.got, room.approval.phase) == ([], Phase.CONTEXT)
    (fetch,) = asked(room)
    assert fetch.request.url == "https://a.example/pia"  # type: ignore[union-attr]
    knows(room, 900)
    assert room.got == BOTH
    assert subject(room, "ann") == "REQUEST: Pay of 900?"


def test_each_round_asks_anew_and_by_another_key() -> None:
    room = rounds(replace(SOUND, reminders_us=(HOUR,)))
    room.advance(HOUR)
    assert room.got == BOTH
    knows(room, 5)
    assert room.got[2:] == ["REMINDER ann", "REMINDER ben"]
    assert subject(room, "ann") == "REMINDER: Pay of 5?"
    room.advance(3 * HOUR)
    knows(room, 7)
    assert subject(room, "cem") == "REQUEST: Pay of 7?"
    assert len({fetch.key for fetch in asked(room)}) == 3
    assert room.run().steps["ok"]["data"] == {"balance": 7}


@pytest.mark.parametrize("result", [WRONG, Unfetched("NO_OBJECT", "answered [1]")])
def test_where_it_fails_people_are_asked_all_the_same(result: Unfetched) -> None:
    room = proposed(SOUND)
    room.fetched(result)
    assert room.got == BOTH
    assert subject(room, "ann") == "REQUEST: Pay of ??"
    assert room.run().steps["ok"]["ok"] is False


def test_it_is_asked_again_after_a_pause_and_then_it_is_left_at_that() -> None:
    room = proposed(SOUND)
    room.fetched(BUSY)
    assert (room.got, len(asked(room))) == ([], 1)
    room.advance(10 * SECOND)
    first, second = asked(room)
    assert first.key == second.key
    room.fetched(BUSY, second)
    assert room.got == BOTH


def test_it_is_put_off_without_an_attempt_less_in_this_round_and_the_next() -> None:
    room = proposed(replace(SOUND, reminders_us=(HOUR,)))
    for round_ in (1, 2):
        room.fetched(TOO_MUCH, asked(room)[-1])
        room.advance(10 * SECOND)
        room.fetched(BUSY, asked(room)[-1])
        room.advance(10 * SECOND)
        knows(room, round_)
        room.advance(HOUR)
    assert [subject(room, "ann"), len(asked(room))] == ["REMINDER: Pay of 2?", 6]


def test_whoever_asked_it_died_and_nobody_waits_longer_than_for_the_attempts() -> None:
    room = proposed(SOUND)
    room.advance(MINUTE)
    assert len(asked(room)) == 2
    assert room.got == BOTH
    assert room.run().steps["ok"]["reason"] == "NO_ANSWER"


def test_in_a_later_round_the_attempts_and_their_pauses_begin_anew() -> None:
    """The pauses of the tenth attempt, minutes long, held the first one of a round up."""
    room = rounds(replace(SOUND, reminders_us=(HOUR, 2 * HOUR, 3 * HOUR)))
    for number in (1, 2, 3):
        room.advance(HOUR - room.now % HOUR)
        room.fetched(BUSY, asked(room)[-1])
        room.advance(5 * SECOND)
        knows(room, number)
    assert room.got.count("REMINDER ann") == 3
    assert len(asked(room)) == 7
    assert len({fetch.key for fetch in asked(room)}) == 4


def test_an_answer_of_the_round_before_says_nothing_in_the_next_one() -> None:
    room = rounds(replace(SOUND, reminders_us=(HOUR,)))
    room.advance(HOUR)
    first, second = asked(room)
    room.fetched(Fetched({"balance": 1}), first)
    assert (room.got, room.approval.phase) == (BOTH, Phase.CONTEXT)
    room.fetched(Fetched({"balance": 2}), second)
    assert subject(room, "ann") == "REMINDER: Pay of 2?"


def test_an_answer_that_comes_while_people_are_looked_for_says_nothing() -> None:
    room = proposed(SOUND, finds=deque([None]))
    knows(room, 900)
    before = room.run()
    room.fetched(Fetched({"balance": 1}), asked(room)[0])
    room.fetched(Fetched({"balance": 1}), asked(room)[0]._replace(attempt=3))
    assert room.run() == before


def test_an_answer_after_the_decision_says_nothing() -> None:
    room = rounds(replace(SOUND, reminders_us=(HOUR,)))
    room.advance(HOUR)
    room.approve("ann")
    before = room.run()
    knows(room, 1)
    assert room.run() == before
    assert room.got == BOTH


def test_what_happens_while_it_is_asked_is_not_lost() -> None:
    """A question, its answer and a bounce come in the middle of a round."""
    room = rounds(replace(SOUND, reminders_us=(HOUR,)))
    room.advance(HOUR)
    due_us = room.run().due_us
    room.tell("ann", EngagementKind.ASKED, body="why?")
    room.tell("ann", EngagementKind.ANSWERED, body="broken")
    room.tell("ben", EngagementKind.BOUNCED)
    assert room.got[2:] == ["ANSWER ann"]
    assert (room.approval.phase, room.run().due_us) == (Phase.CONTEXT, due_us)
    knows(room, 1)
    assert room.got[3:] == ["REMINDER ann"]


def test_where_all_bounce_in_the_middle_of_a_round_the_next_level_is_asked_by_it() -> None:
    room = rounds(replace(SOUND, reminders_us=(HOUR,)))
    room.advance(HOUR)
    for name in ("ann", "ben"):
        room.tell(name, EngagementKind.BOUNCED)
    knows(room, 1)
    assert room.got[2:] == ["REQUEST cem"]


def test_a_level_that_fails_later_is_followed_by_a_round_of_its_own() -> None:
    room = rounds()
    room.advance(MINUTE)
    for name in ("ann", "ben"):
        room.tell(name, EngagementKind.BOUNCED)
    assert (room.got, room.approval.phase) == (BOTH, Phase.CONTEXT)
    knows(room, 5)
    assert subject(room, "cem") == "REQUEST: Pay of 5?"


def test_the_timeout_does_not_wait_for_it() -> None:
    room = proposed(
        replace(SOUND, context=replace(BALANCE, timeout_us=30 * SECOND), timeout_us=MINUTE)
    )
    room.advance(40 * SECOND)
    assert room.run().due_us == START + 50 * SECOND
    room.advance(10 * SECOND)
    assert room.run().due_us == START + MINUTE
    room.advance(10 * SECOND)
    assert (room.got, room.ends) == ([], ["TIMED_OUT TIMED_OUT"])
    knows(room, 1)
    assert room.got == []


def test_an_answer_after_the_timeout_asks_nobody_though_the_timer_is_late() -> None:
    room = proposed(SOUND)
    room.now += 2 * DAY
    knows(room, 900)
    assert room.run().due_us == START + 2 * DAY
    room.advance(0)
    assert (room.got, room.ends) == ([], ["TIMED_OUT TIMED_OUT"])


def test_an_address_that_cannot_be_made_is_not_asked_and_people_are() -> None:
    room = proposed(replace(SOUND, context=FetchStep("https://a.example/{{ traits.no.such }}")))
    assert asked(room) == []
    assert room.got == BOTH


# -- the summary ---------------------------------------------------------------------------------


def test_a_summary_that_cannot_be_made_ends_it_before_anybody_is_asked() -> None:
    room = proposed(replace(SOUND, summary=STRICT))
    room.fetched(WRONG)
    assert (room.got, room.ends) == ([], ["TIMED_OUT TEMPLATE_ERROR"])
    assert room.emitted == ["Forgotten"]


def test_so_it_does_where_nobody_was_found_until_then() -> None:
    nobody = replace(FINANCE, group_id="nobody")
    room = proposed(replace(PAY, levels=(nobody, BOSS), summary="{{ traits.no.such }}"))
    assert room.ends == ["TIMED_OUT TEMPLATE_ERROR"]


def test_once_people_were_asked_they_decide_by_what_it_was_about_until_then() -> None:
    """A balance that was not to be had for a reminder ended it, and the default counted."""
    room = rounds(replace(SOUND, summary=STRICT, reminders_us=(HOUR,)))
    room.advance(HOUR)
    room.fetched(Fetched({"balances": []}), asked(room)[-1])
    assert not room.ends
    assert subject(room, "ann") == "REMINDER: Pay of 900?"
    assert "summary_failed" in room.whats()
    room.approve("ann")
    assert room.emitted == ["Paid"]


def test_a_summary_is_cut() -> None:
    room = proposed(replace(PAY, summary="x" * 3000))
    assert len(room.approval.summary) == 2_000
