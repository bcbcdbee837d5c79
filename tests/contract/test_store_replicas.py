"""Several processes on one PostgreSQL: claims, leases, fences, and what each sees of the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests import postgres
from tests.builders import NOON, a_message, a_profile, a_run, an_outcome, changes
from tests.stores import encode
from upshotd.adapters.storage import leases, writing
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.ports import Subscription
from upshotd.domain.audience import Membership
from upshotd.domain.errors import LeaseLost
from upshotd.domain.message import Ask, MessageState
from upshotd.domain.profile import Erasure, Profile
from upshotd.domain.state import Wanted
from upshotd.domain.values import replace

LONG_US = 3_600_000_000


@dataclass
class Replicas:
    """Processes over one database; their leases end only when told."""

    address: str
    stack: AsyncExitStack
    stores: list[SqlStore] = field(default_factory=list)

    async def another(self, owner: str) -> SqlStore:
        store = SqlStore(self.address, encode_outcome=encode, partitions=1, lease_us=LONG_US)
        await store.open()
        self.stack.push_async_callback(store.close)
        await store.join(owner)
        return store

    async def expire(self, owner: str) -> None:
        """Let the lease of *owner* run out, as if it had said nothing for too long."""
        sql = f"UPDATE replicas SET until_us = 0 WHERE owner = '{owner}'"
        await postgres.execute(sql, urlsplit(self.address).path[1:])


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    async with postgres.database() as address, AsyncExitStack() as stack:
        yield Replicas(address, stack)


def due_runs(count: int) -> list[object]:
    return [a_run(run_id=f"run-{n:02d}", start_key=f"s{n}", due_us=NOON + n) for n in range(count)]


async def test_a_timer_is_claimed_by_one_earliest_first(replicas: Replicas) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    await one.commit([changes(*due_runs(10))])
    first, second = await one.claim(NOON + 9, 6), await two.claim(NOON + 9, 6)
    assert [due.run_id for due in first] == [f"run-{n:02d}" for n in range(6)]
    assert [due.run_id for due in second] == [f"run-{n:02d}" for n in range(6, 10)]
    assert await one.claim(NOON + 9, 6) == first
    assert await two.claim(NOON + 9, 6) == second


async def test_claims_at_the_same_moment_never_overlap(replicas: Replicas) -> None:
    stores = [await replicas.another(f"r{n}") for n in range(3)]
    await stores[0].commit([changes(*due_runs(60))])
    found = await asyncio.gather(*(store.claim(NOON + 60, 15) for store in stores for _ in "ab"))
    for number, store in enumerate(stores):
        mine = {due.run_id for due in found[2 * number] + found[2 * number + 1]}
        mine |= {due.run_id for due in await store.claim(NOON + 60, 60)}
        others = {
            due.run_id
            for other, claimed in enumerate(found)
            if other // 2 != number
            for due in claimed
        }
        assert not mine & others


async def test_a_claim_is_forgotten_when_its_row_is_written(replicas: Replicas) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    await one.commit([changes(*due_runs(1))])
    await one.claim(NOON, 1)
    (run,) = (await one.load("default", Wanted(run_ids={"run-00"}))).runs.values()
    await one.commit([changes(replace(run, due_us=NOON + 5))])
    assert [due.run_id for due in await two.claim(NOON + 5, 1)] == ["run-00"]


async def test_what_a_dead_one_had_is_taken_over(replicas: Replicas) -> None:
    dead, heir = await replicas.another("dead"), await replicas.another("heir")
    sending = a_message(
        message_id="m", state=MessageState.SENDING, owner="dead", due_us=NOON + LONG_US
    )
    await dead.commit([changes(*due_runs(2), sending)])
    await dead.claim(NOON + 2, 9)
    assert await heir.claim(NOON + 2, 9) == []
    await replicas.expire("dead")
    await heir._replica.beat()
    found = await heir.claim(NOON + 2, 9)
    assert [due.run_id or due.message_id for due in found] == ["m", "run-00", "run-01"]


async def test_whoever_was_taken_for_dead_cannot_commit_and_begins_anew(
    replicas: Replicas,
) -> None:
    paused, heir = await replicas.another("paused"), await replicas.another("heir")
    await replicas.expire("paused")
    await heir._replica.beat()
    with pytest.raises(LeaseLost):
        await paused.commit([changes(*due_runs(1), an_outcome())])
    with pytest.raises(LeaseLost):
        await paused._replica.beat()
    assert not paused.holds_lease()
    assert await heir.log_size() == 0
    await paused.join("paused-again")
    await paused.commit([changes(*due_runs(1), an_outcome())])
    assert paused.holds_lease()
    assert await heir.log_size() == 1


async def test_a_lease_that_ran_out_unseen_is_still_good(replicas: Replicas) -> None:
    slow = await replicas.another("slow")
    await replicas.expire("slow")
    await slow.commit([changes(*due_runs(1))])
    await slow._replica.beat()
    await slow.commit([changes(a_run(run_id="x", start_key="x"))])


async def test_taking_over_waits_for_a_commit_under_way(replicas: Replicas) -> None:
    late, heir = await replicas.another("late"), await replicas.another("heir")
    order: list[str] = []

    def slow_commit(connection: leases.Connection) -> None:
        leases.fence(connection, "late")
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")
        order.append("committed")

    await replicas.expire("late")
    committing = asyncio.create_task(late._database.write(slow_commit))
    while not await _locked(heir):
        await asyncio.sleep(0.01)
    await heir._replica.beat()
    order.append("taken over")
    await committing
    assert order == ["committed", "taken over"]


async def _locked(store: SqlStore) -> bool:
    """Return whether somebody holds a lock of rows of `replicas`."""
    sql = (
        "SELECT count(*) FROM pg_locks JOIN pg_class ON relation = pg_class.oid "
        "WHERE relname = 'replicas' AND mode = 'RowShareLock'"
    )
    return bool(await store._database.read(lambda c: c.exec_driver_sql(sql).scalar()))


async def test_who_is_being_asked_is_erased_after_it_with_what_they_were_asked_by(
    replicas: Replicas,
) -> None:
    asking, erasing = await replicas.another("asking"), await replicas.another("erasing")
    await asking.commit([changes(a_profile(user_id="ann"))])
    order: list[str] = []
    request = a_message(message_id="m", profile_id="profile-ann", ask=Ask.REQUEST)
    batch = [changes(request, consents={"profile-ann": 1})]

    def slow_commit(connection: leases.Connection) -> None:
        writing.commit(connection, batch, encode, 1, "asking")
        order.append("asked")
        connection.exec_driver_sql("SELECT pg_sleep(0.3)")

    committing = asyncio.create_task(asking._database.write(slow_commit))
    while not order:
        await asyncio.sleep(0.01)
    gone = Erasure("profile-ann", ("profile-ann",), "ann", (), (), NOON)
    tombstone = Profile("profile-ann", user_id="ann", erase_us=NOON, row_version=1)
    await erasing.commit([changes(tombstone, erasures={"profile-ann": gone})])
    await committing
    left = await erasing.message("default", "m")
    assert left is not None
    assert (left.recipient, left.reason) == ("", "ERASED")


async def test_whoever_leaves_is_not_waited_for(replicas: Replicas) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    sending = a_message(message_id="m", state=MessageState.SENDING, owner="one", due_us=LONG_US)
    await one.commit([changes(*due_runs(1), sending)])
    await one.claim(NOON, 1)
    await one.leave()
    found = await two.claim(NOON, 9)
    assert [due.run_id or due.message_id for due in found] == ["m", "run-00"]


async def test_a_message_under_a_living_lease_is_left_alone(replicas: Replicas) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    sending = a_message(message_id="m", state=MessageState.SENDING, owner="one", due_us=NOON)
    await one.commit([changes(sending)])
    assert await two.claim(NOON, 9) == []
    assert [due.message_id for due in await one.claim(NOON, 9)] == ["m"]


async def test_what_one_defines_the_others_see_at_their_next_load(replicas: Replicas) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    before = (await two.load("default", Wanted())).definitions_revision
    await one.define("default", "welcome", b"1", None, NOON)
    await one.define("default", "welcome", b"2", None, NOON)
    assert (await two.load("default", Wanted())).definitions_revision > before


async def test_one_workflow_defined_by_all_at_once_gets_a_version_each(
    replicas: Replicas,
) -> None:
    stores = [await replicas.another(f"r{n}") for n in range(3)]
    defined = await asyncio.gather(
        *(s.define("default", "w", str(n).encode(), None, NOON) for n, s in enumerate(stores))
    )
    assert sorted(found.version for found in defined) == [1, 2, 3]


async def test_a_subscription_committed_by_all_at_once_only_moves_forward(
    replicas: Replicas,
) -> None:
    stores = [await replicas.another(f"r{n}") for n in range(3)]

    def commit(position: int) -> Callable[[Subscription | None], Subscription]:
        def change(held: Subscription | None) -> Subscription:
            reached = held.positions[0] if held is not None else 0
            return Subscription("relay", {0: max(reached, position)}, NOON, NOON)

        return change

    await asyncio.gather(
        *(
            stores[position % 3].change_subscription("default", "relay", commit(position))
            for position in range(30, 0, -1)
        )
    )
    held = await stores[0].subscription("default", "relay")
    assert held is not None
    assert held.positions == {0: 30}


async def test_positions_are_contiguous_whoever_appends(replicas: Replicas) -> None:
    stores = [await replicas.another(f"r{n}") for n in range(3)]

    async def append(number: int, store: SqlStore) -> None:
        for at in range(20):
            await store.commit([changes(an_outcome(outcome_id=f"{number}-{at}"))])

    await asyncio.gather(*(append(n, store) for n, store in enumerate(stores)))
    spans = await stores[0].spans("default")
    assert spans[0].head == 60


async def test_replicas_that_start_at_once_agree_on_everything() -> None:
    name = f"upshot_fresh_{id(object())}"
    await postgres.execute(f'CREATE DATABASE "{name}"')
    stores = [SqlStore(postgres.named(name), encode_outcome=encode) for _ in range(3)]
    try:
        await asyncio.gather(*(store.open() for store in stores))
        assert len({await store.log_epoch() for store in stores}) == 1
        keys = await asyncio.gather(
            *(store.settle_setting("key", f"of {n}") for n, store in enumerate(stores))
        )
        assert len(set(keys)) == 1
    finally:
        for store in stores:
            await store.close()
        await postgres.drop(name)


async def test_the_clock_of_the_database_is_told_with_every_beat() -> None:
    told: list[int] = []
    async with postgres.database() as address:
        store = SqlStore(address, encode_outcome=encode, told_time=told.append)
        await store.open()
        await store.join("me")
        await store._replica.beat()
        await store.close()
    assert len(told) == 2
    assert 0 < told[1] - told[0] < 10_000_000


async def test_a_moment_of_an_audience_is_claimed_by_one_and_free_when_that_is_gone(
    replicas: Replicas,
) -> None:
    one, two = await replicas.another("one"), await replicas.another("two")
    row = Membership("vip", "profile-ana", due_us=NOON)
    written = changes()
    written.memberships["profile-ana", "vip"] = row
    await one.commit([written])
    assert [due.audience_id for due in await one.claim(NOON, 9)] == ["vip"]
    assert await two.claim(NOON, 9) == []
    await replicas.expire("one")
    await two._replica.beat()  # type: ignore[union-attr]
    assert [due.profile_id for due in await two.claim(NOON, 9)] == ["profile-ana"]
