"""Attempts that the loop has committed: made once, answered, and made again by whoever is left."""

import asyncio

from tests.asking import BOSS, PAY
from tests.flows import sms, track
from tests.world import MINUTE, World, world
from upshotd.application.inbox import Limits
from upshotd.application.ports import MessageFilter, RunFilter
from upshotd.domain.fetching import Fetched
from upshotd.domain.run import Run
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

ASK = Step("ask", FetchStep("https://a.example", attempts=2))


async def asking(w: World, *people: str) -> None:
    await w.define(track("Go", ASK, sms()))
    for user_id in people:
        await w.identify(user_id, phone="+15550001")
        await w.track(user_id, "Go")


async def put_off(w: World, count: int) -> None:
    """Wait until attempts of so many runs were put off."""
    async with asyncio.timeout(5):
        while True:
            runs = await w.store.runs("default", RunFilter(), "", 9)
            if sum(bool(run.steps["ask"].get("put_off")) for run in runs) == count:
                return
            await asyncio.sleep(0.01)


async def the_run(w: World) -> Run:
    (run,) = await w.store.runs("default", RunFilter(), "", 9)
    return run


async def test_an_attempt_is_committed_before_it_is_made_and_its_answer_after() -> None:
    async with world() as w:
        w.fetcher.open.clear()
        await asking(w, "ana")
        while not w.fetcher.asked:
            await asyncio.sleep(0)
        assert (await the_run(w)).steps["ask"]["attempt"] == 1
        assert w.fetchers.in_flight == 1
        w.fetcher.open.set()
        await w.settle()
        assert (await the_run(w)).steps["ask"]["ok"] is True
        assert len(w.sms.ledger) == 1
        assert w.fetchers.in_flight == 0


async def test_its_timer_does_not_come_while_this_process_is_at_it() -> None:
    async with world() as w:
        w.fetcher.open.clear()
        await asking(w, "ana")
        while not w.fetcher.asked:
            await asyncio.sleep(0)
        w.clock.advance(MINUTE)
        w.loop.poke()
        for _ in range(50):
            await asyncio.sleep(0)
        assert [fetch.attempt for fetch in w.fetcher.asked] == [1]
        w.fetcher.open.set()
        await w.settle()
        assert len(w.sms.ledger) == 1


async def test_whoever_comes_after_a_crash_asks_again() -> None:
    async with world() as w:
        w.loop._fetchers = None  # committed, and then the process died
        await asking(w, "ana")
        assert not w.fetcher.asked
        w.loop._fetchers = w.fetchers
        await w.advance(MINUTE)
        assert [fetch.attempt for fetch in w.fetcher.asked] == [2]
        assert len(w.sms.ledger) == 1


async def test_one_that_breaks_costs_itself_alone() -> None:
    async with world() as w:
        w.fetcher.answers = [RuntimeError("a bug"), Fetched({"n": 1})]
        await asking(w, "ana", "ben")
        await w.settle()
        runs = await w.store.runs("default", RunFilter(), "", 9)
        left = sorted(str(run.steps["ask"].get("reason", run.steps["ask"]["ok"])) for run in runs)
        assert left == ["INTERNAL", "True"]
        assert len(w.sms.ledger) == 2


async def test_whoever_answers_slowly_holds_up_nobody_who_asks_nothing() -> None:
    async with world(limits=Limits(batch=4, in_flight=2)) as w:
        w.fetcher.open.clear()
        people = [f"u{n}" for n in range(4)]
        await asking(w, *people)
        assert w.fetchers.in_flight == 4
        async with asyncio.timeout(5):
            await w.identify("ben")
        w.fetcher.open.set()
        await w.settle()
        assert len(w.sms.ledger) == 4


async def test_what_there_is_no_room_for_is_put_off_and_comes_again() -> None:
    async with world() as w:
        w.ask_by(concurrency=1, longest=2)
        w.fetcher.open.clear()
        await asking(w, *(f"u{n}" for n in range(5)))
        await put_off(w, 2)
        assert w.fetchers.in_flight == 3
        w.fetcher.open.set()
        await w.settle()
        assert len(w.sms.ledger) == 3
        await w.advance(MINUTE)
        assert len(w.sms.ledger) == 5
        assert len(w.fetcher.asked) == 5


async def test_what_has_waited_for_its_turn_too_long_is_put_off() -> None:
    async with world() as w:
        w.ask_by(concurrency=1, wait_s=0.01)
        w.fetcher.open.clear()
        await asking(w, "ana", "ben")
        await asyncio.sleep(0.05)
        w.fetcher.open.set()
        await put_off(w, 1)
        assert len(w.sms.ledger) == 1
        await w.advance(MINUTE)
        assert len(w.sms.ledger) == 2


async def test_reviewers_are_found_while_whoever_else_is_asked_is_silent() -> None:
    async with world() as w:
        w.ask_by(concurrency=1)
        w.fetcher.open.clear()
        await asking(w, "ana")
        only_cem = replace(PAY, levels=(BOSS,))
        await w.define(track("Pay", Step("ok", only_cem), workflow_id="pay"))
        await w.identify("cem", email="cem@example.com")
        await w.track("ana", "Pay", properties={"amount": 5})
        async with asyncio.timeout(5):
            while not await w.store.messages("default", MessageFilter(), "", 9):
                await asyncio.sleep(0.01)
        w.fetcher.open.set()
        await w.settle()


async def test_a_slow_one_is_given_up_when_its_time_is_over() -> None:
    async with world() as w:
        quick = Step("ask", FetchStep("https://a.example", timeout_us=1_000, attempts=1))
        await w.define(track("Go", quick, sms()))
        await w.identify("ana", phone="+15550001")
        w.fetcher.open.clear()
        await w.track("ana", "Go")
        async with asyncio.timeout(5):
            while not w.sms.ledger:
                await asyncio.sleep(0.01)
        assert (await the_run(w)).steps["ask"]["reason"] == "TIMEOUT"
