"""The Segment relay: reads outcomes, posts track calls, and only then moves its cursor.

At least once and in order: what is posted again after a crash has the same messageIds.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from upshotd.adapters.relay.batching import Batch, Call, CallPage, batches, request_body
from upshotd.adapters.relay.mapping import NotExported, TrackRules, encoded, track_call
from upshotd.adapters.relay.outcome_log import OutcomeLog, Page
from upshotd.adapters.relay.pauses import Backoff, Pauses, Stopped
from upshotd.adapters.relay.segment_api import Barred, Busy, SegmentApi, Taken, Unfit
from upshotd.application.failpoints import failpoint

#: Pages read ahead of the request under way: about one full request of usual outcomes.
PAGES_AHEAD: Final = 8
#: Calls refused one after the other before we take it that none would be taken.
REFUSED_IN_A_ROW_MAX: Final = 100

_BACKOFF = Backoff(first_us=1_000_000, longest_us=60_000_000)

log = structlog.get_logger()


class SegmentRefused(Exception):
    """Segment takes nothing from us: the write key or the endpoint is wrong."""


@dataclass(slots=True)
class Tally:
    """What this relay did since it began."""

    #: Calls that Segment answered for.
    posted: int = 0
    #: Outcomes that have no call Segment would take; each was logged.
    rejected: int = 0


class SegmentRelay:
    """One run of the relay."""

    def __init__(
        self, outcome_log: OutcomeLog, api: SegmentApi, rules: TrackRules, pauses: Pauses
    ) -> None:
        self.tally = Tally()
        self._log = outcome_log
        self._api = api
        self._rules = rules
        self._pauses = pauses
        self._ahead: asyncio.Queue[Page | Exception] = asyncio.Queue(PAGES_AHEAD)
        self._failure: Exception | None = None
        self._refused_in_a_row = 0

    async def run(self, *, once: bool = False) -> None:
        """Relay until told to stop; *once* returns when the end of the log is reached.

        A request under way is finished and its cursor committed before this returns.
        Raises OutcomesLost, LogRefused, SegmentRefused.
        """
        reader = asyncio.create_task(self._read())
        try:
            while True:
                await self._relay(await self._arrived())
                if once and await self._log.drained():
                    return
        except Stopped:
            return
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            log.info("relay.ended", posted=self.tally.posted, rejected=self.tally.rejected)

    async def _read(self) -> None:
        """Keep a bounded number of pages ready; hand over what ends it behind them."""
        try:
            async with aclosing(self._log.pages()) as pages:
                async for page in pages:
                    await self._ahead.put(page)
        except Exception as error:
            await self._ahead.put(error)

    async def _arrived(self) -> list[Page]:
        """Return all pages that are here; wait only while there is none."""
        if self._failure is not None:
            raise self._failure
        item = await self._pauses.until_stopped(self._ahead.get())
        pages: list[Page] = []
        while isinstance(item, Page):
            pages.append(item)
            if self._ahead.empty():
                return pages
            item = self._ahead.get_nowait()
        self._failure = item
        if not pages:
            raise item
        return pages

    async def _relay(self, pages: Sequence[Page]) -> None:
        for batch in batches([CallPage(self._calls(page), page.cursor) for page in pages]):
            await self._deliver(batch)

    def _calls(self, page: Page) -> tuple[Call, ...]:
        calls = []
        for outcome in page.outcomes:
            call = track_call(outcome, self._rules)
            body = call if isinstance(call, NotExported) else encoded(call)
            if body is NotExported.NOT_SELECTED:
                continue
            if isinstance(body, NotExported):
                self._reject(outcome.outcome_id, body)
            else:
                calls.append(Call(outcome.outcome_id, body))
        return tuple(calls)

    async def _deliver(self, batch: Batch) -> None:
        if batch.calls:
            await self._post(batch.calls)
            failpoint("relay.posted")
        if batch.cursor:
            await self._log.commit(batch.cursor)

    async def _post(self, calls: tuple[Call, ...]) -> None:
        """Post *calls*, in halves where something in them is not taken."""
        if await self._taken(calls):
            self._refused_in_a_row = 0
            self.tally.posted += len(calls)
            log.info("relay.posted", count=len(calls), total=self.tally.posted)
        elif len(calls) > 1:
            middle = len(calls) // 2
            await self._post(calls[:middle])
            await self._post(calls[middle:])
        else:
            self._refuse(calls[0])

    async def _taken(self, calls: tuple[Call, ...]) -> bool:
        """Post until there is an answer; True for taken, False for unfit."""
        body = request_body(calls)
        attempt = 0
        while True:
            attempt += 1
            self._pauses.check()
            verdict = await self._api.post(body)
            match verdict:
                case Taken():
                    return True
                case Unfit():
                    return False
                case Busy():
                    await self._back_off(verdict, attempt, len(calls))
                case Barred():
                    raise SegmentRefused(f"{verdict.words} from the endpoint")
                case _:
                    assert_never(verdict)

    async def _back_off(self, busy: Busy, attempt: int, count: int) -> None:
        wait_us = self._pauses.length_us(_BACKOFF, attempt, busy.retry_after_us)
        log.warning(
            "relay.retrying",
            reason=busy.words,
            attempt=attempt,
            count=count,
            wait_ms=wait_us // 1_000,
        )
        await self._pauses.sleep(wait_us)

    def _refuse(self, call: Call) -> None:
        """Set aside a call that is refused alone, unless nothing is taken at all."""
        self._refused_in_a_row += 1
        if self._refused_in_a_row > REFUSED_IN_A_ROW_MAX:
            raise SegmentRefused(f"{REFUSED_IN_A_ROW_MAX} calls in a row were refused")
        self._reject(call.outcome_id, NotExported.REFUSED)

    def _reject(self, outcome_id: str, reason: NotExported) -> None:
        self.tally.rejected += 1
        log.error("relay.rejected", outcome_id=outcome_id, reason=reason.value)
