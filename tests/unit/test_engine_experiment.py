"""experiment: who gets which variant, why, and what outcomes say of it."""

from collections import Counter

import pytest

from tests.experiments import NAME, PAID, flow, measured, only_a, taken, tally, trying, went
from tests.flows import delay, email
from tests.sim import DAY, Sim
from upshotd.domain.message import Accepted
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.plan import Plan
from upshotd.domain.run import RunState
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.experiment import (
    Optimize,
    Variant,
    bucket,
)
from upshotd.domain.steps.wait import EventWait, Wait
from upshotd.domain.trial import HOLDOUT
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step


def test_the_weights_decide_and_the_same_person_has_the_same_variant_again() -> None:
    sim = trying(Variant("a", weight=1), Variant("b", weight=3))
    found = {f"u{n}": taken(went(sim, f"u{n}")) for n in range(400)}
    assert 70 < Counter(found.values())["a"] < 130
    for user_id in list(found)[:40]:
        assert taken(went(sim, user_id)) == found[user_id]
    assert tally(sim).exposures + tally(sim, "b").exposures == 440


def test_a_new_version_leaves_people_where_they_are_and_another_step_does_not() -> None:
    workflow = flow()
    other = replace(workflow, steps=(replace(workflow.steps[0], step_id="try_more"), delay()))
    places = []
    for one in (workflow, replace(workflow, version=2, display_name="Other"), other):
        sim = Sim([one])
        step_id = one.steps[0].step_id
        runs = [went(sim, f"u{n}") for n in range(60)]
        places.append([run.steps[step_id]["variant"] for run in runs])
    assert places[0] == places[1] != places[2]


def test_the_key_says_what_is_in_one_variant() -> None:
    sim = trying(key="string(traits.company)")
    found = set()
    for n in range(30):
        sim.identify(f"u{n}", company=n % 10)
        found.add((n % 10, taken(went(sim, f"u{n}"))))
    assert len(found) == 10
    run = went(sim, "homeless")
    assert (run.state, run.reason) == (RunState.FAILED, "NO_KEY")
    assert run.timeline[-1].detail.startswith("NO_KEY: ")


def test_who_is_held_out_goes_on_after_the_experiment_and_stays_held_out() -> None:
    named = "profile.user_id"
    sim = trying(Variant("a", (email(),)), holdout=0.3, key=named, optimize=measured())
    runs = [went(sim, f"u{n}") for n in range(200)]
    out = [run for run in runs if taken(run) == HOLDOUT]
    assert 40 < len(out) < 80
    assert tally(sim, HOLDOUT).exposures == len(out)
    assert {run.step_id for run in out} == {"pause"}
    assert "below 0.3" in out[0].timeline[1].detail
    more = trying(Variant("a", (email(),)), holdout=0.5, key=named)
    still = [taken(went(more, f"u{n}")) for n in range(200)]
    assert all(still[at] == HOLDOUT for at, run in enumerate(runs) if taken(run) == HOLDOUT)


def test_buckets_are_even_and_no_two_places_run_into_one() -> None:
    found = Counter(int(bucket("w", "flow", "step", str(n)) * 10) for n in range(20_000))
    assert all(1_850 < found[tenth] < 2_150 for tenth in range(10))
    assert bucket("a", "bc") != bucket("ab", "c")


def test_the_timeline_says_which_variant_and_why() -> None:
    sim = only_a()
    run = went(sim)
    assert [entry.what for entry in run.timeline] == ["started", "assigned", "delayed"]
    assert run.timeline[1].detail.startswith("a: bucket 0.")
    assert run.timeline[1].detail.endswith(" of a 1000, b 1")
    assert run.steps["try"] == {"variant": "a"}


def test_a_variant_that_does_better_is_taken_more_often() -> None:
    sim = trying(optimize=Optimize(PAID, DAY, explore=0.2))
    for n in range(400):
        run = went(sim, f"u{n}")
        if taken(run) == "b" and n % 2:
            sim.track(f"u{n}", "Paid")
    last = [taken(run) for run in list(sim.state.runs.values())[-100:]]
    assert last.count("b") > 80
    assert last.count("a") > 2  # it is still tried
    whys = [run.timeline[1].detail for run in sim.state.runs.values()]
    assert any(" drawn with a " in why for why in whys)
    assert any(" explored with a " in why for why in whys)


def test_a_step_that_is_skipped_is_not_counted() -> None:
    workflow = flow()
    step = replace(workflow.steps[0], condition="traits.plan == 'pro'")
    sim = Sim([replace(workflow, steps=(step, delay()))])
    run = went(sim)
    assert "try" not in run.steps
    assert sim.state.tallies == {}


@pytest.mark.parametrize(("before", "then"), [("b", "nudge"), ("gone", "pause")])
def test_a_run_that_comes_again_is_what_it_was_and_counted(before: str, then: str) -> None:
    """Moved to a version in which the step stands later than where it has been already."""
    workflow = flow(Variant("a", weight=1000), Variant("b", (delay("nudge"),)))
    sim = Sim([replace(workflow, steps=(delay("first"), *workflow.steps))])
    run = went(sim)
    sim.state.put_run(replace(run, steps={"try": {"variant": before}}))
    sim.advance(DAY)
    assert sim.run().step_id == then
    assert taken(sim.run()) == before
    assert sim.state.tallies == {}


# -- outcomes ------------------------------------------------------------------------------------


def test_outcomes_of_the_steps_of_a_variant_name_it() -> None:
    told = Step("told", Emit("Told", {}))
    sim = only_a(None, email(), told)
    went(sim)
    message = sim.answer(Accepted("p"))
    sim.engage(message.message_id, EngagementKind.OPENED)
    named = {o.kind: o.variant for o in sim.outcomes}
    assert named == {
        OutcomeKind.RUN_STARTED: "",
        OutcomeKind.MESSAGE_SENT: "try/a",
        OutcomeKind.CUSTOM: "try/a",
        OutcomeKind.MESSAGE_OPENED: "try/a",
    }


def test_a_plan_knows_what_stands_in_which_variant_at_any_depth() -> None:
    inner = Step("paid", Wait((EventWait("Paid"),), DAY, on_timeout=(email("late"),)))
    moving = Optimize(PAID, DAY)
    plan = Plan.of(flow(Variant("a", (inner,)), Variant("b", (email(),)), optimize=moving))
    assert plan.variants == {"paid": "try/a", "late": "try/a", "welcome": "try/b"}
    assert plan.experiments == {NAME}
    assert plan.following["late"] == plan.following["welcome"] == "pause"
    assert Plan.of(flow(optimize=measured())).experiments == frozenset()
