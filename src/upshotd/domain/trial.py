"""A trial: one run in one variant of an experiment, until its window is over. Tallies of them.

An open trial stands in the profile, whether its run has ended or not: that row is loaded with every
event and engagement of the person, and whoever counts a success writes it with its version.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

#: Open trials that are kept of a person; of more the oldest do not reach their goals any more.
TRIALS_MAX: Final = 200
#: The variant of those who get none.
HOLDOUT: Final = "holdout"

#: What is counted apart: an experiment as `name_of` says it, and a variant.
TallyKey: TypeAlias = tuple[str, str]


class Trial(NamedTuple):
    """A run that may still reach the goal of its variant."""

    run_id: str
    workflow_id: str
    #: The version that says what the goal is.
    version: int
    #: The experiment.
    step_id: str
    variant_id: str
    #: When the run took the variant, in microseconds.
    start_us: int
    #: End of the window, in microseconds, not included.
    until_us: int
    #: The run's key of re-entry.
    key: str = ""


class Tally(NamedTuple):
    """How many runs took a variant, and how many of those reached the goal."""

    exposures: int = 0
    successes: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally(self.exposures + other.exposures, self.successes + other.successes)


def name_of(workflow_id: str, step_id: str) -> str:
    """Return what an experiment is counted under; versions do not count apart."""
    return f"{workflow_id}/{step_id}"


def open_at(trials: Iterable[Trial], now_us: int) -> tuple[Trial, ...]:
    """Return those of *trials* whose window is open."""
    return tuple(trial for trial in trials if now_us < trial.until_us)


def joined(one: Iterable[Trial], other: Iterable[Trial], now_us: int) -> tuple[Trial, ...]:
    """Return the open trials of two people who are one, oldest first."""
    both = sorted(open_at((*one, *other), now_us), key=lambda t: (t.start_us, t.run_id))
    return tuple(both[-TRIALS_MAX:])
