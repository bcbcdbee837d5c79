"""Notices what other processes append to the log, where several share one store."""

import structlog

from upshotd.application.ports import Clock, Store
from upshotd.application.wakeups import Wakeups
from upshotd.domain.errors import UpshotError

log = structlog.get_logger()

#: Between two looks while somebody waits, and while nobody does, in microseconds.
LOOK_US, IDLE_US = 50_000, 250_000


async def watch(store: Store, wakeups: Wakeups, clock: Clock) -> None:
    """Wake those who wait for the log when it has grown, until canceled.

    The log is the truth and this a hint: one small question for all streams of this process.
    """
    seen = 0
    while True:
        await clock.sleep(LOOK_US if wakeups.waiting else IDLE_US)
        if not wakeups.waiting:
            continue
        try:
            size = await store.log_size()
        except UpshotError as error:
            log.debug("log.not_watched", reason=error.reason)
            continue
        if size != seen:
            seen = size
            wakeups.notify()
