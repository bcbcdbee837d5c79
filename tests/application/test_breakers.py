"""A provider that is away is left alone, and nobody loses an attempt by it."""

from collections import Counter

import structlog

from tests.fakes import ManualClock
from tests.flows import email, sms, track
from tests.loops import ALWAYS, EVERYTHING
from tests.world import CARRIERS, HOUR, MINUTE, RecordingProvider, World, world
from upshotd.application.health import ProviderHealth
from upshotd.domain.breaker import CLOSED, State
from upshotd.domain.definitions import Carrier
from upshotd.domain.message import (
    Channel,
    Deferred,
    Delivery,
    Message,
    MessageState,
    Refused,
    SendResult,
    Unknown,
)

SECOND = 1_000_000
AWAY = Deferred("ConnectionRefusedError")
TWO = CARRIERS | {
    Channel.SMS: (Carrier("texts", idempotent=True), Carrier("spare", idempotent=False))
}


async def people(w: World, *user_ids: str) -> None:
    """Send a text message to each of them, one after the other."""
    await w.define(track("Go", sms(), reentry=ALWAYS))
    for user_id in user_ids:
        await w.identify(user_id, phone="+15550000")
        await w.track(user_id, "Go")
        await w.settle()


async def newest(w: World) -> Message:
    return (await w.store.messages("default", *EVERYTHING))[0]


async def test_after_failures_in_a_row_a_provider_is_not_asked():
    async with world() as w:
        w.sms.answers = [AWAY] * 5
        await people(w, *"abcdef")
        assert len(w.sms.ledger) == 5
        message = await newest(w)
        assert message.state is MessageState.RETRYING
        assert message.detail == "its breaker is open: ConnectionRefusedError"
        assert message.due_us == w.breakers.of("texts").until_us


async def test_when_it_answers_again_everybody_gets_their_message():
    async with world() as w:
        w.sms.answers = [AWAY] * 5
        await people(w, *"abcdefgh")
        with structlog.testing.capture_logs() as lines:
            await w.advance(MINUTE)
        assert (await w.story()).count("SENT SMS") == 8
        assert w.breakers.of("texts") == CLOSED
        (closed,) = (line for line in lines if line["event"] == "provider.closed")
        assert (closed["provider"], closed["open_s"]) == ("texts", 5.0)


async def test_while_it_stays_away_only_a_probe_asks_it_now_and_then():
    async with world() as w:
        w.sms.answers = [AWAY] * 1_000
        with structlog.testing.capture_logs() as lines:
            await people(w, *"abcdefgh")
            await w.advance(HOUR)
        opened = [line["for_s"] for line in lines if line["event"] == "provider.opened"]
        assert opened[:7] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0]
        assert "ConnectionRefusedError" not in str(lines), "its words may name people"
        assert len(w.sms.ledger) == 5 + len(opened) - 1
        message = await newest(w)
        assert message.attempt - message.spared <= 3, "hours that it was away count for nothing"
        run = await w.store.run("default", message.run_id)
        assert run is not None
        assert [entry.what for entry in run.timeline].count("retrying") < len(opened)


async def test_another_provider_of_the_channel_is_asked_at_once():
    async with world(carriers=TWO) as w:
        w.sms.answers = [AWAY] * 5
        await people(w, *"abcdefgh")
        spare = w.providers["spare"]
        assert len(w.sms.ledger) == 5, "three more were not even tried there"
        assert len(spare.ledger) == 8
        assert (await w.story()).count("SENT SMS") == 8


async def test_a_storm_of_429_opens_it_for_as_long_as_the_provider_asks():
    async with world() as w:
        w.sms.answers = [Deferred("HTTP 429", 20 * MINUTE)] * 5
        await people(w, *"abcdefgh")
        await w.advance(19 * MINUTE)
        assert len(w.sms.ledger) == 5
        await w.advance(3 * MINUTE)
        assert (await w.story()).count("SENT SMS") == 8


class TenASecond(RecordingProvider):
    """Lets ten through a second, and says 429 to the others."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__("texts", idempotent=True)
        self.asked = 0
        self._clock = clock
        self._taken: Counter[int] = Counter()

    async def send(self, delivery: Delivery) -> SendResult:
        self.asked += 1
        second = self._clock.now_us() // SECOND
        if self._taken[second] == 10:
            return Deferred("HTTP 429", SECOND)
        self._taken[second] += 1
        return await super().send(delivery)


async def test_what_a_provider_lets_through_is_used_and_little_is_asked_beyond_it():
    async with world() as w:
        texts = w.providers["texts"] = TenASecond(w.clock)
        await people(w, *(f"u{number}" for number in range(100)))
        seconds = 0
        while len(texts.ledger) < 100:
            await w.advance(SECOND)
            seconds += 1
        assert seconds <= 20, "ten would be the least"
        assert texts.asked <= 150, "each time a few hear that it is too much"


async def test_hours_of_429_use_up_no_attempt():
    async with world() as w:
        w.sms.answers = [Deferred("HTTP 429", 30 * MINUTE)] * 12
        await people(w, "u")
        await w.advance(5 * HOUR + 59 * MINUTE)
        message = await newest(w)
        assert (message.state, message.attempt, message.spared) == (MessageState.RETRYING, 12, 12)
        w.sms.answers = [Deferred("HTTP 500")]
        await w.advance(MINUTE + 15_000_000)
        message = await newest(w)
        assert message.state is MessageState.ACCEPTED, "the first pause that counted is a short one"
        assert message.attempt - message.spared == 2


async def test_refusals_of_addresses_do_not_open_it():
    async with world() as w:
        full = Deferred("452 the mailbox is full", of_message=True)
        w.sms.answers = [AWAY, AWAY, *[Refused("INVALID_ADDRESS")] * 9, *[full] * 9]
        await people(w, *"abcdefghijklmnopqrst")
        assert w.breakers.of("texts") == CLOSED
        assert len(w.sms.ledger) == 20


async def test_silence_and_a_hung_provider_open_it_too():
    async with world() as w:
        await w.define(track("Go", email(), reentry=ALWAYS))
        w.dispatcher._timeout_s = 0.01
        w.email.answers = [Unknown("HTTP 500")] * 4
        for user_id in "abcdef":
            await w.identify(user_id, email="u@example.com", first_name="U")
            if user_id == "e":
                w.email.open.clear()
            await w.track(user_id, "Go")
            await w.settle()
        assert len(w.email.ledger) == 5
        assert w.breakers.of("smtp").detail == "no answer within 0.01 s"


async def test_a_probe_that_our_own_code_breaks_leaves_the_turn_to_the_next():
    async with world() as w:
        w.sms.answers = [AWAY] * 5
        await people(w, *"abcde")
        w.sms.answers = [RuntimeError("a bug")]
        await w.advance(MINUTE)
        assert w.breakers.of("texts") == CLOSED
        assert (await w.story()).count("SENT SMS") == 5


async def test_people_see_which_providers_are_asked():
    async with world(carriers=TWO) as w:
        health = ProviderHealth(TWO, w.breakers, w.clock.now_us)
        w.sms.answers = [AWAY] * 5
        await people(w, *"abcde")

        def states() -> dict[str, State]:
            return {one.provider: one.state for one in health.list()}

        assert states() == {
            "pushes": State.CLOSED,
            "smtp": State.CLOSED,
            "spare": State.CLOSED,
            "texts": State.OPEN,
        }
        assert health.list()[-1].channels == (Channel.SMS,)
        w.clock.advance(MINUTE)
        assert states()["texts"] is State.HALF_OPEN
