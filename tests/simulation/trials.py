"""I21: a run is in one variant of an experiment, and counts once; so does its success."""

from collections import Counter
from collections.abc import Callable, Mapping

from upshotd.adapters.memory.tables import Tables
from upshotd.domain.run import Run
from upshotd.domain.state import Changes
from upshotd.domain.trial import Tally, TallyKey, name_of

#: A run, and the experiment it is in.
Place = tuple[str, str]


def open_before(tables: Tables, changes: Changes) -> set[Place]:
    """Return the open trials of everybody whom *changes* are about to write or to merge."""
    whose = changes.profiles.keys() | {merge.from_profile_id for merge in changes.merges}
    people = (tables.profiles[who] for who in whose & tables.profiles.keys())
    return {(trial.run_id, trial.step_id) for person in people for trial in person.trials}


class Trials:
    """Counts for itself, by what timelines say, and holds the tallies against it."""

    def __init__(self, expect: Callable[[bool, str], None]) -> None:
        self._expect = expect
        self._assigned: dict[Place, str] = {}
        self._reached: set[Place] = set()
        self._exposures: dict[str, Counter[TallyKey]] = {}
        self._successes: dict[str, Counter[TallyKey]] = {}

    def committed(
        self, changes: Changes, old: Mapping[str, Run | None], was_open: set[Place]
    ) -> None:
        """Look at what was written over the runs that were there."""
        opened = {
            place
            for run in changes.runs.values()
            for place in self._run(changes.workspace_id, run, old[run.run_id])
        }
        now_open = {
            (trial.run_id, trial.step_id)
            for profile in changes.profiles.values()
            for trial in profile.trials
        }
        exposed, succeeded = Tally(), 0
        for key, tally in changes.tallies.items():
            exposed = exposed.plus(tally)
            succeeded += tally.successes
            self._successes.setdefault(changes.workspace_id, Counter())[key] += tally.successes
        self._expect(exposed.exposures == len(opened), f"I21 {sorted(opened)} are not {exposed}")
        closed = (was_open | opened) - now_open
        self._expect(succeeded <= len(closed), f"I21 {succeeded} successes of {sorted(closed)}")

    def _run(self, workspace_id: str, run: Run, old: Run | None) -> set[Place]:
        """Return the experiments that *run* came into."""
        opened: set[Place] = set()
        for entry in run.timeline[len(old.timeline) if old is not None else 0 :]:
            place, variant_id = (run.run_id, entry.step_id), entry.detail.partition(":")[0]
            if entry.what == "assigned":
                self._expect(place not in self._assigned, f"I21 {place} is in two variants")
                self._assigned[place] = variant_id
                opened.add(place)
                key = (name_of(run.workflow_id, entry.step_id), variant_id)
                self._exposures.setdefault(workspace_id, Counter())[key] += 1
            if entry.what == "goal_reached":
                self._expect(place not in self._reached, f"I21 {place} reached its goal twice")
                same = self._assigned.get(place) == variant_id
                self._expect(same, f"I21 {place} reached the goal of {variant_id}")
                self._reached.add(place)
        return opened

    def final(self, workspace_id: str, tables: Tables) -> None:
        """Hold what is stored against what was seen."""
        exposures = self._exposures.get(workspace_id, Counter())
        successes = self._successes.get(workspace_id, Counter())
        expected = {key: Tally(exposures[key], successes[key]) for key in exposures}
        self._expect(tables.tallies == expected, f"I21 {tables.tallies} should be {expected}")
        for key, tally in tables.tallies.items():
            possible = 0 <= tally.successes <= tally.exposures
            self._expect(possible, f"I21 {key} has {tally}")
        for run in tables.runs.values():
            for step_id, left in run.steps.items():
                variant_id = self._assigned.get((run.run_id, step_id))
                if variant_id is not None:
                    same = left.get("variant") == variant_id
                    self._expect(same, f"I21 {run.run_id} left {left} in {variant_id}")
