"""A workflow made ready to run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from upshotd.domain.reading import PARTS, parts_read
from upshotd.domain.steps.experiment import Experiment, label
from upshotd.domain.steps.throttle import Throttle, ThrottleScope, shared
from upshotd.domain.steps.wait import EventWait, Wait
from upshotd.domain.trial import name_of
from upshotd.domain.workflow import ReentryMode, Step, Workflow, nested


def _remembers(step: Step) -> bool:
    waits = step.kind.conditions if isinstance(step.kind, Wait) else ()
    return any(isinstance(w, EventWait) and w.since_run_started for w in waits)


def _lists(step: Step) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield the lists of steps inside *step*, each with the variant that it is, empty for none."""
    if isinstance(step.kind, Experiment):
        for variant in step.kind.variants:
            yield label(step.step_id, variant.variant_id), variant.steps
        return
    for _, inner in nested(step):
        yield "", inner


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow made ready to run: where each step is and what follows it."""

    workflow: Workflow
    steps: Mapping[str, Step]
    #: The step after each one; None at the end of the workflow. The lists inside a step
    #: are followed by what follows the step, those of a throttle by nothing.
    following: Mapping[str, str | None]
    #: Waits for events that count from the start of the run.
    remembering: tuple[Step, ...] = ()
    #: What its conditions and templates may read of what costs something to make.
    parts: frozenset[str] = PARTS
    #: Rows in which its throttles count the runs of everybody.
    counters: frozenset[str] = frozenset()
    #: Its experiments whose shares are moved by what comes of them, by `trial.name_of`.
    experiments: frozenset[str] = frozenset()
    #: The variant that a step stands in, as outcomes name it; not for steps outside of any.
    variants: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, workflow: Workflow) -> "Plan":
        """Return the plan of *workflow*, whose step ids are unique."""
        steps: dict[str, Step] = {}
        following: dict[str, str | None] = {}
        variants: dict[str, str] = {}

        def walk(level: tuple[Step, ...], after: str | None, variant: str) -> None:
            for index, step in enumerate(level):
                follows = level[index + 1].step_id if index + 1 < len(level) else after
                steps[step.step_id] = step
                following[step.step_id] = follows
                if variant:
                    variants[step.step_id] = variant
                for named, inner in _lists(step):
                    # A run that does not pass a throttle ends with its other steps.
                    then = None if isinstance(step.kind, Throttle) else follows
                    walk(inner, then, named or variant)

        walk(workflow.steps, None, "")
        remembering = tuple(step for step in steps.values() if _remembers(step))
        counters = frozenset(
            shared(workflow.workflow_id, step.step_id)
            for step in steps.values()
            if isinstance(step.kind, Throttle) and step.kind.scope is ThrottleScope.WORKSPACE
        )
        experiments = frozenset(
            name_of(workflow.workflow_id, step.step_id)
            for step in steps.values()
            if isinstance(step.kind, Experiment) and step.kind.moves
        )
        parts = parts_read(workflow)
        return cls(workflow, steps, following, remembering, parts, counters, experiments, variants)

    @property
    def counts_starts(self) -> bool:
        """Whether past starts decide its re-entry."""
        reentry = self.workflow.reentry
        return reentry.cooldown_us > 0 or reentry.mode is ReentryMode.ONCE_EVER

    def into(self, inner: tuple[Step, ...], step_id: str) -> str | None:
        """Return where a run goes that takes the list *inner* of *step_id*."""
        return inner[0].step_id if inner else self.following[step_id]
