"""A workflow definition: a trigger and a tree of steps; `steps/` says what each kind means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from upshotd.domain.audience import Change, Transition
from upshotd.domain.event import EventType
from upshotd.domain.message import Purpose
from upshotd.domain.schedule import Schedule
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import Experiment
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import AudienceWait, Wait

StepKind: TypeAlias = (
    Send
    | Delay
    | Wait
    | Branch
    | Throttle
    | Digest
    | FetchStep
    | Generate
    | UpdateProfile
    | Experiment
    | Approve
    | Emit
    | Enroll
    | Suppress
    | Exit
)

DAY_US = 86_400_000_000
#: Events older than this start nothing, unless the trigger says otherwise.
MAX_AGE_DEFAULT_US = DAY_US


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
    #: Exact event name for TRACK, of a page or a screen or empty for any, the audience's id for
    #: AUDIENCE; empty for the others.
    event: str = ""
    #: CEL that must hold; empty holds.
    condition: str = ""
    max_age_us: int = MAX_AGE_DEFAULT_US
    #: Whether our own outcomes, back from Segment, start it too.
    include_own_outcomes: bool = False
    #: Its times, where it starts by SCHEDULED.
    schedule: Schedule | None = None
    #: Which change of the audience it starts by, where it starts by AUDIENCE.
    transition: Transition | None = None


@dataclass(frozen=True, slots=True)
class ExitRule:
    """Ends a run wherever it waits: on a track event of the same profile, or when the person comes
    into an audience or leaves it. One of the two."""

    event: str = ""
    #: CEL over the exiting event; empty holds.
    condition: str = ""
    audience: Change | None = None


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


def everything(steps: tuple[Step, ...], path: str = "") -> Iterator[tuple[str, Step]]:
    """Yield the steps of a list that stands at *path* and those inside them, at any depth, in
    document order, each with its path."""
    for index, step in enumerate(steps):
        at = f"{path}[{index}]"
        yield at, step
        for inner, below in nested(step):
            yield from everything(below, f"{at}.{inner}")


def sends(steps: tuple[Step, ...], path: str) -> Iterator[tuple[str, Send]]:
    """Yield what the steps of a list that stands at *path* send, at any depth, each with its path:
    to the person of the run, and to reviewers."""
    for at, step in everything(steps, path):
        match step.kind:
            case Send():
                yield f"{at}.send", step.kind
            case Approve():
                for name, send in sends_of(step.kind):
                    yield f"{at}.approve.{name}", send
            case _:
                pass


def sends_of(approve: Approve) -> Iterator[tuple[str, Send]]:
    """Yield what reviewers get from an approve step, each with the name of its field."""
    yield "request", approve.request
    if approve.answer is not None:
        yield "answer", approve.answer
    if approve.notice is not None:
        yield "notice", approve.notice


def audiences(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield the audiences that *workflow* names, each with its path."""
    trigger = workflow.trigger
    if trigger.type is EventType.AUDIENCE:
        yield "workflow.trigger.audience.audience_id", trigger.event
    if trigger.schedule is not None and trigger.schedule.audience_id:
        yield "workflow.trigger.schedule.audience_id", trigger.schedule.audience_id
    for index, rule in enumerate(workflow.exits):
        if rule.audience is not None:
            yield f"workflow.exits[{index}].audience.audience_id", rule.audience.audience_id
    for at, step in everything(workflow.steps, "workflow.steps"):
        yield from _audiences_of(step, at)


def _audiences_of(step: Step, path: str) -> Iterator[tuple[str, str]]:
    match step.kind:
        case Wait(conditions=conditions):
            for condition in conditions:
                if isinstance(condition, AudienceWait):
                    yield f"{path}.wait", condition.change.audience_id
        case Approve(levels=levels):
            for index, level in enumerate(levels):
                if level.audience_id:
                    yield f"{path}.approve.levels[{index}].audience_id", level.audience_id
        case _:
            pass


def enrolled(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Yield the workflows that *workflow* enrolls people in, each with its path."""
    for at, step in everything(workflow.steps, "workflow.steps"):
        if isinstance(step.kind, Enroll):
            yield f"{at}.enroll.workflow_id", step.kind.workflow_id


# A case for each kind that has some.
def nested(step: Step) -> Iterator[tuple[str, tuple[Step, ...]]]:  # noqa: C901
    """Yield the lists of steps inside *step*, each with its path below the step."""
    match step.kind:
        case Send():
            yield "send.on_failure", step.kind.on_failure
        case Wait():
            yield "wait.on_match", step.kind.on_match
            yield "wait.on_timeout", step.kind.on_timeout
            yield "wait.on_undeliverable", step.kind.on_undeliverable
        case Branch():
            for index, case in enumerate(step.kind.cases):
                yield f"branch.cases[{index}].steps", case.steps
            yield "branch.otherwise", step.kind.otherwise
        case FetchStep():
            yield "fetch.on_failure", step.kind.on_failure
        case Generate():
            yield "generate.on_failure", step.kind.on_failure
        case Approve():
            yield "approve.on_approved", step.kind.on_approved
            yield "approve.on_denied", step.kind.on_denied
            yield "approve.on_timeout", step.kind.on_timeout
        case Throttle():
            yield "throttle.on_throttled", step.kind.on_throttled
        case Experiment():
            for index, variant in enumerate(step.kind.variants):
                yield f"experiment.variants[{index}].steps", variant.steps
        case _:
            return
