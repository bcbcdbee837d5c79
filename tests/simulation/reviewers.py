"""People who are asked to decide, and an agent that knows the answers to their questions."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.providers import Taken
from upshotd.domain.errors import UpshotError
from upshotd.domain.message import Ask
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.stimulus import EngagementResult, EngagementState

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

#: What is done by the links of one message, one after the other, and how often.
_HABITS: tuple[tuple[tuple[EngagementKind, ...], int], ...] = (
    ((), 9),
    ((EngagementKind.APPROVED,), 5),
    ((EngagementKind.DENIED,), 3),
    ((EngagementKind.ASKED,), 3),
    ((EngagementKind.ASKED, EngagementKind.APPROVED), 2),
    ((EngagementKind.APPROVED, EngagementKind.DENIED), 2),
)


class Reviewers:
    """Everybody who gets requests. They do what they do until somebody says that it counts, or
    that it does not."""

    def __init__(self, sim: "Simulation", chance: random.Random) -> None:
        self._sim = sim
        self._chance = chance
        self._answers = 0

    def got(self, taken: Taken) -> None:
        """Somebody has a message on their screen: what will they do with it?"""
        workspace_id = taken.delivery.workspace_id
        message = self._sim.database._tables(workspace_id).messages[taken.delivery.message_id]
        if message.ask is None:
            return
        habits, shares = zip(*_HABITS, strict=True)
        (kinds,) = self._chance.choices(habits, shares)
        if message.ask is Ask.NOTICE:  # it has no links that decide
            kinds = kinds[:1] if self._chance.random() < 0.2 else ()
        after_s = 0.0
        for kind in kinds:
            after_s += self._chance.expovariate(1e6 / self._sim.unit_us)
            if self._sim.faults.strikes("same_instant", 0.5):
                after_s = self._until_full()
            self._act(taken, self._engagement(taken, kind), after_s)

    def _until_full(self) -> float:
        """Return the seconds to the next full unit, at which others do something too."""
        return (self._sim.unit_us - self._sim.now_us() % self._sim.unit_us) / 1e6

    def _engagement(self, taken: Taken, kind: EngagementKind) -> Engagement:
        by_ours = self._chance.random() < 0.8
        which, word = taken.delivery.message_id, kind.name.lower()
        number = self._chance.randint(1, 2) if kind is EngagementKind.ASKED else 1
        return Engagement(
            f"{word}:{which}:{number}",
            kind,
            self._sim.now_us(),
            message_id=which if by_ours else "",
            provider="" if by_ours else taken.provider,
            provider_message_id="" if by_ours else taken.provider_message_id,
            data={"body": f"what about {number}?"} if kind is EngagementKind.ASKED else {},
        )

    def _act(self, taken: Taken, engagement: Engagement, after_s: float) -> None:
        self._sim.watcher.approvals.tried(taken.delivery, engagement)
        self._sim.outside(self._told(taken, engagement, after_s))
        if self._sim.faults.strikes("callback_twice", 0.1):
            again_s = after_s + self._chance.uniform(0.0, 5.0)
            self._sim.outside(self._told(taken, engagement, again_s))

    async def _told(self, taken: Taken, engagement: Engagement, after_s: float) -> None:
        await asyncio.sleep(after_s)
        result = await self._recorded(taken.delivery.workspace_id, engagement)
        tables = self._sim.database._tables(taken.delivery.workspace_id)
        self._sim.watcher.approvals.told(tables, taken.delivery, engagement, result)
        asked = engagement.kind is EngagementKind.ASKED
        counts = result.state in (EngagementState.RECORDED, EngagementState.DUPLICATE)
        if asked and counts and self._chance.random() < 0.8:
            await self._answer(taken)

    async def _recorded(self, workspace_id: str, engagement: Engagement) -> EngagementResult:
        while True:
            try:
                (result,) = await self._sim.node().call(
                    lambda server: server.loop.engage(workspace_id, [engagement])
                )
            except UpshotError:
                await asyncio.sleep(self._chance.uniform(0.5, 5.0))
            else:
                return result

    async def _answer(self, taken: Taken) -> None:
        """The agent answers, to the question by its id or to what was asked first."""
        await asyncio.sleep(self._chance.expovariate(2e6 / self._sim.unit_us))
        tables = self._sim.database._tables(taken.delivery.workspace_id)
        message = tables.messages[taken.delivery.message_id]
        questions = self._sim.watcher.approvals.questions(tables, message)
        data: dict[str, object] = {"body": "it is fine"}
        if questions and self._chance.random() < 0.5:
            data["question_id"] = self._chance.choice(questions).question_id
        self._answers += 1
        answer = Engagement(
            f"answer-{self._answers}",
            EngagementKind.ANSWERED,
            self._sim.now_us(),
            message_id=message.message_id,
            data=data,
        )
        result = await self._recorded(taken.delivery.workspace_id, answer)
        self._sim.watcher.approvals.told(tables, taken.delivery, answer, result)
