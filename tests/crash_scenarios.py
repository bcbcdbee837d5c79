"""Crash stories beside the kills: servers that stand still, and a database that goes away."""

import asyncio
import time
from dataclasses import dataclass

from tests.crash import LIVES_S, Crash
from tests.postgres import OwnServer

#: How long a server stands still, in leases.
PAUSES = (0.5, 1.0, 3.0)
#: How long the database is away, in seconds.
AWAY_S = (0.0, 2.0)


@dataclass
class Pauses(Crash):
    """A server is stopped in the middle of anything, for less than its lease or for more.

    It wakes and goes on with what it was doing: what others took over meanwhile it must not commit.
    """

    async def _trouble(self) -> None:
        for cycle in range(1, self.cycles + 1):
            await asyncio.sleep(self._random.uniform(*LIVES_S))
            await self._moment("anywhere" if cycle % 3 else "called")
            victim = self._random.choice(self._servers)
            leases = PAUSES[cycle % len(PAUSES)]
            victim.pause()
            await asyncio.sleep(leases * self.lease_s)
            victim.resume()
            resumed = time.monotonic()
            await self._serving(victim)
            self.recoveries_s.append(time.monotonic() - resumed)
            self.told(cycle, self.recoveries_s[-1])


@dataclass
class DatabaseAway(Crash):
    """The database is stopped as by a loss of power and comes back; the servers stay."""

    server: OwnServer | None = None

    async def _trouble(self) -> None:
        assert self.server is not None
        for cycle in range(1, self.cycles + 1):
            await asyncio.sleep(self._random.uniform(*LIVES_S))
            await asyncio.to_thread(self.server.crash)
            await asyncio.sleep(self._random.uniform(*AWAY_S))
            await asyncio.to_thread(self.server.start)
            back, answered = time.monotonic(), len(self.acks)
            while len(self.acks) == answered:
                await asyncio.sleep(0.02)
            self.recoveries_s.append(time.monotonic() - back)
            self.told(cycle, self.recoveries_s[-1])
