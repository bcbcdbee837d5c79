"""Approvals that go on with another version, and what others learn of them: goals, audiences."""

from collections import deque

import pytest

from tests import asking
from tests.asking import (
    BOSS,
    FINANCE,
    PAY,
    REQUEST,
    Room,
    emitting,
    paying,
    propose,
    proposed,
    room,
)
from tests.experiments import tally
from tests.flows import delay, email, track
from tests.sim import DAY, HOUR, MINUTE, START
from upshotd.domain.approval import Phase
from upshotd.domain.audience import Audience, Engaged, Holds
from upshotd.domain.definitions import listening
from upshotd.domain.fetching import Fetched
from upshotd.domain.message import Channel, Refused, Sms
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.plan import Plan
from upshotd.domain.run import RunState
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.experiment import EngagementGoal, Experiment, Optimize, Variant
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import MigrateRequested, MigrateResult
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

MOVED = MigrateResult(older=True, moved=True)
PINNED = MigrateResult(older=True, moved=False)
BOTH = ["REQUEST ann", "REQUEST ben"]


def migrated(room: Room, *steps: Step) -> object:
    """Define version 2, and let the run go on with it."""
    plan = Plan.of(replace(track("Pay", *steps), version=2))
    current = {"flow": plan}
    room.definitions = replace(
        room.definitions,
        plans={**room.definitions.plans, ("flow", 2): plan},
        current=current,
        listening=listening(current),
    )
    return room.do(MigrateRequested(room.run().run_id, 2))


def moved(room: Room, kind: Approve) -> None:
    assert migrated(room, Step("ok", kind)) == MOVED


# -- another version -----------------------------------------------------------------------------


def test_who_was_asked_stays_asked_and_its_time_is_that_of_the_new_version() -> None:
    room = proposed()
    room.advance(HOUR)
    other = replace(PAY, timeout_us=3 * HOUR, on_timeout=emitting("Gone"))
    moved(room, other)
    assert room.got == BOTH
    assert room.run().due_us == START + 3 * HOUR
    room.advance(2 * HOUR)
    assert room.emitted == ["Gone"]


def test_a_decision_by_a_message_of_the_old_version_takes_the_new_ones_steps() -> None:
    room = proposed()
    moved(room, replace(PAY, on_approved=emitting("Wired"), notice=REQUEST))
    room.approve("ann")
    assert room.emitted == ["Wired"]
    assert room.got == [*BOTH, "NOTICE ann", "NOTICE ben"]


def test_what_is_over_by_the_new_version_ends_and_asks_nobody() -> None:
    """The level that was due by the new version was asked, and the approval ended at once."""
    room = proposed()
    room.advance(3 * HOUR)
    sooner = replace(PAY, levels=(replace(FINANCE, escalate_us=HOUR), BOSS), timeout_us=2 * HOUR)
    moved(room, sooner)
    room.advance(0)
    assert room.got == BOTH
    assert room.ends == ["TIMED_OUT TIMED_OUT"]


def test_a_level_that_is_due_by_the_new_version_is_asked_now() -> None:
    room = proposed()
    room.advance(3 * HOUR)
    moved(room, replace(PAY, levels=(replace(FINANCE, escalate_us=2 * HOUR), BOSS)))
    assert room.got == [*BOTH, "REQUEST cem"]


def test_levels_that_the_new_version_has_not_are_forgotten_and_who_was_asked_decides() -> None:
    room = proposed()
    room.advance(5 * HOUR)
    moved(room, replace(PAY, levels=(FINANCE,)))
    assert room.run().due_us == START + 2 * DAY
    room.approve("cem")
    assert room.approval.decided_by == "cem"


def test_a_level_that_the_new_version_adds_is_asked_in_its_time() -> None:
    room = proposed(replace(PAY, levels=(FINANCE,)))
    room.advance(HOUR)
    moved(room, PAY)
    assert room.run().due_us == START + 4 * HOUR
    room.advance(3 * HOUR)
    assert room.got == [*BOTH, "REQUEST cem"]


def test_reminders_of_the_new_version_count_from_when_people_were_asked() -> None:
    room = proposed()
    room.advance(2 * HOUR)
    moved(room, replace(PAY, reminders_us=(HOUR, 3 * HOUR)))
    room.advance(0)
    assert room.got[2:] == ["REMINDER ann", "REMINDER ben"]
    room.advance(HOUR)
    assert room.got[4:] == ["REMINDER ann", "REMINDER ben"]


def test_where_nobody_is_left_to_ask_by_the_new_version_it_ends() -> None:
    gone = Refused("BOUNCED")
    waits = replace(PAY, levels=(FINANCE, replace(BOSS, escalate_us=HOUR), FINANCE))
    room = proposed(waits, says={f"{name}@example.com": gone for name in ("ann", "ben")})
    room.tell("cem", EngagementKind.DELIVERED)
    assert room.approval.level == 2
    moved(room, replace(PAY, levels=(FINANCE,)))
    assert not room.ends, "Cem was asked, and has it"
    room.tell("cem", EngagementKind.BOUNCED)
    assert room.ends == ["TIMED_OUT UNREACHABLE"]


@pytest.mark.parametrize("phase", [Phase.CONTEXT, Phase.REVIEWERS])
def test_while_it_waits_for_an_answer_it_stays_on_its_version(phase: Phase) -> None:
    context = FetchStep("https://a.example") if phase is Phase.CONTEXT else None
    room = proposed(replace(PAY, context=context), finds=deque([None]))
    assert room.approval.phase is phase
    assert migrated(room, Step("ok", PAY)) == PINNED
    assert room.run().workflow_version == 1
    room.finds.clear()
    if phase is Phase.CONTEXT:
        room.fetched(Fetched({}))
    else:
        room.advance(MINUTE)
    assert room.got == BOTH
    moved(room, PAY)


@pytest.mark.parametrize("other", [delay("elsewhere"), delay("ok"), email("ok")])
def test_an_approval_that_the_new_version_has_not_goes_on_by_the_old_one(other: Step) -> None:
    room = proposed()
    assert migrated(room, other) == PINNED
    room.approve("ann")
    assert room.emitted == ["Paid"]


@pytest.mark.parametrize(
    ("kind", "default", "ended"),
    [
        (EngagementKind.APPROVED, ApprovalDecision.DENIED, "Paid"),
        (EngagementKind.DENIED, ApprovalDecision.APPROVED, "Refused"),
        (None, ApprovalDecision.APPROVED, "Paid"),
        (None, None, "Forgotten"),
    ],
)
def test_what_was_decided_stays_so_where_another_version_comes_to_it_again(
    kind: EngagementKind | None, default: ApprovalDecision | None, ended: str
) -> None:
    """Nobody is asked again about what nobody could decide any more, and no default replaces it."""
    on_timeout = () if default else PAY.on_timeout
    pay = replace(PAY, default=default, on_timeout=on_timeout, notice=REQUEST)
    room = asking.room(paying(pay, delay("rest", 5 * HOUR)))
    propose(room)
    if kind:
        room.tell("ann", kind)
    else:
        room.advance(2 * DAY)
    decided, told, got = room.approval, list(room.ends), list(room.got)
    assert migrated(room, delay("rest", 5 * HOUR), Step("ok", pay)) == MOVED
    room.advance(5 * HOUR)
    assert room.run().state is RunState.COMPLETED
    assert (room.approval, room.ends, room.got) == (decided, told, got)
    assert set(room.emitted) == {ended}


# -- what others learn of it ---------------------------------------------------------------------

OPENED = (EngagementKind.OPENED,)


def tried(*steps: Step) -> Room:
    """Return a workspace where Pia proposes in an experiment whose goal is an opened message."""
    goal = Optimize(EngagementGoal((*OPENED, EngagementKind.APPROVED)), DAY, measure_only=True)
    kind = Experiment((Variant("a", steps, 1000), Variant("b")), optimize=goal)
    made = room(track("Pay", Step("try", kind), *emitting("After")))
    propose(made)
    return made


def asks(*user_ids: str) -> Step:
    return Step("ok", replace(PAY, levels=(ReviewerLevel(user_ids=user_ids),)))


def test_an_approval_in_a_variant_names_it_and_goes_on_behind_the_experiment() -> None:
    room = tried(asks("ann"))
    room.approve("ann")
    assert room.emitted == ["Paid", "After"]
    told = {o.variant for o in room.outcomes if o.step_id == "ok"}
    assert told == {"try/a"}


def test_what_reviewers_do_with_a_request_is_no_goal_of_the_person() -> None:
    room = tried(asks("ann"))
    room.tell("ann", EngagementKind.OPENED)
    room.approve("ann")
    assert (tally(room).exposures, tally(room).successes) == (1, 0)


def test_nor_is_it_where_the_person_is_asked_themselves() -> None:
    """Pia opened what asked her for a decision, and the variant had a success."""
    room = tried(asks("pia"))
    room.tell("pia", EngagementKind.OPENED)
    room.approve("pia")
    assert tally(room).successes == 0


def test_what_the_person_does_with_their_own_message_is_a_goal_also_beside_an_approval() -> None:
    room = tried(email("mail", "Hi"), asks("ann"))
    room.tell("ann", EngagementKind.OPENED)
    assert tally(room).successes == 0
    room.tell("pia", EngagementKind.OPENED)
    assert tally(room).successes == 1


def test_the_goal_of_a_reviewer_is_not_reached_by_what_they_are_asked() -> None:
    """Ann is in the experiment herself, and opens what asks her about Pia."""
    goal = Optimize(EngagementGoal(OPENED), DAY, measure_only=True)
    kind = Experiment((Variant("a", (email("mail", "Hi"),), 1000), Variant("b")), optimize=goal)
    made = room(track("Go", Step("try", kind), workflow_id="flow"), paying(workflow_id="pay"))
    made.track("ann", "Go")
    propose(made)
    made.tell("ann", EngagementKind.OPENED)
    assert tally(made).successes == 0
    made.engage(made.of("ann")[0].message_id, EngagementKind.OPENED)
    assert tally(made).successes == 1


def audience(rule: Engaged) -> Room:
    made = room(track("Pay", email("mail", "Hi"), asks("ann", "pia")), audiences=[them(rule)])
    propose(made)
    return made


def them(rule: Engaged) -> Audience:
    return Audience("them", rule)


def test_an_audience_of_who_opened_messages_knows_of_no_request() -> None:
    room = audience(Engaged(OPENED))
    room.tell("ann", EngagementKind.OPENED)
    room.tell("pia", EngagementKind.OPENED)
    assert room.members("them") == set()
    room.engage(room.of("pia")[0].message_id, EngagementKind.OPENED)
    assert room.members("them") == {"pia"}


def test_an_audience_of_who_ignored_messages_knows_of_no_request() -> None:
    room = audience(Engaged(ignored=True))
    room.advance(2 * DAY)
    ignored = [o for o in room.outcomes if o.kind is OutcomeKind.MESSAGE_IGNORED]
    assert {o.user_id for o in ignored} == {"ann", "pia"}
    assert room.members("them") == set()


def test_who_comes_into_an_audience_by_then_is_asked() -> None:
    """Whoever has joined finance since is of the level, not who was of it when Pia proposed."""
    late = ReviewerLevel(audience_id="them", escalate_us=HOUR)
    kind = replace(PAY, levels=(replace(BOSS, escalate_us=HOUR), late))
    made = room(paying(kind), audiences=[Audience("them", Holds("has(traits.finance)"))])
    propose(made)
    made.identify("ann", finance=True)
    made.advance(HOUR)
    assert made.got == ["REQUEST cem", "REQUEST ann"]


def test_what_reviewers_do_leaves_nothing_at_the_step_but_the_approval() -> None:
    """A bounce of one of them left its reason at the step, and `undeliverable` with it."""
    room = proposed()
    room.tell("ann", EngagementKind.OPENED)
    room.tell("ben", EngagementKind.BOUNCED)
    left = room.run().steps["ok"]
    assert not {"sent", "opened", "bounced", "reason", "undeliverable"} & left.keys()
    room.approve("ann")
    assert left["decision"] == ""
    assert room.run().steps["ok"]["decision"] == "APPROVED"


def test_the_steps_behind_know_what_was_decided() -> None:
    said = "{{ steps.ok.decision }} by {{ steps.ok.decided_by }}: {{ steps.ok.comment }}"
    text = Step("tell", Send(Channel.SMS, (Sms(said),)), "steps.ok.decision == 'DENIED'")
    made = room(paying(PAY, text))
    propose(made)
    made.tell("ben", EngagementKind.DENIED, comment="no")
    assert made.last("pia").content == Sms("DENIED by ben: no")
    assert made.run().state is RunState.COMPLETED
