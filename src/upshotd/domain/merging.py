"""Runs of a person who turns out to be another one."""

from upshotd.domain.draft import Draft
from upshotd.domain.journey import resume
from upshotd.domain.profile import Merge
from upshotd.domain.run import RunState
from upshotd.domain.values import replace


def move_runs(draft: Draft, merge: Merge) -> None:
    """Move running runs with their person; of two under one re-entry key the older stays.

    Past starts count for who the person became.
    """
    _move_starts(draft, merge)
    taken = {
        (run.workflow_id, run.reentry_key): run
        for run in draft.active_runs(merge.into_profile_id)
        if run.holds_active
    }
    for run in tuple(draft.active_runs(merge.from_profile_id)):
        moved = replace(run, profile_id=merge.into_profile_id)
        draft.put_run(moved)
        rival = taken.get((run.workflow_id, run.reentry_key)) if run.holds_active else None
        if rival is None:
            continue
        younger = rival if rival.start_us > moved.start_us else moved
        journey = resume(draft, younger.run_id)
        if journey is not None:
            journey.end(RunState.CANCELED, "MERGED")


def _move_starts(draft: Draft, merge: Merge) -> None:
    known = {**draft.state.last_starts, **draft.changes.last_starts}
    for (workflow_id, profile_id, key), start_us in known.items():
        if profile_id == merge.from_profile_id:
            entry = (workflow_id, merge.into_profile_id, key)
            draft.changes.last_starts[entry] = max(start_us, known.get(entry, start_us))
