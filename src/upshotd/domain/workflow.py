"""A workflow definition: a trigger and a tree of steps; `steps/` says what each kind means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from upshotd.domain.event import EventType
from upshotd.domain.steps.branch import Branch
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.wait import EventWait, Wait

StepKind: TypeAlias = Send | Delay | Wait | Branch | Emit | Enroll | Suppress | Exit

DAY_US = 86_400_000_000
#: Events older than this start nothing, unless the trigger says otherwise.
MAX_AGE_DEFAULT_US = DAY_US


class Purpose(IntEnum):
    """What the messages of a workflow are for; the contract's numbers."""

    TRANSACTIONAL = 1
    PRODUCT = 2
    MARKETING = 3


class ReentryMode(IntEnum):
    """When the same profile may start again; the contract's numbers."""

    ALWAYS = 1
    ONCE_ACTIVE = 2
    ONCE_EVER = 3


@dataclass(frozen=True, slots=True)
class Reentry:
    """When the same profile may start again."""

    mode: ReentryMode = ReentryMode.ONCE_ACTIVE
    #: CEL for a key, so that each key has its own re-entry; empty: one for all.
    key: str = ""
    #: Time after a start in which there is no other.
    cooldown_us: int = 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts a run. `type` None starts by enroll steps only."""

    type: EventType | None
    #: Exact event name for TRACK; empty for the others.
    event: str = ""
    #: CEL that must hold; empty holds.
    condition: str = ""
    max_age_us: int = MAX_AGE_DEFAULT_US
    #: Whether our own outcomes, back from Segment, start it too.
    include_own_outcomes: bool = False


@dataclass(frozen=True, slots=True)
class ExitRule:
    """Ends a run wherever it waits, on a track event of the same profile."""

    event: str
    #: CEL over the exiting event; empty holds.
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow."""

    step_id: str
    kind: StepKind
    #: CEL that must hold, or the step is skipped; empty holds.
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """One immutable version of a definition. `version` is 0 until it is stored."""

    workflow_id: str
    trigger: Trigger
    steps: tuple[Step, ...]
    version: int = 0
    display_name: str = ""
    reentry: Reentry = field(default_factory=Reentry)
    exits: tuple[ExitRule, ...] = ()
    topic: str = ""
    purpose: Purpose = Purpose.PRODUCT
    #: CEL for the key by which runs can be canceled; empty: none.
    cancellation_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def nested(step: Step) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield the lists of steps inside *step*, each with its path below the step."""
    match step.kind:
        case Wait():
            yield "wait.on_match", step.kind.on_match
            yield "wait.on_timeout", step.kind.on_timeout
            yield "wait.on_undeliverable", step.kind.on_undeliverable
        case Branch():
            for index, case in enumerate(step.kind.cases):
                yield f"branch.cases[{index}].steps", case.steps
            yield "branch.otherwise", step.kind.otherwise
        case _:
            return


def _remembers(step: Step) -> bool:
    waits = step.kind.conditions if isinstance(step.kind, Wait) else ()
    return any(isinstance(w, EventWait) and w.since_run_started for w in waits)


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow made ready to run: where each step is and what follows it."""

    workflow: Workflow
    steps: Mapping[str, Step]
    #: The step after each one; None at the end of the workflow. The lists inside a step
    #: are followed by what follows the step.
    following: Mapping[str, str | None]
    #: Waits for events that count from the start of the run.
    remembering: tuple[Step, ...] = ()

    @classmethod
    def of(cls, workflow: Workflow) -> "Plan":
        """Return the plan of *workflow*, whose step ids are unique."""
        steps: dict[str, Step] = {}
        following: dict[str, str | None] = {}

        def walk(level: tuple[Step, ...], after: str | None) -> None:
            for index, step in enumerate(level):
                follows = level[index + 1].step_id if index + 1 < len(level) else after
                steps[step.step_id] = step
                following[step.step_id] = follows
                for _, inner in nested(step):
                    walk(inner, follows)

        walk(workflow.steps, None)
        remembering = tuple(step for step in steps.values() if _remembers(step))
        return cls(workflow, steps, following, remembering)

    @property
    def counts_starts(self) -> bool:
        """Whether past starts decide its re-entry."""
        reentry = self.workflow.reentry
        return reentry.cooldown_us > 0 or reentry.mode is ReentryMode.ONCE_EVER

    def into(self, inner: tuple[Step, ...], step_id: str) -> str | None:
        """Return where a run goes that takes the list *inner* of *step_id*."""
        return inner[0].step_id if inner else self.following[step_id]
