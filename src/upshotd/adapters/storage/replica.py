"""This process among the others on one PostgreSQL: its lease, and the beat that keeps it."""

import asyncio
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from upshotd.adapters.storage import leases
from upshotd.adapters.storage.postgresql import PostgresqlDatabase
from upshotd.application.failpoints import failpoint
from upshotd.domain.errors import LeaseLost, UpshotError

log = structlog.get_logger(__name__)

#: Beats within one lease, and the share of a lease that is not relied on.
BEATS, MARGIN = 3, 0.2


class Replica:
    """A lease, renewed in the database's own thread: a busy event loop cannot starve it."""

    def __init__(
        self, database: PostgresqlDatabase, lease_us: int, told_time: Callable[[int], None]
    ) -> None:
        """Keep leases of *lease_us*; *told_time* hears the database's clock (microseconds)."""
        self.owner = ""
        self._database = database
        self._lease_us = lease_us
        self._told_time = told_time
        self._beating: asyncio.Task[None] | None = None
        #: Until when nobody takes over, by the clock of the database's event loop, in seconds.
        self._until_s = 0.0

    async def join(self, owner: str) -> None:
        """Begin a lease under a name that was never used, and keep it."""
        await self._stop()
        lease_us = self._lease_us
        began_s = self._database.time_s()
        await self._database.write(lambda c: leases.join(c, owner, lease_us))
        self.owner = owner
        self._hold(began_s)
        await self.beat()
        self._beating = await self._database.spawn(self._beat_on)

    async def leave(self) -> None:
        """Give the lease back."""
        await self._stop()
        owner, self.owner = self.owner, ""
        if owner:
            await self._database.write(lambda c: leases.leave(c, owner))

    def holds(self) -> bool:
        """Return whether nobody can have taken over by now, whatever the database says."""
        return self._database.time_s() < self._until_s

    async def beat(self) -> None:
        """Extend the lease, and end those of others that ran out. Raises LeaseLost."""
        await self._database.write(self._beat)

    def _beat(self, connection: Connection) -> None:
        failpoint("lease.before_beat")
        # Counted from before the question: an answer may be late.
        began_s = self._database.time_s()
        try:
            now_us = leases.beat(connection, self.owner, self._lease_us)
        except LeaseLost:
            self._until_s = 0.0
            raise
        self._hold(began_s)
        self._told_time(now_us)
        for owner in leases.take_over(connection, self.owner):
            log.warning("replica.taken_over", owner=owner, by=self.owner)

    def _hold(self, began_s: float) -> None:
        self._until_s = began_s + self._lease_us * (1 - MARGIN) / 1e6

    async def _beat_on(self) -> None:
        """Beat until it is canceled or the lease is lost; runs in the database's thread."""
        while True:
            await self._database.pause(self._lease_us / BEATS / 1e6)
            try:
                await self._database.here(self._beat)
            except LeaseLost:
                log.error("replica.lost_lease", owner=self.owner)
                return
            except UpshotError as error:
                log.warning("replica.missed_beat", owner=self.owner, reason=error.reason)

    async def _stop(self) -> None:
        beating, self._beating = self._beating, None
        if beating is not None:
            await self._database.end(beating)
