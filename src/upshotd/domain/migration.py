"""A run in flight that goes on with another version of its workflow."""

from upshotd.domain.draft import Draft
from upshotd.domain.journey import Journey
from upshotd.domain.steps import kinds
from upshotd.domain.stimulus import MigrateRequested, MigrateResult
from upshotd.domain.values import replace


def migrate(draft: Draft, request: MigrateRequested) -> MigrateResult:
    """Move an active run of an older version, where its step is there with the same kind.

    Its timer is that of the new step, from when it entered the old one; one that is past is due
    now. A run that stands in a digest, or at a message that is with a provider, stays as it is.
    """
    run = draft.run(request.run_id)
    if run is None or not run.active or run.workflow_version >= request.version:
        return MigrateResult(older=False)
    plan = draft.definitions.plans.get((run.workflow_id, request.version))
    target = plan.steps.get(run.step_id) if plan is not None else None
    here = draft.plan(run).steps[run.step_id]
    if target is None or type(target.kind) is not type(here.kind):
        return MigrateResult(older=True, moved=False)
    moved = Journey(draft, replace(run, workflow_version=request.version))
    move = kinds.moved(target, moved)
    if move is None:
        return MigrateResult(older=True, moved=False)
    moved.note("migrated", f"v{run.workflow_version} -> v{request.version}")
    moved.follow(move)
    return MigrateResult(older=True, moved=True)
