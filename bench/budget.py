"""What one journey costs, stage by stage, and how many statements a batch is: `bench/budget.py`.

The server's own parts in one process, without gRPC: events are decoded and given to the loop, which
works on a SQLite file with the null provider. Times are CPU of the thread that does the stage, in
microseconds for one journey; what the loop does between the stages is in none of them. Batches are
as large as they come.
"""

import asyncio
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import Engine, event

from events import order, person, workflow
from serving import CONFIG
from upshotd import app
from upshotd.adapters.grpc import event_codec, workflow_codec
from upshotd.adapters.storage import loading, sqlite, writing
from upshotd.application.dispatch import Dispatcher
from upshotd.application.work import Work
from upshotd.config import load
from upshotd.domain.stimulus import EventArrived

PEOPLE, BATCH, IN_FLIGHT = 6_000, 100, 8


class Budget:
    """Times and counts by stage. A stage inside of another one is not part of that."""

    def __init__(self) -> None:
        #: CPU in seconds.
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.statements: Counter[str] = Counter()
        self.batches: Counter[str] = Counter()
        #: Of a thread: the stages it is in, each with the time that those inside of it took.
        self._inside = threading.local()

    def timed(self, stage: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* with its CPU counted for the stage that its arguments name."""

        def measured(*args: Any, **named: Any) -> Any:
            stack = self._stack()
            stack.append([name := stage(*args), 0.0])
            begin = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                took_s = time.thread_time() - begin
                self.cpu_s[name] += took_s - stack.pop()[1]
                self.batches[name] += 1
                if stack:
                    stack[-1][1] += took_s

        return measured

    def count(self, *_: object) -> None:
        """Count a statement for the stage that this thread is in."""
        stack = self._stack()
        if stack:
            self.statements[stack[-1][0]] += 1

    def _stack(self) -> list[list[Any]]:
        if not hasattr(self._inside, "stack"):
            self._inside.stack = []
        found: list[list[Any]] = self._inside.stack
        return found

    def clear(self) -> None:
        """Begin anew."""
        for counts in (self.cpu_s, self.statements, self.batches):
            counts.clear()


def _kind(batch: Any) -> str:
    items = batch.items
    return "events" if items and isinstance(items[0].stimulus, EventArrived) else "answers"


def watch(budget: Budget) -> None:
    """Put the clocks in."""
    Work.decide = budget.timed(  # type: ignore[method-assign]
        lambda _, batch: f"decide {_kind(batch)}", Work.decide
    )
    loading.load = budget.timed(
        lambda _, __, wanted: "load for events" if wanted.event_ids else "load for answers",
        loading.load,
    )
    writing.commit = budget.timed(
        lambda _, batch, *__: "write events" if batch[0].events else "write answers", writing.commit
    )
    sqlite._transaction = budget.timed(lambda *_: "transaction", sqlite._transaction)
    Dispatcher._settled = budget.timed(  # type: ignore[method-assign]
        lambda *_: "take the answer", Dispatcher._settled
    )
    event.listen(Engine, "connect", lambda driver, _: _traced(driver, budget.count))


def _traced(driver: Any, count: Callable[[str], None]) -> None:
    if isinstance(driver, sqlite3.Connection):
        driver.set_trace_callback(count)


async def journeys(server: app.App, people: int, name: str, budget: Budget | None) -> None:
    """Send everybody on a journey; returns when the last one is complete."""
    batches = [range(at, min(at + BATCH, people)) for at in range(0, people, BATCH)]
    waiting = iter(batches)

    async def work() -> None:
        for users in waiting:
            messages = [order(f"{name}-{user}", user) for user in users]
            begin = time.thread_time()
            events = [event_codec.event(message, server.clock.now_us()) for message in messages]
            if budget is not None:
                budget.cpu_s["decode"] += time.thread_time() - begin
            await server.loop.ingest("default", events)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    await server.loop.quiet()


async def measure(directory: Path) -> Budget:
    """Warm up, then measure one round."""
    given = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "database": str(directory / "u.db")}
    budget = Budget()
    watch(budget)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(app.run(load(CONFIG, {}, given), {}))
        flow, faults = workflow_codec.workflow(workflow())
        assert not faults
        definition = server.loop.work._codec.encode_workflow(flow)
        await server.store.define("default", flow.workflow_id, definition, None, 1)
        people = [event_codec.event(person(n), server.clock.now_us()) for n in range(PEOPLE)]
        for at in range(0, PEOPLE, 500):
            await server.loop.ingest("default", people[at : at + 500])
        await journeys(server, PEOPLE, "warm", None)
        budget.clear()
        await journeys(server, PEOPLE, "order", budget)
    return budget


STAGES = (
    *("decode", "load for events", "decide events", "write events", "take the answer"),
    *("load for answers", "decide answers", "write answers", "transaction"),
)


def table(budget: Budget) -> str:
    """Return the budget for people."""
    lines = [f"{'stage':<20}{'us a journey':>14}{'batches':>10}{'statements a batch':>20}"]
    for name in STAGES:
        batches = budget.batches[name]
        each = f"{budget.statements[name] / batches:.1f}" if budget.statements[name] else ""
        shown = "begin and commit" if name == "transaction" else name
        cpu_us = 1e6 * budget.cpu_s[name] / PEOPLE
        lines.append(f"{shown:<20}{cpu_us:>14.1f}{batches or '':>10}{each:>20}")
    whole = sum(budget.cpu_s[name] for name in STAGES)
    return "\n".join([*lines, f"{'sum':<20}{1e6 * whole / PEOPLE:>14.1f}"])


def main() -> int:
    """Print the budget."""
    with tempfile.TemporaryDirectory(prefix="upshot-budget-") as name:
        budget = uvloop.run(measure(Path(name)))
    print(table(budget))
    return 0


if __name__ == "__main__":
    sys.exit(main())
