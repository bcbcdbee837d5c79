"""Tasks that work a queue off."""

import asyncio
from collections import deque

from upshotd.application.workers import Workers


async def test_what_is_queued_in_the_moment_in_which_the_last_one_ends_is_done():
    done: list[str] = []
    queue: deque[str] = deque()

    def submit(what: str) -> None:
        queue.append(what)
        workers.start(1)

    async def some() -> None:
        done.append(queue.popleft())
        if done == ["first"]:
            # Comes after the task has ended, and before whoever waits for it is told so.
            asyncio.get_running_loop().call_soon(submit, "second")

    workers = Workers(queue, some, 1)
    submit("first")
    async with asyncio.timeout(5):
        while len(done) < 2:
            await asyncio.sleep(0)
    assert done == ["first", "second"]


async def test_no_more_work_at_once_than_may_and_what_takes_too_long_is_cut_off():
    queue, busy = deque("abc"), 0

    async def some() -> None:
        nonlocal busy
        queue.popleft()
        busy += 1
        try:
            await asyncio.Event().wait()
        finally:
            busy -= 1

    workers = Workers(queue, some, 2)
    workers.start(3)
    await workers.finish(0.01)
    assert (busy, list(queue)) == (2, ["c"])
    await workers.stop()
    assert busy == 0
