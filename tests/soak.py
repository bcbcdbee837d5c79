"""The outcome log on PostgreSQL, beside a cursor over a sequence: `python tests/soak.py`.

    soak.py                10 minutes; of these 60 s with an unrelated transaction open
    soak.py --minutes 1    shorter

First the control: writers that insert behind a sequence and a reader that asks for what is greater
than the last id. It must lose rows within 5 s, or this program could not see a loss. Then ours:
four replicas, 16 writers, one commit in ten refused, and a stream over all partitions. Exits with 1
when an outcome was lost, doubled or out of order, or was late.
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import postgres
from tests.builders import an_outcome, changes
from tests.stores import decode, encode
from tests.validators import StreamValidator
from upshotd.adapters.clock import SystemClock
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.wakeups import LocalWakeups
from upshotd.application.outcomes import OutcomeStreams, Start, StreamRequest
from upshotd.application.watching import watch
from upshotd.domain.errors import Conflict
from upshotd.domain.profile import Group

WRITERS, REPLICAS, PARTITIONS = 16, 3, 16
CONTROL_S, OPEN_S = 5.0, 60.0
LATE_S = 0.25
PEOPLE = 200


# -- the control ---------------------------------------------------------------------------------


async def control(address: str) -> tuple[int, int]:
    """Return how many rows were committed behind a sequence, and how many a cursor never saw."""
    pool = await asyncpg.create_pool(address, min_size=WRITERS + 1, max_size=WRITERS + 1)
    await pool.execute("CREATE TABLE naive (id bigserial PRIMARY KEY)")
    until = time.monotonic() + CONTROL_S
    committed: set[int] = set()

    async def write(chance: random.Random) -> None:
        async with pool.acquire() as connection:
            while time.monotonic() < until:
                transaction = connection.transaction()
                await transaction.start()
                row_id = await connection.fetchval("INSERT INTO naive DEFAULT VALUES RETURNING id")
                await asyncio.sleep(chance.uniform(0.0, 0.02))
                if chance.random() < 0.1:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed.add(row_id)

    writers = [asyncio.create_task(write(random.Random(n))) for n in range(WRITERS)]
    seen: set[int] = set()
    last = 0
    while not all(writer.done() for writer in writers):
        rows = await pool.fetch("SELECT id FROM naive WHERE id > $1 ORDER BY id", last)
        seen.update(row["id"] for row in rows)
        last = max([last, *(row["id"] for row in rows)])
        await asyncio.sleep(0.002)
    await asyncio.gather(*writers)
    rows = await pool.fetch("SELECT id FROM naive WHERE id > $1", last)
    seen.update(row["id"] for row in rows)
    await pool.close()
    return len(committed), len(committed - seen)


# -- ours ----------------------------------------------------------------------------------------


@dataclass
class Soak:
    """What was written and what was read."""

    #: outcome_id -> when its commit returned, by the clock that never jumps.
    committed: dict[str, float] = field(default_factory=dict)
    #: outcome_id -> when the stream brought it.
    seen: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    validator: StreamValidator = field(default_factory=StreamValidator)

    async def write(self, store: SqlStore, name: str, until: float) -> None:
        """Commit a few outcomes again and again; one commit in ten is refused as a whole."""
        chance = random.Random(name)
        number = 0
        while time.monotonic() < until:
            number += 1
            outcomes = [
                an_outcome(
                    outcome_id=f"{name}-{number}-{at}",
                    profile_id=f"profile-{chance.randrange(PEOPLE)}",
                )
                for at in range(chance.randint(1, 5))
            ]
            rows: list[Any] = list(outcomes)
            if chance.random() < 0.1:
                rows.append(Group("taken"))
            try:
                await store.commit([changes(*rows)])
            except Conflict:
                self.refused += 1
                continue
            now = time.monotonic()
            self.committed.update((outcome.outcome_id, now) for outcome in outcomes)
            await asyncio.sleep(chance.uniform(0.0, 0.02))

    async def read(self, streams: OutcomeStreams) -> None:
        """Follow the log from its beginning."""
        stream = self.validator.opened()
        async for page in streams.stream("default", StreamRequest(start=Start.EARLIEST)):
            stream.saw(page)
            now = time.monotonic()
            self.seen.update((name, now) for _, _, name in decode(page.joined))

    def waits(self, begin: float, end: float) -> list[float]:
        """Return how long after its commit each outcome of this time was seen, in order."""
        return sorted(
            max(self.seen[name] - at, 0.0)
            for name, at in self.committed.items()
            if begin <= at < end and name in self.seen
        )


async def hold_open(address: str, seconds: float) -> tuple[float, float]:
    """Keep a transaction of something else open; returns from when to when."""
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE TABLE unrelated (n int)")
    begin = time.monotonic()
    async with connection.transaction():
        await connection.execute("INSERT INTO unrelated VALUES (1)")
        await asyncio.sleep(seconds)
    await connection.close()
    return begin, time.monotonic()


async def ours(address: str, seconds: float) -> list[str]:
    """Write and read for *seconds*; returns everything that is wrong."""
    stores = [
        SqlStore(address, encode_outcome=encode, partitions=PARTITIONS) for _ in range(REPLICAS + 1)
    ]
    for number, store in enumerate(stores):
        await store.open()
        await store.join(f"replica-{number}")
    await stores[0].commit([changes(Group("taken"))])
    soak, clock, wakeups = Soak(), SystemClock(), LocalWakeups()
    reading = asyncio.create_task(soak.read(OutcomeStreams(stores[-1], clock, wakeups)))
    watching = asyncio.create_task(watch(stores[-1], wakeups, clock))
    until = time.monotonic() + seconds
    writers = [
        asyncio.create_task(soak.write(stores[n % REPLICAS], f"w{n}", until))
        for n in range(WRITERS)
    ]
    await asyncio.sleep(seconds / 4)
    begin, end = await hold_open(address, min(OPEN_S, seconds / 4))
    await asyncio.gather(*writers)
    await asyncio.sleep(2.0)
    reading.cancel()
    watching.cancel()
    await asyncio.gather(reading, watching, return_exceptions=True)
    findings = soak.validator.findings()
    lost = soak.committed.keys() - soak.seen.keys()
    ghosts = soak.seen.keys() - soak.committed.keys()
    findings += [f"{len(lost)} outcomes were lost"] if lost else []
    findings += [f"{len(ghosts)} outcomes came that nobody committed"] if ghosts else []
    for store in stores:
        await store.close()
    _tell("all the time", soak.waits(0.0, float("inf")))
    with_open = soak.waits(begin, end)
    _tell(f"{end - begin:.0f} s with a transaction open", with_open)
    if with_open[int(len(with_open) * 0.99)] > LATE_S:
        findings.append(f"p99 is more than {LATE_S} s while a transaction is open")
    print(f"ours: {len(soak.committed):,} outcomes committed, {soak.refused:,} commits refused")
    print(f"ours: {len(lost)} lost")
    return findings


def _tell(when: str, waits: list[float]) -> None:
    p50, p99, most = waits[len(waits) // 2], waits[int(len(waits) * 0.99)], waits[-1]
    print(f"commit to reader, {when}: p50 {p50 * 1e3:.1f}, p99 {p99 * 1e3:.1f}, ", end="")
    print(f"max {most * 1e3:.1f} ms")


async def _run(minutes: float) -> int:
    address = postgres.OwnServer().address
    committed, lost = await control(address)
    print(f"a cursor over a sequence: {committed:,} rows committed in {CONTROL_S:g} s, {lost} lost")
    findings = [] if lost else ["the control lost nothing: this program is blind"]
    findings += await ours(address, minutes * 60)
    print("\n".join(findings) or "Nothing lost, nothing doubled, nothing out of order.")
    return 1 if findings else 0


def main() -> int:
    """Run the program; return its exit code."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="[10]")
    return asyncio.run(_run(parser.parse_args().minutes))


if __name__ == "__main__":
    sys.exit(main())
