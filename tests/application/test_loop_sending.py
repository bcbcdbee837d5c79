"""Sends: intents first, then calls outside of transactions, then their results."""

import asyncio

from tests.flows import delay, email, sms, track
from tests.loops import EVERYTHING, TroubledStore, go
from tests.world import MINUTE, RecordingProvider, World, world
from upshotd.application.dispatch import Dispatcher, Intent, intent
from upshotd.application.inbox import Limits
from upshotd.domain.message import (
    Accepted,
    Channel,
    Delivery,
    Email,
    Message,
    MessageState,
    SendResult,
    Sms,
    Unknown,
)
from upshotd.domain.stimulus import SendSettled


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
        (message,) = await w.store.messages("default", *EVERYTHING)
        assert message.state is MessageState.UNKNOWN

        w.dispatcher._timeout_s = 0.01
        w.email.open.clear()
        await w.identify("v", first_name="V", email="v@example.com")
        await w.track("v", "Go")
        await w.settle()
        newest = (await w.store.messages("default", *EVERYTHING))[0]
        assert (newest.state, newest.detail) == (MessageState.UNKNOWN, "no answer within 0.01 s")


class _Uneven:
    """Hangs for every second message; for those in *deaf* it does not hear that it is cut off."""

    name, idempotent = "uneven", False

    def __init__(self, *deaf: str) -> None:
        self._deaf = deaf

    async def send(self, delivery: Delivery) -> SendResult:
        if int(delivery.message_id) % 2:
            return Accepted(delivery.message_id)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if delivery.message_id not in self._deaf:
                raise
        return Accepted(f"late {delivery.message_id}")

    async def close(self) -> None:
        pass


async def test_each_attempt_has_the_whole_time_to_itself():
    settled: dict[str, SendResult] = {}
    dispatcher = Dispatcher(
        {"uneven": _Uneven("4")},
        lambda _, s: settled.update({s.message_id: s.result}),
        concurrency=1,
        timeout_s=0.02,
    )
    deliveries = [
        Delivery(str(n), "default", Channel.SMS, "+1", Sms("x"), "u", "w", "r", "s", 1, False)
        for n in range(1, 8)
    ]
    dispatcher.submit([Intent(delivery, "uneven") for delivery in deliveries])
    async with asyncio.timeout(10):
        while dispatcher.in_flight:
            await asyncio.sleep(0.001)
    hung = Unknown("no answer within 0.02 s")
    assert settled == {
        **{n: Accepted(n) for n in "1357"},
        **dict.fromkeys("26", hung),
        "4": Accepted("late 4"),
    }
    await dispatcher.close(0)


async def test_a_send_whose_provider_is_configured_no_more_is_tried_later():
    async with world() as w:
        await w.define(track("Go", sms(), delay()))
        await w.identify("u", phone="+15550000")
        w.dispatcher._providers = {}
        await w.track("u", "Go")
        await w.settle()
        (message,) = await w.store.messages("default", *EVERYTHING)
        assert message.state is MessageState.RETRYING, "nobody was asked, so nothing is unknown"


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
        (message,) = await w.store.messages("default", *EVERYTHING)
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


async def test_what_was_queued_when_the_server_went_down_is_sent_after_the_restart():
    store = TroubledStore()
    await store.open()
    first = World(store)
    first.dispatcher._workers._concurrency = 1
    await first.start()
    await first.define(track("Go", email()))
    for user_id in "ab":
        await first.identify(user_id, first_name="X", email=f"{user_id}@example.com")
    first.email.open.clear()
    await first.ingest(go("one", "a"), go("two", "b"))
    first.loop.drain()
    await first.dispatcher.close(0.01)
    first.loop.stop()
    await first._working

    second = World(store, clock=first.clock)
    second.ids = second.loop._ids = second.loop.work._ids = first.ids
    await second.start()
    await second.advance(5 * MINUTE)
    assert [d.recipient for d in second.email.ledger] == ["b@example.com"]
    assert await second.story("b") == ["SENT EMAIL"]
    assert await second.story("a") == ["UNDELIVERABLE EMAIL"], "cut off in mid-call: unknown"
    await second.stop()


async def test_the_next_send_of_a_run_is_not_begun_while_the_server_goes_down():
    store = TroubledStore()
    await store.open()
    async with world(store) as w:
        await w.define(track("Go", sms("one"), sms("two")))
        await w.identify("u", phone="+15550000")
        w.sms.open.clear()
        await w.track("u", "Go")
        w.loop.drain()
        closing = asyncio.create_task(w.dispatcher.close(1.0))
        await asyncio.sleep(0)
        w.sms.open.set()
        await closing
        w.loop.stop()
        await w._working
        second, first = await store.messages("default", *EVERYTHING)
        assert (first.state, second.state) == (MessageState.ACCEPTED, MessageState.RETRYING)
        assert len(w.sms.ledger) == 1


async def test_a_send_that_is_submitted_while_the_last_worker_ends_is_not_forgotten():
    asked: list[str] = []
    delivery = intent("default", a_message("m1"), "u")

    class Instant(RecordingProvider):
        async def send(self, delivery: Delivery) -> SendResult:
            asked.append(delivery.message_id)
            return Accepted()

    def settle(_: str, settled: SendSettled) -> None:
        # The loop's next batch, in the same breath of the event loop.
        if settled.message_id == "m1":
            asyncio.get_running_loop().call_soon(
                dispatcher.submit, [intent("default", a_message("m2"), "u")]
            )

    provider = Instant("smtp", idempotent=False)
    dispatcher = Dispatcher({"smtp": provider}, settle, concurrency=1)
    dispatcher.submit([delivery])
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == ["m1", "m2"]
    assert dispatcher.in_flight == 0


def a_message(message_id: str) -> Message:
    return Message(
        message_id=message_id,
        run_id="r",
        step_id="s",
        profile_id="p",
        workflow_id="w",
        workflow_version=1,
        channel=Channel.EMAIL,
        state=MessageState.SENDING,
        provider="smtp",
        recipient="u@example.com",
        content=Email("Hello"),
        attempt=1,
    )


async def test_the_loop_rests_while_it_waits_for_answers_although_timers_are_due():
    store = TroubledStore()
    await store.open()
    async with world(store, limits=Limits(in_flight=1)) as w:
        await w.define(track("Go", sms()), track("Wait", delay(duration=MINUTE), workflow_id="b"))
        await w.identify("u", phone="+15550000")
        await w.track("u", "Wait")
        w.sms.open.clear()
        await w.track("u", "Go")
        w.clock.advance(2 * MINUTE)
        w.loop.poke()
        turns = 0
        turn = w.loop._turn

        async def counted() -> bool:
            nonlocal turns
            turns += 1
            return await turn()

        w.loop._turn = counted
        for _ in range(300):
            await asyncio.sleep(0)
        assert turns < 10
        w.sms.open.set()
        await w.settle()
        assert await w.story() == ["SENT SMS"]
