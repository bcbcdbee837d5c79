"""A run: one profile going through one version of a workflow."""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from upshotd.domain.values import NOTHING


class RunState(IntEnum):
    """Whether a run goes on; the contract's numbers."""

    ACTIVE = 1
    COMPLETED = 2
    CANCELED = 3
    FAILED = 4


class TimelineEntry(NamedTuple):
    """One thing that happened to a run."""

    #: When, in microseconds.
    time_us: int
    #: Where; empty for the run itself.
    step_id: str
    #: What, one lower-case word.
    what: str
    #: Why, for people.
    detail: str = ""


class Run(NamedTuple):
    """Where one run stands. A run that waits is this one row, and nothing in memory."""

    run_id: str
    workflow_id: str
    workflow_version: int
    profile_id: str
    #: The event that started it (for an enrolled run, the one that started the first run).
    event_id: str
    #: What makes the start unique with workflow_id: the event, or the enrolling run and step.
    start_key: str
    start_us: int
    state: RunState = RunState.ACTIVE
    #: Upper-case word for the end; empty while active and at a plain end.
    reason: str = ""
    #: The step it stands at; empty after the end.
    step_id: str = ""
    #: When it entered that step, in microseconds.
    enter_us: int = 0
    #: When it goes on by itself, in microseconds; None when nothing is due.
    due_us: int | None = None
    end_us: int | None = None
    #: Key of re-entry; empty: one for all.
    reentry_key: str = ""
    #: True while it blocks another start under ONCE_ACTIVE (held by a unique index).
    holds_active: bool = False
    #: True when it blocks another start for ever under ONCE_EVER (held by a unique index).
    holds_ever: bool = False
    cancellation_key: str = ""
    #: Enrolments above it.
    depth: int = 0
    #: What each step left, by step_id: plain JSON values, as conditions and templates see them.
    steps: Mapping[str, Mapping[str, object]] = NOTHING
    timeline: tuple[TimelineEntry, ...] = ()
    #: Row version; 0 when the row has never been stored.
    row_version: int = 0

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.state is RunState.ACTIVE
