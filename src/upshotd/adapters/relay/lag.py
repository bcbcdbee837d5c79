"""Says from time to time, and when asked, how far the relay is behind."""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from upshotd.adapters.relay.outcome_log import LogRefused, OutcomeLog
from upshotd.adapters.relay.pauses import Pauses, Stopped

#: Between two of its lines, in microseconds.
EVERY_US: Final = 60_000_000

log = structlog.get_logger()


async def tell_lag(outcome_log: OutcomeLog, pauses: Pauses, asked: asyncio.Event) -> None:
    """Log the lag every minute, and at once when *asked* is set, until told to stop."""
    with suppress(Stopped, LogRefused):  # what the server refuses ends the relay by itself
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(pauses.until_stopped(asked.wait()), EVERY_US / 1_000_000)
            asked.clear()
            lag = await outcome_log.lag()
            if lag is not None:
                log.info("relay.lag", outcomes=lag.outcomes, seconds=round(lag.seconds, 3))
