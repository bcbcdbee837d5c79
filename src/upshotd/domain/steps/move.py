"""Where a run goes from a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from upshotd.domain.run import RunState

if TYPE_CHECKING:
    from upshotd.domain.workflow import Step


@dataclass(frozen=True, slots=True)
class Next:
    """On to what follows the step."""


@dataclass(frozen=True, slots=True)
class Into:
    """Into a list of steps inside the step; an empty one goes on to what follows it."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """It stays, until the moment (microseconds) or, with None, until something comes."""

    due_us: int | None


@dataclass(frozen=True, slots=True)
class End:
    """The run ends."""

    reason: str
    state: RunState = RunState.COMPLETED
    #: For people.
    detail: str = ""


Move: TypeAlias = Next | Into | Hold | End

NEXT = Next()
