"""Workflows: defined once it is known to be right, versioned, and known to the loop at once."""

import asyncio
import pickle
from typing import Any, cast

import pytest

from tests import flows
from tests.builders import HOUR, NOON
from tests.fakes import ManualClock
from upshotd.adapters.memory import MemoryStore
from upshotd.application.codec import Codec
from upshotd.application.pages import Page
from upshotd.application.ports import (
    Defined,
)
from upshotd.application.workflows import DefinedWorkflow, DefineResult, Workflows
from upshotd.domain.errors import (
    InvalidArgument,
    NotFound,
    Unavailable,
    VersionMismatch,
    Violation,
)
from upshotd.domain.message import Channel
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.send import Send
from upshotd.domain.template import Template
from upshotd.domain.validation import Faults
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, Workflow

WORKSPACE = "default"


class PickleCodec:
    """The canonical encoding of these tests."""

    def encode_workflow(self, workflow: Workflow) -> bytes:
        return pickle.dumps(replace(workflow, version=0))

    def decode_workflow(self, definition: bytes, version: int) -> Workflow:
        decoded: Workflow = pickle.loads(definition)
        return replace(decoded, version=version)


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(encode_outcome=lambda *_: b"")
        self.clock = ManualClock()
        self.faults = Faults()
        #: What was current in the store when the loop was told to look.
        self.refreshed: list[int] = []
        self.workflows = Workflows(
            self.store,
            cast(Codec, PickleCodec()),
            self.clock,
            lambda workflow: self.faults,
            self.refresh,
        )

    async def refresh(self, workspace_id: str) -> None:
        current = await self.store.current_workflows(workspace_id)
        self.refreshed.append(max(stored.version for stored in current))

    async def define(self, workflow: Workflow, **options: Any) -> DefineResult:
        options = {"validate_only": False, "expected_version": None, **options}
        return await self.workflows.define(WORKSPACE, workflow, **options)


@pytest.fixture
def world() -> World:
    return World()


def flow(workflow_id: str = "flow", subject: str = "Hi") -> Workflow:
    return flows.track("Signed Up", flows.email(subject=subject), workflow_id=workflow_id)


async def test_a_definition_becomes_a_version_that_the_loop_knows(world: World) -> None:
    assert await world.define(flow()) == DefineResult("flow", 1, False, ())
    assert world.refreshed == [1]
    world.clock.advance(HOUR)
    assert (await world.define(flow(subject="Hello"))).version == 2
    assert world.refreshed == [1, 2]
    current = await world.workflows.get(WORKSPACE, "flow", 0)
    assert current == DefinedWorkflow(replace(flow(subject="Hello"), version=2), NOON + HOUR)
    first = await world.workflows.get(WORKSPACE, "flow", 1)
    assert first == DefinedWorkflow(replace(flow(), version=1), NOON)


async def test_the_same_definition_again_is_unchanged(world: World) -> None:
    await world.define(flow())
    again = await world.define(replace(flow(), version=1))
    assert (again.version, again.unchanged) == (1, True)


async def test_every_fault_is_named_and_nothing_is_stored(world: World) -> None:
    violations = (Violation("workflow.steps", "is empty"), Violation("workflow.topic", "is odd"))
    world.faults = Faults(violations)
    for validate_only in (True, False):
        with pytest.raises(InvalidArgument) as caught:
            await world.define(flow(), validate_only=validate_only)
        assert caught.value.violations == violations
        assert "workflow.steps is empty; workflow.topic is odd" in str(caught.value)
    assert await world.store.current_workflows(WORKSPACE) == []


async def test_warnings_do_not_stop_it(world: World) -> None:
    world.faults = Faults((), (Violation("workflow.steps[1]", "is never reached"),))
    assert (await world.define(flow())).warnings == world.faults.warnings


async def test_validate_only_tells_what_it_would_become(world: World) -> None:
    async def check(subject: str, expected: int | None = None) -> tuple[int, bool]:
        result = await world.define(
            flow(subject=subject), validate_only=True, expected_version=expected
        )
        return result.version, result.unchanged

    assert await check("Hi", expected=0) == (1, False)
    with pytest.raises(VersionMismatch):
        await check("Hi", expected=1)
    await world.define(flow())
    assert await check("Hi", expected=1) == (1, True)
    assert await check("Hello") == (2, False)
    assert len(await world.store.workflow_versions(WORKSPACE, "flow", None, 9)) == 1
    assert world.refreshed == [1]


async def test_another_current_version_than_expected_is_refused(world: World) -> None:
    assert (await world.define(flow(), expected_version=0)).version == 1
    with pytest.raises(VersionMismatch):
        await world.define(flow(subject="Hello"), expected_version=0)
    assert (await world.define(flow(subject="Hello"), expected_version=1)).version == 2
    assert world.refreshed == [1, 2]


class SlowStore(MemoryStore):
    """Takes its time between the commit and the answer."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=lambda *_: b"")
        self.committed, self.answer = asyncio.Event(), asyncio.Event()
        self.fault: Exception | None = None

    async def define(self, *args: Any, **kwargs: Any) -> Defined:
        defined = await super().define(*args, **kwargs)
        self.committed.set()
        await self.answer.wait()
        if self.fault is not None:
            raise self.fault
        return defined


@pytest.mark.parametrize("fault", [None, Unavailable("the database is gone")])
async def test_a_caller_that_goes_away_leaves_no_version_the_loop_does_not_know(
    fault: Exception | None,
) -> None:
    world = World()
    world.store = store = SlowStore()
    store.fault = fault
    world.workflows = Workflows(
        store, cast(Codec, PickleCodec()), world.clock, lambda w: Faults(), world.refresh
    )
    calling = asyncio.create_task(world.define(flow()))
    await store.committed.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    store.answer.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.refreshed == ([1] if fault is None else [])


async def test_work_that_is_canceled_at_the_very_end_is_let_go() -> None:
    world = World()
    world.store = store = SlowStore()
    world.workflows = Workflows(
        store, cast(Codec, PickleCodec()), world.clock, lambda w: Faults(), world.refresh
    )
    before = asyncio.all_tasks()
    calling = asyncio.create_task(world.define(flow()))
    await store.committed.wait()
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


# -- looking in ------------------------------------------------------------------------------------


async def test_what_is_not_there_is_not_found(world: World) -> None:
    await world.define(flow())
    for workflow_id, version in (("other", 0), ("flow", 2), ("flow", -1)):
        with pytest.raises(NotFound):
            await world.workflows.get(WORKSPACE, workflow_id, version)
    with pytest.raises(NotFound):
        await world.workflows.versions(WORKSPACE, "other", 0, "")


def named(page: Page[DefinedWorkflow]) -> list[tuple[str, int]]:
    return [(item.workflow.workflow_id, item.workflow.version) for item in page.items]


async def test_current_versions_are_listed_by_id(world: World) -> None:
    for workflow_id in ("c", "a", "b"):
        await world.define(flow(workflow_id))
    await world.define(flow("b", subject="Hello"))
    first = await world.workflows.list(WORKSPACE, 2, "")
    assert named(first) == [("a", 1), ("b", 2)]
    second = await world.workflows.list(WORKSPACE, 2, first.next_page_token)
    assert (named(second), second.next_page_token) == ([("c", 1)], "")


async def test_versions_are_listed_newest_first(world: World) -> None:
    for number in range(5):
        await world.define(flow(subject=f"Hi {number}"))
    first = await world.workflows.versions(WORKSPACE, "flow", 3, "")
    assert named(first) == [("flow", 5), ("flow", 4), ("flow", 3)]
    second = await world.workflows.versions(WORKSPACE, "flow", 3, first.next_page_token)
    assert (named(second), second.next_page_token) == ([("flow", 2), ("flow", 1)], "")


async def test_a_token_of_another_list_is_refused(world: World) -> None:
    for workflow_id in ("a", "b"):
        await world.define(flow(workflow_id))
    page = await world.workflows.list(WORKSPACE, 1, "")
    with pytest.raises(InvalidArgument) as caught:
        await world.workflows.versions(WORKSPACE, "a", 1, page.next_page_token)
    assert [v.field for v in caught.value.violations] == ["page_token"]


async def test_a_workflow_that_is_enrolled_in_and_not_there_is_warned_of(world: World) -> None:
    enrolling = flows.track(
        "Signed Up",
        Step("again", Enroll("flow")),
        Step("more", Enroll("more")),
        Step("old", Enroll("old")),
        workflow_id="flow",
    )
    await world.define(flow("old"))
    assert [one.field for one in (await world.define(enrolling)).warnings] == [
        "workflow.steps[1].enroll.workflow_id"
    ]
    await world.define(flow("more"))
    await world.workflows.archive(WORKSPACE, "old")
    (warning,) = (await world.define(enrolling)).warnings
    assert warning == Violation(
        "workflow.steps[2].enroll.workflow_id", "there is no workflow 'old' yet"
    )


class TemplateCodec(PickleCodec):
    def decode_template(self, definition: bytes, version: int) -> Template:
        return Template(definition.decode(), {}, version, layout_id="frame")


async def test_a_step_that_only_a_template_names_is_warned_of(world: World) -> None:
    named = {"words": frozenset({"mail", "mial"}), "frame": frozenset({"gone"})}
    world.workflows = Workflows(
        world.store,
        cast(Codec, TemplateCodec()),
        world.clock,
        lambda workflow: world.faults,
        world.refresh,
        steps_named=lambda template: named[template.template_id],
    )
    mail = Step("mail", Send(Channel.EMAIL, (), template_id="words"))
    sending = flows.track("Signed Up", mail, workflow_id="flow")

    async def told() -> list[str]:
        found = (await world.define(sending)).warnings
        assert {one.field for one in found} == {"workflow.steps[0].send.template_id"}
        return [one.description for one in found]

    assert await told() == ["there is no template 'words' yet"]
    await world.store.define(WORKSPACE, "template:words", b"words", None, 1)
    assert await told() == ["'words' names steps.mial, and there is no step 'mial'"]
    await world.store.define(WORKSPACE, "template:frame", b"frame", None, 1)
    assert await told() == [
        "'words' names steps.gone, and there is no step 'gone'",
        "'words' names steps.mial, and there is no step 'mial'",
    ]
