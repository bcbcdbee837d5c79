"""What approve steps have asked, whom, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from upshotd.application.definitions import DefinitionBook
from upshotd.application.ports import Store
from upshotd.domain.approval import Approval, ApprovalState, state_of
from upshotd.domain.errors import NotFound
from upshotd.domain.run import Run
from upshotd.domain.steps.approve import Approve


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """An approval, and how it stands."""

    run: Run
    step_id: str
    approval: Approval
    state: ApprovalState
    #: When it ends if nobody decides, in microseconds; None: it has ended.
    timeout_us: int | None = None

    @property
    def end_us(self) -> int | None:
        """When it was decided, or ended, in microseconds; None while it is open."""
        return self.approval.end_us or self.run.end_us


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked."""

    #: Empty when the person is not kept any more.
    user_id: str
    #: With which level, from 1.
    level: int
    #: When, in microseconds.
    ask_us: int
    message_ids: tuple[str, ...]


class Approvals:
    """Reads what approve steps left in their runs; changes nothing."""

    def __init__(self, store: Store, book: DefinitionBook) -> None:
        self._store = store
        self._book = book

    async def of_message(self, workspace_id: str, message_id: str) -> ApprovalView:
        """Return the approval that a message is part of.

        Raises NotFound for an unknown message, or one of another step.
        """
        message = await self._store.message(workspace_id, message_id)
        if message is None:
            raise NotFound("message", message_id)
        if message.ask is None:
            raise NotFound("approval of the message", message_id)
        return await self.of_step(workspace_id, message.run_id, message.step_id)

    async def of_step(self, workspace_id: str, run_id: str, step_id: str) -> ApprovalView:
        """Return the approval of a step of a run.

        Raises NotFound for an unknown run, or a step of it that has asked nothing.
        """
        run = await self._store.run(workspace_id, run_id)
        if run is None:
            raise NotFound("run", run_id)
        left = run.steps.get(step_id, {})
        if "asked" not in left:
            raise NotFound("approval", f"{run_id}/{step_id}")
        approval = Approval.of(left)
        state = state_of(run, step_id, approval)
        timeout_us = None
        if state is ApprovalState.OPEN:
            timeout_us = await self._timeout_us(workspace_id, run)
        return ApprovalView(run, step_id, approval, state, timeout_us)

    async def reviewers(self, workspace_id: str, approval: Approval) -> Sequence[Asked]:
        """Return who was asked, in order, each once."""
        found: dict[str, Asked] = {}
        profile_ids = {asking.profile_id for asking in approval.asked}
        profiles = await self._store.profiles(workspace_id, profile_ids) if profile_ids else {}
        for asking in approval.asked:
            profile = profiles.get(asking.profile_id)
            user_id = profile.user_id if profile is not None else ""
            first = Asked(user_id, asking.level, asking.time_us, ())
            known = found.get(asking.profile_id, first)
            message_ids = (*known.message_ids, *asking.message_ids)
            found[asking.profile_id] = Asked(user_id, known.level, known.ask_us, message_ids)
        return tuple(found.values())

    async def _timeout_us(self, workspace_id: str, run: Run) -> int | None:
        version = (run.workflow_id, run.workflow_version)
        plan = (await self._book.covering(workspace_id, [version])).plans.get(version)
        step = plan.steps.get(run.step_id) if plan is not None else None
        if step is None or not isinstance(step.kind, Approve):
            return None
        return run.enter_us + step.kind.timeout_us
