"""Tasks that work a queue off: no more than allowed, none while there is nothing to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sized


class Workers:
    """At most `concurrency` tasks at once, each of which goes on while *queue* holds something."""

    def __init__(self, queue: Sized, some: Callable[[], Awaitable[None]], concurrency: int) -> None:
        """*some* takes something from *queue* and does it."""
        self._queue = queue
        self._some = some
        self._concurrency = concurrency
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, most: int) -> None:
        """Start a task for each of *most* things that were queued, as far as there may be more."""
        for _ in range(min(most, self._concurrency - len(self._tasks))):
            self._tasks.add(asyncio.create_task(self._work()))

    async def finish(self, grace_s: float) -> None:
        """Wait for those that work, *grace_s* seconds at most."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=grace_s)

    async def stop(self) -> None:
        """Cut off those that still work."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._some()
        finally:
            # At once, not when the task is seen to be done: what is submitted until then would
            # count on this worker.
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
