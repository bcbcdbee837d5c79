"""A workflow is changed, canceled and archived while people are on their way. On every store."""

from tests.scenarios.examples import workflow_of
from tests.world import DAY, HOUR, World
from upshotd.adapters.zones import zone
from upshotd.application.in_flight import InFlight, InFlightPolicy
from upshotd.application.ports import RunFilter
from upshotd.application.workflows import Workflows
from upshotd.domain.run import Run, RunState
from upshotd.domain.steps.wait import Wait
from upshotd.domain.validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Workflow

FEATURE = {"first_name": "Ana", "plan": "Pro"}


class Lifecycle:
    """Defines, and brings to an end what is to be done with runs in flight."""

    def __init__(self, scenario: World) -> None:
        self.scenario = scenario
        self.in_flight = InFlight(scenario.store, scenario.loop, scenario.clock)
        self.workflows = Workflows(
            scenario.store,
            scenario.codec,
            scenario.clock,
            lambda flow: validate(flow, scenario.conditions, scenario.templates, zone),
            scenario.book.refresh,
        )

    async def define(self, workflow: Workflow, in_flight: InFlightPolicy) -> int:
        done = await self.workflows.define(
            "default", workflow, validate_only=False, expected_version=None, in_flight=in_flight
        )
        await self.in_flight.finish()
        return done.version

    async def started(self, user_id: str) -> None:
        await self.scenario.identify(user_id, email=f"{user_id}@example.com", **FEATURE)
        await self.scenario.track(user_id, "Feature Not Used", properties={"feature": "Boards"})
        await self.scenario.settle()

    async def runs(self) -> list[Run]:
        found = await self.scenario.store.runs("default", RunFilter("feature-not-used"), "", 100)
        return sorted(found, key=lambda run: run.run_id)


def patient(workflow: Workflow) -> Workflow:
    """Return *workflow* with twice the patience for the first answer."""
    first, opened = workflow.steps
    assert isinstance(opened.kind, Wait)
    return replace(
        workflow, steps=(first, replace(opened, kind=replace(opened.kind, timeout_us=2 * DAY)))
    )


async def test_who_waits_goes_on_as_the_new_version_says_counted_from_when_they_came(
    scenario: World,
) -> None:
    life = Lifecycle(scenario)
    workflow = workflow_of("feature-not-used")
    await life.define(workflow, InFlightPolicy.PIN)
    await life.started("ana")
    await scenario.advance(20 * HOUR)
    assert await life.define(patient(workflow), InFlightPolicy.MIGRATE) == 2
    (run,) = await life.runs()
    assert run.workflow_version == 2
    await scenario.advance(20 * HOUR)
    assert await scenario.story() == ["SENT EMAIL"], "the old patience is over, the new is not"
    await scenario.advance(8 * HOUR)
    assert (await scenario.story())[:2] == ["SENT EMAIL", "IGNORED EMAIL"]


async def test_who_stays_pinned_ends_by_the_version_they_began_with(scenario: World) -> None:
    life = Lifecycle(scenario)
    workflow = workflow_of("feature-not-used")
    await life.define(workflow, InFlightPolicy.PIN)
    await life.started("ana")
    await life.define(patient(workflow), InFlightPolicy.PIN)
    await life.started("ben")
    await scenario.advance(25 * HOUR)
    assert await scenario.story("ana") == ["SENT EMAIL", "IGNORED EMAIL", "UNROUTABLE SMS"]
    assert await scenario.story("ben") == ["SENT EMAIL"]
    assert [run.workflow_version for run in await life.runs()] == [1, 2]


async def test_canceled_and_archived_it_reaches_nobody_any_more(scenario: World) -> None:
    life = Lifecycle(scenario)
    workflow = workflow_of("feature-not-used")
    await life.define(workflow, InFlightPolicy.PIN)
    await life.started("ana")
    await life.workflows.archive("default", "feature-not-used", InFlightPolicy.CANCEL)
    await life.in_flight.finish()
    await life.started("ben")
    await scenario.advance(10 * DAY)
    (run,) = await life.runs()
    assert (run.state, run.reason) == (RunState.CANCELED, "CANCELED")
    assert await scenario.story() == ["SENT EMAIL"]
    assert await life.define(workflow, InFlightPolicy.PIN) == 3
    await life.started("ben")
    assert await scenario.story("ben") == ["SENT EMAIL"], "defined again it starts again"
