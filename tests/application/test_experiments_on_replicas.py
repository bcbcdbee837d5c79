"""Experiments while several replicas count: each run and each goal once, and nobody waits."""

import pytest

from tests.flows import delay, track
from tests.world import DAY, World
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.experiments import Experiments, Report
from upshotd.application.inbox import Batch, Item
from upshotd.application.workflows import Workflows
from upshotd.domain.errors import Conflict, NotFound
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Goal,
    Optimize,
    Variant,
)
from upshotd.domain.stimulus import EventArrived, Stimulus
from upshotd.domain.trial import HOLDOUT, Tally
from upshotd.domain.validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Workflow

ALWAYS = Reentry(ReentryMode.ALWAYS)
NAME = "flow/try"


def flow(goal: Goal | None = None, holdout: float = 0.0, **fields: object) -> Workflow:
    optimize = Optimize(goal or EventGoal("Paid"), DAY, **fields)  # type: ignore[arg-type]
    variants = (Variant("a"), Variant("b"))
    step = Step("try", Experiment(variants, holdout, optimize=optimize))
    return track("Go", step, delay(), reentry=ALWAYS)


@pytest.fixture
async def replicas() -> tuple[World, World]:
    store = MemoryStore(encode_outcome=ContractCodec().encode_outcome)
    await store.open()
    return World(store), another(store)


def another(store: MemoryStore) -> World:
    """Return one more process, that makes ids of its own."""
    world = World(store)
    for _ in range(10_000):
        world.ids.next()
    return world


async def prepared(replicas: tuple[World, World], workflow: Workflow) -> None:
    await replicas[0].define(workflow)
    await replicas[1].book.refresh("default")


async def decided(world: World, stimulus: Stimulus) -> list[Batch]:
    """Load and decide, as a replica does before it commits."""
    batches = await world.loop.work.load([Item("default", stimulus)])
    for batch in batches:
        world.loop.work.decide(batch)
    return batches


def tracked(world: World, event_id: str, user_id: str, name: str = "Go") -> Stimulus:
    return EventArrived(world.event(Event(event_id, EventType.TRACK, user_id, name=name)))


async def done(world: World, stimulus: Stimulus) -> None:
    await world.loop.work.commit(await decided(world, stimulus))


async def total(world: World) -> Tally:
    whole = Tally()
    for tally in (await world.store.tallies("default", {NAME})).values():
        whole = whole.plus(tally)
    return whole


def reports(world: World) -> Experiments:
    def faults(workflow: Workflow) -> object:
        return validate(workflow, world.conditions, world.templates, lambda _: None)

    refresh, clock, codec = world.book.refresh, world.clock, world.codec
    workflows = Workflows(world.store, codec, clock, faults, refresh, lambda: None)  # type: ignore[arg-type]
    return Experiments(world.store, workflows)


async def report(world: World) -> Report:
    (found,) = await reports(world).reports("default", "flow", "try")
    return found


async def test_runs_of_two_people_are_counted_at_once_and_neither_is_decided_again(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, flow())
    first, second = (
        await decided(one, tracked(one, "e1", "ana")),
        await decided(other, tracked(other, "e2", "ben")),
    )
    await one.loop.work.commit(first)
    await other.loop.work.commit(second)
    assert await total(one) == Tally(2, 0)


async def test_a_goal_that_comes_to_both_at_once_is_counted_by_one_of_them(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, flow())
    await done(one, tracked(one, "e1", "ana"))
    first, second = (
        await decided(one, tracked(one, "p1", "ana", "Paid")),
        await decided(other, tracked(other, "p2", "ana", "Paid")),
    )
    await one.loop.work.commit(first)
    with pytest.raises(Conflict):
        await other.loop.work.commit(second)
    await done(other, tracked(other, "p2", "ana", "Paid"))
    assert await total(one) == Tally(1, 1)


async def test_an_event_that_comes_again_after_its_commit_counts_nothing(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, flow())
    for world in (one, other):
        await done(world, tracked(world, "e1", "ana"))
        await done(world, tracked(world, "p1", "ana", "Paid"))
    assert await total(one) == Tally(1, 1)


async def test_a_decision_knows_what_other_replicas_have_counted(
    replicas: tuple[World, World],
) -> None:
    one, other = replicas
    await prepared(replicas, flow(explore=0.0))
    tallies = {(NAME, "a"): Tally(5_000, 50), (NAME, "b"): Tally(5_000, 2_500)}
    (batch,) = await decided(one, tracked(one, "e1", "ana"))
    batch.decided.changes.tallies.update(tallies)
    await one.loop.work.commit([batch])
    for number in range(20):
        await done(other, tracked(other, f"f{number}", "ben"))
    found = await other.store.tallies("default", {NAME})
    assert found[NAME, "a"].exposures == 5_000
    assert found[NAME, "b"].exposures >= 5_020


async def test_a_goal_of_an_older_version_is_that_of_the_run(
    replicas: tuple[World, World],
) -> None:
    one, _ = replicas
    await prepared(replicas, flow())
    await done(one, tracked(one, "e1", "ana"))
    await one.define(flow(EventGoal("Seen")))
    fresh = another(one.store)  # a process that has never seen the first version
    await fresh.book.refresh("default")
    fresh.clock.advance(2 * 3_600_000_000)
    await done(fresh, tracked(fresh, "s1", "ana", "Seen"))
    assert await total(fresh) == Tally(1, 0)
    await done(fresh, tracked(fresh, "p1", "ana", "Paid"))
    assert await total(fresh) == Tally(1, 1)


async def test_the_report_has_the_variants_in_order_and_those_that_are_gone(
    replicas: tuple[World, World],
) -> None:
    one, _ = replicas
    workflow = flow(holdout=0.3)
    await prepared(replicas, workflow)
    found = await report(one)
    assert [v.variant_id for v in found.variants] == ["a", "b", HOLDOUT]
    assert {v.uplift for v in found.variants} == {None}
    assert found.variants[0].rate == 0
    assert found.variants[0].rate_interval == (0, 1)
    for number in range(60):
        await done(one, tracked(one, f"e{number}", f"u{number}"))
    await done(one, tracked(one, "p1", "u1", "Paid"))
    kind = workflow.steps[0].kind
    assert isinstance(kind, Experiment)
    fewer = replace(kind, variants=(Variant("b"), Variant("c")), holdout=0.0)
    await one.define(replace(workflow, steps=(Step("try", fewer), delay())))
    found = await report(one)
    named = [(v.variant_id, v.retired) for v in found.variants]
    assert named == [("b", False), ("c", False), ("a", True), (HOLDOUT, True)]
    assert sum(v.tally.exposures for v in found.variants) == 60
    b, c, a, holdout = found.variants
    assert (b.uplift is None, c.uplift, holdout.uplift) == (False, None, None)
    assert a.uplift_interval is not None
    assert a.uplift_interval.low < 0 < a.uplift_interval.high


async def test_no_uplift_is_told_where_those_held_out_cannot_reach_the_goal(
    replicas: tuple[World, World],
) -> None:
    one, _ = replicas
    await prepared(replicas, flow(EngagementGoal((EngagementKind.OPENED,)), holdout=0.5))
    for number in range(20):
        await done(one, tracked(one, f"e{number}", f"u{number}"))
    found = await report(one)
    assert found.variants[-1].tally.exposures > 0
    assert [v.uplift for v in found.variants] == [None, None, None]


async def test_what_is_no_experiment_is_not_found(replicas: tuple[World, World]) -> None:
    one, _ = replicas
    await prepared(replicas, flow())
    experiments = reports(one)
    (found,) = await experiments.reports("default", "flow", "")
    assert [variant.variant_id for variant in found.variants] == ["a", "b"]
    with pytest.raises(NotFound):
        await experiments.reports("default", "flow", "pause")
    with pytest.raises(NotFound):
        await experiments.reports("default", "nowhere", "")
    await one.define(track("Go", delay(), workflow_id="plain"))
    assert await experiments.reports("default", "plain", "") == []
