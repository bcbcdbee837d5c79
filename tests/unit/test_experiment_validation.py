"""Every fault of an experiment is told at once, by the path a person finds it at."""

from math import nan

import pytest

from tests.flows import email, track
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import WAIT_MAX_US, Delay
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Optimize,
    Variant,
)
from upshotd.domain.steps.wait import EngagementWait, Wait
from upshotd.domain.validation import Faults, validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import DAY_US, Step

OPENED = EngagementKind.OPENED
LANGUAGES = (CelConditions(), SandboxTemplates(MESSAGE_ROOTS))
A, B = Variant("a", (email("mail_a"),)), Variant("b", (email("mail_b"),))
SOUND = Experiment((A, B), 0.1, "traits.company", Optimize(EventGoal("Paid"), DAY_US))


def check(*experiments: Experiment) -> Faults:
    steps = [Step(f"try_{n}", experiment) for n, experiment in enumerate(experiments)]
    return validate(track("Go", *steps), *LANGUAGES, zone)


def optimizing(**fields: object) -> Experiment:
    return replace(SOUND, optimize=replace(SOUND.optimize, **fields))


def engaging(*kinds: EngagementKind) -> Experiment:
    return optimizing(goal=EngagementGoal(kinds))


def test_a_sound_experiment_has_no_faults() -> None:
    assert check(SOUND) == Faults()
    assert check(Experiment((A,), holdout=0.9, optimize=SOUND.optimize)) == Faults()
    assert check(Experiment((A, Variant("b", weight=1000)))) == Faults()
    one_after_the_other = replace(SOUND, variants=(Variant("a"), Variant("b")))
    assert check(SOUND, one_after_the_other) == Faults()


@pytest.mark.parametrize(
    ("experiment", "path"),
    [
        (replace(SOUND, variants=()), "variants"),
        (Experiment((A,)), "variants"),
        (Experiment(tuple(Variant(f"v{n}") for n in range(21))), "variants"),
        (replace(SOUND, variants=(A, Variant("Big"))), "variants[1].variant_id"),
        (replace(SOUND, variants=(A, Variant(""))), "variants[1].variant_id"),
        (replace(SOUND, variants=(A, Variant("a"))), "variants[1].variant_id"),
        (replace(SOUND, variants=(A, Variant("holdout"))), "variants[1].variant_id"),
        (Experiment((A, Variant("b", weight=1001))), "variants[1].weight"),
        (Experiment((A, Variant("b", weight=-1))), "variants[1].weight"),
        (replace(SOUND, holdout=0.95), "holdout"),
        (replace(SOUND, holdout=-0.1), "holdout"),
        (replace(SOUND, holdout=nan), "holdout"),
        (replace(SOUND, key="traits."), "key"),
        (optimizing(window_us=0), "optimize.window"),
        (optimizing(window_us=WAIT_MAX_US + 1), "optimize.window"),
        (optimizing(explore=1.1), "optimize.explore"),
        (optimizing(explore=nan), "optimize.explore"),
        (optimizing(goal=None), "optimize.goal"),
        (optimizing(goal=EventGoal("")), "optimize.goal.event.event"),
        (optimizing(goal=EventGoal("x" * 256)), "optimize.goal.event.event"),
        (optimizing(goal=EventGoal("Paid", "event.")), "optimize.goal.event.condition"),
        (engaging(), "optimize.goal.engagement.kinds"),
        (engaging(OPENED, EngagementKind.UNSPECIFIED), "optimize.goal.engagement.kinds[1]"),
        (engaging(EngagementKind.ACCEPTED), "optimize.goal.engagement.kinds[0]"),
        (engaging(OPENED, OPENED), "optimize.goal.engagement.kinds[1]"),
    ],
)
def test_a_fault_is_told_by_its_path(experiment: Experiment, path: str) -> None:
    found = check(experiment).violations
    assert [violation.field for violation in found] == [f"workflow.steps[0].experiment.{path}"]


def test_experiments_do_not_nest_at_any_depth() -> None:
    inner = Step("inner", Branch((Case("true", (Step("again", Experiment((A, B))),)),)))
    outer = Experiment((Variant("x", (inner,)), Variant("y")))
    (fault,) = check(outer).violations
    path = "workflow.steps[0].experiment.variants[0].steps[0].branch.cases[0].steps[0].experiment"
    assert fault.field == path
    assert "stands in a variant of another one" in fault.description


def test_a_wait_does_not_see_the_message_of_another_variant() -> None:
    opened = Step("opened", Wait((EngagementWait("mail_a", (OPENED,)),), DAY_US))
    faulty = Experiment((A, Variant("b", (opened,))))
    (fault,) = check(faulty).violations
    assert "stands on another path" in fault.description
    sound = Experiment((replace(A, steps=(*A.steps, opened)), B))
    assert check(sound) == Faults()


@pytest.mark.parametrize(
    ("experiment", "path", "text"),
    [
        (replace(SOUND, optimize=None), "holdout", "no goal is counted"),
        (replace(SOUND, variants=(A, replace(B, weight=2))), "variants", "have no effect"),
        (
            replace(engaging(OPENED), holdout=0.0, variants=(A, Variant("b"))),
            "optimize.goal.engagement",
            "'b', which sends nothing",
        ),
        (engaging(OPENED), "optimize.goal.engagement", "by those held out"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(
    experiment: Experiment, path: str, text: str
) -> None:
    faults = check(experiment)
    assert faults.violations == ()
    (warning,) = faults.warnings
    assert warning.field == f"workflow.steps[0].experiment.{path}"
    assert text in warning.description


def test_weights_that_stay_may_differ_where_the_goal_is_only_measured() -> None:
    variants = (Variant("a", (Step("pause", Delay(1)),)), Variant("b", weight=9))
    measured = Optimize(EventGoal("Paid"), DAY_US, measure_only=True)
    assert check(Experiment(variants, optimize=measured)) == Faults()
