"""The loop: what it promises about durability, order, and everything that goes wrong under it."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.flows import delay, email, sms, track, wait_engagement
from tests.world import DAY, MINUTE, START, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.inbox import Limits
from upshotd.domain.engine import Decision, decide
from upshotd.domain.errors import (
    Conflict,
    ConstraintFailure,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import MessageState, Unknown
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes
from upshotd.domain.stimulus import EngagementState, EventArrived, IngestState, RunDue, SendSettled
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode

ALWAYS = Reentry(ReentryMode.ALWAYS)


def go(event_id: str, user_id: str = "u", name: str = "Go") -> Event:
    return Event(event_id, EventType.TRACK, user_id, name=name)


class TroubledStore(MemoryStore):
    """Fails commits as told; `commits` counts those that went through."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=ContractCodec().encode_outcome)
        self.troubles: list[Exception] = []
        self.poison = ""
        self.commits: list[int] = []

    async def commit(self, batch: Sequence[Changes]) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        if self.poison and any(self.poison in changes.events for changes in batch):
            raise ConstraintFailure("taken")
        await super().commit(batch)
        self.commits.append(sum(len(changes.events) for changes in batch))


# ingestion


async def test_results_come_in_request_order_and_one_bad_event_spoils_nothing():
    async with world() as w:
        await w.define(track("Go", delay()))
        results = await w.ingest(go("a", "u1"), go("b", ""), go("c", "u3"))
        assert [r.state for r in results] == [
            IngestState.ACCEPTED,
            IngestState.REJECTED,
            IngestState.ACCEPTED,
        ]
        (rejected,) = await w.store.rejected_events("default", "", 10)
        assert (rejected.event_id, rejected.reason) == ("b", "MISSING_USER_ID")
        assert '"eventId"' in rejected.payload or '"event_id"' in rejected.payload


async def test_a_rejected_id_stays_free():
    async with world() as w:
        await w.ingest(go("a", ""))
        (again,) = await w.ingest(go("a", "u"))
        assert again.state is IngestState.ACCEPTED


async def test_the_same_id_twice_in_one_request_acts_once():
    async with world() as w:
        await w.define(track("Go", delay(), reentry=ALWAYS))
        first, second = await w.ingest(go("a"), go("a"))
        assert second.state is IngestState.DUPLICATE
        assert second.started == first.started
        assert len(await w.outcomes()) == 1


async def test_events_of_a_request_apply_in_order_for_one_person():
    async with world() as w:
        await w.define(track("Go", sms("say", "{{ traits.n }}"), reentry=ALWAYS))
        phone = {"phone": "+15550000"}
        events = []
        for n in range(5):
            traits = {"n": n, **phone}
            events.append(Event(f"i{n}", EventType.IDENTIFY, "u", traits=traits))
            events.append(go(f"g{n}"))
        await w.ingest(*events)
        await w.settle()
        assert [d.content.body for d in w.sms.ledger] == ["0", "1", "2", "3", "4"]


async def test_an_empty_id_is_assigned_and_returned():
    async with world() as w:
        (result,) = await w.ingest(go(""))
        assert result.event_id.startswith("id-")


async def test_many_callers_at_once_share_commits():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        await asyncio.gather(*(w.ingest(go(f"e{n}", f"u{n}")) for n in range(200)))
        assert sum(store.commits) == 200
        assert len(store.commits) < 20


async def test_a_full_inbox_refuses_and_accepts_nothing():
    async with world(limits=Limits(inbox=2)) as w:
        with pytest.raises(ResourceExhausted):
            await w.ingest(go("a"), go("b"), go("c"))
        (result,) = await w.ingest(go("a"))
        assert result.state is IngestState.ACCEPTED


async def test_draining_refuses_new_work_and_finishes_what_is_inside():
    async with world() as w:
        inside = asyncio.create_task(w.ingest(go("a")))
        await asyncio.sleep(0)
        w.loop.drain()
        with pytest.raises(Unavailable, match="going down"):
            await w.ingest(go("b"))
        assert (await inside)[0].state is IngestState.ACCEPTED


async def test_what_is_left_when_the_loop_ends_is_refused():
    async with world() as w:
        w.loop._stopped = True
        left = asyncio.create_task(w.ingest(go("a")))
        await asyncio.sleep(0)
        w.loop._inbox.extend(w.loop._inbox)
        w.loop._refuse_rest()
        w.loop._inbox.clear()
        with pytest.raises(Unavailable):
            await left


async def test_two_workspaces_know_nothing_of_each_other():
    async with world() as w:
        await w.define(track("Go", delay()), workspace_id="one")
        first, second = await asyncio.gather(
            w.ingest(go("a"), workspace_id="one"), w.ingest(go("a"), workspace_id="two")
        )
        assert len(first[0].started) == 1
        assert second[0].state is IngestState.ACCEPTED
        assert second[0].started == ()


# trouble under the loop


async def test_a_conflict_is_decided_again():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [Conflict("moved on"), Conflict("moved on")]
        (result,) = await w.ingest(go("a"))
        assert result.state is IngestState.ACCEPTED


async def test_endless_conflict_ends_with_the_item_set_aside():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        store.troubles = [Conflict("moved on") for _ in range(6)]
        (result,) = await w.ingest(go("a"))
        assert (result.state, result.reason) == (IngestState.REJECTED, "INTERNAL")


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


async def test_a_decision_that_breaks_is_refused_alone():
    def breaking(workspace_id, definitions, state, stimulus, now_us, ids) -> Decision:
        if isinstance(stimulus, EventArrived) and stimulus.event.event_id == "bad":
            raise RuntimeError("a bug")
        return decide(workspace_id, definitions, state, stimulus, now_us, ids)

    async with world() as w:
        w.loop._step = breaking
        good, bad = await w.ingest(go("good"), go("bad"))
        assert good.state is IngestState.ACCEPTED
        assert (bad.state, bad.reason) == (IngestState.REJECTED, "INTERNAL")
        assert len(await w.store.rejected_events("default", "", 10)) == 1


async def test_an_engagement_that_breaks_is_refused_alone():
    def breaking(*_: object) -> Decision:
        raise RuntimeError("a bug")

    async with world() as w:
        w.loop._step = breaking
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
        w.loop._step = breaking
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
        w.loop._step = breaking
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
        w.loop._step = breaking
        w.loop.settle("default", SendSettled("nobody", 1, Unknown(), "smtp", idempotent=False))
        await w.settle()
        assert await w.outcomes() == []


# sending


async def test_intents_are_committed_before_the_provider_is_called():
    async with world() as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        w.sms.open.clear()
        await w.track("u", "Go")
        await asyncio.sleep(0)
        (delivery,) = w.sms.ledger
        message = await w.store.message("default", delivery.message_id)
        assert (message.state, message.owner, message.attempt) == (MessageState.SENDING, "me", 1)


async def test_sends_under_way_hold_new_work_back():
    async with world(limits=Limits(in_flight=2, batch=2)) as w:
        await w.define(track("Go", sms()))
        for user_id in "abcde":
            await w.identify(user_id, phone="+15550000")
        w.sms.open.clear()
        asked = [asyncio.create_task(w.track(user_id, "Go")) for user_id in "abcde"]
        for _ in range(200):
            await asyncio.sleep(0)
        assert w.dispatcher.in_flight == 2
        assert sum(task.done() for task in asked) == 2
        w.sms.open.set()
        await asyncio.gather(*asked)
        await w.settle()
        assert len(w.sms.ledger) == 5


async def test_a_provider_that_raises_or_hangs_leaves_an_unknown_result():
    async with world() as w:
        await w.define(track("Go", email(), delay()))
        await w.identify("u", first_name="U", email="u@example.com")
        w.email.answers = [RuntimeError("a bug")]
        await w.track("u", "Go")
        await w.settle()
        (message,) = await w.store.messages("default", *everything())
        assert message.state is MessageState.UNKNOWN

        w.dispatcher._timeout_s = 0.01
        w.email.open.clear()
        await w.identify("v", first_name="V", email="v@example.com")
        await w.track("v", "Go")
        await w.settle()
        newest = (await w.store.messages("default", *everything()))[0]
        assert (newest.state, newest.detail) == (MessageState.UNKNOWN, "no answer within 0.01 s")


def everything():
    from upshotd.application.ports import MessageFilter

    return MessageFilter(), "", 10


async def test_a_provider_that_is_configured_no_more_leaves_an_unknown_result():
    async with world() as w:
        await w.define(track("Go", sms(), delay()))
        await w.identify("u", phone="+15550000")
        w.dispatcher._providers = {}
        await w.track("u", "Go")
        await w.settle()
        (message,) = await w.store.messages("default", *everything())
        assert message.state is MessageState.UNKNOWN


async def test_a_lease_of_a_message_that_is_being_sent_here_is_left_alone():
    async with world() as w:
        await w.define(track("Go", email(), delay()))
        await w.identify("u", first_name="U", email="u@example.com")
        w.email.open.clear()
        await w.track("u", "Go")
        w.clock.advance(10 * MINUTE)
        w.loop.poke()
        for _ in range(50):
            await asyncio.sleep(0)
        (message,) = await w.store.messages("default", *everything())
        assert message.state is MessageState.SENDING
        w.email.open.set()
        await w.settle()
        assert await w.story() == ["SENT EMAIL"]


async def test_closing_lets_sends_finish_and_closes_the_providers():
    async with world() as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        await w.track("u", "Go")
    assert w.sms.closed
    assert await w.story() == ["SENT SMS"]


async def test_closing_cuts_off_what_does_not_finish():
    async with world() as w:
        await w.define(track("Go", sms()))
        await w.identify("u", phone="+15550000")
        w.sms.open.clear()
        await w.track("u", "Go")
        w.loop.drain()
        await w.dispatcher.close(0.01)
        assert w.sms.closed


# restart


async def test_a_restart_keeps_timers_and_asks_about_sends_that_were_cut_off():
    store = MemoryStore(encode_outcome=ContractCodec().encode_outcome)
    await store.open()
    first = World(store)
    await first.start()
    await first.define(track("Go", email(), wait_engagement(on_timeout=(sms(),))))
    await first.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    first.email.open.clear()
    await first.track("u", "Go")
    first._working.cancel()  # killed: no result, nothing closed

    second = World(store, clock=first.clock)
    second.ids = first.ids
    await second.start()
    await second.advance(5 * MINUTE)
    assert second.email.ledger == [], "nobody knows whether it was taken: it is not sent blindly"
    assert await second.story() == ["UNDELIVERABLE EMAIL", "SENT SMS"]
    await second.stop()
    first.email.open.set()


async def test_timers_fire_in_due_order_and_never_early():
    async with world() as w:
        await w.define(track("Go", delay(duration=DAY), sms("say", "{{ traits.n }}")))
        for n in range(5):
            await w.identify(f"u{n}", n=n, phone="+15550000")
            await w.track(f"u{n}", "Go")
            w.clock.advance(MINUTE)
        await w.advance(DAY - 5 * MINUTE - 1)
        assert w.sms.ledger == []
        await w.advance(1)
        assert [d.content.body for d in w.sms.ledger] == ["0"]
        w.clock.advance(DAY)
        await w.settle()
        assert [d.content.body for d in w.sms.ledger] == ["0", "1", "2", "3", "4"]


async def test_a_backlog_larger_than_a_batch_drains_in_due_order():
    async with world(limits=Limits(batch=3)) as w:
        await w.define(track("Go", delay(), sms("say", "{{ traits.n }}")))
        for n in range(10):
            await w.identify(f"u{n}", n=n, phone="+15550000")
            await w.track(f"u{n}", "Go")
            w.clock.advance(1)
        w.clock.advance(DAY)
        await w.settle()
        assert [d.content.body for d in w.sms.ledger] == [str(n) for n in range(10)]


# definitions


async def test_a_run_stays_on_the_version_it_started_with():
    async with world() as w:
        await w.define(track("Go", delay(), sms("say", "old")))
        await w.identify("u", phone="+15550000")
        await w.identify("v", phone="+15550000")
        await w.track("u", "Go")
        await w.define(track("Go", delay(), sms("say", "new")))
        answer = await w.track("v", "Go")
        assert answer.started[0].version == 2
        w.book._books.clear()  # as after a restart: version 1 is read when it is needed
        await w.advance(DAY)
        assert [d.content.body for d in w.sms.ledger] == ["old", "new"]


# the lab


async def test_advance_has_bounds_and_counts_timers():
    async with world() as w:
        await w.define(track("Go", delay(duration=DAY), delay("again", duration=DAY)))
        await w.track("u", "Go")
        for bad in (-1, 401 * DAY):
            with pytest.raises(InvalidArgument):
                await w.advance(bad)
        advanced = await w.lab.advance(3 * DAY)
        assert (advanced.now_us, advanced.fired_timers) == (START + 3 * DAY, 2)


async def test_the_clock_keeps_its_place_across_restarts():
    async with world() as w:
        await w.advance(5 * DAY)
        w.clock._now_us = START
        await w.lab.restore()
        assert w.clock.now_us() == START + 5 * DAY


async def test_a_lab_that_never_moved_starts_at_the_wall_clock():
    async with world() as w:
        await w.lab.restore()
        assert w.clock.now_us() == START


async def test_cancellation_reaches_the_store():
    async with world() as w:
        await w.define(
            replace(track("Go", delay(), reentry=ALWAYS), cancellation_key="'all'"),
        )
        await w.ingest(go("a", "u1"), go("b", "u2"))
        answer = await w.loop.cancel("default", cancellation_key="all")
        assert len(answer.canceled) == 2
        assert (await w.loop.cancel("default", cancellation_key="all")).canceled == ()
        assert (await w.loop.cancel("default", run_id="nobody")).known is False
