"""Providers with a ledger of their own, moody, and the callbacks that follow what they took."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.database import OUTSIDE
from tests.simulation.devices import Said
from upshotd.domain import devices
from upshotd.domain.errors import UpshotError
from upshotd.domain.message import (
    Accepted,
    Channel,
    Content,
    Deferred,
    Delivery,
    Refused,
    SendResult,
    Unknown,
)
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.stimulus import EngagementState

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

_PEOPLE = (
    (EngagementKind.OPENED, 0.4),
    (EngagementKind.CLICKED, 0.2),
    (EngagementKind.REPLIED, 0.05),
    (EngagementKind.UNSUBSCRIBED, 0.03),
    (EngagementKind.COMPLAINED, 0.01),
)


@dataclass
class Taken:
    """One message that really went out."""

    provider: str
    delivery: Delivery
    time_us: int
    provider_message_id: str


@dataclass
class Providers:
    """All providers together; what they take is never forgotten."""

    sim: "Simulation"
    chance: random.Random
    taken: list[Taken] = field(default_factory=list)
    #: Requests, whatever became of them.
    asked: int = 0
    _by_key: dict[tuple[str, str, str], tuple[str, Content]] = field(default_factory=dict)
    #: How often a provider without idempotency took a message.
    times: Counter[tuple[str, str]] = field(default_factory=Counter)

    def ask(
        self, provider: str, idempotent: bool, delivery: Delivery
    ) -> "asyncio.Future[SendResult]":
        """Return where the answer will be; it may never come."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[SendResult] = loop.create_future()
        delay = self.sim.network.delay()
        arrive = self._arrive, provider, idempotent, delivery, answer
        loop.call_later(delay, *arrive, context=OUTSIDE.copy())
        return answer

    def _arrive(
        self,
        provider: str,
        idempotent: bool,
        delivery: Delivery,
        answer: "asyncio.Future[SendResult]",
    ) -> None:
        self.asked += 1
        self.sim.trace(f"ask {provider} {delivery.message_id} {delivery.attempt}")
        self.sim.watcher.asked(provider, delivery)
        strikes = self.sim.faults.strikes
        gone = self._gone(delivery)
        if strikes("send_lost_before", 0.04):
            return
        known = (
            idempotent and (provider, delivery.workspace_id, delivery.message_id) in self._by_key
        )
        if strikes("send_deferred", 0.5 if gone else 0.08):  # what is left of it then goes out
            retry = self.chance.choice((0, 1_000_000, 30_000_000))
            self._tell_gone(answer, delivery, Deferred(f"busy, {self.asked}", retry), gone)
        elif strikes("send_refused", 0.05):
            reason = self.chance.choice(("BOUNCED", "BOUNCED", "STOP"))
            self._tell_gone(answer, delivery, Refused(reason, f"it says no, {self.asked}"), gone)
        elif gone and len(gone) == len(delivery.recipient.split()) and not known:
            said = Refused("DEVICE_GONE", f"gone, {self.asked}")
            self._tell_gone(answer, delivery, said, gone)
        else:
            result = self._take(provider, idempotent, delivery)
            if strikes("send_lost_after", 0.05):
                return
            if strikes("send_unclear", 0.03):
                result = Unknown(f"an answer that nobody understands, {self.asked}")
            slow = strikes("send_slow", 0.05)
            after_s = self.chance.uniform(1.0, 60.0) if slow else 0.0
            self._tell_gone(answer, delivery, result, gone, after_s)

    def _gone(self, delivery: Delivery) -> tuple[str, ...]:
        """Return which devices of a push are not there any more; now and then one goes."""
        if delivery.channel is not Channel.PUSH:
            return ()
        found = self.sim.devices
        if self.sim.faults.strikes("device_gone", 0.2):
            token = self.chance.choice(delivery.recipient.split())
            found.gone.add((delivery.workspace_id, token))
        return found.of(delivery.workspace_id, delivery.recipient)

    def _tell_gone(
        self,
        answer: "asyncio.Future[SendResult]",
        delivery: Delivery,
        result: SendResult,
        gone: tuple[str, ...],
        after_s: float = 0.0,
    ) -> None:
        if gone:
            mark = result.provider_message_id if isinstance(result, Accepted) else result.detail
            key = (delivery.workspace_id, delivery.message_id, delivery.attempt)
            self.sim.devices.said[key] = Said(gone, mark)
        self._answer(answer, result._replace(gone=gone), after_s)

    def _answer(
        self, answer: "asyncio.Future[SendResult]", result: SendResult, after_s: float = 0.0
    ) -> None:
        def deliver() -> None:
            if not answer.done():
                answer.set_result(result)

        delay = self.sim.network.delay() + after_s
        asyncio.get_running_loop().call_later(delay, deliver, context=OUTSIDE.copy())

    def _take(self, provider: str, idempotent: bool, delivery: Delivery) -> SendResult:
        key = (provider, delivery.workspace_id, delivery.message_id)
        if idempotent and key in self._by_key:
            name, content = self._by_key[key]
            self.sim.watcher.expect(
                content == delivery.content, f"{delivery.message_id}: one key, two contents"
            )
            return Accepted(name)
        name = f"{provider}-{len(self.taken)}"
        self._by_key[key] = (name, delivery.content)
        self.times[delivery.workspace_id, delivery.message_id] += 1
        taken = Taken(provider, delivery, self.sim.now_us(), name)
        self.taken.append(taken)
        self.sim.watcher.taken(taken, self.times[delivery.workspace_id, delivery.message_id])
        self._follow(taken)
        return Accepted(name)

    # what comes back later

    def _follow(self, taken: Taken) -> None:
        self.sim.reviewers.got(taken)
        unit_s = self.sim.unit_us / 1e6
        first = self.chance.random()
        kinds = [
            EngagementKind.BOUNCED
            if first < 0.01
            else EngagementKind.UNDELIVERED
            if first < 0.04
            else EngagementKind.DELIVERED
        ]
        if self.chance.random() < 0.3:
            kinds.insert(0, EngagementKind.ACCEPTED)
        kinds += [kind for kind, share in _PEOPLE if self.chance.random() < share]
        for kind in kinds:
            if self.sim.faults.strikes("callback_lost", 0.03):
                continue
            late = self.sim.faults.strikes("callback_late", 0.1)
            after_s = self.chance.expovariate(1 / unit_s) * (5 if late else 1)
            if kind in (EngagementKind.DELIVERED, EngagementKind.ACCEPTED):
                after_s /= 20
            if self.sim.faults.strikes("callback_early", 0.1):
                after_s = 0.0
            self._tell(taken.delivery.workspace_id, self._engagement(taken, kind), after_s)

    def _engagement(self, taken: Taken, kind: EngagementKind) -> Engagement:
        by_ours = self.chance.random() < 0.5
        human = kind in (EngagementKind.OPENED, EngagementKind.CLICKED)
        return Engagement(
            f"{taken.provider_message_id}-{kind.name.lower()}",
            kind,
            self.sim.now_us(),
            message_id=taken.delivery.message_id if by_ours else "",
            provider="" if by_ours else taken.provider,
            provider_message_id="" if by_ours else taken.provider_message_id,
            machine=human and self.chance.random() < 0.2,
            data=self._reported(taken.delivery),
        )

    def _reported(self, delivery: Delivery) -> dict[str, object]:
        """Return what a report of a push says of devices; now and then that one is gone."""
        gone = self._gone(delivery)
        return {devices.GONE: [devices.digest(token) for token in gone]} if gone else {}

    def _tell(self, workspace_id: str, engagement: Engagement, after_s: float) -> None:
        self.sim.outside(self._told(workspace_id, engagement, after_s))
        if self.sim.faults.strikes("callback_twice", 0.1):
            again_s = after_s + self.chance.uniform(0.0, 5.0)
            self.sim.outside(self._told(workspace_id, engagement, again_s))

    async def _told(self, workspace_id: str, engagement: Engagement, after_s: float) -> None:
        """Call back until somebody says that it is durable."""
        await asyncio.sleep(after_s)
        while True:
            try:
                (result,) = await self.sim.node().call(
                    lambda server: server.loop.engage(workspace_id, [engagement])
                )
            except UpshotError:
                await asyncio.sleep(self.chance.uniform(0.5, 5.0))
                continue
            self.sim.watcher.engaged(workspace_id, engagement, result)
            if result.state is not EngagementState.PENDING or not engagement.message_id:
                return
            await asyncio.sleep(1.0)
