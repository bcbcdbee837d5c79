"""The relay: reads outcomes, hands them to a far end, and only then moves its cursor.

At least once and in order: what goes out again after a crash has the same ids.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Final, assert_never

import structlog

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.batching import Batch, ItemPage, batches
from upshotd.adapters.relay.dead_letters import DeadLetters
from upshotd.adapters.relay.far_end import (
    Barred,
    Busy,
    FarEnd,
    Item,
    NotExported,
    Taken,
    Unfit,
)
from upshotd.adapters.relay.outcome_log import OutcomeLog, Page
from upshotd.adapters.relay.pauses import Backoff, Pauses, Stopped
from upshotd.application.failpoints import failpoint

#: Pages read ahead of the request under way: about one full request of usual outcomes to Segment.
PAGES_AHEAD: Final = 8
#: Items refused one after the other before we take it that none would be taken.
REFUSED_IN_A_ROW_MAX: Final = 100

_BACKOFF = Backoff(first_us=1_000_000, longest_us=60_000_000)

log = structlog.get_logger()


class FarEndRefused(Exception):
    """The far end takes nothing from us: its address or our credentials are wrong."""


@dataclass(slots=True)
class Tally:
    """What this relay did since it began."""

    #: Items that the far end has taken.
    posted: int = 0
    #: Outcomes that the far end does not take; each was logged.
    rejected: int = 0


class Relay:
    """One run of a relay."""

    def __init__(
        self,
        outcome_log: OutcomeLog,
        far_end: FarEnd,
        pauses: Pauses,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self.tally = Tally()
        self._log = outcome_log
        self._far_end = far_end
        self._pauses = pauses
        self._dead_letters = dead_letters
        self._ahead: asyncio.Queue[Page | Exception] = asyncio.Queue(PAGES_AHEAD)
        self._failure: Exception | None = None
        self._refused_in_a_row = 0

    async def run(self, *, once: bool = False) -> None:
        """Relay until told to stop; *once* returns when the end of the log is reached.

        What is under way is finished and its cursor committed before this returns.
        Raises OutcomesLost, LogRefused, FarEndRefused.
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

    async def retry(self, outcomes: Sequence[pb.Outcome]) -> None:
        """Hand over outcomes that were set aside before; no cursor moves.

        Raises Stopped, FarEndRefused.
        """
        await self._relay([Page(tuple(outcomes), cursor="")])

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
        before = self.tally.posted
        ready = [ItemPage(await self._items(page), page.cursor) for page in pages]
        for batch in batches(ready, self._far_end.limits):
            await self._deliver(batch)
        if self.tally.posted > before:
            log.info("relay.posted", count=self.tally.posted - before, total=self.tally.posted)

    async def _items(self, page: Page) -> tuple[Item, ...]:
        items: list[Item] = []
        for outcome in page.outcomes:
            found = self._far_end.items(outcome)
            if not isinstance(found, NotExported):
                items += found
            elif found is not NotExported.NOT_SELECTED:
                await self._reject(outcome, found)
        return tuple(items)

    async def _deliver(self, batch: Batch) -> None:
        if batch.items:
            await self._post(batch.items)
            failpoint("relay.posted")
        if batch.cursor:
            await self._log.commit(batch.cursor)

    async def _post(self, items: tuple[Item, ...]) -> None:
        """Hand *items* over, in halves where something in them is not taken."""
        answer = await self._answer(items)
        if isinstance(answer, Taken):
            self._refused_in_a_row = 0
            self.tally.posted += len(items)
        elif len(items) > 1:
            middle = len(items) // 2
            await self._post(items[:middle])
            await self._post(items[middle:])
        else:
            await self._refuse(items[0], answer.words)

    async def _answer(self, items: tuple[Item, ...]) -> Taken | Unfit:
        """Ask until there is an answer about these items."""
        for attempt in count(1):
            self._pauses.check()
            verdict = await self._far_end.post(items)
            match verdict:
                case Taken() | Unfit():
                    return verdict
                case Busy():
                    await self._back_off(verdict, attempt, len(items))
                case Barred():
                    raise FarEndRefused(verdict.words)
                case _:
                    assert_never(verdict)
        raise AssertionError  # not reached: attempts do not end

    async def _back_off(self, busy: Busy, attempt: int, number: int) -> None:
        wait_us = self._pauses.length_us(_BACKOFF, attempt, busy.retry_after_us)
        log.warning(
            "relay.retrying",
            reason=busy.words,
            attempt=attempt,
            count=number,
            wait_ms=wait_us // 1_000,
        )
        await self._pauses.sleep(wait_us)

    async def _refuse(self, item: Item, words: str) -> None:
        """Set aside an item that is refused alone, unless nothing is taken at all."""
        self._refused_in_a_row += 1
        if self._refused_in_a_row > REFUSED_IN_A_ROW_MAX:
            raise FarEndRefused(f"{REFUSED_IN_A_ROW_MAX} items in a row were refused")
        await self._reject(item.outcome, NotExported.REFUSED, words)

    async def _reject(self, outcome: pb.Outcome, reason: NotExported, words: str = "") -> None:
        """Say that *outcome* does not go out, and keep it where the settings say so."""
        self.tally.rejected += 1
        log.error("relay.rejected", outcome_id=outcome.outcome_id, reason=reason.value)
        for attempt in count(1):
            try:
                if self._dead_letters is not None:
                    self._dead_letters.add(outcome, reason, words)
                return
            except OSError as error:  # nothing is passed over that is not kept
                fault = Busy(f"dead letters: {error.strerror or type(error).__name__}")
                await self._back_off(fault, attempt, 1)
