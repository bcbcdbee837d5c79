"""Workflows: defined, and looked at."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

import structlog

from upshotd.application import pages
from upshotd.application.codec import Codec
from upshotd.application.failpoints import failpoint
from upshotd.application.in_flight import PREFIX, InFlightPolicy, Task, task_of
from upshotd.application.pages import Page
from upshotd.application.ports import (
    Clock,
    Defined,
    Store,
    StoredWorkflow,
)
from upshotd.application.shelf import AUDIENCES, TEMPLATES, is_workflow
from upshotd.domain.errors import InvalidArgument, NotFound, VersionMismatch, Violation
from upshotd.domain.template import Template
from upshotd.domain.validation import Faults
from upshotd.domain.values import replace
from upshotd.domain.workflow import Workflow, audiences, enrolled, everything, sends

log = structlog.get_logger()

#: Digits of a version in a page token; more than any version has, less than 64 bits hold.
_VERSION_DIGITS = 18


@dataclass(frozen=True, slots=True)
class DefineResult:
    """What a definition became."""

    workflow_id: str
    #: Current now; of a definition that was only checked, what it would become.
    version: int
    #: True when it equals the current version.
    unchanged: bool
    #: What is legal and probably not meant.
    warnings: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class DefinedWorkflow:
    """One version of a workflow."""

    #: Of a version that archives it, what was there before, under this version's number.
    workflow: Workflow
    #: When it was defined, in microseconds.
    create_us: int
    archived: bool = False
    #: What was done with runs on older versions; only of one that is looked up, None for nothing.
    task: Task | None = None


class Workflows:
    """Stores definitions that can be run, and gives them back."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        clock: Clock,
        validate: Callable[[Workflow], Faults],
        refresh: Callable[[str], Awaitable[None]],
        wake: Callable[[], None] = lambda: None,
        steps_named: Callable[[Template], frozenset[str]] = lambda _: frozenset(),
    ) -> None:
        """*validate* finds faults; *refresh* makes a workspace's new version known to the loop;
        *steps_named* returns the ids of steps that the texts of a template name.

        *wake* is called when a version is stored: runs in flight may have to move, and it may have
        a schedule.
        """
        self._store = store
        self._codec = codec
        self._clock = clock
        self._validate = validate
        self._refresh = refresh
        self._wake = wake
        self._steps_named = steps_named
        self._running: set[asyncio.Task[Defined]] = set()

    async def define(
        self,
        workspace_id: str,
        workflow: Workflow,
        *,
        validate_only: bool,
        expected_version: int | None,
        in_flight: InFlightPolicy = InFlightPolicy.PIN,
    ) -> DefineResult:
        """Store *workflow* as a new version unless it equals the current one.

        When it returns the version is durable, and events that come later meet it; what *in_flight*
        says of runs on older versions is then done in the background, also after a crash. Raises
        InvalidArgument with every fault, VersionMismatch when *expected_version* (0: none exists)
        is not current.
        """
        faults = self._validate(workflow)
        if faults.violations:
            raise InvalidArgument.of(faults.violations)
        definition = self._codec.encode_workflow(workflow)
        workflow_id = workflow.workflow_id
        if validate_only:
            defined = await self._would_be(workspace_id, workflow_id, definition, expected_version)
        else:
            failpoint("define.before_commit")
            defined = await self._whole(
                self._define(workspace_id, workflow_id, definition, expected_version, in_flight)
            )
            failpoint("define.after_commit")
        warnings = (*faults.warnings, *await self._missing(workspace_id, workflow))
        return DefineResult(workflow_id, defined.version, defined.unchanged, warnings)

    async def _missing(self, workspace_id: str, workflow: Workflow) -> list[Violation]:
        """Return warnings about what is named and not there yet: until then nothing comes of it."""
        named = [(path, AUDIENCES + name) for path, name in audiences(workflow)]
        named += enrolled(workflow)
        found = []
        for path, send in sends(workflow.steps, "workflow.steps"):
            if send.template_id:
                found += await self._of_template(workspace_id, workflow, path, send.template_id)
        for path, name in named:
            stored = await self._store.workflow(workspace_id, name, 0)
            if name != workflow.workflow_id and (stored is None or not stored.definition):
                found.append(_not_yet(path, name))
        return found

    async def _of_template(
        self, workspace_id: str, workflow: Workflow, path: str, template_id: str
    ) -> list[Violation]:
        """Return warnings about a template that a step names, and about its layout."""
        at, known = f"{path}.template_id", {step.step_id for _, step in everything(workflow.steps)}
        stored = await self._store.workflow(workspace_id, TEMPLATES + template_id, 0)
        if stored is None:
            return [_not_yet(at, TEMPLATES + template_id)]
        template = self._codec.decode_template(stored.definition, stored.version)
        named = set(self._steps_named(template))
        layout = None
        if template.layout_id:
            layout = await self._store.workflow(workspace_id, TEMPLATES + template.layout_id, 0)
        if layout is not None:
            around = self._codec.decode_template(layout.definition, layout.version)
            named |= self._steps_named(around)
        text = "{0!r} names steps.{1}, and there is no step {1!r}"
        return [Violation(at, text.format(template_id, one)) for one in sorted(named - known)]

    async def _would_be(
        self, workspace_id: str, workflow_id: str, definition: bytes, expected: int | None
    ) -> Defined:
        """Return what the definition would become, and store nothing."""
        current = await self._store.workflow(workspace_id, workflow_id, 0)
        version = current.version if current is not None else 0
        if expected not in (None, version):
            text = f"the current version of {workflow_id!r} is {version}, not {expected}"
            raise VersionMismatch(text, current_version=str(version))
        if current is not None and current.definition == definition:
            return Defined(version, unchanged=True)
        return Defined(version + 1, unchanged=False)

    async def archive(
        self, workspace_id: str, workflow_id: str, in_flight: InFlightPolicy = InFlightPolicy.PIN
    ) -> DefineResult:
        """Let a workflow start nothing any more, as a version of its own. Raises NotFound.

        Runs in flight go on unless *in_flight* cancels them. Defined again it starts again.
        """
        if await self._store.workflow(workspace_id, workflow_id, 0) is None:
            raise NotFound("workflow", workflow_id)
        defined = await self._whole(self._define(workspace_id, workflow_id, b"", None, in_flight))
        return DefineResult(workflow_id, defined.version, defined.unchanged, ())

    async def _define(
        self,
        workspace_id: str,
        workflow_id: str,
        definition: bytes,
        expected: int | None,
        in_flight: InFlightPolicy,
    ) -> Defined:
        def task(version: int) -> tuple[str, str] | None:
            if in_flight is InFlightPolicy.PIN:
                return None
            left = Task(workspace_id, workflow_id, version, in_flight)
            return left.name, left.encoded()

        defined = await self._store.define(
            workspace_id, workflow_id, definition, expected, self._clock.now_us(), task
        )
        if defined.unchanged and (left := task(defined.version)) is not None:
            await self._store.put_setting(*left)
        # Also for an unchanged one: the refresh after its commit may have failed.
        await self._refresh(workspace_id)
        if not defined.unchanged:
            log.info(
                "workflow.defined" if definition else "workflow.archived",
                workspace_id=workspace_id,
                workflow_id=workflow_id,
                version=defined.version,
            )
        self._wake()
        return defined

    async def _whole(self, work: Coroutine[object, object, Defined]) -> Defined:
        """Finish *work* also when the caller goes away: a version that is stored and not known
        to the loop would start nothing until the next definition."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: "asyncio.Task[Defined]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; asyncio wants it to be looked at

    # looking in

    async def get(self, workspace_id: str, workflow_id: str, version: int) -> DefinedWorkflow:
        """Return one version, the current one for 0. Raises NotFound."""
        stored = await self._store.workflow(workspace_id, workflow_id, version)
        if stored is None and version:
            raise NotFound("workflow version", f"{workflow_id}/{version}")
        if stored is None:
            raise NotFound("workflow", workflow_id)
        found = await self._decoded(workspace_id, stored)
        return replace(found, task=await self._task(workspace_id, stored))

    async def _task(self, workspace_id: str, stored: StoredWorkflow) -> Task | None:
        value = await self._store.setting(f"{PREFIX}{workspace_id}/{stored.workflow_id}")
        task = task_of(value) if value else None
        return task if task is not None and task.version == stored.version else None

    async def list(
        self, workspace_id: str, page_size: int, page_token: str
    ) -> Page[DefinedWorkflow]:
        """Return current versions that are not archived, by id.

        Raises InvalidArgument for a bad page.
        """
        asked = pages.asked(page_size, page_token)
        current = await self._store.current_workflows(workspace_id)
        workflows = (s for s in current if s.definition and is_workflow(s.workflow_id))
        found = [stored for stored in workflows if stored.workflow_id > asked.last]
        page = asked.page(found, lambda stored: stored.workflow_id)
        return await self._page(workspace_id, page)

    async def versions(
        self, workspace_id: str, workflow_id: str, page_size: int, page_token: str
    ) -> Page[DefinedWorkflow]:
        """Return the versions of one workflow, newest first.

        Raises NotFound for an unknown workflow, InvalidArgument for a bad page.
        """
        asked = pages.asked(page_size, page_token)
        found = await self._store.workflow_versions(
            workspace_id, workflow_id, _before(asked.last), asked.size + 1
        )
        if not found and not await self._store.workflow(workspace_id, workflow_id, 0):
            raise NotFound("workflow", workflow_id)
        page = asked.page(found, lambda stored: str(stored.version))
        return await self._page(workspace_id, page)

    async def _page(self, workspace_id: str, page: Page[StoredWorkflow]) -> Page[DefinedWorkflow]:
        decoded = [await self._decoded(workspace_id, stored) for stored in page.items]
        return Page(decoded, page.next_page_token)

    async def _decoded(self, workspace_id: str, stored: StoredWorkflow) -> DefinedWorkflow:
        definition = stored.definition
        if not definition:
            name, before = stored.workflow_id, stored.version - 1
            archived = await self._store.workflow(workspace_id, name, before)
            assert archived is not None, "only what is there is archived"
            definition = archived.definition
        workflow = self._codec.decode_workflow(definition, stored.version)
        return DefinedWorkflow(workflow, stored.create_us, archived=not stored.definition)


def _not_yet(path: str, name: str) -> Violation:
    """Return the warning that nothing of this name is defined."""
    kind, _, which = name.rpartition(":")
    return Violation(path, f"there is no {kind or 'workflow'} {which!r} yet")


def _before(last: str) -> int | None:
    """Return the version that a page token names, None at the first page."""
    if not last:
        return None
    if last.isascii() and last.isdigit() and len(last) <= _VERSION_DIGITS:
        return int(last)
    fault = pages.bad_token()
    raise InvalidArgument(f"{fault.field} {fault.description}", (fault,))
