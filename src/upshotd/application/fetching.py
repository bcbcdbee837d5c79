"""Asks what runs want to know: outside any transaction, with bounded concurrency."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

import structlog

from upshotd.application.workers import Workers
from upshotd.domain.fetching import Fetch, FetchResult, Found, ReviewersRequest, Unfetched
from upshotd.domain.stimulus import FetchSettled

log = structlog.get_logger()

#: Takes the result of an attempt: (workspace_id, result).
Settle = Callable[[str, FetchSettled], None]
#: Finds who is to be asked for a decision.
Find = Callable[[ReviewersRequest], Awaitable[Found]]
#: Searches for reviewers at once.
SEARCHES: Final = 4
#: What becomes of an attempt for which there is no room, or has not been any in time.
TOO_MUCH: Final = Unfetched("BUSY", "this server has too much to ask", again=True, put_off=True)


class _Queued(NamedTuple):
    """An attempt that waits for its turn."""

    workspace_id: str
    fetch: Fetch
    #: When it was taken, in seconds of the event loop.
    since_s: float


class Fetcher(Protocol):
    """Asks addresses and models."""

    async def fetch(self, fetch: Fetch) -> FetchResult:
        """Make one attempt within its time and say what came of it. Never raises for what others
        do: that is an Unfetched."""

    async def close(self) -> None:
        """Release connections; nothing is under way any more."""


class Fetchers:
    """Makes committed attempts, at most `concurrency` at once, and at most `longest` wait.

    Where there are more, or one has waited for `wait_s` seconds, it is put off: its run comes back
    to it later. So a slow far end costs neither memory nor those who ask nothing.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        settle: Settle,
        reviewers: Find,
        *,
        concurrency: int = 32,
        longest: int = 2_000,
        wait_s: float = 15.0,
    ) -> None:
        """*wait_s* is less than the time after which another process begins an attempt anew."""
        self._fetcher = fetcher
        self._find = reviewers
        self._settle = settle
        self._longest = longest
        self._wait_s = wait_s
        self._in_flight: set[tuple[str, str]] = set()
        self._queue: deque[_Queued] = deque()
        self._workers = Workers(self._queue, lambda: self._some(self._queue), concurrency)
        # Who decides is looked for in the store: that waits for no far end.
        self._searches: deque[_Queued] = deque()
        self._searchers = Workers(self._searches, lambda: self._some(self._searches), SEARCHES)

    @property
    def in_flight(self) -> int:
        """How many attempts are queued or being made."""
        return len(self._in_flight)

    def holds(self, workspace_id: str, run_id: str) -> bool:
        """Return whether an attempt of a run is queued or being made here."""
        return (workspace_id, run_id) in self._in_flight

    def submit(self, workspace_id: str, fetches: Sequence[Fetch]) -> None:
        """Take committed attempts."""
        now_s = asyncio.get_running_loop().time()
        for fetch in fetches:
            queued = _Queued(workspace_id, fetch, now_s)
            if isinstance(fetch.request, ReviewersRequest):
                self._searches.append(queued)
            elif len(self._queue) < self._longest:
                self._queue.append(queued)
            else:
                self._tell(queued, TOO_MUCH)
                continue
            self._in_flight.add((workspace_id, fetch.run_id))
        self._workers.start(len(self._queue))
        self._searchers.start(len(self._searches))

    async def close(self, grace_s: float) -> None:
        """Let what is being made finish within *grace_s* seconds; then cut it off and close.

        What was not made, or not answered, comes again by the timer of its run.
        """
        self._queue.clear()
        self._searches.clear()
        both = (self._workers, self._searchers)
        await asyncio.gather(*(workers.finish(grace_s) for workers in both))
        for workers in both:
            await workers.stop()
        await self._fetcher.close()

    async def _some(self, queue: deque[_Queued]) -> None:
        queued = queue.popleft()
        waited_s = asyncio.get_running_loop().time() - queued.since_s
        late = queue is self._queue and waited_s > self._wait_s
        result = TOO_MUCH if late else await self._made(queued.fetch)
        self._in_flight.discard((queued.workspace_id, queued.fetch.run_id))
        self._tell(queued, result)

    def _tell(self, queued: _Queued, result: FetchResult) -> None:
        fetch = queued.fetch
        settled = FetchSettled(fetch.run_id, fetch.step_id, fetch.attempt, result)
        self._settle(queued.workspace_id, settled)

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
