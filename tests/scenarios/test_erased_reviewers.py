"""Somebody who is asked for a decision is erased: the run goes on without them. On every store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import time
from pathlib import Path

import pytest

from tests.flows import delay, track
from tests.scenarios.test_approval import BOSS, PAY, asked, happened, proposed, subjects
from tests.stores import KINDS, opened
from tests.world import DAY, HOUR, World, world
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.erasing import Erasing
from upshotd.domain.approval import Approval
from upshotd.domain.definitions import Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Deferred, Message, MessageState, Purpose
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.run import Run
from upshotd.domain.state import IdKind, Wanted
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.stimulus import EngagementState
from upshotd.domain.values import replace
from upshotd.domain.window import Window
from upshotd.domain.workflow import Step

Forget = Callable[[World, str], Awaitable[None]]

ANN = ReviewerLevel(user_ids=("ann",))
#: Only one person at a time; nobody else is asked before hours have passed.
ALONE = replace(PAY, levels=(replace(ANN, escalate_us=4 * HOUR), BOSS), reminders_us=())
LAST = replace(ALONE, levels=(ANN,), on_timeout=(), default=ApprovalDecision.DENIED)


async def by_request(scenario: World, name: str) -> None:
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, name))
    await scenario.settle()


async def by_event(scenario: World, name: str) -> None:
    await scenario.ingest(Event(scenario.next_event_id(), EventType.DELETE, name))
    await scenario.settle()


@pytest.fixture(params=[by_request, by_event])
def forget(request: pytest.FixtureRequest) -> Forget:
    found: Forget = request.param
    return found


@pytest.fixture(params=KINDS)
async def quiet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world at midnight, in which nothing is sent before eight."""
    encode, day = ContractCodec().encode_outcome, Window(time(8), time(20))
    policy = Policy(hours=dict.fromkeys(Purpose, day))
    async with opened(request.param, tmp_path, encode=encode) as store:
        async with world(store, policy=policy) as running:
            yield running


async def the_run(scenario: World) -> Run:
    """Return the run that the agent's request has started."""
    runs = (await scenario.store.load("default", Wanted(identities={(IdKind.USER, "agent")}))).runs
    (run,) = runs.values()
    return run


async def message(scenario: World, message_id: str) -> Message:
    found = await scenario.store.message("default", message_id)
    assert found is not None
    return found


async def ends(scenario: World) -> list[str]:
    """Return why approvals have ended."""
    kind = pb.OUTCOME_KIND_APPROVAL_DECIDED
    return [one.reason for one in await scenario.outcomes() if one.kind == kind]


async def test_where_the_only_one_who_was_asked_is_erased_the_boss_is_asked_at_once(
    scenario: World, forget: Forget
) -> None:
    await proposed(scenario, ALONE)
    request = asked(scenario, "ann")
    await forget(scenario, "ann")
    assert subjects(scenario) == ["REQUEST ann: Pay 900?", "REQUEST cem: Pay 900?"]
    left = await message(scenario, request)
    assert (left.profile_id, left.recipient, left.reason) == ("", "", "ERASED")
    done = await scenario.engage(asked(scenario, "cem"), EngagementKind.APPROVED)
    assert done.state is EngagementState.RECORDED
    assert "Paid" in await happened(scenario)


async def test_the_boss_is_asked_while_the_clock_stands_still(scenario: World) -> None:
    """The loop sleeps until the next thing that is due, and nobody else wakes it."""
    await proposed(scenario, ALONE)
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ann"))
    async with asyncio.timeout(5):
        while len(scenario.email.ledger) < 2:
            await asyncio.sleep(0)
    assert subjects(scenario)[1:] == ["REQUEST cem: Pay 900?"]


async def test_where_the_last_who_could_decide_is_erased_the_default_counts_at_once(
    scenario: World, forget: Forget
) -> None:
    await proposed(scenario, LAST)
    await forget(scenario, "ann")
    assert await ends(scenario) == ["UNREACHABLE"]
    assert "Refused" in await happened(scenario)


async def test_of_two_the_other_one_decides_and_nobody_else_is_asked(
    scenario: World, forget: Forget
) -> None:
    await proposed(scenario)
    await forget(scenario, "ann")
    assert await ends(scenario) == []
    await scenario.advance(HOUR)
    assert subjects(scenario)[2:] == ["REMINDER ben: Pay 900?"]
    done = await scenario.engage(asked(scenario, "ben"), EngagementKind.APPROVED)
    assert done.state is EngagementState.RECORDED
    await scenario.settle()
    assert subjects(scenario)[3:] == ["NOTICE ben: Pay 900?"]


async def test_when_all_of_a_level_are_erased_one_after_the_other_the_next_is_asked(
    scenario: World,
) -> None:
    await proposed(scenario)
    await by_request(scenario, "ann")
    await by_event(scenario, "ben")
    assert subjects(scenario)[2:] == ["REQUEST cem: Pay 900?"]


async def test_every_approval_that_waits_for_them_goes_on_and_no_other(scenario: World) -> None:
    await proposed(scenario, ALONE)
    for amount, name in enumerate(("pia", "quin"), 1):
        await scenario.identify(name, manager="cem")
        await scenario.track(name, "Pay", properties={"amount": amount})
        await scenario.settle()
    await scenario.engage(asked(scenario, "ann"), EngagementKind.APPROVED)
    await scenario.settle()
    sent = len(subjects(scenario))
    await by_request(scenario, "ann")
    assert sorted(subjects(scenario)[sent:]) == ["REQUEST cem: Pay 1?", "REQUEST cem: Pay 900?"]


@pytest.mark.parametrize("hangs", [True, False])
async def test_what_was_under_way_to_them_is_given_up(scenario: World, hangs: bool) -> None:
    if hangs:
        scenario.email.open.clear()
    else:
        scenario.email.answers.append(Deferred("busy"))
    await proposed_unsent(scenario, ALONE)
    (request,) = [one.message_id for one in scenario.email.ledger]
    expected = MessageState.SENDING if hangs else MessageState.RETRYING
    while (await message(scenario, request)).state is not expected:
        await asyncio.sleep(0)
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ann"))
    scenario.email.open.set()
    await scenario.settle()
    left = await message(scenario, request)
    assert (left.state, left.reason) == (MessageState.SUPPRESSED, "ERASED")
    assert (left.recipient, left.content, left.due_us) == ("", None, None)
    assert subjects(scenario)[1:] == ["REQUEST cem: Pay 900?"]


async def proposed_unsent(scenario: World, kind: Approve) -> None:
    """Let the request be made, and not wait for its provider."""
    await scenario.define(track("Pay", Step("ok", kind)))
    for name in ("ann", "ben", "cem"):
        await scenario.identify(name, email=f"{name}@example.com")
    await scenario.identify("agent", manager="cem")
    await scenario.track("agent", "Pay", properties={"amount": 900})
    while not scenario.email.ledger:
        await asyncio.sleep(0)


async def test_who_is_erased_while_the_context_is_asked_is_missed_when_it_comes(
    scenario: World,
) -> None:
    """The second round, which a reminder begins, waits for its context."""
    kind = replace(ALONE, context=FetchStep("https://a.example/balance"), reminders_us=(HOUR,))
    await proposed(scenario, kind)
    scenario.fetcher.open.clear()
    moving = asyncio.create_task(scenario.advance(HOUR))
    while len(scenario.fetcher.asked) < 2:
        await asyncio.sleep(0)
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.USER, "ann"))
    assert len(scenario.fetcher.asked) == 2, "it is not asked again for that"
    scenario.fetcher.open.set()
    await moving
    await scenario.settle()
    assert subjects(scenario)[1:] == ["REQUEST cem: Pay 900?"]


@pytest.mark.parametrize("erased", [False, True])
async def test_who_is_asked_after_their_quiet_hours_is_asked_or_missed_by_then(
    quiet: World, erased: bool
) -> None:
    """No message names them before."""
    await proposed(quiet, replace(ALONE, levels=(replace(ANN, escalate_us=DAY), BOSS)))
    assert subjects(quiet) == []
    if erased:
        await by_request(quiet, "ann")
    await quiet.advance(9 * HOUR)
    assert subjects(quiet) == [f"REQUEST {'cem' if erased else 'ann'}: Pay 900?"]


async def test_who_decides_about_themself_is_erased_with_their_run(scenario: World) -> None:
    await proposed(scenario, replace(ALONE, levels=(ReviewerLevel(user_ids=("agent", "ann")),)))
    run = await the_run(scenario)
    await by_request(scenario, "agent")
    ended = await scenario.store.run("default", run.run_id)
    assert ended is not None
    assert (ended.active, ended.reason, ended.steps) == (False, "ERASED", {})
    assert await ends(scenario) == []


async def test_who_comes_back_is_asked_by_later_runs_and_can_be_erased_again(
    scenario: World,
) -> None:
    await proposed(scenario, LAST)
    await by_request(scenario, "ann")
    await scenario.advance(HOUR)
    await scenario.identify("ann", email="ann@new.example")
    await scenario.track("agent", "Pay", properties={"amount": 7})  # the first one has ended
    await scenario.settle()
    request = asked(scenario, "ann")
    assert (await message(scenario, request)).recipient == "ann@new.example"
    await by_event(scenario, "ann")
    assert (await message(scenario, request)).recipient == ""
    assert await ends(scenario) == ["UNREACHABLE", "UNREACHABLE"]


async def test_who_was_somebody_unknown_before_is_found_by_what_they_were_asked(
    scenario: World,
) -> None:
    """Reviewers are known users, into whom others are merged and who are never merged away."""
    await scenario.ingest(Event("seen", EventType.TRACK, "", "a1", name="Looked"))
    await proposed(scenario, ALONE)
    await scenario.ingest(Event("linked", EventType.ALIAS, "ann", previous_id="a1"))
    request = asked(scenario, "ann")
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await erasing.erase("default", (IdKind.ANONYMOUS, "a1"))
    await scenario.settle()
    assert (await message(scenario, request)).recipient == ""
    assert subjects(scenario)[1:] == ["REQUEST cem: Pay 900?"]


async def test_an_approval_that_is_over_stays_as_it_was_decided(scenario: World) -> None:
    await proposed(scenario, replace(PAY, on_approved=(delay("later", DAY),)))
    await scenario.engage(asked(scenario, "ann"), EngagementKind.APPROVED)
    await scenario.settle()
    before = await the_run(scenario)
    await by_request(scenario, "ann")
    run = await the_run(scenario)
    assert (run.due_us, run.row_version) == (before.due_us, before.row_version)
    assert Approval.of(run.steps["ok"]).decided_by == "ann"
