"""Transactions that are under way: each runs to its end, whoever waits for it."""

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


class Running:
    """What a database has begun and not ended."""

    def __init__(self) -> None:
        self._futures: set[asyncio.Future[Any]] = set()

    async def finished(self, future: asyncio.Future[T]) -> T:
        """Let a transaction run to its end, also when the caller is canceled meanwhile.

        A canceled caller waits for the end, so that what it does next sees the result; canceled a
        second time it goes, and `all_ended` waits instead.
        """
        self._futures.add(future)
        future.add_done_callback(self._ended)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def all_ended(self) -> None:
        """Wait until nothing is under way."""
        while self._futures:
            await asyncio.wait(self._futures)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._futures.discard(future)
        # An abandoned error was for a caller that is gone.
        if not future.cancelled():
            future.exception()
