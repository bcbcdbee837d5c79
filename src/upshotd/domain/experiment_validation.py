"""What is wrong with an experiment."""

import re
from collections.abc import Sequence
from typing import Final, assert_never

from upshotd.domain.findings import Findings
from upshotd.domain.steps.delay import WAIT_MAX_US
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Optimize,
    Variant,
)
from upshotd.domain.steps.send import Send
from upshotd.domain.trial import HOLDOUT
from upshotd.domain.workflow import everything

VARIANTS_MAX: Final = 20
WEIGHT_MAX: Final = 1_000
#: Largest share that is held out.
HOLDOUT_MAX: Final = 0.9

_ID = re.compile(r"[a-z][a-z0-9_]{0,62}")
_INSIDE = ".experiment.variants["


def check(experiment: Experiment, path: str, around: Sequence[str], findings: Findings) -> None:
    """Note what is wrong with the experiment at *path*, which stands in the lists *around*."""
    if any(_INSIDE in arm for arm in around):
        text = "stands in a variant of another one: a message would come of two at once"
        findings.fault(path, text)
    least = 1 if experiment.holdout else 2
    if not least <= len(experiment.variants) <= VARIANTS_MAX:
        text = f"{len(experiment.variants)} given; {least} to {VARIANTS_MAX} are taken"
        findings.fault(f"{path}.variants", text)
    seen: set[str] = set()
    for index, variant in enumerate(experiment.variants[:VARIANTS_MAX]):
        _variant(variant, f"{path}.variants[{index}]", seen, findings)
    if not 0 <= experiment.holdout <= HOLDOUT_MAX:  # also of a NaN
        findings.fault(f"{path}.holdout", f"must be 0 to {HOLDOUT_MAX}")
    findings.expression(f"{path}.key", experiment.key, yields="key")
    if experiment.optimize is None:
        if experiment.holdout:
            text = "has nothing to be held against: without optimize no goal is counted"
            findings.warn(f"{path}.holdout", text)
        return
    _optimize(experiment, experiment.optimize, path, findings)


def _variant(variant: Variant, path: str, seen: set[str], findings: Findings) -> None:
    name, at = variant.variant_id, f"{path}.variant_id"
    if not _ID.fullmatch(name):
        said = f"{name!r} is not" if name else "is missing; must be"
        findings.fault(at, f"{said} 1 to 63 of a-z, 0-9 and _, beginning with a letter")
    elif name == HOLDOUT:
        findings.fault(at, f"{HOLDOUT!r} is the name of those who get no variant")
    elif name in seen:
        findings.fault(at, f"{name!r} is named twice")
    seen.add(name)
    findings.count(f"{path}.weight", variant.weight, WEIGHT_MAX)


def _optimize(experiment: Experiment, optimize: Optimize, path: str, findings: Findings) -> None:
    at = f"{path}.optimize"
    findings.span(f"{at}.window", optimize.window_us, most_us=WAIT_MAX_US)
    if not 0 <= optimize.explore <= 1:
        findings.fault(f"{at}.explore", "must be 0 to 1")
    if experiment.moves and len({variant.weight for variant in experiment.variants}) > 1:
        text = "have no effect: what comes of the variants moves their shares"
        findings.warn(f"{path}.variants", f"weights {text}")
    match optimize.goal:
        case None:
            findings.fault(f"{at}.goal", "one of engagement, event is required")
        case EventGoal():
            findings.event_name(f"{at}.goal.event.event", optimize.goal.event)
            condition = optimize.goal.condition
            findings.expression(f"{at}.goal.event.condition", condition, running=False)
        case EngagementGoal():
            _engagement(experiment, optimize.goal, f"{at}.goal.engagement", findings)
        case _:
            assert_never(optimize.goal)


def _engagement(
    experiment: Experiment, goal: EngagementGoal, path: str, findings: Findings
) -> None:
    findings.engagement_kinds(f"{path}.kinds", goal.kinds)
    for variant in experiment.variants:
        # What reviewers get is none of the person's.
        if not any(isinstance(step.kind, Send) for _, step in everything(variant.steps)):
            text = f"is never reached in {variant.variant_id!r}, which sends nothing"
            findings.warn(path, text)
    if experiment.holdout:
        findings.warn(path, "is never reached by those held out: an event could be")
