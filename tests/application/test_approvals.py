"""Looking at approvals: by a message or by a step, how they stand, and who was asked."""

from typing import Any, cast

import pytest

from tests import approvals
from tests.approvals import ASKED, RUN, STEP, WORKSPACE, approval, keep
from tests.builders import DAY, HOUR, NOON, a_message, a_run, changes
from upshotd.adapters.memory import MemoryStore
from upshotd.application.approvals import Approvals, Asked
from upshotd.application.preferences import Preferences
from upshotd.domain.approval import ApprovalState, Asking
from upshotd.domain.errors import NotFound
from upshotd.domain.message import Ask
from upshotd.domain.run import RunState
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import ApprovalDecision

APPROVED = ApprovalDecision.APPROVED


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(encode_outcome=lambda *_: b"")
        self.approvals = Approvals(self.store, approvals.book(self.store))


@pytest.fixture
def world() -> World:
    return World()


async def test_each_message_of_it_and_its_step_lead_to_an_approval(world: World) -> None:
    await keep(world.store)
    view = await world.approvals.of_step(WORKSPACE, RUN, STEP)
    assert (view.run.run_id, view.step_id, view.state) == (RUN, STEP, ApprovalState.OPEN)
    assert view.approval == approval()
    for message_id in ASKED.values():
        assert await world.approvals.of_message(WORKSPACE, message_id) == view


async def test_what_a_reviewer_prefers_is_the_reviewer_s_own(world: World) -> None:
    """The page of preferences of a message is that of whom it went to."""
    await keep(world.store)
    nobody = cast(Any, None)
    preferences = Preferences(world.store, nobody, nobody, nobody)
    for message_id, user_id in (("m-ann", "ann"), ("m-pia", "pia")):
        who = await preferences.addressee(WORKSPACE, message_id)
        assert who == (IdKind.USER, user_id)


async def test_what_is_no_approval_is_not_found(world: World) -> None:
    await keep(world.store)
    lost = a_message(message_id="m-lost", run_id="gone", step_id=STEP, ask=Ask.REQUEST)
    early = a_run(run_id="early", step_id=STEP, steps={"mail": {"sent": True}})
    await world.store.commit([changes(lost, early)])
    for message_id in ("m-pia", "m-lost", "unknown"):
        with pytest.raises(NotFound):
            await world.approvals.of_message(WORKSPACE, message_id)
    with pytest.raises(NotFound):
        await world.approvals.of_message("other", "m-ann")
    for run_id, step_id in ((RUN, "later"), ("gone", STEP), ("early", "mail"), ("early", STEP)):
        with pytest.raises(NotFound):
            await world.approvals.of_step(WORKSPACE, run_id, step_id)


@pytest.mark.parametrize(
    ("left", "fields", "state", "end_us"),
    [
        ({}, {}, "OPEN", None),
        ({"decision": APPROVED, "end_us": 7}, {"step_id": "later"}, "DECIDED", 7),
        ({"decision": APPROVED, "end_us": 7}, {"state": RunState.COMPLETED}, "DECIDED", 7),
        ({"timed_out": True, "end_us": 7}, {"step_id": "later"}, "TIMED_OUT", 7),
        ({"timed_out": True, "decision": APPROVED, "end_us": 7}, {}, "TIMED_OUT", 7),
        ({}, {"state": RunState.CANCELED, "step_id": "", "end_us": 9}, "CANCELED", 9),
        ({"end_us": 7}, {"state": RunState.CANCELED, "end_us": 9}, "CANCELED", 7),
        ({"end_us": 7}, {}, "CANCELED", 7),
        ({}, {"step_id": "later"}, "CANCELED", None),
    ],
)
async def test_it_says_whether_a_decision_is_waited_for(
    world: World, left: dict[str, Any], fields: dict[str, Any], state: str, end_us: int | None
) -> None:
    await keep(world.store, approval(**left), **fields)
    view = await world.approvals.of_step(WORKSPACE, RUN, STEP)
    assert (view.state.name, view.end_us) == (state, end_us)
    assert (view.timeout_us is not None) is (state == "OPEN")


async def test_an_open_one_ends_by_the_version_of_its_run(world: World) -> None:
    await keep(world.store, enter_us=NOON + HOUR)
    view = await world.approvals.of_message(WORKSPACE, "m-ben")
    assert view.timeout_us == NOON + HOUR + 2 * DAY


@pytest.mark.parametrize("fields", [{"workflow_version": 9}, {"step_id": "later"}])
async def test_where_the_definition_does_not_say_when_it_ends_nobody_does(
    world: World, fields: dict[str, Any]
) -> None:
    """The version is gone, or what stands there now is no approve step."""
    where = fields.get("step_id", STEP)
    await keep(world.store, **fields, steps={where: approval().left()})
    view = await world.approvals.of_step(WORKSPACE, RUN, where)
    assert (view.state, view.timeout_us) == (ApprovalState.OPEN, None)


async def test_each_reviewer_is_named_once_with_all_that_they_got(world: World) -> None:
    first = approval().asked
    more = (
        Asking("profile-ann", Ask.REMINDER, 1, NOON + HOUR, message_ids=("m-3", "m-4")),
        Asking("profile-gone", Ask.REQUEST, 2, NOON + DAY, message_ids=("m-5",)),
        Asking("profile-ben", Ask.NOTICE, 1, NOON + DAY),
    )
    await keep(world.store)
    asked = approval(asked=(*first, *more))
    assert list(await world.approvals.reviewers(WORKSPACE, asked)) == [
        Asked("ann", 1, NOON, ("m-ann", "m-3", "m-4")),
        Asked("ben", 1, NOON, ("m-ben",)),
        Asked("", 2, NOON + DAY, ("m-5",)),
    ]
    assert await world.approvals.reviewers(WORKSPACE, approval(asked=())) == ()
