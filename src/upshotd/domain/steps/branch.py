"""branch: takes the first case that holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshotd.domain.steps.move import Into, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its steps run when it is the first whose CEL holds."""

    condition: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """Takes the first case that holds, else `otherwise`."""

    cases: tuple[Case, ...]
    otherwise: tuple[Step, ...] = ()


def enter(branch: Branch, journey: Journey) -> Move:
    """Go into the first case that holds."""
    for case in branch.cases:
        if journey.holds(case.condition):
            journey.note("branched", journey.because(case.condition))
            return Into(case.steps)
    tried = "; ".join(journey.because(case.condition) for case in branch.cases)
    journey.note("branched", f"otherwise: not {tried}")
    return Into(branch.otherwise)
