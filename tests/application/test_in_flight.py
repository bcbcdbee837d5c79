"""What becomes of runs in flight: in the background, and to the end whatever breaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.flows import delay, email, track, wait_event
from tests.world import DAY, HOUR, World, world
from upshotd.application.in_flight import PREFIX, InFlight, InFlightPolicy, Task, task_of
from upshotd.application.ports import RunFilter
from upshotd.application.workflows import DefineResult, Workflows
from upshotd.domain.errors import NotFound, Unavailable
from upshotd.domain.run import Run, RunState
from upshotd.domain.validation import Faults
from upshotd.domain.workflow import Reentry, ReentryMode, Workflow

MIGRATE, CANCEL, PIN = InFlightPolicy.MIGRATE, InFlightPolicy.CANCEL, InFlightPolicy.PIN
ALWAYS = Reentry(ReentryMode.ALWAYS)


class Flights:
    """A world, and who defines in it."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.in_flight = InFlight(made.store, made.loop, made.clock)
        self.workflows = Workflows(
            made.store, made.codec, made.clock, lambda _: Faults(), made.book.refresh
        )

    async def define(self, workflow: Workflow, policy: InFlightPolicy = PIN) -> DefineResult:
        return await self.workflows.define(
            "default", workflow, validate_only=False, expected_version=None, in_flight=policy
        )

    async def started(self, *user_ids: str, event: str = "Go") -> None:
        for user_id in user_ids:
            await self.world.track(user_id, event)

    async def runs(self) -> list[Run]:
        return await self.world.store.runs("default", RunFilter("", "", None), "", 100)

    async def task(self) -> Task | None:
        return (await self.workflows.get("default", "flow", 0)).task


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    async with world() as made:
        yield Flights(made)


def flow(hours: int) -> Workflow:
    return track("Go", delay("pause", hours * HOUR), email(), reentry=ALWAYS)


async def test_runs_stay_on_their_version_unless_somebody_asks_for_more(flights: Flights) -> None:
    await flights.define(flow(24))
    await flights.started("a", "b")
    await flights.define(flow(1))
    await flights.in_flight.finish()
    assert {run.workflow_version for run in await flights.runs()} == {1}
    assert await flights.task() is None


async def test_runs_are_moved_and_those_that_cannot_be_are_counted(
    flights: Flights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upshotd.application.in_flight.PAGE", 2)
    await flights.define(flow(24))
    await flights.started("a", "b", "c", "d", "e")
    await flights.define(track("Go", wait_event("other"), reentry=ALWAYS))
    await flights.started("f")
    await flights.define(flow(1), MIGRATE)
    await flights.in_flight.finish()
    found = {run.workflow_version for run in await flights.runs()}
    assert found == {2, 3}
    task = await flights.task()
    assert task is not None
    assert (task.policy, task.moved, task.pinned, task.done) == (MIGRATE, 5, 1, True)
    due = {run.due_us for run in await flights.runs() if run.workflow_version == 3}
    assert due == {flights.world.clock.now_us() + HOUR}


async def test_runs_are_canceled(flights: Flights) -> None:
    await flights.define(flow(24))
    await flights.started("a", "b")
    await flights.define(flow(1), CANCEL)
    await flights.started("c")
    await flights.in_flight.finish()
    states = sorted((run.workflow_version, run.state.name) for run in await flights.runs())
    assert states == [(1, "CANCELED"), (1, "CANCELED"), (2, "ACTIVE")]
    task = await flights.task()
    assert task is not None
    assert (task.moved, task.pinned, task.done) == (2, 0, True)


async def test_the_same_definition_again_moves_those_that_were_left(flights: Flights) -> None:
    await flights.define(flow(24))
    await flights.started("a")
    await flights.define(flow(1))
    again = await flights.define(flow(1), MIGRATE)
    assert (again.version, again.unchanged) == (2, True)
    await flights.in_flight.finish()
    assert [run.workflow_version for run in await flights.runs()] == [2]


async def test_what_a_server_left_behind_another_one_does(flights: Flights) -> None:
    """The version is durable and its server dies: whoever comes next finds what is to be done."""
    await flights.define(flow(24))
    await flights.started("a", "b")
    await flights.define(flow(1), MIGRATE)
    tasks = await flights.world.store.settings(PREFIX)
    assert [task_of(value).done for value in tasks.values()] == [False]
    other = InFlight(flights.world.store, flights.world.loop, flights.world.clock)
    await other.finish()
    await flights.in_flight.finish()
    assert [run.workflow_version for run in await flights.runs()] == [2, 2]


async def test_it_goes_on_when_the_store_is_back(
    flights: Flights, monkeypatch: pytest.MonkeyPatch
) -> None:
    await flights.define(flow(24))
    await flights.started("a")
    await flights.define(flow(1), MIGRATE)
    looks = 0
    settings = flights.world.store.settings

    async def broken(prefix: str) -> dict[str, str]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unavailable("the database is away")
        return await settings(prefix)

    monkeypatch.setattr(flights.world.store, "settings", broken)
    running = asyncio.create_task(flights.in_flight.run())
    while not looks:
        await asyncio.sleep(0)
    flights.in_flight.wake()
    while not ((await flights.task()) or Task("", "", 0, PIN)).done:
        await asyncio.sleep(0)
    running.cancel()
    assert [run.workflow_version for run in await flights.runs()] == [2]


async def test_an_archived_workflow_starts_nothing_until_it_is_defined_again(
    flights: Flights,
) -> None:
    await flights.define(flow(24))
    await flights.started("a")
    archived = await flights.workflows.archive("default", "flow")
    assert (archived.version, archived.unchanged) == (2, False)
    assert (await flights.workflows.archive("default", "flow")).unchanged
    result = await flights.world.track("late", "Go")
    assert not result.started
    assert not result.explanations
    assert (await flights.workflows.list("default", 0, "")).items == []
    shown = await flights.workflows.get("default", "flow", 0)
    assert (shown.archived, shown.workflow.steps) == (True, flow(24).steps)
    await flights.world.advance(DAY)
    assert [run.state for run in await flights.runs()] == [RunState.COMPLETED]
    assert (await flights.define(flow(24))).version == 3
    await flights.started("b")
    assert len(await flights.runs()) == 2
    versions = await flights.workflows.versions("default", "flow", 0, "")
    assert [(v.workflow.version, v.archived) for v in versions.items] == [
        (3, False),
        (2, True),
        (1, False),
    ]


async def test_an_archived_workflow_may_take_its_runs_along(flights: Flights) -> None:
    await flights.define(flow(24))
    await flights.started("a")
    await flights.workflows.archive("default", "flow", CANCEL)
    await flights.in_flight.finish()
    assert [run.state for run in await flights.runs()] == [RunState.CANCELED]


async def test_what_is_not_there_is_not_archived(flights: Flights) -> None:
    with pytest.raises(NotFound):
        await flights.workflows.archive("default", "flow")
