"""What follows when somebody comes into an audience, or leaves it: starts, exits, waits."""

import pytest

from tests.audiences import by_audience, sim_of
from tests.flows import delay, email, track
from tests.sim import DAY, HOUR, Sim, audiences_of
from upshotd.domain.audience import (
    AllOf,
    Audience,
    Change,
    Did,
    Holds,
    Not,
    Often,
    Rule,
    Transition,
)
from upshotd.domain.event import Event, EventType
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import AudienceWait, Wait
from upshotd.domain.stimulus import AudienceFill, RunDue
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger, Workflow


def test_a_workflow_starts_when_somebody_comes_in_and_knows_why():
    hello = email(subject="{{ event.properties.reason }}")
    sim = sim_of(Did("Paid"), by_audience(hello))
    sim.identify("ana", email="ana@example.com")
    sim.track("ana", "Paid")
    (message,) = sim.state.messages.values()
    assert message.content is not None
    assert message.content.subject.startswith('did "Paid"')  # type: ignore[union-attr]
    assert sim.kinds == ["AUDIENCE_USER_MATCHED", "RUN_STARTED"]
    started = sim.changes.events[sim.run().event_id]
    assert (started.event.type, started.event.name) == (EventType.AUDIENCE, "them")
    assert [run.run_id for run in started.started] == [sim.run().run_id]


def test_a_workflow_starts_when_somebody_leaves_by_time_alone():
    rule = Did("Paid", often=Often(within_us=DAY))
    sim = sim_of(rule, by_audience(delay(), transition=Transition.LEAVE))
    sim.track("ana", "Paid")
    assert not sim.state.runs
    sim.advance(DAY)
    assert sim.run().active


def test_a_condition_of_the_trigger_may_refuse_and_that_can_be_looked_up():
    trigger = Trigger(
        EventType.AUDIENCE, "them", condition="traits.vip == true", transition=Transition.ENTER
    )
    sim = sim_of(Did("Paid"), Workflow("flow", trigger, (delay(),)))
    sim.track("ana", "Paid")
    assert not sim.state.runs
    (refused,) = (e.refused for e in sim.changes.events.values() if e.refused)
    assert refused[0].reason == "CONDITION_FAILED"


def test_who_is_new_while_an_audience_is_filled_starts_by_time_also_where_that_comes_first():
    """After an outage the filling may come to them before their timer does."""
    rule = Did("Signed Up", often=Often(ago_us=DAY))
    sim = Sim([by_audience(delay())])
    sim.definitions = replace(
        sim.definitions, audiences=audiences_of(Audience("them", rule), filled=False)
    )
    sim.track("ana", "Signed Up")
    sim.now += DAY
    sim.do(AudienceFill("them", 1, sim.profile("ana").profile_id, {}, last=True))
    assert sim.run().active
    assert sim.outcomes[0].reason == ""


def test_to_leave_ends_a_run_and_to_come_in_does_so_only_where_its_condition_holds():
    leaves = ExitRule(audience=Change("them", Transition.LEAVE))
    enters = ExitRule(
        audience=Change("them", Transition.ENTER), condition='event.properties.reason == "x"'
    )
    flow = track("Go", delay(duration=9 * DAY), exits=(enters, leaves))
    sim = sim_of(Holds("traits.vip == true"), flow)
    sim.track("ana", "Go")
    sim.identify("ana", vip=True)
    assert sim.run().active
    sim.identify("ana", vip=False)
    assert sim.run().reason == "EXITED"
    assert sim.run().timeline[-1].detail == "EXITED by LEAVE them"


def test_an_exit_whose_condition_cannot_be_evaluated_says_so_once():
    enters = ExitRule(audience=Change("them", Transition.ENTER), condition="traits.plan == 'pro'")
    sim = sim_of(Holds("traits.vip == true"), track("Go", delay(duration=9 * DAY), exits=(enters,)))
    sim.track("ana", "Go")
    for vip in (True, False, True):
        sim.identify("ana", vip=vip)
    assert sim.run().active
    assert [entry.what for entry in sim.run().timeline].count("condition_failed") == 1


def audience_wait(transition: Transition) -> Step:
    condition = AudienceWait(Change("them", transition))
    return Step("w", Wait((condition,), DAY, on_match=(delay("matched", HOUR),)))


def test_a_wait_goes_on_when_the_person_comes_in():
    sim = sim_of(Did("Paid"), track("Go", audience_wait(Transition.ENTER)))
    sim.track("ana", "Go")
    assert sim.run().step_id == "w"
    sim.track("ana", "Paid")
    assert sim.run().step_id == "matched"


def test_a_wait_for_what_is_so_already_goes_on_at_once():
    sim = sim_of(Did("Paid"), track("Go", audience_wait(Transition.ENTER)))
    sim.track("ana", "Paid")
    sim.track("ana", "Go")
    assert sim.run().step_id == "matched"
    other = sim_of(Did("Paid"), track("Go", audience_wait(Transition.LEAVE)))
    other.track("ana", "Go")
    assert other.run().step_id == "matched"


@pytest.mark.parametrize("transition", Transition)
@pytest.mark.parametrize("before", [True, False])
def test_a_wait_right_behind_the_step_that_changes_the_person_knows_them_as_they_are(
    transition: Transition, before: bool
) -> None:
    change = Step("change", UpdateProfile({"vip": "false" if before else "true"}))
    sim = sim_of(Holds("traits.vip == true"), track("Go", change, audience_wait(transition)))
    sim.identify("ana", vip=before)
    sim.track("ana", "Go")
    so_already = transition is (Transition.LEAVE if before else Transition.ENTER)
    assert sim.run().step_id == ("matched" if so_already else "w")
    sim.identify("ana", vip=before)
    assert sim.run().step_id == "matched"


def test_a_wait_that_begins_when_time_has_just_moved_the_person_knows_that() -> None:
    rule = Did("Paid", often=Often(within_us=HOUR))
    sim = sim_of(rule, track("Paid", delay(duration=HOUR), audience_wait(Transition.ENTER)))
    sim.track("ana", "Paid")
    sim.now += HOUR
    sim.do(RunDue(sim.run().run_id))  # their moment in the audience comes next
    assert sim.run().step_id == "w"


def test_a_step_that_changes_the_person_moves_them_at_once():
    change = Step("vip", UpdateProfile({"vip": "true"}))
    sim = sim_of(Holds("traits.vip == true"), track("Go", change))
    sim.track("ana", "Go")
    assert sim.members("them") == {"ana"}


def test_two_audiences_that_start_each_other_come_to_an_end():
    on, off = (Step("s", UpdateProfile({"vip": value})) for value in ("true", "false"))
    sim = sim_of(
        Holds("traits.vip == true"),
        by_audience(off, reentry=Reentry(ReentryMode.ALWAYS)),
        Workflow(
            "back",
            Trigger(EventType.AUDIENCE, "them", transition=Transition.LEAVE),
            (on,),
            reentry=Reentry(ReentryMode.ALWAYS),
        ),
    )
    sim.identify("ana", vip=True)
    assert 4 <= len(sim.state.runs) <= 10
    inside = {"ana"} if sim.profile("ana").traits["vip"] else set()
    assert sim.members("them") == inside, "who is in it in the end is true"


@pytest.mark.parametrize("first", [Holds("traits.vip == true"), Did("Paid")])
def test_runs_that_go_on_one_by_the_other_move_the_person_to_the_last_audience(first: Rule):
    def going_on(workflow_id: str, audience_id: str, trait: str) -> Workflow:
        entered = AudienceWait(Change(audience_id, Transition.ENTER))
        change = Step("change", UpdateProfile({trait: "true"}))
        waits = Step("w", Wait((entered,), DAY, on_match=(change,)))
        return track("Go", waits, workflow_id=workflow_id)

    # Each of them is looked at before the one that leads to it.
    audiences = [Audience("c", first)]
    audiences += [Audience("b", Holds("traits.gold == true"))]
    audiences += [Audience("a", Holds("traits.silver == true"))]
    flows = [going_on("one", "c", "gold"), going_on("two", "b", "silver")]
    sim = Sim(flows, audiences=audiences)
    sim.track("ana", "Go")
    sim.identify("ana", vip=True)
    sim.track("ana", "Paid")
    assert [sim.members(one) for one in "cba"] == [{"ana"}] * 3


def test_conditions_and_texts_of_workflows_know_which_audiences_somebody_is_in():
    greet = email(subject="{{ profile.audiences | join }}")
    trigger = Trigger(EventType.TRACK, "Go", condition='"them" in profile.audiences')
    sim = sim_of(Did("Paid"), Workflow("flow", trigger, (greet,)))
    sim.identify("ana", email="ana@example.com")
    sim.track("ana", "Go")
    assert not sim.state.runs
    sim.track("ana", "Paid")
    sim.track("ana", "Go")
    (message,) = sim.state.messages.values()
    assert message.content is not None
    assert message.content.subject == "them"  # type: ignore[union-attr]


# -- people who turn out to be one ---------------------------------------------------------------

#: Looked at the prices, and has not paid.
HESITANT = AllOf((Did("Looked"), Not(Did("Paid"))))


def known_as_ana(sim: Sim) -> None:
    """Let the stranger turn out to be ana."""
    sim.event(Event("alias", EventType.ALIAS, "ana", previous_id="stranger"))


def test_a_run_of_a_stranger_who_turns_out_to_be_out_of_the_audience_ends():
    leaves = ExitRule(audience=Change("them", Transition.LEAVE))
    sim = sim_of(HESITANT, by_audience(delay(duration=9 * DAY), exits=(leaves,)))
    sim.track("ana", "Paid")
    sim.track("", "Looked", anonymous_id="stranger")
    assert sim.run().active
    known_as_ana(sim)
    assert sim.run().timeline[-1].detail == "EXITED by LEAVE them"
    assert sim.kinds.count("RUN_STARTED") == 1


def test_a_run_of_a_stranger_who_turns_out_to_be_in_the_audience_ends_where_that_is_its_exit():
    enters = ExitRule(
        audience=Change("them", Transition.ENTER),
        condition='event.properties.reason.startsWith("did")',
    )
    flow = track(
        "Go", delay(duration=9 * DAY), exits=(enters,), reentry=Reentry(ReentryMode.ALWAYS)
    )
    sim = sim_of(Did("Paid"), flow)
    sim.track("ana", "Paid")
    sim.track("ana", "Go")
    sim.track("", "Go", anonymous_id="stranger")
    known_as_ana(sim)
    assert [run.reason for run in sim.state.runs.values()] == ["", "EXITED"], "hers had its chance"


@pytest.mark.parametrize("transition", Transition)
def test_a_wait_of_a_stranger_goes_on_where_it_is_so_of_who_they_turn_out_to_be(
    transition: Transition,
) -> None:
    rule = HESITANT if transition is Transition.LEAVE else Did("Paid")
    sim = sim_of(rule, track("Go", audience_wait(transition)))
    sim.track("ana", "Paid")
    sim.track("", "Looked", anonymous_id="stranger")
    sim.track("", "Go", anonymous_id="stranger")
    assert sim.run().step_id == "w"
    known_as_ana(sim)
    assert sim.run().step_id == "matched"


def test_a_run_of_a_stranger_of_whom_the_audience_says_the_same_goes_on_as_before():
    leaves = ExitRule(audience=Change("them", Transition.LEAVE))
    sim = sim_of(HESITANT, by_audience(audience_wait(Transition.LEAVE), exits=(leaves,)))
    sim.track("ana", "Looked")
    sim.track("", "Looked", anonymous_id="stranger")
    known_as_ana(sim)
    assert [run.state.name for run in sim.state.runs.values()] == ["ACTIVE", "CANCELED"]
    sim.track("ana", "Paid")
    assert not any(run.active for run in sim.state.runs.values())
