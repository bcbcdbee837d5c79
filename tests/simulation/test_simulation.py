"""The simulation itself: it covers what there is, repeats itself, and sees what is wrong."""

import asyncio
import random
from typing import get_args

import pytest

from tests.simulation import flows
from tests.simulation.database import SimDatabase
from tests.simulation.faults import FAULTS, Faults
from tests.simulation.generators import GENERATORS
from tests.simulation.node import SimClock
from tests.simulation.phones import Phone
from tests.simulation.virtual import Process, Stuck, VirtualLoop
from tests.simulation.vocabulary import NAMES
from tests.simulation.world import play
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.application.work import Work
from upshotd.domain import approval, choices, devices, goals, messages, outgoing, sending
from upshotd.domain.approving import Approving
from upshotd.domain.draft import Draft
from upshotd.domain.message import UNREACHABLE
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.steps import digest, throttle
from upshotd.domain.validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import StepKind

#: Whole histories: on a busy machine they take a while.
pytestmark = pytest.mark.timeout(300)


def test_every_kind_of_step_has_a_generator_and_comes_up():
    assert set(GENERATORS) == set(get_args(StepKind))
    found: set[type] = set()
    for seed in range(50):
        for name in NAMES:
            workflow = flows.workflow(random.Random(seed), name, 60_000_000)
            assert not validate(
                workflow, CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone
            ).violations
            found |= flows.kinds_in(workflow.steps)
    assert found == set(GENERATORS)


def test_a_history_is_the_same_every_time():
    for seed in (4, 5):
        first, second = [], []
        reports = [play(seed, first), play(seed, second)]
        assert first == second
        assert reports[0].trace == reports[1].trace
        assert reports[0].findings == []
        assert reports[0].commits > 50


def test_every_fault_can_be_on_and_off():
    on = [Faults(random.Random(seed)).on for seed in range(50)]
    assert set().union(*on) == set(FAULTS)
    assert set.intersection(*on) == set()


#: What is broken, and which invariant sees it.
INVARIANTS = {
    "no fence": "I7",
    "answered before the commit": "I1",
    "fires early": "I3",
    "an item forgotten": "I11",
    "passes not counted": "I12",
    "caps not kept": "I12",
    "quiet hours not kept": "I13",
    "another channel although it may have come": "I14",
    "never too late": "I14",
    "given up in silence": "I15",
    "a gone device kept": "I18",
    "a gone device asked again": "I18",
    "a number that is not listed": "I19",
    "an answer that is not remembered": "I19",
    "a goal that stays open": "I21",
    "a member whom the group does not find": "I22",
    "a second decision counts": "I23",
    "a decision of which nobody hears": "I23",
}


@pytest.mark.parametrize("fault", INVARIANTS)
def test_what_is_broken_on_purpose_is_found(monkeypatch, fault):  # noqa: C901, PLR0912
    match fault:
        case "no fence":
            monkeypatch.setattr(SimDatabase, "fenced", lambda *_: False)
        case "answered before the commit":
            monkeypatch.setattr(Work, "commit", _lost_now_and_then(Work.commit))
        case "fires early":
            monkeypatch.setattr(SimClock, "follow", _an_hour_ahead(SimClock.follow))
        case "an item forgotten":
            items = digest._items
            monkeypatch.setattr(digest, "_items", lambda *args: items(*args)[:1])
        case "passes not counted":
            monkeypatch.setattr(throttle, "live", lambda *_: {})
        case "caps not kept":
            monkeypatch.setattr(outgoing, "reached", lambda *_: None)
        case "quiet hours not kept":
            monkeypatch.setattr(outgoing, "_opens_us", lambda to: to.journey.now_us)
        case "another channel although it may have come":
            monkeypatch.setattr(outgoing, "_spent", lambda message: message.state in UNREACHABLE)
        case "never too late":
            monkeypatch.setattr(sending, "_expired", lambda *_: False)
        case "given up in silence":
            monkeypatch.setattr(messages, "append", _quietly(messages.append))
        case "a gone device kept":
            monkeypatch.setattr(devices, "forget", lambda *_: 0)
        case "a gone device asked again":
            monkeypatch.setattr(devices, "left", lambda _, message: message.recipient)
        case "a number that is not listed":
            monkeypatch.setattr(choices, "_hold_listed", lambda *_: None)
        case "an answer that is not remembered":
            monkeypatch.setattr(Phone, "_told", _renamed(Phone._told))
        case "a goal that stays open":
            monkeypatch.setattr(goals, "replace", lambda profile, **_: profile)
        case "a member whom the group does not find":
            monkeypatch.setattr(Draft, "put_group_member", lambda *_, **__: None)
        case "a second decision counts":
            monkeypatch.setattr(approval, "refusal", lambda *_: "")
        case "a decision of which nobody hears":
            monkeypatch.setattr(Approving, "_give_notice", lambda _: None)
    findings = (finding for seed in range(60) for finding in play(seed).findings)
    assert any(finding.startswith(INVARIANTS[fault]) for finding in findings)


def _lost_now_and_then(commit):
    chance = random.Random(1)

    async def forgetful(self, batches):
        if chance.random() > 0.05:
            await commit(self, batches)

    return forgetful


def _quietly(append):
    def told(draft, message, kind, **fields):
        if kind is not OutcomeKind.MESSAGE_UNROUTABLE:
            append(draft, message, kind, **fields)

    return told


def _renamed(told):
    """Tell everything under another name each time: nothing is known to be a repetition."""

    async def anew(self, engagement):
        self.told = getattr(self, "told", 0) + 1
        name = f"{engagement.engagement_id}-{self.told}"
        return await told(self, replace(engagement, engagement_id=name))

    return anew


def _an_hour_ahead(follow):
    return lambda self, now_us: follow(self, now_us + 3_600_000_000)


def in_virtual_time(work):
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.abandon()


def test_time_jumps_to_the_next_timer():
    async def work(loop):
        await asyncio.sleep(86_400 * 40)
        return loop.time()

    assert in_virtual_time(work) == 86_400 * 40


def test_waiting_for_nothing_is_an_error():
    async def work(loop):
        await loop.create_future()

    with pytest.raises(Stuck):
        in_virtual_time(work)


def test_what_is_killed_runs_no_further_and_cleans_up_nothing():
    seen = []

    async def victim():
        try:
            seen.append("begun")
            await asyncio.sleep(10)
            seen.append("went on")
        finally:
            seen.append("cleaned up")

    async def work(loop):
        process = Process("p")
        process.spawn(victim())
        await asyncio.sleep(5)
        process.kill()
        await asyncio.sleep(100)
        return list(seen)

    assert in_virtual_time(work) == ["begun"]


def test_what_is_frozen_goes_on_where_it_was():
    seen = []

    async def sleeper(loop):
        async with asyncio.timeout(30):
            await asyncio.sleep(10)
        seen.append(loop.time())

    async def work(loop):
        process = Process("p")
        process.spawn(sleeper(loop))
        await asyncio.sleep(5)
        process.freeze()
        await asyncio.sleep(15)
        assert seen == []
        process.thaw()
        await asyncio.sleep(1)
        return seen

    assert in_virtual_time(work) == [20]
