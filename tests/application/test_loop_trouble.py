"""The loop when the store fails, or a decision breaks: nothing is lost, nobody else is held up."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.flows import CLICKED, delay, email, sms, track, wait_engagement
from tests.loops import EVERYTHING, TroubledStore, go
from tests.world import DAY, START, world
from upshotd.application.inbox import Limits
from upshotd.application.work import ALONE_CONFLICTS_MAX
from upshotd.domain.engine import Decision, decide
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    Unavailable,
)
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Deferred, MessageState, Unknown
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes
from upshotd.domain.stimulus import (
    EngagementState,
    EventArrived,
    IngestState,
    MessageDue,
    RunBroke,
    RunDue,
    SendSettled,
)
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode


async def test_a_conflict_is_decided_again():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [Conflict("moved on"), Conflict("moved on")]
        (result,) = await w.ingest(go("a"))
        assert result.state is IngestState.ACCEPTED


async def test_a_row_that_others_write_all_the_time_is_waited_for():
    """As the suppression list while another replica imports one: nothing is set aside for that."""
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [Conflict("moved on") for _ in range(60)]
        results = await w.ingest(go("a", "ana"), go("b", "ben"))
        assert {result.state for result in results} == {IngestState.ACCEPTED}


async def test_endless_conflict_ends_with_the_item_set_aside():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [Conflict("moved on") for _ in range(ALONE_CONFLICTS_MAX + 1)]
        (result,) = await w.ingest(go("a"))
        assert (result.state, result.reason) == (IngestState.REJECTED, "INTERNAL")


async def test_a_constraint_broken_by_a_race_is_decided_again():
    """Two replicas moved one run; the enrolment of the other was there first (simulation, 118)."""
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [ConstraintFailure("the start is taken")]
        (result,) = await w.ingest(go("a"))
        assert result.state is IngestState.ACCEPTED


async def test_a_constraint_failure_splits_the_batch_and_refuses_only_its_cause():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.poison = "bad"
        results = await w.ingest(*(go(f"e{n}", f"u{n}") for n in range(5)), go("bad"), go("last"))
        assert [r.state for r in results] == [
            *[IngestState.ACCEPTED] * 5,
            IngestState.REJECTED,
            IngestState.ACCEPTED,
        ]
        assert results[5].reason == "INTERNAL"
        assert "incident" in results[5].violations[0].description
        (rejected,) = await w.store.rejected_events("default", "", 10)
        assert rejected.event_id == "bad"


async def test_a_store_that_is_away_tells_callers_and_keeps_providers_answers():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        w.sms.open.clear()
        await w.track("u", "Go")
        store.troubles = [Unavailable("away"), Unavailable("away")]
        with pytest.raises(Unavailable):
            await w.ingest(go("x"))
        w.sms.open.set()
        await w.settle()
        assert await w.story() == ["SENT SMS"]
        assert len(w.sms.ledger) == 1


class SilentStore(TroubledStore):
    """Commits, and then the line drops: nobody hears that it did."""

    silent = 0

    async def commit(self, batch: Sequence[Changes]) -> None:
        await super().commit(batch)
        if self.silent:
            self.silent -= 1
            raise Unavailable("the line dropped")


async def test_a_commit_whose_answer_was_lost_is_sent_at_once_and_counts_once():
    store = SilentStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        store.silent = 1
        with pytest.raises(Unavailable):
            await w.ingest(go("x"))
        (again,) = await w.ingest(go("x"))
        assert again.state is IngestState.DUPLICATE
        await w.settle()
        # No lease had to run out for it: the clock stood still.
        assert await w.story() == ["SENT SMS"]
        assert len(w.sms.ledger) == 1


async def test_a_commit_that_failed_sends_nothing():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        store.troubles = [Unavailable("away")]
        with pytest.raises(Unavailable):
            await w.ingest(go("x"))
        await w.settle()
        assert await w.story() == []
        (again,) = await w.ingest(go("x"))
        assert again.state is IngestState.ACCEPTED
        await w.settle()
        assert len(w.sms.ledger) == 1


async def test_a_decision_that_breaks_is_refused_alone():
    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, EventArrived) and stimulus.event.event_id == "bad":
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        w.loop.work.step = breaking
        good, bad = await w.ingest(go("good"), go("bad"))
        assert good.state is IngestState.ACCEPTED
        assert (bad.state, bad.reason) == (IngestState.REJECTED, "INTERNAL")
        assert len(await w.store.rejected_events("default", "", 10)) == 1


async def test_an_engagement_that_breaks_is_refused_alone():
    def breaking(*_: object) -> Decision:
        raise RuntimeError("a bug")

    async with world() as w:
        w.loop.work.step = breaking
        engagement = Engagement("x", EngagementKind.OPENED, START, "nobody")
        (answer,) = await w.loop.engage("default", [engagement])
        assert (answer.state, answer.reason) == (EngagementState.REJECTED, "INTERNAL")
        assert (await w.loop.cancel("default", run_id="nobody")).canceled == ()


async def test_a_run_whose_timer_breaks_fails_visibly_and_blocks_nobody():
    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, RunDue) and state.runs[stimulus.run_id].start_key == "bad":
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        await w.define(track("Go", delay()))
        w.loop.work.step = breaking
        bad, good = await w.ingest(go("bad", "u1"), go("good", "u2"))
        await w.advance(DAY)
        failed = await w.store.run("default", bad.started[0].run_id)
        fine = await w.store.run("default", good.started[0].run_id)
        assert (failed.state, failed.reason) == (RunState.FAILED, "INTERNAL")
        assert fine.state is RunState.COMPLETED


async def test_an_answer_whose_run_breaks_is_still_recorded():
    broke: list[str] = []

    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, SendSettled) and not broke:
            broke.append(stimulus.message_id)
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        await w.define(track("Go", sms(), delay()))
        await w.identify("u", phone="+15550000")
        w.loop.work.step = breaking
        started = (await w.track("u", "Go")).started[0]
        await w.settle()
        run = await w.store.run("default", started.run_id)
        message = await w.store.message("default", broke[0])
        assert run.state is RunState.FAILED
        assert message.state is MessageState.ACCEPTED


async def test_a_broken_answer_about_no_message_is_dropped():
    def breaking(*_: object) -> Decision:
        raise RuntimeError("a bug")

    async with world() as w:
        w.loop.work.step = breaking
        w.loop.settle("default", SendSettled("nobody", 1, Unknown(), "smtp", idempotent=False))
        await w.settle()
        assert await w.outcomes() == []


async def test_a_store_that_cannot_tell_what_is_due_loses_nothing_of_the_inbox():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        store.blind = [Unavailable("away")]
        w.loop._next_due_us = 0
        async with asyncio.timeout(5):
            result = await w.track("u", "Go")
            assert result.state is IngestState.ACCEPTED
            await w.settle()
        assert await w.story() == ["SENT SMS"]


async def test_a_run_that_cannot_even_be_ended_does_not_come_again_and_again():
    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, RunDue | RunBroke):
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        await w.define(track("Go", delay()))
        started = (await w.track("u", "Go")).started[0]
        w.loop.work.step = breaking
        async with asyncio.timeout(5):
            await w.advance(DAY)
        run = await w.store.run("default", started.run_id)
        assert (run.state, run.reason, run.due_us) == (RunState.FAILED, "INTERNAL", None)


async def test_a_message_that_cannot_even_be_given_up_does_not_come_again_and_again():
    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, MessageDue | RunBroke):
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        w.sms.answers = [Deferred("busy")]
        await w.track("u", "Go")
        await w.settle()
        w.loop.work.step = breaking
        async with asyncio.timeout(5):
            await w.advance(DAY)
        (message,) = await w.store.messages("default", *EVERYTHING)
        assert (message.state, message.reason) == (MessageState.UNDELIVERABLE, "INTERNAL")


async def test_an_engagement_that_waits_behind_a_full_batch_still_precedes_a_later_timer():
    async with world(limits=Limits(batch=2)) as w:
        await w.define(track("Go", sms(), wait_engagement("clicked", "nudge", CLICKED)))
        await w.identify("u", phone="+15550000")
        started = (await w.track("u", "Go")).started[0]
        await w.settle()
        (message,) = await w.store.messages("default", *EVERYTHING)
        w.clock.advance(DAY - 1)
        others = asyncio.create_task(w.ingest(*(go(f"x{n}", f"v{n}", "x") for n in range(6))))
        clicked = asyncio.create_task(w.engage(message.message_id, EngagementKind.CLICKED))
        w.loop._next_due_us = 0
        await asyncio.sleep(0)
        w.clock.advance(1)
        await asyncio.gather(others, clicked)
        await w.settle()
        run = await w.store.run("default", started.run_id)
        assert [entry.what for entry in run.timeline if entry.step_id == "clicked"][-1] == "matched"


async def test_a_linked_person_and_their_ended_run_in_one_batch_stop_nothing():
    async with world() as w:
        await w.define(track("Go", email(), exits=(ExitRule("Stop"),)))
        await w.identify("u", first_name="U")
        contact = {"email": "a@example.com", "first_name": "A"}
        await w.ingest(
            Event("i", EventType.IDENTIFY, "", "anon", traits=contact),
            Event("g", EventType.TRACK, "", "anon", name="Go"),
            Event("s", EventType.TRACK, "", "anon", name="Stop"),
            Event("l", EventType.TRACK, "u", "anon", name="Signed Up"),
        )
        async with asyncio.timeout(5):
            await w.settle()
        assert await w.story("u") == ["SENT EMAIL"]


async def test_once_ever_holds_for_who_is_linked_by_the_very_event():
    async with world() as w:
        await w.define(track("Go", delay(), reentry=Reentry(ReentryMode.ONCE_EVER)))
        await w.identify("u")
        await w.ingest(Event("g1", EventType.TRACK, "", "anon", name="Go"))
        (again,) = await w.ingest(Event("g2", EventType.TRACK, "u", "anon", name="Go"))
        assert (again.state, again.started) == (IngestState.ACCEPTED, ())
