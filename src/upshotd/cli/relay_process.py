"""One relay as a process: its far end, its channel to the server, and the signals it hears."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice
from typing import Final, assert_never, cast

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.adapters.relay.dead_letters import DeadLetters, outcomes_in
from upshotd.adapters.relay.far_end import FarEnd
from upshotd.adapters.relay.file import File, FileSettings
from upshotd.adapters.relay.lag import tell_lag
from upshotd.adapters.relay.outcome_log import CHANNEL_OPTIONS, OutcomeLog, Reading
from upshotd.adapters.relay.pauses import Pauses, Stopped
from upshotd.adapters.relay.relay import Relay, Tally
from upshotd.adapters.relay.segment import Segment, SegmentSettings
from upshotd.adapters.relay.settings import FarEndSettings, RelaySettings
from upshotd.adapters.relay.webhook import Webhook, WebhookSettings
from upshotd.cli import keyed

#: The server refuses, or a second signal ended it at once.
EXIT_FAILED: Final = 1
#: Dead letters that are handed over together.
_LETTERS: Final = 100


class RelayProcess:
    """Runs one relay once."""

    #: Known when it runs.
    far_end: FarEnd

    def __init__(
        self,
        server: str,
        settings: RelaySettings,
        current: Callable[[], FarEndSettings],
        look: Callable[[], None],
    ) -> None:
        """*current* returns the settings of the far end as they are at each time; *look* looks at
        the files of secrets at once."""
        self._server = server
        self._settings = settings
        self._current = current
        self._look = look
        self._clock = SystemClock()
        self._stop = asyncio.Event()
        self._lag_asked = asyncio.Event()
        self._pauses = Pauses(self._clock.sleep, UuidIds().fraction, self._stop)

    async def run(self, *, once: bool) -> Tally:
        """Relay until told to stop, or *once* to the end of the log.

        Raises OutcomesLost, LogRefused, FarEndRefused.
        """
        heartbeat_seconds = 1 if once else 10
        async with self._relay(self._settings.far_end, heartbeat_seconds) as (relay, outcome_log):
            lag = asyncio.create_task(tell_lag(outcome_log, self._pauses, self._lag_asked))
            try:
                await relay.run(once=once)
            finally:
                lag.cancel()
                await asyncio.gather(lag, return_exceptions=True)
            return relay.tally

    async def retry(self) -> Tally:
        """Hand the dead letters over once more; those refused again are dead letters again.

        Raises FarEndRefused, NoDeadLetter; then, and when told to stop, the letters are kept for
        the next time.
        """
        far_end = self._settings.far_end
        if isinstance(far_end, SegmentSettings):
            # What is old would put older times over newer ones.
            far_end = replace(far_end, identify=False)
        async with self._relay(far_end, 10) as (relay, _):
            letters = self._dead_letters()
            apart = letters.set_apart() if letters is not None else None
            if apart is not None:
                try:
                    for some in _chunks(outcomes_in(apart)):
                        await relay.retry(some)
                except Stopped:
                    return relay.tally
                apart.unlink()
            return relay.tally

    @asynccontextmanager
    async def _relay(
        self, settings: FarEndSettings, heartbeat_seconds: int
    ) -> AsyncIterator[tuple[Relay, OutcomeLog]]:
        self.far_end = _far_end(settings, self._clock, self._current)
        self._hear()
        reading = Reading(self._settings.subscription, self._settings.kinds, heartbeat_seconds)
        try:
            async with keyed.channel(self._server, CHANNEL_OPTIONS) as channel:
                outcome_log = OutcomeLog(channel, reading, self._pauses)
                letters = self._dead_letters()
                yield Relay(outcome_log, self.far_end, self._pauses, letters), outcome_log
        finally:
            await self.far_end.close()

    def _dead_letters(self) -> DeadLetters | None:
        path, settings = self._settings.dead_letters, self._settings
        if path is None:
            return None
        return DeadLetters(path, settings.name, settings.include_recipient, self._clock.now_us)

    def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGUSR1, self._lag_asked.set)
        loop.add_signal_handler(signal.SIGHUP, self._begin_anew)

    def _begin_anew(self) -> None:
        self._look()
        if isinstance(self.far_end, File):
            self.far_end.reopen()

    def _end(self) -> None:
        if self._stop.is_set():
            os._exit(EXIT_FAILED)  # asked twice: at once; what is not committed is posted again
        self._stop.set()


def _far_end(
    settings: FarEndSettings, clock: SystemClock, current: Callable[[], FarEndSettings]
) -> FarEnd:
    match settings:
        case SegmentSettings():
            return Segment(settings, clock.now_us, cast(Callable[[], SegmentSettings], current))
        case WebhookSettings():
            return Webhook(settings, clock.now_us, cast(Callable[[], WebhookSettings], current))
        case FileSettings():
            return File(settings)
        case _:
            assert_never(settings)


def _chunks(outcomes: Iterator[pb.Outcome]) -> Iterator[list[pb.Outcome]]:
    while some := list(islice(outcomes, _LETTERS)):
        yield some
