"""enroll: starts another workflow for this person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshotd.domain.steps.move import NEXT, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class Enroll:
    """Starts the current version of another workflow with the same trigger event."""

    workflow_id: str


def enter(step: Step, enroll: Enroll, journey: Journey) -> Move:
    """Start the other workflow, if it exists and lets the person in."""
    journey.note(*_enrolled(step, enroll, journey))
    return NEXT


def _enrolled(step: Step, enroll: Enroll, journey: Journey) -> tuple[str, str]:
    definitions, run = journey.draft.definitions, journey.run
    plan = definitions.current.get(enroll.workflow_id)
    if plan is None:
        return "not_enrolled", f"there is no workflow {enroll.workflow_id}"
    if run.depth >= definitions.policy.depth_max:
        return "not_enrolled", f"{run.depth} enrolments lie above this run"
    if len(journey.draft.changes.runs) >= definitions.policy.runs_max:
        return "not_enrolled", "too many runs were started at once"
    found = journey.start_other(plan, step.step_id)
    if found is None:
        return "not_enrolled", f"{enroll.workflow_id}: the trigger event is no longer kept"
    if not found.run_id:
        return "not_enrolled", f"{enroll.workflow_id}: {found.reason}: {found.detail}"
    journey.leave(step.step_id, run_id=found.run_id)
    return "enrolled", f"{enroll.workflow_id} {found.run_id}"
