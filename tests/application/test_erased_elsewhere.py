"""A person whom another replica erases between a decision about them and its commit."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from tests.application.test_replicas import SharedStore
from tests.flows import delay, track
from tests.world import DAY, HOUR, World, world
from upshotd.application.erasing import Erasing
from upshotd.application.ports import MessageFilter, RunFilter
from upshotd.domain.approval import Approval
from upshotd.domain.engine import decide
from upshotd.domain.message import Channel, Email
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Changes, IdKind, Wanted
from upshotd.domain.steps.approve import Approve, ReviewerLevel
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import EraseRequested, EraseResult, IngestState
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

ANA = (IdKind.USER, "ana")


class Elsewhere(SharedStore):
    """Commits an erasure of another replica in front of the next start, or what is waited for."""

    def __init__(self, waits: Callable[[Changes], bool] = lambda _: True) -> None:
        super().__init__()
        self.world: World | None = None
        self._waits = waits

    async def commit(self, batch: Sequence[Changes]) -> None:
        if self.world is not None and any(map(self._waits, batch)):
            world, self.world = self.world, None
            state = await super().load("default", Wanted(identities={ANA}))
            known, now_us = world.book.known("default"), world.clock.now_us()
            erased = decide("default", known, state, EraseRequested(ANA), now_us, world.ids)
            await super().commit([erased.changes])
        await super().commit(batch)


async def test_a_start_that_was_decided_before_is_refused() -> None:
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay("pause", 60_000_000)))
        await w.identify("ana", email="ana@example.com")
        store.world = w
        answer = await w.track("ana", "Go")
        assert (answer.state, answer.reason) == (IngestState.REJECTED, "ERASED")
        assert not await store.runs("default", RunFilter(), "", 9)


async def test_a_run_that_began_meanwhile_ends_with_its_person() -> None:
    store = SharedStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay("pause", 60_000_000)))
        await w.identify("ana", email="ana@example.com")
        started = await w.track("ana", "Go")
        state = await store.load("default", Wanted(identities={ANA}))
        assert state.active[state.identities[ANA]], "the store knows it"
        (answer,) = await w.loop.ask("default", [EraseRequested(ANA)])
        assert isinstance(answer, EraseResult)
        run = await store.run("default", started.started[0].run_id)
        assert run is not None
        assert (run.state, run.reason, run.profile_id) == (RunState.CANCELED, "ERASED", "")


PAY = Approve(
    (ReviewerLevel(user_ids=("ana",), escalate_us=DAY), ReviewerLevel(user_ids=("cem",))),
    Send(Channel.EMAIL, (Email("Pay?", text="Pay?"),)),
    "Pay?",
    2 * DAY,
)


@pytest.mark.parametrize("traits", [{"email": "ana@example.com"}, {"phone": "+15550001"}])
async def test_a_request_that_was_decided_before_is_not_made(traits: dict[str, str]) -> None:
    """Also one that could not be sent: it would be kept with what is known of its reviewer."""
    store = Elsewhere(lambda changes: bool(changes.messages))
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", Step("ok", PAY)))
        await w.identify("ana", **traits)
        await w.identify("cem", email="cem@example.com")
        store.world = w
        await w.track("pia", "Go")
        await w.settle()
        assert store.world is None, "the erasure came in between"
        assert [one.recipient for one in w.email.ledger] == ["cem@example.com"]
        (request,) = await store.messages("default", MessageFilter(), "", 9)
        assert request.recipient == "cem@example.com"


async def test_a_search_for_others_that_was_decided_before_is_decided_again() -> None:
    """Nobody is found, and it would wait for one who is no more."""
    alone = replace(PAY.levels[0], escalate_us=HOUR)
    nobody = replace(PAY, levels=(alone, ReviewerLevel(group_id="none")))
    store = Elsewhere(lambda changes: any(map(_has_asked_all, changes.runs.values())))
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", Step("ok", nobody)))
        await w.identify("ana", email="ana@example.com")
        store.world = w
        await w.track("pia", "Go")
        await w.advance(HOUR)
        assert store.world is None
        (run,) = await store.runs("default", RunFilter(), "", 9)
        assert (run.state, run.steps["ok"]["reason"]) == (RunState.COMPLETED, "UNREACHABLE")


def _has_asked_all(run: Run) -> bool:
    return Approval.of(run.steps.get("ok", {})).level == 2


async def test_the_rest_waits_until_others_have_ended_what_they_began() -> None:
    store = SharedStore()
    await store.open()
    async with world(store) as w:
        erasing = Erasing(store, w.loop, w.clock, w.codec, settle_us=30_000_000)
        await w.track("ana", "Looked", properties={"secret": "canary"})
        await erasing.erase("default", ANA)
        await erasing.finish()
        kept = await store.event("default", "e1")
        assert kept is not None
        assert b"canary" in kept.stored.payload
        w.clock.advance(30_000_001)
        await erasing.finish()
        kept = await store.event("default", "e1")
        assert kept is not None
        assert kept.stored.payload == b""


async def test_the_work_in_the_background_begins_when_it_is_woken() -> None:
    async with world() as w:
        erasing = Erasing(w.store, w.loop, w.clock, w.codec)
        working = asyncio.create_task(erasing.run())
        await w.track("ana", "Looked", properties={"secret": "canary"})
        await erasing.erase("default", ANA)
        async with asyncio.timeout(5):
            while (await w.store.event("default", "e1")).stored.payload:  # type: ignore[union-attr]
                await asyncio.sleep(0)
        working.cancel()
