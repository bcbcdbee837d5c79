"""Housekeeping: forgets what is past retention, and says who is about to lose something."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from upshotd.application.credentials import DEFAULT_WORKSPACE
from upshotd.application.failpoints import failpoint
from upshotd.application.ports import Clock, Retention, Store
from upshotd.application.subscriptions import Subscriptions

log = structlog.get_logger()

_DAY_US: Final = 86_400_000_000
#: Time between two rounds, in microseconds.
INTERVAL_US: Final = 3_600_000_000
#: Most rows of each kind that go in one transaction: writers wait for no more than these.
BATCH: Final = 500
#: Percent of the outcomes' retention behind which a subscription is warned about.
LAG_PERCENT: Final = 80


@dataclass(frozen=True, slots=True)
class KeepFor:
    """How long rows are kept, in microseconds."""

    #: Events and their dedupe keys; 30 days are promised.
    events_us: int = 30 * _DAY_US
    outcomes_us: int = 30 * _DAY_US
    #: Refused events and engagements without a message.
    rejected_us: int = 7 * _DAY_US

    def until(self, now_us: int) -> Retention:
        """Return the instants before which rows go."""
        return Retention(
            events_us=now_us - self.events_us,
            outcomes_us=now_us - self.outcomes_us,
            rejected_us=now_us - self.rejected_us,
        )


def only_default() -> Iterable[str]:
    """Return the workspaces of a server without keys."""
    return (DEFAULT_WORKSPACE,)


class Housekeeping:
    """Goes round once an hour."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        keep: KeepFor,
        workspaces: Callable[[], Iterable[str]] = only_default,
    ) -> None:
        """*workspaces* names those whose subscriptions are looked after; all are pruned."""
        self._store = store
        self._clock = clock
        self._keep = keep
        self._workspaces = workspaces
        self._subscriptions = Subscriptions(store, clock)

    async def run_until(self, stop: asyncio.Event) -> None:
        """Go round at once and every hour, until *stop* is set; a round that fails is logged."""
        while not stop.is_set():
            try:
                await self._warn()
                await self._prune(stop)
            except Exception:
                log.exception("housekeeping.failed")
            await self._pause(stop)

    async def _warn(self) -> None:
        """Warn of subscriptions that will lose outcomes soon: retention does not wait for them."""
        for workspace_id in self._workspaces():
            for held in await self._subscriptions.list(workspace_id):
                if held.lag_us * 100 > self._keep.outcomes_us * LAG_PERCENT:
                    log.warning(
                        "subscription.lagging",
                        workspace_id=workspace_id,
                        subscription=held.name,
                        lag=held.lag,
                        lag_us=held.lag_us,
                        retention_us=self._keep.outcomes_us,
                    )

    async def _prune(self, stop: asyncio.Event) -> None:
        retention = self._keep.until(self._clock.now_us())
        failpoint("prune.before")
        total = 0
        while not stop.is_set():
            gone = await self._store.prune(retention, BATCH)
            if not gone:
                break
            total += gone
            await self._clock.sleep(0)  # others write in between
        if total:
            log.info("rows.pruned", rows=total)

    async def _pause(self, stop: asyncio.Event) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(INTERVAL_US))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({sleeping, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopped.cancel()
