"""Two reviewers at the same instant: one decision, and both are told. On every store."""

import asyncio

import pytest

from tests.scenarios.test_approval import asked, happened, proposed, subjects
from tests.world import DAY, World
from upshot.v1 import outcome_pb2
from upshotd.application import failpoints
from upshotd.application.inbox import Batch, Item
from upshotd.domain.errors import Conflict
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.stimulus import EngagementArrived, EngagementResult, EngagementState

APPROVED, DENIED = EngagementKind.APPROVED, EngagementKind.DENIED
#: Who decides what; in the second order the other one comes first.
SAYS = {"ann": APPROVED, "ben": DENIED}
ORDERS = pytest.mark.parametrize("order", [("ann", "ben"), ("ben", "ann")], ids="->".join)
WAYS = {APPROVED: ("Paid", "APPROVED"), DENIED: ("Refused", "DENIED")}


def said(scenario: World, name: str) -> Engagement:
    return Engagement(f"by-{name}", SAYS[name], scenario.clock.now_us(), asked(scenario, name))


async def decided_by(scenario: World, name: str) -> None:
    """*name* and nobody else has decided, the run went that way, and both were told once."""
    await scenario.settle()
    other = "Refused" if SAYS[name] is APPROVED else "Paid"
    events = await happened(scenario)
    assert (events.count(WAYS[SAYS[name]][0]), events.count(other)) == (1, 0)
    outcomes = await scenario.outcomes()
    (told,) = [o for o in outcomes if o.kind == outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED]
    assert dict(told.properties) == {"decision": WAYS[SAYS[name]][1], "decided_by": name}
    notices = ["NOTICE ann: Pay 900?", "NOTICE ben: Pay 900?"]
    assert sorted(subjects(scenario)[2:]) == notices
    await scenario.advance(3 * DAY)
    assert sorted(subjects(scenario)[2:]) == notices, "nobody is told or asked again"


def judged(first: EngagementResult, second: EngagementResult) -> None:
    assert first.state is EngagementState.RECORDED
    assert (second.state, second.reason) == (EngagementState.REJECTED, "ALREADY_DECIDED")


@ORDERS
async def test_in_one_call_the_first_of_it_decides(scenario: World, order: tuple[str, str]) -> None:
    await proposed(scenario)
    facts = [said(scenario, name) for name in order]
    judged(*await scenario.loop.engage("default", facts))
    await decided_by(scenario, order[0])


@ORDERS
async def test_in_one_batch_of_two_callers_who_came_first_decides(
    scenario: World, order: tuple[str, str]
) -> None:
    await proposed(scenario)
    calls = [scenario.loop.engage("default", [said(scenario, name)]) for name in order]
    (first,), (second,) = await asyncio.gather(*calls)
    judged(first, second)
    await decided_by(scenario, order[0])


@ORDERS
async def test_in_two_batches_the_one_that_is_being_written_decides(
    scenario: World, order: tuple[str, str]
) -> None:
    await proposed(scenario)
    first, second = (said(scenario, name) for name in order)
    later: list[asyncio.Task[list[EngagementResult]]] = []

    def comes() -> None:
        """The second one comes while the first is on its way to the disk."""
        if not later:
            later.append(asyncio.create_task(scenario.loop.engage("default", [second])))

    failpoints.arm({"commit.before": comes})
    try:
        (done,) = await scenario.loop.engage("default", [first])
        (late,) = await later[0]
    finally:
        failpoints.arm({})
    judged(done, late)
    await decided_by(scenario, order[0])


@ORDERS
async def test_of_two_processes_that_decided_on_the_same_state_one_is_refused(
    scenario: World, order: tuple[str, str]
) -> None:
    """Each has loaded the run while it was open. Who writes second is decided again."""
    await proposed(scenario)
    other = World(scenario.store)
    for _ in range(10_000):
        other.ids.next()  # ids of its own
    await other.book.refresh("default")
    first = await decided(scenario, said(scenario, order[0]))
    second = await decided(other, said(scenario, order[1]))
    await scenario.loop.work.commit(first)
    assert state_of(second) is EngagementState.RECORDED, "it would have decided, too"
    with pytest.raises(Conflict):
        await other.loop.work.commit(second)
    ended: list[Batch] = []
    items = second[0].items
    assert await other.loop.work.again(items, Conflict("moved on"), ended.extend)
    assert state_of(ended) is EngagementState.REJECTED
    events = await happened(scenario)
    assert events.count("Approval Decided") == 1
    assert WAYS[SAYS[order[0]]][0] in events
    assert WAYS[SAYS[order[1]]][0] not in events


async def decided(world: World, fact: Engagement) -> list[Batch]:
    """Load and decide, as a process does before it commits."""
    batches = await world.loop.work.load([Item("default", EngagementArrived(fact))])
    for batch in batches:
        world.loop.work.decide(batch)
    return batches


def state_of(batches: list[Batch]) -> EngagementState:
    (batch,) = batches
    assert batch.decided is not None
    (answer,) = batch.decided.answers
    assert isinstance(answer, EngagementResult)
    return answer.state
