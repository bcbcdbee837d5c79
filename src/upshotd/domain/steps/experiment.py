"""experiment: takes one of several variants, and counts what comes of each."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

from upshotd.domain.bandit import choose
from upshotd.domain.errors import ConditionError
from upshotd.domain.run import RunState
from upshotd.domain.steps.move import NEXT, End, Into, Move
from upshotd.domain.trial import HOLDOUT, TRIALS_MAX, Tally, Trial, name_of, open_at
from upshotd.domain.values import replace

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.outcome import EngagementKind
    from upshotd.domain.workflow import Step

#: Share of the runs that are spread evenly where the workflow says none.
EXPLORE_DEFAULT: Final = 0.1


@dataclass(frozen=True, slots=True)
class Variant:
    """One way a run may go."""

    variant_id: str
    steps: tuple[Step, ...] = ()
    #: Its share beside those of the others.
    weight: int = 1


@dataclass(frozen=True, slots=True)
class EngagementGoal:
    """Engagement with a message that was sent in the variant."""

    kinds: tuple[EngagementKind, ...]
    #: Whether prefetching by software counts.
    include_machine: bool = False


@dataclass(frozen=True, slots=True)
class EventGoal:
    """A track event of the same profile, that happened after the run took its variant."""

    event: str
    #: CEL over that event; empty holds.
    condition: str = ""


Goal: TypeAlias = EngagementGoal | EventGoal


@dataclass(frozen=True, slots=True)
class Optimize:
    """What is counted as a success, and whether that moves the shares."""

    #: None is a fault.
    goal: Goal | None
    #: How long after taking its variant a run may reach the goal, in microseconds.
    window_us: int
    #: Share of the runs that are spread over the variants evenly.
    explore: float = EXPLORE_DEFAULT
    #: Whether the shares stay with the weights.
    measure_only: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """Takes one of the variants; those that are held out take none."""

    variants: tuple[Variant, ...]
    #: Share of the keys that are held out.
    holdout: float = 0.0
    #: CEL for what is in one variant; empty: the person.
    key: str = ""
    optimize: Optimize | None = None

    @property
    def moves(self) -> bool:
        """Whether what comes of the variants moves their shares."""
        return self.optimize is not None and not self.optimize.measure_only


def label(step_id: str, variant_id: str) -> str:
    """Return how outcomes name a variant."""
    return f"{step_id}/{variant_id}"


def enter(step: Step, experiment: Experiment, journey: Journey) -> Move:
    """Take a variant, count that, and go into its steps.

    A run that was here before, under another version, is what it was, and counted.
    """
    before = journey.steps.get(step.step_id, {}).get("variant")
    if before is not None:
        again = [one.steps for one in experiment.variants if one.variant_id == before]
        return Into(again[0]) if again else NEXT
    try:
        key = journey.key(experiment.key) or journey.run.profile_id
    except ConditionError as error:
        return End("NO_KEY", RunState.FAILED, f"{experiment.key}: {error}")
    variant, why = _taken(step, experiment, journey, key)
    variant_id = variant.variant_id if variant is not None else HOLDOUT
    journey.leave(step.step_id, variant=variant_id)
    journey.note("assigned", f"{variant_id}: {why}")
    _count(step, experiment, journey, variant_id)
    return Into(variant.steps) if variant is not None else NEXT


def _taken(
    step: Step, experiment: Experiment, journey: Journey, key: str
) -> tuple[Variant | None, str]:
    """Return the variant, None for the holdout, and why."""
    place = (journey.draft.changes.workspace_id, journey.run.workflow_id, step.step_id, key)
    if experiment.holdout:
        at = bucket(HOLDOUT, *place)
        if at < experiment.holdout:
            return None, f"bucket {at:.4f} is below {experiment.holdout:g}"
    if experiment.optimize is not None and experiment.moves:
        return _drawn(step, experiment, experiment.optimize, journey)
    at = bucket("variant", *place)
    weights = ", ".join(f"{v.variant_id} {v.weight}" for v in experiment.variants)
    return _weighed(experiment.variants, at), f"bucket {at:.4f} of {weights}"


def bucket(*place: str) -> float:
    """Return a number in [0, 1) that is the same for the same texts, and even over different ones.

    Each text is preceded by its length: no two places run into one.
    """
    said = "".join(f"{len(text)}:{text}" for text in place)
    # As many bits as a float holds exactly.
    return (int.from_bytes(blake2b(said.encode(), digest_size=8).digest()) >> 11) / 2**53


def _weighed(variants: tuple[Variant, ...], at: float) -> Variant:
    """Return the variant at a place in [0, 1) of the weights laid end to end."""
    left = at * sum(variant.weight for variant in variants)
    for variant in variants[:-1]:
        left -= variant.weight
        if left < 0:
            return variant
    return variants[-1]


def _drawn(
    step: Step, experiment: Experiment, optimize: Optimize, journey: Journey
) -> tuple[Variant, str]:
    """Return the variant that seems worth a trial by what came of those before."""
    draft, name = journey.draft, name_of(journey.run.workflow_id, step.step_id)
    variants = experiment.variants
    tallies = [draft.tally(name, variant.variant_id) for variant in variants]
    at, explored = choose(tallies, optimize.explore, draft.ids.fraction)
    known = ", ".join(
        f"{variant.variant_id} {tally.successes} of {tally.exposures}"
        for variant, tally in zip(variants, tallies, strict=True)
    )
    return variants[at], f"{'explored' if explored else 'drawn'} with {known}"


def _count(step: Step, experiment: Experiment, journey: Journey, variant_id: str) -> None:
    """Count the run, and open its trial where there is a goal."""
    draft, run, now_us = journey.draft, journey.run, journey.now_us
    draft.count(name_of(run.workflow_id, step.step_id), variant_id, Tally(exposures=1))
    if experiment.optimize is None:
        return
    until_us = now_us + experiment.optimize.window_us
    at = (run.workflow_id, run.workflow_version, step.step_id, variant_id)
    trial = Trial(run.run_id, *at, now_us, until_us, run.reentry_key)
    kept = open_at(journey.profile.trials, now_us)[1 - TRIALS_MAX :]
    draft.put_profile(replace(journey.profile, trials=(*kept, trial)))
