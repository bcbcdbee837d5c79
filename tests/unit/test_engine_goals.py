"""Goals of experiments: what counts as a success, and that it counts once."""

import pytest

from tests.experiments import flow, measured, only_a, taken, tally, went
from tests.flows import OPENED, delay, email, sms, track
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.audience import Audience, Change, Did, Often, Transition
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Unknown
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.run import RunState
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Variant,
)
from upshotd.domain.steps.wait import AudienceWait, EventWait, Wait
from upshotd.domain.stimulus import CancelRequested, EraseRequested
from upshotd.domain.trial import TRIALS_MAX, Tally
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger

# -- what is counted -----------------------------------------------------------------------------


def test_an_event_within_the_window_is_a_success_once() -> None:
    sim = only_a(measured())
    run = went(sim)
    sim.advance(HOUR)
    sim.track("u", "Paid")
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 1)
    assert sim.whats()[-1] == "goal_reached"
    assert sim.run().timeline[-1].detail == "a: Paid"
    assert sim.run().run_id == run.run_id
    assert sim.profile("u").trials == ()


def test_a_run_that_has_ended_still_counts_its_late_goal() -> None:
    sim = only_a(measured(window_us=10 * DAY))
    went(sim)
    sim.advance(2 * DAY)
    assert sim.run().state is RunState.COMPLETED
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 1)


def test_an_event_that_ends_the_run_counts_all_the_same() -> None:
    sim = Sim([replace(flow(optimize=measured()), exits=(ExitRule("Paid"),))])
    run = went(sim)
    sim.track("u", "Paid")
    assert sim.run().reason == "EXITED"
    assert tally(sim, str(taken(run))) == Tally(1, 1)


@pytest.mark.parametrize("ended", [True, False])
def test_what_comes_after_the_window_is_none(ended: bool) -> None:
    sim = only_a(measured(window_us=3 * DAY if ended else HOUR))
    went(sim)
    sim.now += 3 * DAY if ended else HOUR
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 0)
    went(sim)  # what is over is forgotten
    assert len(sim.profile("u").trials) == 1


def test_what_happened_before_the_variant_was_taken_did_not_come_of_it() -> None:
    sim = only_a(measured())
    run = went(sim)
    sim.track("u", "Paid", event_us=run.start_us - 1)
    assert tally(sim) == Tally(1, 0)
    sim.track("u", "Paid", event_us=run.start_us)
    assert tally(sim) == Tally(1, 1)


def test_an_event_that_leads_to_the_variant_by_an_audience_is_not_its_goal() -> None:
    experiment = Experiment((Variant("a", weight=1000), Variant("b")), optimize=measured())
    paid = AudienceWait(Change("payers", Transition.ENTER))
    waits = Step("w", Wait((paid,), DAY, on_match=(Step("try", experiment), delay())))
    other = replace(flow(optimize=measured()), workflow_id="other")
    sim = Sim([track("Go", waits), other], audiences=[Audience("payers", Did("Paid"))])
    sim.track("u", "Go")
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 0)
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 1)


def test_of_our_own_outcomes_and_of_other_people_nothing_counts() -> None:
    sim = only_a(measured())
    went(sim)
    sim.track("u", "Paid", event_id="upshot-1")
    sim.track("v", "Paid")
    sim.event(Event("page", EventType.PAGE, "u", name="Paid"))
    assert tally(sim) == Tally(1, 0)


def test_the_condition_sees_the_event_the_person_and_the_ids_of_the_run() -> None:
    goal = EventGoal("Paid", "event.properties.order == run.key && traits.first_name == 'U'")
    workflow = flow(Variant("a", weight=1000), Variant("b"), optimize=measured(goal, 9 * DAY))
    reentry = Reentry(ReentryMode.ALWAYS, "event.properties.order")
    sim = Sim([replace(workflow, reentry=reentry)])
    sim.identify("u", first_name="U")
    for order in ("o1", "o2"):
        went(sim, properties={"order": order})
    sim.advance(2 * DAY)  # both have ended
    sim.track("u", "Paid", properties={"order": "o3"})
    sim.track("u", "Paid")
    assert tally(sim) == Tally(2, 0)
    sim.track("u", "Paid", properties={"order": "o2"})
    assert tally(sim) == Tally(2, 1)
    assert [trial.key for trial in sim.profile("u").trials] == ["o1"]


def test_the_condition_knows_which_audiences_the_person_is_in_also_by_this_very_event() -> None:
    goal = EventGoal("Paid", '"payers" in profile.audiences')
    workflow = flow(Variant("a", weight=1000), Variant("b"), optimize=measured(goal))
    twice = Audience("payers", Did("Paid", often=Often(at_least=2)))
    sim = Sim([workflow], audiences=[twice])
    went(sim)
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 0)
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 1)


def test_one_event_is_the_goal_of_every_run_that_may_reach_it() -> None:
    sim = only_a(measured())
    for _ in range(3):
        went(sim)
    sim.track("u", "Paid")
    assert tally(sim) == Tally(3, 3)


def test_of_very_many_open_trials_the_oldest_are_given_up() -> None:
    sim = only_a(measured())
    runs = [went(sim) for _ in range(TRIALS_MAX + 3)]
    kept = sim.profile("u").trials
    assert [trial.run_id for trial in kept] == [run.run_id for run in runs[3:]]
    sim.track("u", "Paid")
    assert tally(sim) == Tally(TRIALS_MAX + 3, TRIALS_MAX)


def test_without_a_goal_only_exposures_are_counted_and_the_profile_is_not_written() -> None:
    sim = only_a()
    went(sim)
    assert tally(sim) == Tally(1, 0)
    assert sim.changes.profiles == {}


def test_a_duplicate_changes_no_count() -> None:
    sim = only_a(measured())
    went(sim, event_id="once")
    sim.track("u", "Go", event_id="once")
    sim.track("u", "Paid", event_id="paid")
    sim.track("u", "Paid", event_id="paid")
    assert tally(sim) == Tally(1, 1)


# -- engagement ----------------------------------------------------------------------------------


def engaging(**fields: object) -> tuple[Sim, str]:
    goal = EngagementGoal(OPENED, **fields)  # type: ignore[arg-type]
    sim = only_a(measured(goal), email())
    went(sim)
    return sim, sim.answer().message_id


def test_engagement_with_a_message_of_the_variant_counts_once() -> None:
    sim, message_id = engaging()
    sim.engage(message_id, EngagementKind.DELIVERED)
    assert tally(sim) == Tally(1, 0)
    sim.engage(message_id, EngagementKind.OPENED, engagement_id="o")
    sim.engage(message_id, EngagementKind.OPENED, engagement_id="o")
    sim.engage(message_id, EngagementKind.CLICKED)
    assert tally(sim) == Tally(1, 1)
    assert sim.run().timeline[-1].detail == "a: welcome opened"


def test_software_counts_only_where_it_is_asked_for() -> None:
    for asked in (False, True):
        sim, message_id = engaging(include_machine=asked)
        sim.engage(message_id, EngagementKind.OPENED, machine=True)
        assert tally(sim) == Tally(1, int(asked))


@pytest.mark.parametrize(("body", "successes"), [("STOP", 0), ("help", 0), ("Yes", 1), ("ok", 1)])
def test_who_texts_stop_has_not_answered(body: str, successes: int) -> None:
    sim = only_a(measured(EngagementGoal((EngagementKind.REPLIED,))), sms())
    sim.identify("u", phone_number="+351900000000")
    went(sim)
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": body})
    assert tally(sim) == Tally(1, successes)


def test_engagement_after_the_run_has_ended_counts_within_the_window() -> None:
    goal = EngagementGoal(OPENED)
    sim = only_a(measured(goal, 5 * DAY), email())
    went(sim)
    message = sim.answer()
    sim.advance(3 * DAY)
    assert sim.run().state is RunState.COMPLETED
    sim.engage(message.message_id, EngagementKind.OPENED)
    assert tally(sim) == Tally(1, 1)


def test_a_message_outside_of_the_variant_does_not_count() -> None:
    variants = (Variant("a", weight=1000), Variant("b"))
    experiment = Experiment(variants, optimize=measured(EngagementGoal(OPENED)))
    steps = (email("before"), Step("try", experiment), email("after"), delay())
    sim = Sim([track("Go", *steps)])
    sim.identify("u", first_name="U", email="u@example.com")
    went(sim)
    messages = [sim.answer(), sim.answer()]
    for message in messages:
        sim.engage(message.message_id, EngagementKind.OPENED)
    assert tally(sim) == Tally(1, 0)


def test_a_message_of_another_run_in_the_same_variant_does_not_count_for_this_one() -> None:
    sim, first = engaging()
    went(sim)
    sim.engage(first, EngagementKind.CLICKED)
    assert tally(sim) == Tally(2, 1)
    assert len(sim.profile("u").trials) == 1


def test_an_engagement_that_also_lets_the_run_go_on_is_noted_before_that() -> None:
    wait = Step("opened", Wait((EventWait("Never"),), DAY))
    sim = only_a(measured(EngagementGoal(OPENED)), email(), wait)
    went(sim)
    sim.settle(sim.sent[0], Unknown())
    # What a person does with a message whose send had no answer says that it came.
    sim.engage(sim.run().steps["welcome"]["message_id"], EngagementKind.OPENED)
    whats = sim.whats()
    assert whats.index("sent") < whats.index("goal_reached")
    assert tally(sim) == Tally(1, 1)


# -- people --------------------------------------------------------------------------------------


def test_trials_follow_when_a_stranger_turns_out_to_be_somebody() -> None:
    sim = only_a(measured())
    went(sim)
    sim.event(Event("s1", EventType.TRACK, anonymous_id="x", name="Go"))
    sim.event(Event("s2", EventType.ALIAS, "u", previous_id="x"))
    assert len(sim.profile("u").trials) == 2
    sim.track("u", "Paid")
    assert tally(sim) == Tally(2, 2)


def test_trials_that_are_over_push_none_out_that_is_open_when_two_are_one() -> None:
    trigger = Trigger(EventType.TRACK, "Start")
    lasting = replace(flow(optimize=measured(window_us=9 * DAY)), workflow_id="lasting")
    sim = Sim([flow(optimize=measured()), replace(lasting, trigger=trigger)])
    sim.track("u", "Start")
    for _ in range(TRIALS_MAX - 1):
        sim.track("u", "Go")
    sim.advance(2 * DAY)
    sim.event(Event("s1", EventType.TRACK, anonymous_id="x", name="Start"))
    sim.event(Event("s2", EventType.ALIAS, "u", previous_id="x"))
    assert [trial.workflow_id for trial in sim.profile("u").trials] == ["lasting", "lasting"]


def test_of_an_erased_person_no_trial_is_left_and_the_counts_stay() -> None:
    sim = only_a(measured())
    went(sim)
    identity = next(iter(sim.state.identities))
    sim.do(EraseRequested(identity))
    assert sim.profile("u").trials == ()
    assert tally(sim) == Tally(1, 0)


def test_a_canceled_run_stays_in_its_variant() -> None:
    """Left out, it would make the variant that is canceled more often look better."""
    sim = only_a(measured())
    run = went(sim)
    sim.do(CancelRequested(run.run_id))
    assert len(sim.profile("u").trials) == 1
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 1)


def test_a_goal_of_a_version_that_cannot_be_read_is_left_alone() -> None:
    sim = only_a(measured())
    went(sim)
    sim.definitions = replace(sim.definitions, plans={}, current={}, listening={})
    ended = replace(sim.run(), state=RunState.COMPLETED, step_id="", due_us=None)
    sim.state.put_run(ended)
    sim.track("u", "Paid")
    assert tally(sim) == Tally(1, 0)
