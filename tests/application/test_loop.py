"""The loop: what goes in, in which order it is done, restarts, and travel in time."""

import asyncio

import pytest

from tests.flows import delay, email, sms, track, wait_engagement
from tests.loops import ALWAYS, TroubledStore, go
from tests.world import DAY, MINUTE, START, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.memory import MemoryStore
from upshotd.application.inbox import Limits
from upshotd.domain.errors import (
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from upshotd.domain.event import Event, EventType
from upshotd.domain.stimulus import IngestState
from upshotd.domain.values import replace

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


async def test_two_workspaces_know_nothing_of_each_other():
    async with world() as w:
        await w.define(track("Go", delay()), workspace_id="one")
        first, second = await asyncio.gather(
            w.ingest(go("a"), workspace_id="one"), w.ingest(go("a"), workspace_id="two")
        )
        assert len(first[0].started) == 1
        assert second[0].state is IngestState.ACCEPTED
        assert second[0].started == ()


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


class SlowReads(MemoryStore):
    """Reads of workflows end when they are let through, with what they found before."""

    def __init__(self) -> None:
        super().__init__(encode_outcome=ContractCodec().encode_outcome)
        self.gates: list[asyncio.Event] = []

    async def current_workflows(self, workspace_id: str):
        found = await super().current_workflows(workspace_id)
        await self._pass()
        return found

    async def workflow(self, workspace_id: str, workflow_id: str, version: int):
        found = await super().workflow(workspace_id, workflow_id, version)
        await self._pass()
        return found

    async def _pass(self) -> None:
        if self.gates:
            await self.gates.pop(0).wait()


async def test_a_version_defined_while_an_older_one_is_read_is_not_forgotten():
    store = SlowReads()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay()))
        await w.track("u", "Go")
        await w.define(track("Go", delay(duration=2 * DAY)))
        w.book._books.clear()
        await w.book.of("default")
        gate = asyncio.Event()
        store.gates = [gate]
        reading = asyncio.create_task(w.book.covering("default", {("flow", 1)}))
        await asyncio.sleep(0)
        await w.define(track("Go", delay(duration=3 * DAY)))
        gate.set()
        await reading
        (answer,) = await w.ingest(go("later", "v"))
        assert [started.version for started in answer.started] == [3]


async def test_a_refresh_that_read_before_a_definition_does_not_undo_it():
    store = SlowReads()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", delay()))
        gate = asyncio.Event()
        store.gates = [gate]
        slow = asyncio.create_task(w.book.refresh("default"))
        await asyncio.sleep(0)
        await w.define(track("Go", delay(duration=2 * DAY)))
        gate.set()
        await slow
        (answer,) = await w.ingest(go("later", "v"))
        assert [started.version for started in answer.started] == [2]


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


async def test_a_crash_in_mid_jump_does_not_bring_an_earlier_time_back():
    async with world() as w:
        put = w.store.put_setting

        async def crash(name: str, value: str) -> None:
            await put(name, value)
            assert w.clock.now_us() == START, "the time that is not kept yet has not come"
            raise Unavailable("killed")

        w.store.put_setting = crash
        with pytest.raises(Unavailable):
            await w.advance(DAY)
        await w.lab.restore()
        assert w.clock.now_us() == START + DAY


async def test_a_jump_ends_when_the_server_goes_down():
    async with world() as w:
        await w.define(track("Go", delay()))
        await w.track("u", "Go")
        w.loop.drain()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match="going down"):
                await w.advance(2 * DAY)
