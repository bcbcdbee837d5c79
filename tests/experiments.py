"""Workflows with an experiment, and people who come into it."""

from tests.fakes import SeededIds
from tests.flows import delay, track
from tests.sim import DAY, Sim
from upshotd.domain.run import Run
from upshotd.domain.steps.experiment import EventGoal, Experiment, Goal, Optimize, Variant
from upshotd.domain.trial import Tally
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Workflow

ALWAYS = Reentry(ReentryMode.ALWAYS)
PAID = EventGoal("Paid")
NAME = "flow/try"


def measured(goal: Goal = PAID, window_us: int = DAY) -> Optimize:
    return Optimize(goal, window_us, measure_only=True)


def flow(*variants: Variant, **fields: object) -> Workflow:
    """Start, take a variant, and pause."""
    experiment = Experiment(variants or (Variant("a"), Variant("b")), **fields)  # type: ignore[arg-type]
    return track("Go", Step("try", experiment), delay(), reentry=ALWAYS)


def trying(*variants: Variant, **fields: object) -> Sim:
    sim = Sim([flow(*variants, **fields)])
    sim.ids = SeededIds(3)  # type: ignore[assignment]
    sim.identify("u", first_name="U", email="u@example.com")
    return sim


def went(sim: Sim, user_id: str = "u", **fields: object) -> Run:
    answer = sim.track(user_id, "Go", **fields)
    return sim.state.runs[answer.started[0].run_id]


def taken(run: Run) -> object:
    return run.steps["try"]["variant"]


def tally(sim: Sim, variant_id: str = "a") -> Tally:
    return sim.state.tallies.get((NAME, variant_id), Tally())


def only_a(optimize: Optimize | None = None, *steps: Step) -> Sim:
    """Everybody is in a, but for the thousandth person."""
    return trying(Variant("a", steps, 1000), Variant("b"), optimize=optimize)
