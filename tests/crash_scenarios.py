"""Crash stories beside the kills: servers that stand still or are replaced, a database that goes
away, and a network between them that does what networks do.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import grpc

from tests.crash import LIVES_S, Crash
from tests.crash_audit import History
from tests.faulty_proxy import FaultyProxy
from tests.postgres import OwnServer
from tests.servers import Server

#: How long a server stands still, in leases.
PAUSES = (0.5, 1.0, 3.0)
#: How long the database is away, in seconds.
AWAY_S = (0.0, 2.0)
#: What a network does.
HOW = ("slow", "cut", "swallow", "reset", "swallow, reset")


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


@dataclass
class Rolling(Crash):
    """One server after the other goes down in good order and is started, as for an upgrade."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # What gRPC has taken in, but not yet given to a server that goes down.
        self.passing |= {grpc.StatusCode.CANCELLED}

    async def _trouble(self) -> None:
        for cycle in range(1, self.cycles + 1):
            await asyncio.sleep(self._random.uniform(*LIVES_S))
            next_one = self._servers[cycle % len(self._servers)]
            begun = time.monotonic()
            code = await next_one.stopped()
            if code != 0:
                self.faults.append(f"SIGTERM ended a server with {code}")
            await next_one.started()
            await self._serving(next_one)
            self.recoveries_s.append(time.monotonic() - begun)
            self.told(cycle, self.recoveries_s[-1])


@dataclass
class Network(Crash):
    """What passes between one server and the database is slow, cut, reset or swallowed."""

    proxies: list[FaultyProxy] = field(default_factory=list)

    async def run(self) -> History:
        address = urlsplit(self.database)
        folder = parse_qs(address.query)["host"][0]
        async with AsyncExitStack() as stack:
            for _ in range(self.replicas):
                proxy = FaultyProxy(f"{folder}/.s.PGSQL.5432")
                self.proxies.append(await stack.enter_async_context(proxy.serving()))
            return await super().run()

    def _server(self, number: int) -> Server:
        whole, address = self.database, urlsplit(self.database)
        port = self.proxies[number].port
        user = address.username or "postgres"
        self.database = f"postgresql://{user}@127.0.0.1:{port}{address.path}"
        try:
            return super()._server(number)
        finally:
            self.database = whole

    async def _trouble(self) -> None:
        for cycle in range(1, self.cycles + 1):
            await asyncio.sleep(self._random.uniform(*LIVES_S))
            proxy = self._random.choice(self.proxies)
            await self._disturb(proxy, HOW[cycle % len(HOW)])
            back, answered = time.monotonic(), len(self.acks)
            while len(self.acks) == answered:
                await asyncio.sleep(0.02)
            self.recoveries_s.append(time.monotonic() - back)
            self.told(cycle, self.recoveries_s[-1])

    async def _disturb(self, proxy: FaultyProxy, how: str) -> None:
        """Do it, for less than a lease or for more; in the end everything passes again."""
        lasting_s = self._random.uniform(0.2, 2.0) * self.lease_s
        if how == "slow":
            proxy.slow = True
            await asyncio.sleep(lasting_s)
            proxy.slow = False
        if how.startswith("swallow"):
            proxy.swallow(True)
            await asyncio.sleep(lasting_s)
        if how == "cut":
            proxy.cut()
        if how.endswith("reset"):
            proxy.reset()
        proxy.swallow(False)
