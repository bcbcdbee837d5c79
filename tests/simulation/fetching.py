"""What runs ask, over a network: busy now and then, silent, or asked and not heard."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.database import OUTSIDE
from upshotd.domain.fetching import Fetch, Fetched, FetchResult, Unfetched

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class FarEnd:
    """Whoever is asked, by all servers."""

    def __init__(self, sim: "Simulation", chance: random.Random) -> None:
        self.sim = sim
        self._chance = chance
        #: Attempts that came, by step of a run.
        self.asked: dict[str, set[int]] = {}

    def ask(self, fetch: Fetch) -> "asyncio.Future[FetchResult]":
        """Return where the answer will be; it may never come."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[FetchResult] = loop.create_future()
        if not self.sim.faults.strikes("fetch_lost_before", 0.1):
            delay = self.sim.network.delay()
            loop.call_later(delay, self._arrive, fetch, answer, context=OUTSIDE.copy())
        return answer

    def _arrive(self, fetch: Fetch, answer: "asyncio.Future[FetchResult]") -> None:
        self.sim.trace(f"fetch {fetch.key} {fetch.attempt}")
        seen = self.asked.setdefault(fetch.key, set())
        once = fetch.attempt not in seen
        self.sim.watcher.expect(once, f"I20 attempt {fetch.attempt} of {fetch.key} came twice")
        seen.add(fetch.attempt)
        self._committed(fetch)
        if self.sim.faults.strikes("fetch_lost_after", 0.1):
            return
        result: FetchResult = Fetched({"n": self._chance.randint(1, 9)})
        if self.sim.faults.strikes("fetch_busy", 0.2):
            result = Unfetched("HTTP_ERROR", "busy", self._chance.random() < 0.8)
        delay = self.sim.network.delay()
        asyncio.get_running_loop().call_later(delay, _set, answer, result, context=OUTSIDE.copy())

    def _committed(self, fetch: Fetch) -> None:
        """I20: an attempt is committed before it is made."""
        for tables in self.sim.database._workspaces.values():
            run = tables.runs.get(fetch.run_id)
            if run is not None:
                made = run.steps.get(fetch.step_id, {}).get("attempt", 0)
                # Nothing is left of the steps of somebody who was erased.
                known = not run.profile_id or (isinstance(made, int) and made >= fetch.attempt)
                text = f"I20 attempt {fetch.attempt} of {fetch.key} was never committed"
                self.sim.watcher.expect(known, text)


class SimFetcher:
    """The far end as one server sees it."""

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end

    async def fetch(self, fetch: Fetch) -> FetchResult:
        return await self._far_end.ask(fetch)

    async def close(self) -> None:
        """There is nothing to close."""


def _set(answer: "asyncio.Future[FetchResult]", result: FetchResult) -> None:
    if not answer.done():
        answer.set_result(result)
