"""Asks what runs want to know: outside any transaction, with bounded concurrency."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from upshotd.application.workers import Workers
from upshotd.domain.fetching import Fetch, FetchResult, Found, ReviewersRequest, Unfetched
from upshotd.domain.stimulus import FetchSettled

log = structlog.get_logger()

#: Takes the result of an attempt: (workspace_id, result).
Settle = Callable[[str, FetchSettled], None]
#: Finds who is to be asked for a decision.
Find = Callable[[ReviewersRequest], Awaitable[Found]]


class Fetcher(Protocol):
    """Asks addresses and models."""

    async def fetch(self, fetch: Fetch) -> FetchResult:
        """Make one attempt within its time and say what came of it. Never raises for what others
        do: that is an Unfetched."""

    async def close(self) -> None:
        """Release connections; nothing is under way any more."""


class Fetchers:
    """Makes committed attempts, at most `concurrency` at once."""

    def __init__(
        self, fetcher: Fetcher, settle: Settle, reviewers: Find, *, concurrency: int = 32
    ) -> None:
        self._fetcher = fetcher
        self._find = reviewers
        self._settle = settle
        self._queue: deque[tuple[str, Fetch]] = deque()
        self._in_flight: set[tuple[str, str]] = set()
        self._workers = Workers(self._queue, self._some, concurrency)

    @property
    def in_flight(self) -> int:
        """How many attempts are queued or being made."""
        return len(self._in_flight)

    def holds(self, workspace_id: str, run_id: str) -> bool:
        """Return whether an attempt of a run is queued or being made here."""
        return (workspace_id, run_id) in self._in_flight

    def submit(self, workspace_id: str, fetches: Sequence[Fetch]) -> None:
        """Take committed attempts."""
        for fetch in fetches:
            self._in_flight.add((workspace_id, fetch.run_id))
            self._queue.append((workspace_id, fetch))
        self._workers.start(len(fetches))

    async def close(self, grace_s: float) -> None:
        """Let what is being made finish within *grace_s* seconds; then cut it off and close.

        What was not made, or not answered, comes again by the timer of its run.
        """
        self._queue.clear()
        await self._workers.finish(grace_s)
        await self._workers.stop()
        await self._fetcher.close()

    async def _some(self) -> None:
        workspace_id, fetch = self._queue.popleft()
        result = await self._made(fetch)
        self._in_flight.discard((workspace_id, fetch.run_id))
        settled = FetchSettled(fetch.run_id, fetch.step_id, fetch.attempt, result)
        self._settle(workspace_id, settled)

    async def _made(self, fetch: Fetch) -> FetchResult:
        try:
            async with asyncio.timeout(fetch.timeout_us / 1_000_000):
                if isinstance(fetch.request, ReviewersRequest):
                    return await self._find(fetch.request)
                return await self._fetcher.fetch(fetch)
        except TimeoutError:
            took = f"no answer within {fetch.timeout_us / 1_000_000:g} s"
            return Unfetched("TIMEOUT", took, again=True)
        except Exception:
            # A fault of ours: it may cost this one attempt and nothing else.
            log.exception("fetch.broke", run_id=fetch.run_id, step_id=fetch.step_id)
            return Unfetched("INTERNAL", "the server's log says why")
