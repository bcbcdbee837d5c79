"""What becomes of runs in flight when a workflow is defined anew: in batches, after the commit.

What is left to do is a setting, written in the transaction of the version itself, so that whoever
finds it after a crash brings it to an end. Done twice it does nothing more.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Final

import structlog

from upshotd.application.loop import Loop
from upshotd.application.ports import Clock, RunFilter, Store
from upshotd.application.waking import Waking
from upshotd.domain.run import Run, RunState
from upshotd.domain.stimulus import (
    Answer,
    CancelRequested,
    CancelResult,
    MigrateRequested,
    MigrateResult,
    Stimulus,
)
from upshotd.domain.values import replace

log = structlog.get_logger()

PREFIX: Final = "in_flight/"
#: Runs of one batch.
PAGE: Final = 200
#: Pause between two looks at what others may have left behind, in microseconds.
INTERVAL_US: Final = 30_000_000


class InFlightPolicy(IntEnum):
    """What becomes of runs in flight; the contract's numbers."""

    #: They stay on their version.
    PIN = 1
    #: They go on with the new one, where their step is there with the same kind.
    MIGRATE = 2
    #: They are canceled.
    CANCEL = 3


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with the runs of a workflow that are on versions before this one."""

    workspace_id: str
    workflow_id: str
    version: int
    policy: InFlightPolicy
    #: Runs that were moved, or canceled.
    moved: int = 0
    #: Runs that stay on their version: they stand where they cannot be moved.
    pinned: int = 0
    done: bool = False

    @property
    def name(self) -> str:
        """The setting that it is kept in: one for each workflow."""
        return f"{PREFIX}{self.workspace_id}/{self.workflow_id}"

    def encoded(self) -> str:
        """Return it as the value of a setting."""
        return json.dumps(asdict(self))


def task_of(value: str) -> Task:
    """Return the task of a setting's value."""
    fields = json.loads(value)
    return Task(**{**fields, "policy": InFlightPolicy(fields["policy"])})


class InFlight:
    """Brings tasks to an end."""

    def __init__(self, store: Store, loop: Loop, clock: Clock) -> None:
        self._store = store
        self._loop = loop
        self._waking = Waking(clock)

    def wake(self) -> None:
        """Look for tasks at once."""
        self._waking.wake()

    async def run(self) -> None:
        """Do what there is to do, for ever; what fails is tried again."""
        await self._waking.forever(self.finish, "in_flight.failed", INTERVAL_US)

    async def finish(self) -> None:
        """Bring every task to an end."""
        for value in (await self._store.settings(PREFIX)).values():
            task = task_of(value)
            if not task.done:
                await self._finish(task)

    async def _finish(self, task: Task) -> None:
        """Go through the runs until nobody moves any more: one may start while we are at it."""
        while True:
            passed = await self._pass(task)
            task = replace(passed, moved=task.moved + passed.moved)
            if not passed.moved:
                break
        task = replace(task, done=True)
        await self._store.put_setting(task.name, task.encoded())
        log.info(
            "workflow.in_flight",
            workspace_id=task.workspace_id,
            workflow_id=task.workflow_id,
            version=task.version,
            policy=task.policy.name,
            moved=task.moved,
            pinned=task.pinned,
        )

    async def _pass(self, task: Task) -> Task:
        """Return *task* with what one way through all active runs has done."""
        before, moved, pinned = "", 0, 0
        chosen = RunFilter(task.workflow_id, "", RunState.ACTIVE)
        while runs := await self._store.runs(task.workspace_id, chosen, before, PAGE):
            older = [run for run in runs if run.workflow_version < task.version]
            changed = await self._change(task, older)
            moved += changed
            pinned += len(older) - changed
            before = runs[-1].run_id
        return replace(task, moved=moved, pinned=pinned)

    async def _change(self, task: Task, runs: Sequence[Run]) -> int:
        """Move or cancel *runs*; return how many that were."""
        run_ids = [run.run_id for run in runs]
        if not run_ids:
            return 0
        if task.policy is InFlightPolicy.CANCEL:
            asked: list[Stimulus] = [CancelRequested(run_id) for run_id in run_ids]
        else:
            asked = [MigrateRequested(run_id, task.version) for run_id in run_ids]
        answers = await self._loop.ask(task.workspace_id, asked)
        return sum(map(_changed, answers))


def _changed(answer: Answer) -> bool:
    match answer:
        case CancelResult(canceled=canceled):
            return bool(canceled)
        case MigrateResult(moved=moved):
            return moved
        case _:
            return False
