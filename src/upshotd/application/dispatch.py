"""Calls providers: outside any transaction, with bounded concurrency. Results go to the loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from upshotd.application.breakers import Breakers
from upshotd.application.failpoints import failpoint
from upshotd.application.provider import Provider
from upshotd.application.workers import Workers
from upshotd.domain.breaker import Rules
from upshotd.domain.message import Deferred, Delivery, Message, SendResult, Unknown
from upshotd.domain.stimulus import SendSettled

log = structlog.get_logger()

#: Takes the result of an attempt: (workspace_id, result).
Settle = Callable[[str, SendSettled], None]


class Intent(NamedTuple):
    """A committed attempt: what to send, and by which provider."""

    delivery: Delivery
    provider: str


def intent(workspace_id: str, message: Message, user_id: str) -> Intent:
    """Return the intent of a SENDING message."""
    assert message.content is not None, "a message is rendered before its intent"
    delivery = Delivery(
        message_id=message.message_id,
        workspace_id=workspace_id,
        channel=message.channel,
        recipient=message.recipient,
        content=message.content,
        user_id=user_id,
        workflow_id=message.workflow_id,
        run_id=message.run_id,
        step_id=message.step_id,
        attempt=message.attempt,
        possible_duplicate=message.possible_duplicate,
    )
    return Intent(delivery, message.provider)


class Dispatcher:
    """Sends intents, at most `concurrency` at once, each within `timeout_s` seconds or so.

    An attempt has all of them, and up to a tenth more.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        settle: Settle,
        *,
        concurrency: int = 64,
        timeout_s: float = 30.0,
        may_send: Callable[[], bool] = lambda: True,
        breakers: Breakers | None = None,
    ) -> None:
        """Take the providers by name, and who gets the results.

        While *may_send* says no nothing is begun: another process may be sending the same. Without
        *breakers* every provider is always asked.
        """
        self._providers = providers
        self._settle = settle
        self._breakers = breakers or Breakers(lambda: 0, Rules(failures=0))
        self._timeout_s = timeout_s
        self._may_send = may_send
        self._queue: deque[Intent] = deque()
        self._in_flight: set[tuple[str, str]] = set()
        self._workers = Workers(self._queue, self._some, concurrency)
        self._closing = False

    @property
    def in_flight(self) -> int:
        """The number of intents that are queued or being sent."""
        return len(self._in_flight)

    def holds(self, workspace_id: str, message_id: str) -> bool:
        """Return whether a message is queued or being sent here."""
        return (workspace_id, message_id) in self._in_flight

    def submit(self, intents: list[Intent]) -> None:
        """Take committed intents; when closing, put them off."""
        if self._closing:
            self._put_off(intents)
            return
        for entry in intents:
            self._in_flight.add((entry.delivery.workspace_id, entry.delivery.message_id))
        self._queue.extend(intents)
        self._workers.start(len(intents))

    async def close(self, grace_s: float) -> None:
        """Let what is queued finish within *grace_s* seconds; then cut it off and close.

        What was never begun is put off, so that a restart sends it: nothing about it is unknown.
        """
        self._closing = True
        await self._workers.finish(grace_s)
        left = list(self._queue)
        self._queue.clear()
        await self._workers.stop()
        self._put_off(left)
        for provider in self._providers.values():
            await provider.close()

    async def _some(self) -> None:
        """Send until the queue is empty or an attempt takes too long.

        One limit serves many attempts, and is moved only when it comes too near: to set one costs
        more than a quick send.
        """
        time = asyncio.get_running_loop().time
        entry, end = self._queue[0], 0.0
        try:
            async with asyncio.timeout(None) as limit:
                while self._queue and not limit.expired():
                    entry = self._queue.popleft()
                    if end < time() + self._timeout_s:
                        end = time() + 1.1 * self._timeout_s
                        limit.reschedule(end)
                    self._settled(entry, await self._send(entry))
        except TimeoutError:
            result = Unknown(f"no answer within {self._timeout_s:g} s")
            self._breakers.tell(entry.provider, result)
            self._settled(entry, result)

    def _put_off(self, intents: list[Intent]) -> None:
        for entry in intents:
            self._settled(entry, Deferred("the server went down before it was sent", put_off=True))

    async def _send(self, entry: Intent) -> SendResult:
        delivery, provider = entry.delivery, self._providers.get(entry.provider)
        if provider is None:
            return Deferred(f"no provider {entry.provider!r} is configured any more")
        if not self._may_send():
            return Deferred("the lease was lost before it was sent", put_off=True)
        held = self._breakers.holds(entry.provider)
        if held is not None:
            return held
        try:
            failpoint("intent.before_call")
            result = await provider.send(delivery)
            failpoint("provider.answered")
        except Exception:
            # A provider that raises is a bug of ours; the message may have left all the same.
            log.exception("provider.broke", provider=provider.name, message_id=delivery.message_id)
            self._breakers.tell_nothing(entry.provider)
            return Unknown("the provider's code broke")
        self._breakers.tell(entry.provider, result)
        return result

    def _settled(self, entry: Intent, result: SendResult) -> None:
        delivery, provider = entry.delivery, self._providers.get(entry.provider)
        self._in_flight.discard((delivery.workspace_id, delivery.message_id))
        idempotent = provider is not None and provider.idempotent
        settled = SendSettled(
            delivery.message_id, delivery.attempt, result, entry.provider, idempotent
        )
        self._settle(delivery.workspace_id, settled)
