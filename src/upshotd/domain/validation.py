"""Whether a workflow can be run: all of its faults at once, and what is probably not meant."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from upshotd.domain import schedule
from upshotd.domain.errors import Violation
from upshotd.domain.event import EventType
from upshotd.domain.findings import SPAN_MAX_US, Findings
from upshotd.domain.language import Conditions, Templates, Zones
from upshotd.domain.names import REVIEWER_ROOTS
from upshotd.domain.step_validation import Placed, check
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.exit import Exit
from upshotd.domain.workflow import (
    DAY_US,
    Reentry,
    ReentryMode,
    Step,
    Trigger,
    Workflow,
    everything,
    nested,
)

STEPS_MAX = 200
#: Lists of steps inside of lists; those of the workflow itself are the first.
NESTING_MAX = 10
EXITS_MAX = 20
LABELS_MAX = 64
LABEL_NAME_MAX = 63
#: Longest label and longest name for people, in characters.
LABEL_MAX = 255

_STEP_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: Words of CEL: steps are named in expressions, as `steps.welcome.opened`.
CEL_WORDS = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else",
        "for", "function", "if", "import", "let", "loop", "package",
        "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Faults:
    """What validation found."""

    #: What makes the workflow unusable; empty when it can be stored.
    violations: tuple[Violation, ...] = ()
    #: What is legal and probably not meant.
    warnings: tuple[Violation, ...] = ()


def validate(
    workflow: Workflow, conditions: Conditions, templates: Templates, zones: Zones
) -> Faults:
    """Return every fault of *workflow* by path, as `workflow.steps[1].wait.timeout`.

    A workflow of more than 200 steps is looked at as far as the first 200.
    """
    exits = frozenset(r.event for r in workflow.exits if r.event and not r.condition)
    findings = Findings(
        conditions,
        templates,
        zones,
        workflow.workflow_id,
        exits,
        elsewhere=REVIEWER_ROOTS,
        steps=frozenset(step.step_id for _, step in everything(workflow.steps)),
    )
    findings.name("workflow.workflow_id", workflow.workflow_id)
    _words(workflow, findings)
    _trigger(workflow.trigger, findings)
    _steps(workflow, findings)
    _reentry(workflow.reentry, findings)
    _exits(workflow, findings)
    key = workflow.cancellation_key
    findings.expression("workflow.cancellation_key", key, yields="key", running=False)
    return Faults(tuple(findings.violations), tuple(findings.warnings))


def _words(workflow: Workflow, findings: Findings) -> None:
    if len(workflow.display_name) > LABEL_MAX:
        text = f"{len(workflow.display_name)} characters; at most {LABEL_MAX} are taken"
        findings.fault("workflow.display_name", text)
    if workflow.topic:
        findings.name("workflow.topic", workflow.topic)
    if len(workflow.labels) > LABELS_MAX:
        text = f"{len(workflow.labels)} given; at most {LABELS_MAX} are taken"
        findings.fault("workflow.labels", text)
    elif any(
        not 0 < len(name) <= LABEL_NAME_MAX or len(value) > LABEL_MAX
        for name, value in workflow.labels.items()
    ):
        text = f"names have 1 to {LABEL_NAME_MAX} characters, values at most {LABEL_MAX}"
        findings.fault("workflow.labels", text)


def _trigger(trigger: Trigger, findings: Findings) -> None:
    if trigger.type is EventType.TRACK:
        findings.event_name("workflow.trigger.track.event", trigger.event)
    elif trigger.type in (EventType.PAGE, EventType.SCREEN) and trigger.event:
        findings.event_name(f"workflow.trigger.{trigger.type}.name", trigger.event)
    elif trigger.type is EventType.AUDIENCE:
        findings.name("workflow.trigger.audience.audience_id", trigger.event)
    elif trigger.schedule is not None:
        path = "workflow.trigger.schedule"
        text = schedule.fault(trigger.schedule.cron)
        if text is not None:
            findings.fault(f"{path}.cron", f"{trigger.schedule.cron!r} {text}")
        findings.time_zone(f"{path}.time_zone", trigger.schedule.time_zone)
        if trigger.schedule.audience_id:
            findings.name(f"{path}.audience_id", trigger.schedule.audience_id)
    findings.expression("workflow.trigger.condition", trigger.condition, running=False)
    findings.span("workflow.trigger.max_age", trigger.max_age_us)


def _reentry(reentry: Reentry, findings: Findings) -> None:
    findings.expression("workflow.reentry.key", reentry.key, yields="key", running=False)
    if not 0 <= reentry.cooldown_us <= SPAN_MAX_US:
        text = f"must be 0 to {SPAN_MAX_US // DAY_US} days"
        findings.fault("workflow.reentry.cooldown", text)
    if reentry.key and reentry.mode is ReentryMode.ALWAYS and not reentry.cooldown_us:
        findings.warn("workflow.reentry.key", "has no effect with ALWAYS and no cooldown")


def _collecting(workflow: Workflow, placed: list[Placed], findings: Findings) -> None:
    """Warn of a digest to which no second run can come."""
    reentry = workflow.reentry
    if reentry.key or reentry.mode is ReentryMode.ALWAYS:
        return
    if any(isinstance(one.step.kind, Digest) for one in placed):
        text = "lets no second run come while one is in the digest: ALWAYS is meant, or a key"
        findings.warn("workflow.reentry.mode", text)


def _exits(workflow: Workflow, findings: Findings) -> None:
    if len(workflow.exits) > EXITS_MAX:
        text = f"{len(workflow.exits)} given; at most {EXITS_MAX} are taken"
        findings.fault("workflow.exits", text)
    for index, rule in enumerate(workflow.exits[:EXITS_MAX]):
        path = f"workflow.exits[{index}]"
        if rule.audience is None:
            findings.event_name(f"{path}.track.event", rule.event)
        else:
            findings.name(f"{path}.audience.audience_id", rule.audience.audience_id)
        findings.expression(f"{path}.condition", rule.condition)


def _steps(workflow: Workflow, findings: Findings) -> None:
    if not workflow.steps:
        findings.fault("workflow.steps", "at least one is required")
    placed: list[Placed] = []
    _place(workflow.steps, "workflow.steps", {}, placed, findings)
    if len(placed) > STEPS_MAX:
        text = f"{len(placed)} with those nested in them; at most {STEPS_MAX} are taken"
        findings.fault("workflow.steps", text)
    _collecting(workflow, placed, findings)
    known: dict[str, Placed] = {}
    for one in placed[:STEPS_MAX]:
        _step_id(one, known, findings)
        findings.expression(f"{one.path}.condition", one.step.condition)
        check(one, known, findings)
        known.setdefault(one.step.step_id, one)


def _place(
    level: tuple[Step, ...],
    path: str,
    arms: Mapping[str, str],
    placed: list[Placed],
    findings: Findings,
) -> None:
    """Append the steps of *level*, and of the lists inside them, in document order."""
    if level and len(arms) == NESTING_MAX:
        findings.fault(path, f"steps nest at most {NESTING_MAX} deep")
    ended = False
    for index, step in enumerate(level):
        at = f"{path}[{index}]"
        if ended:
            findings.warn(at, "is never reached: the step before it ends the run")
        ended = isinstance(step.kind, Exit) and not step.condition
        placed.append(Placed(step, at, arms))
        for inner, steps in nested(step):
            below = f"{at}.{inner}"
            _place(steps, below, {**arms, at: below}, placed, findings)


def _step_id(placed: Placed, known: Mapping[str, Placed], findings: Findings) -> None:
    step_id, path = placed.step.step_id, f"{placed.path}.step_id"
    if not _STEP_ID.fullmatch(step_id):
        said = f"{step_id!r} is not" if step_id else "is missing; must be"
        findings.fault(path, f"{said} 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    elif step_id in CEL_WORDS:
        findings.fault(path, f"{step_id!r} is a word of CEL: conditions could not name the step")
    elif step_id in known:
        text = f"{step_id!r} is the id of {known[step_id].path} already"
        findings.fault(path, text)
