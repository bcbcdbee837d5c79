"""What came of experiments: how often each variant was taken, and how surely it is better."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from upshotd.application.ports import Store
from upshotd.application.workflows import Workflows
from upshotd.domain.beta import Interval, difference, interval
from upshotd.domain.errors import NotFound
from upshotd.domain.steps.experiment import EventGoal, Experiment
from upshotd.domain.trial import HOLDOUT, Tally, name_of
from upshotd.domain.workflow import everything


@dataclass(frozen=True, slots=True)
class VariantReport:
    """What came of a variant, or of the holdout."""

    variant_id: str
    tally: Tally
    #: Where its rate lies with a probability of 95 %.
    rate_interval: Interval
    #: How much higher its rate is than that of the holdout; None where that says nothing.
    uplift: float | None = None
    #: Where the uplift lies with a probability of 95 %.
    uplift_interval: Interval | None = None
    #: Whether the experiment has it no more.
    retired: bool = False

    @property
    def rate(self) -> float:
        """Successes by exposures; 0 without any."""
        return self.tally.successes / max(1, self.tally.exposures)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an experiment."""

    workflow_id: str
    step_id: str
    experiment: Experiment
    variants: Sequence[VariantReport]


class Experiments:
    """Reads what was counted; changes nothing."""

    def __init__(self, store: Store, workflows: Workflows) -> None:
        self._store = store
        self._workflows = workflows

    async def reports(self, workspace_id: str, workflow_id: str, step_id: str) -> list[Report]:
        """Return what came of the experiments of a workflow, or of the one at *step_id*.

        Raises NotFound for an unknown workflow, or a step that is no experiment of it.
        """
        defined = await self._workflows.get(workspace_id, workflow_id, 0)
        found = {
            step.step_id: step.kind
            for _, step in everything(defined.workflow.steps)
            if isinstance(step.kind, Experiment) and step_id in ("", step.step_id)
        }
        if step_id and not found:
            raise NotFound("experiment", f"{workflow_id}/{step_id}")
        names = {name_of(workflow_id, one): one for one in found}
        counted: dict[str, dict[str, Tally]] = {one: {} for one in found}
        for (name, variant_id), tally in (await self._store.tallies(workspace_id, names)).items():
            counted[names[name]][variant_id] = tally
        return [
            Report(workflow_id, one, experiment, tuple(_variants(experiment, counted[one])))
            for one, experiment in found.items()
        ]


def _variants(experiment: Experiment, counted: Mapping[str, Tally]) -> Iterator[VariantReport]:
    """Yield the variants in order: as defined, those of earlier versions, the holdout."""
    current = [variant.variant_id for variant in experiment.variants]
    held_out = counted.get(HOLDOUT, Tally())
    goal = experiment.optimize.goal if experiment.optimize is not None else None
    # Who gets no message cannot engage with one.
    compared = isinstance(goal, EventGoal) and held_out.exposures > 0
    for variant_id in (*current, *sorted(counted.keys() - {*current, HOLDOUT})):
        tally = counted.get(variant_id, Tally())
        retired = variant_id not in current
        if not (compared and tally.exposures):
            yield VariantReport(variant_id, tally, _interval(tally), retired=retired)
            continue
        rates = [one.successes / one.exposures for one in (tally, held_out)]
        apart = difference(_belief(tally), _belief(held_out))
        uplift = rates[0] - rates[1]
        yield VariantReport(variant_id, tally, _interval(tally), uplift, apart, retired)
    if experiment.holdout or held_out.exposures:
        yield VariantReport(HOLDOUT, held_out, _interval(held_out), retired=not experiment.holdout)


def _belief(tally: Tally) -> tuple[float, float]:
    """Return the Beta distribution of the rate; before anything is known all rates are alike."""
    return 1.0 + tally.successes, 1.0 + tally.exposures - tally.successes


def _interval(tally: Tally) -> Interval:
    return interval(*_belief(tally))
