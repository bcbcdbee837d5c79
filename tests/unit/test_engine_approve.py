"""Deciding, asking and answering: who may, once, and what becomes of what was on its way."""

from collections import deque

import pytest

from tests.asking import PAY, REQUEST, Room, emitting, paying, propose, proposed, room
from tests.flows import email, step, track, wait_event
from tests.sim import DAY, HOUR, MINUTE
from upshotd.domain.fetching import Found
from upshotd.domain.message import Accepted, Ask, Channel, Deferred, Email, Refused, Sms
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.run import RunState
from upshotd.domain.steps.approve import ApprovalDecision
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import EngagementResult, EngagementState
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Step

ANN, BEN = "ann@example.com", "ben@example.com"
LATER = Deferred("busy", retry_after_us=10 * MINUTE)
APPROVED, DENIED = EngagementKind.APPROVED, EngagementKind.DENIED
ASKED, ANSWERED = EngagementKind.ASKED, EngagementKind.ANSWERED
TOLD = replace(PAY, notice=REQUEST)


def refused(answer: EngagementResult) -> str:
    """Return why an engagement was refused; empty where it was taken."""
    assert (answer.state is EngagementState.REJECTED) is bool(answer.reason)
    return answer.reason


def one(room: Room, kind: OutcomeKind) -> dict[str, object]:
    (found,) = [o for o in room.outcomes if o.kind is kind]
    return {"message_id": found.message_id, "user_id": found.user_id, **found.properties}


# -- the decision --------------------------------------------------------------------------------


def test_the_first_decision_counts_and_says_who_and_why() -> None:
    room = proposed()
    answer = room.tell("ben", DENIED, comment="not again")
    assert (answer.state, answer.resumed) == (EngagementState.RECORDED, (room.run().run_id,))
    assert refused(room.approve("ann")) == "ALREADY_DECIDED"
    assert room.emitted == ["Refused"]
    assert one(room, OutcomeKind.APPROVAL_DECIDED) == {
        "message_id": room.last("ben").message_id,
        "user_id": "pia",
        "decision": "DENIED",
        "decided_by": "ben",
        "comment": "not again",
    }
    assert (room.approval.decision, room.approval.decided_by) == (ApprovalDecision.DENIED, "ben")


def test_the_same_decision_told_twice_is_one() -> None:
    room = proposed()
    message_id = room.last("ann").message_id
    room.engage(message_id, APPROVED, engagement_id="click")
    again = room.engage(message_id, APPROVED, engagement_id="click")
    assert again.state is EngagementState.DUPLICATE
    assert room.emitted == ["Paid"]


def test_whoever_was_asked_first_may_decide_after_the_next_level_was_asked() -> None:
    room = proposed()
    room.advance(5 * HOUR)
    assert room.got == ["REQUEST ann", "REQUEST ben", "REQUEST cem"]
    assert refused(room.approve("ann")) == ""
    assert refused(room.approve("cem")) == "ALREADY_DECIDED"
    assert (room.approval.level, room.approval.decided_by) == (2, "ann")


@pytest.mark.parametrize("others", [(), (DENIED,)])
def test_a_decision_by_the_providers_id_may_come_before_the_answer_of_the_provider(
    others: tuple[EngagementKind, ...],
) -> None:
    room = proposed(says={ANN: None})
    key = {"provider": "smtp", "provider_message_id": "their-id"}
    for kind in (APPROVED, *others):
        answer = room.engage("", kind, **key)
        assert (answer.state, answer.reason) == (
            EngagementState.PENDING,
            "UNKNOWN_PROVIDER_MESSAGE",
        )
    assert not room.ends
    room.settle(room.last("ann"), Accepted("their-id"))
    assert room.ends == ["APPROVED"]
    assert room.approval.decided_by == "ann"
    assert room.states("ann") == ["ACCEPTED"]
    assert not room.state.pending


def test_a_request_that_waited_for_another_attempt_is_not_sent_after_the_decision() -> None:
    room = proposed(says={BEN: LATER})
    assert room.states("ben") == ["RETRYING"]
    room.approve("ann")
    assert room.states("ben") == ["SUPPRESSED DECIDED"]
    room.advance(DAY)
    assert room.got == ["REQUEST ann", "REQUEST ben"]


def test_whoever_decides_has_got_the_request_though_its_provider_denied_it() -> None:
    room = proposed(says={BEN: LATER})
    assert refused(room.approve("ben")) == ""
    assert room.states("ben") == ["ACCEPTED"]
    assert room.approval.decided_by == "ben"


@pytest.mark.parametrize(
    ("after", "reason"), [((), "RUN_ENDED"), ((email("mail", "Hi"),), "DECIDED")]
)
def test_what_is_with_a_provider_at_the_decision_is_not_attempted_again(
    after: tuple[Step, ...], reason: str
) -> None:
    made = room(paying(PAY, *after), says={BEN: None, "pia@example.com": None})
    propose(made)
    made.approve("ann")
    made.settle(made.last("ben"), Deferred("busy"))
    made.advance(MINUTE)
    assert made.states("ben") == [f"SUPPRESSED {reason}"]
    assert made.got.count("REQUEST ben") == 1


def test_a_message_that_never_left_decides_nothing() -> None:
    room = proposed(carriers={})
    assert refused(room.approve("ann")) == "MESSAGE_NOT_SENT"


def test_messages_of_send_steps_and_notices_decide_nothing() -> None:
    made = room(paying(TOLD, email("mail", "Hi")))
    propose(made)
    assert refused(made.approve("ann")) == ""
    assert made.kinds_of("ann") == [Ask.REQUEST, Ask.NOTICE]
    for kind in (APPROVED, DENIED, ASKED, ANSWERED):
        assert refused(made.tell("ann", kind, body="x")) == "NO_APPROVAL"
        assert refused(made.tell("pia", kind, body="x")) == "NO_APPROVAL"


def test_a_message_whose_run_is_gone_decides_nothing() -> None:
    room = proposed()
    del room.state.runs[room.run().run_id]
    assert refused(room.approve("ann")) == "NO_APPROVAL"


# -- the end without a decision ------------------------------------------------------------------


def test_after_the_timeout_nobody_decides_and_who_did_nothing_has_ignored_it() -> None:
    room = proposed()
    room.tell("ben", ASKED, body="what for?")
    room.advance(2 * DAY)
    assert room.ends == ["TIMED_OUT TIMED_OUT"]
    assert room.emitted == ["Forgotten"]
    for kind in (APPROVED, ASKED, ANSWERED):
        assert refused(room.tell("ann", kind, body="late")) == "APPROVAL_ENDED"
    ignored = [o.user_id for o in room.outcomes if o.kind is OutcomeKind.MESSAGE_IGNORED]
    assert ignored == ["ann", "cem"]


def test_the_default_is_no_decision_of_anybody() -> None:
    room = proposed(replace(PAY, default=ApprovalDecision.DENIED, on_timeout=()))
    room.advance(2 * DAY)
    assert room.ends == ["DENIED TIMED_OUT"]
    assert room.emitted == ["Refused"]
    assert (room.approval.timed_out, room.approval.decided_by) == (True, "")
    assert refused(room.approve("ann")) == "APPROVAL_ENDED"


def test_without_steps_for_the_timeout_it_goes_on_behind() -> None:
    made = room(paying(replace(PAY, on_timeout=()), *emitting("After")))
    propose(made)
    made.advance(2 * DAY)
    assert made.emitted == ["After"]


def test_a_canceled_run_has_no_approval_and_asks_nobody_any_more() -> None:
    room = proposed(says={BEN: LATER})
    room.cancel(room.run().run_id)
    assert room.states("ben") == ["SUPPRESSED RUN_ENDED"]
    assert refused(room.approve("ann")) == "APPROVAL_ENDED"
    assert refused(room.tell("ann", ASKED, body="why?")) == "APPROVAL_ENDED"
    room.advance(3 * DAY)
    assert room.got == ["REQUEST ann", "REQUEST ben"]
    assert not room.ends


def test_an_exit_ends_an_approval_and_whoever_is_found_then_is_not_asked() -> None:
    made = room(paying(exits=(ExitRule("Paid Elsewhere"),)), finds=deque([None]))
    propose(made)
    made.track("pia", "Paid Elsewhere")
    assert made.run().reason == "EXITED"
    made.fetched(Found((made.profile("ann").profile_id,)))
    assert (made.got, made.run().state) == ([], RunState.COMPLETED)


# -- questions -----------------------------------------------------------------------------------


def test_a_question_is_answered_to_whoever_asked_and_nobody_else() -> None:
    room = proposed()
    question = room.last("ben").message_id
    room.engage(question, ASKED, data={"body": "what for?"})
    assert one(room, OutcomeKind.APPROVAL_ASKED) == {
        "message_id": question,
        "user_id": "pia",
        "question_id": "q1",
        "question": "what for?",
        "asked_by": "ben",
    }
    room.engage(question, ANSWERED, data={"body": "a lamp"})
    assert room.got[2:] == ["ANSWER ben"]
    assert isinstance(room.last("ben").content, Email)
    assert room.last("ben").content[:3] == ("ANSWER: Pay 900?", "", "a lamp -")
    assert one(room, OutcomeKind.APPROVAL_ANSWERED)["answer"] == "a lamp"
    # What was sent with the answer is as good as the request.
    assert refused(room.tell("ben", ASKED, body="which lamp?")) == ""
    assert refused(room.approve("ben")) == ""


def test_an_answer_has_a_text_of_its_own_where_there_is_one() -> None:
    answer = Send(Channel.SMS, (Sms("{{ approval.question }} {{ approval.answer }}"),))
    room = proposed(replace(PAY, answer=answer))
    question = room.last("ann").message_id
    room.engage(question, ASKED, data={"body": "Why?"})
    room.engage(question, ANSWERED, data={"body": "Broken."})
    assert room.last("ann").content == Sms("Why? Broken.")


def test_the_question_of_another_reviewer_is_not_answered_by_ones_own_message() -> None:
    room = proposed()
    room.tell("ann", ASKED, body="when?")
    room.tell("ben", ASKED, body="why?")
    assert refused(room.tell("ann", ANSWERED, body="now", question_id="q2")) == "NO_QUESTION"
    assert [question.answer for question in room.approval.questions] == ["", ""]
    assert room.got == ["REQUEST ann", "REQUEST ben"]


def test_of_two_questions_by_one_message_the_named_one_is_answered_else_the_first() -> None:
    room = proposed()
    message_id = room.last("ann").message_id
    for body in ("when?", "where?", "why?"):
        room.engage(message_id, ASKED, data={"body": body})
    room.engage(message_id, ANSWERED, data={"body": "here", "question_id": "q2"})
    room.engage(message_id, ANSWERED, data={"body": "now", "question_id": ""})
    room.engage(message_id, ANSWERED, data={"body": "so"})
    assert [question.answer for question in room.approval.questions] == ["now", "here", "so"]
    again = {"body": "there", "question_id": "q2"}
    assert refused(room.engage(message_id, ANSWERED, data=again)) == "NO_QUESTION"
    assert room.got.count("ANSWER ann") == 3


def test_an_answer_where_nothing_was_asked_is_refused() -> None:
    assert refused(proposed().tell("ann", ANSWERED, body="because")) == "NO_QUESTION"


def test_twenty_questions_are_enough_and_a_decision_is_taken_all_the_same() -> None:
    room = proposed()
    for number in range(20):
        assert refused(room.tell("ann", ASKED, body=f"why {number}?")) == ""
    for name in ("ann", "ben"):
        assert refused(room.tell(name, ASKED, body="why?")) == "TOO_MANY_QUESTIONS"
    assert refused(room.approve("ben")) == ""


# -- notices -------------------------------------------------------------------------------------


def test_who_was_reached_is_told_what_was_decided_and_nobody_else() -> None:
    room = proposed(TOLD, says={BEN: Refused("BOUNCED")})
    room.approve("ann")
    assert room.got == ["REQUEST ann", "REQUEST ben", "NOTICE ann"]


def test_a_notice_outlives_its_run() -> None:
    room = proposed(TOLD)
    room.says[BEN] = LATER
    room.approve("ann")
    assert (room.run().state, room.states("ben")[-1]) == (RunState.COMPLETED, "RETRYING")
    del room.says[BEN]
    room.advance(HOUR)
    assert room.states("ben") == ["ACCEPTED", "ACCEPTED"]
    assert room.got.count("NOTICE ben") == 2, "two attempts at one message"
    assert len(room.of("ben")) == 2


def test_nobody_who_could_not_be_told_keeps_the_run() -> None:
    """The text of the notice fails: the run goes on all the same."""
    wrong = replace(REQUEST, contents=(Email("{{ approval.nothing.of }}", text="x"),))
    room = proposed(replace(PAY, notice=wrong))
    room.approve("ann")
    assert room.states("ann") == ["ACCEPTED", "UNDELIVERABLE TEMPLATE_ERROR"]
    assert room.emitted == ["Paid"]


def test_a_notice_that_bounces_changes_nothing() -> None:
    room = proposed(TOLD)
    room.approve("ann")
    before = room.run()
    room.engage(room.last("ben").message_id, EngagementKind.BOUNCED)
    assert room.run() == before


# -- where it stands -----------------------------------------------------------------------------


def test_two_approvals_of_one_run_are_two() -> None:
    second = Step("second", replace(PAY, levels=PAY.levels[1:], on_approved=emitting("Done")))
    made = room(paying(PAY, second))
    propose(made)
    made.approve("ann")
    assert made.got == ["REQUEST ann", "REQUEST ben", "REQUEST cem"]
    assert refused(made.approve("ben")) == "ALREADY_DECIDED"
    assert refused(made.approve("cem")) == ""
    assert made.emitted == ["Paid", "Done"]


@pytest.mark.parametrize("word", ["branch", "wait"])
def test_an_approval_inside_of_another_step_goes_on_behind_it(word: str) -> None:
    inner = (step("ok", PAY),)
    outer: Step = step("any", Branch((Case("true", inner),)))
    if word == "wait":
        outer = wait_event("any", timeout=HOUR, on_timeout=inner)
    made = room(track("Pay", outer, *emitting("After")))
    propose(made)
    made.advance(HOUR)
    made.approve("ann")
    assert made.emitted == ["Paid", "After"]


def test_an_approval_whose_condition_does_not_hold_asks_nobody() -> None:
    kept = step("ok", PAY, "event.properties.amount > 1000")
    made = room(track("Pay", kept, *emitting("After")))
    propose(made)
    assert (made.got, made.emitted) == ([], ["After"])
