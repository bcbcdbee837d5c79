"""Hints inside one process that the log has grown."""

import asyncio
import contextlib


class LocalWakeups:
    """Wakes every waiter of this process; tickets are counted, so that no hint is lost."""

    def __init__(self) -> None:
        self._ticket = 0
        self._waiting = 0
        self._next = asyncio.Event()

    def ticket(self) -> int:
        """Return a ticket; take it before reading."""
        return self._ticket

    def notify(self) -> None:
        """Say that there may be more. Call it in the thread of the event loop."""
        self._ticket += 1
        # Whoever waits holds the old event; whoever comes later waits for the new one.
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, ticket: int, at_most_us: int) -> None:
        """Return when something was notified after *ticket*, or after *at_most_us* microseconds."""
        if ticket != self._ticket:
            return
        notified = self._next
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(at_most_us / 1_000_000):
                    await notified.wait()
        finally:
            self._waiting -= 1

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting
