"""What an audience costs with many people: `bench/audiences.py [PEOPLE]`, 100 000 of them.

The server in this process, on a SQLite file, in a lab whose clock is moved; events go to its loop.
People sign up over fifteen days and half of them use a feature. The audience is who signed up three
days ago and did not. Rows are counted as they are loaded and written. At fifty random instants the
members are held against a count over the whole history, which is kept here.
"""

import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop

from serving import CONFIG
from upshot.v1 import admin_pb2, admin_pb2_grpc, event_pb2
from upshotd import app
from upshotd.adapters.grpc import audience_codec, event_codec
from upshotd.config import load
from upshotd.domain.audience import AllOf, Audience, Did, Not, Often
from upshotd.domain.event import Event
from upshotd.domain.state import Changes, State

PEOPLE, BATCH = 100_000, 500
#: Instants at which people do something, and after how many the audience is defined.
INSTANTS, BEFORE = 60, 10
HOUR = 3_600_000_000
DAY = 24 * HOUR
AUDIENCE = Audience(
    "unused", AllOf((Did("Signed Up", often=Often(ago_us=3 * DAY)), Not(Did("Feature Used"))))
)


class Rows:
    """Rows that decisions loaded and wrote."""

    def __init__(self, store: Any) -> None:
        self.loaded: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.due = 0
        load_, commit, claim = store.load, store.commit, store.claim

        async def loads(*given: Any) -> State:
            state: State = await load_(*given)
            self.loaded["profiles"] += len(state.profiles)
            self.loaded["memberships"] += sum(map(len, state.memberships.values()))
            self.loaded["others"] += len(state.runs) + len(state.messages) + len(state.events)
            return state

        async def commits(batch: Sequence[Changes]) -> None:
            await commit(batch)
            for changes in batch:
                self.written["profiles"] += len(changes.profiles)
                self.written["memberships"] += len(changes.memberships)
                self.written["events"] += len(changes.events)
                self.written["outcomes"] += len(changes.outcomes)

        async def claims(*given: Any) -> Any:
            found = await claim(*given)
            self.due += len(found)
            return found

        store.load, store.commit, store.claim = loads, commits, claims

    def clear(self) -> None:
        """Begin anew."""
        self.loaded.clear()
        self.written.clear()
        self.due = 0

    def __str__(self) -> str:
        loaded, written = dict(self.loaded), {k: n for k, n in self.written.items() if n}
        return f"{self.due} due; loaded {loaded}; written {written}"


class History:
    """Everything that everybody did, and what that means."""

    def __init__(self) -> None:
        self.signed_up: dict[str, int] = {}
        self.used: set[str] = set()
        self._count = 0

    def event(self, user_id: str, name: str, now_us: int) -> Event:
        """Return something that somebody does now."""
        self._count += 1
        message = event_pb2.Event(event_id=f"e{self._count:08d}", user_id=user_id)
        message.track.event = name
        if name == "Signed Up":
            self.signed_up.setdefault(user_id, now_us)
        else:
            self.used.add(user_id)
        return event_codec.event(message, now_us)

    def members(self, now_us: int) -> set[str]:
        """Return who belongs to the audience, counted over all of it."""
        long_ago = now_us - 3 * DAY
        return {u for u, at in self.signed_up.items() if at <= long_ago and u not in self.used}


async def ingest(server: app.App, events: Sequence[Event]) -> None:
    """Send events, a few batches at once."""
    for at in range(0, len(events), 8 * BATCH):
        some = events[at : at + 8 * BATCH]
        parts = (some[of : of + BATCH] for of in range(0, len(some), BATCH))
        await asyncio.gather(*(server.loop.ingest("default", part) for part in parts))


async def define(server: app.App) -> float:
    """Define the audience; return how long it took to fill it, in seconds."""
    began = time.perf_counter()
    asked = admin_pb2.GetAudienceRequest(audience_id=AUDIENCE.audience_id)
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        audience = audience_codec.message(AUDIENCE)
        await admin.DefineAudience(admin_pb2.DefineAudienceRequest(audience=audience))
        while not (await admin.GetAudience(asked)).audience_version.progress.done:
            await asyncio.sleep(0.05)
    return time.perf_counter() - began


def members(database: Path) -> set[str]:
    """Return who is in the audience, read beside the server."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = connection.execute("SELECT profile_id, substr(identity, 2) FROM identities")
        known: dict[str, str] = dict(names.fetchall())
        query = "SELECT profile_id FROM audience_members WHERE member = 1 AND audience_id = ?"
        found = connection.execute(query, (AUDIENCE.audience_id,)).fetchall()
    connection.close()
    return {known[profile_id] for (profile_id,) in found}


async def measure(directory: Path, people: int) -> int:
    """Live through the history; return how many instants were wrong."""
    database, chance, history = directory / "u.db", random.Random(6), History()
    given = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "database": str(database)}
    async with AsyncExitStack() as stack:
        settings = load(CONFIG, {}, {**given, "lab": True})
        server = await stack.enter_async_context(app.run(settings, {}))
        assert server.lab is not None
        rows = Rows(server.store)
        wrong, plain_s, live_s, counted = 0, 0.0, 0.0, 0
        for instant in range(INSTANTS):
            if instant == BEFORE:
                before = len(history.signed_up)
                took_s = await define(server)
                print(f"filled with {before} people who were there before: {took_s:.1f} s")
            await server.lab.advance(chance.randint(HOUR, 11 * HOUR))
            now_us = server.clock.now_us()
            fresh = range(instant * people // INSTANTS, (instant + 1) * people // INSTANTS)
            events = [history.event(f"u{n}", "Signed Up", now_us) for n in fresh]
            known = max(fresh[-1], 1) if fresh else 1
            using = {chance.randrange(known) for _ in range(len(fresh) // 2)}
            events += [history.event(f"u{n}", "Feature Used", now_us) for n in sorted(using)]
            began = time.perf_counter()
            await ingest(server, events)
            if instant < BEFORE:
                plain_s += (time.perf_counter() - began) / len(events) / BEFORE
                continue
            live_s += (time.perf_counter() - began) / len(events)
            counted += 1
            # Idle, or the next commit would be counted with this.
            await server.loop.quiet()
            wanted, found = history.members(server.clock.now_us()), members(database)
            wrong += wanted != found
        print(f"an event without audiences: {1e6 * plain_s:.0f} us; with: ", end="")
        print(f"{1e6 * live_s / counted:.0f} us")
        print(f"instants compared: {counted}, wrong: {wrong}; {len(found)} members")
        rows.clear()
        one = min(found)
        await ingest(server, [history.event(one, "Feature Used", server.clock.now_us())])
        print(f"one event by which somebody leaves: {rows}")
        rows.clear()
        await ingest(server, [history.event(one, "Seen", server.clock.now_us())])
        print(f"one event that does not: {rows}")
        rows.clear()
        before_members = len(members(database))
        await server.lab.advance(6 * HOUR)
        print(f"six hours in which {len(members(database)) - before_members} come in: {rows}")
        rows.clear()
        await server.lab.advance(40 * DAY)
        rows.clear()
        await server.lab.advance(40 * DAY)
        print(f"forty days in which nobody does: {rows}")
    return wrong


def main() -> int:
    """Print what it costs; 1 where an instant was wrong."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    people = int(sys.argv[1]) if len(sys.argv) > 1 else PEOPLE
    with tempfile.TemporaryDirectory(prefix="upshot-audiences-") as name:
        wrong = uvloop.run(measure(Path(name), people))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
