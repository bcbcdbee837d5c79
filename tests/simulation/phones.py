"""People who text back: STOP, START and other words, told until somebody has taken them."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.clients import number
from upshotd.adapters.memory.tables import Tables
from upshotd.domain import addresses
from upshotd.domain.erasure import ERASED
from upshotd.domain.errors import UpshotError
from upshotd.domain.message import Channel
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.stimulus import EngagementResult, EngagementState

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

#: More START than STOP, or nothing would be sent any more.
WORDS = ("STOP", "START", "START", "START", "HELP", "yes please")
_SCOPE = Suppression(Channel.SMS).scope


class Phone:
    """One number; what it texts is told by its provider one after the other, and perhaps again.

    I19: a STOP holds from the moment on at which it was taken until a START is, whatever is told
    twice; an answer is about a message that a provider has taken for the number.
    """

    def __init__(
        self, sim: "Simulation", workspace_id: str, user_id: str, chance: random.Random
    ) -> None:
        self._sim = sim
        self._workspace_id = workspace_id
        self._name = f"phone-{workspace_id}-{user_id}"
        self._number = number(workspace_id, user_id)
        self._key = addresses.key(Channel.SMS, self._number)
        self._chance = chance
        self._texted = 0
        #: Whether the last wish was to stop.
        self._stopped = False

    async def run(self, until_us: int, pause_s: float) -> None:
        """Text at random times until then."""
        while self._sim.now_us() < until_us:
            await asyncio.sleep(self._chance.expovariate(1 / pause_s))
            if self._sim.faults.strikes("text", 0.5):
                await self._text(self._chance.choice(WORDS))

    @property
    def _tables(self) -> Tables:
        return self._sim.database._tables(self._workspace_id)

    async def _text(self, body: str) -> None:
        self._texted += 1
        engagement = Engagement(
            f"{self._name}-{self._texted}",
            EngagementKind.REPLIED,
            self._sim.now_us(),
            recipient=self._key,
            data={"body": body},
        )
        newest = self._tables.newest_to(self._key)
        # A START may count before anybody says so, a STOP must from then on.
        self._stopped = self._stopped and body != "START"
        result = await self._told(engagement)
        self._sim.trace(f"{engagement.engagement_id} {body} {result.state.name}")
        self._judge(body, newest, result)
        self._stopped = self._stopped or body == "STOP"
        self.holds()
        taken = result.state is not EngagementState.REJECTED
        if taken and self._sim.faults.strikes("text_twice", 0.3):
            self._sim.outside(self._again(engagement))

    def _judge(self, body: str, newest: str, result: EngagementResult) -> None:
        expect = self._sim.watcher.expect
        if result.state is EngagementState.REJECTED:
            wish = body in ("STOP", "START")
            known = bool(newest) and self._tables.messages[newest].reason != ERASED
            expect(not wish and not known, f"I19 {body!r} of {self._name} was {result.reason}")
        message = self._tables.messages.get(result.message_id)
        if message is not None and message.reason != ERASED:
            theirs = message.channel is Channel.SMS and message.recipient == self._number
            sent = theirs and "sent" in message.facts
            expect(sent, f"I19 {result.message_id} is not what {self._name} has answered")

    def holds(self) -> None:
        """Judge whether a STOP still holds."""
        listed = self._tables.suppressions
        held = any(_SCOPE in listed.get(form, {}) for form in addresses.forms(self._key))
        kept = held or not self._stopped
        self._sim.watcher.expect(kept, f"I19 the STOP of {self._name} holds nothing back")

    async def _again(self, engagement: Engagement) -> None:
        await asyncio.sleep(self._chance.expovariate(1e6 / self._sim.unit_us))
        result = await self._told(engagement)
        again = result.state is EngagementState.DUPLICATE
        self._sim.watcher.expect(again, f"I19 {engagement.engagement_id} counts twice")
        self.holds()

    async def _told(self, engagement: Engagement) -> EngagementResult:
        while True:
            try:
                (result,) = await self._sim.node().call(
                    lambda server: server.loop.engage(self._workspace_id, [engagement])
                )
            except UpshotError:
                await asyncio.sleep(self._chance.uniform(0.5, 5.0))
            else:
                return result
