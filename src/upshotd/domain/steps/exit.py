"""exit: ends the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from upshotd.domain.steps.move import End, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey


@dataclass(frozen=True, slots=True)
class Exit:
    """Ends the run as COMPLETED."""

    #: Upper-case word for the run's reason.
    reason: str = "EXITED"


def enter(leave: Exit, journey: Journey) -> Move:
    """End the run."""
    journey.note("exited", leave.reason)
    return End(leave.reason)
