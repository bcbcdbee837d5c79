"""The SQL store on a real file: its lock, its schema, a full disk, cancellations, a restart."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from tests.integration.sql_world import WS, journey, made
from tests.stores import found
from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.storage import migrating
from upshotd.adapters.storage.store import SqlStore
from upshotd.adapters.storage.tables import metadata
from upshotd.application.ports import OutcomeFilter, RunFilter
from upshotd.domain.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from upshotd.domain.state import Changes, IdKind, Wanted
from upshotd.domain.values import replace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "upshot.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    store = made(path)
    await store.open()
    yield store
    await store.close()


async def positions(store: SqlStore) -> list[tuple[int, str]]:
    return found(await store.read_outcomes(WS, 0, 0, 100_000, OutcomeFilter(), 100))


# -- one process ---------------------------------------------------------------------------------


async def test_a_second_process_is_refused_and_told_which_file(path: Path) -> None:
    first, second = made(path), made(path)
    await first.open()
    with pytest.raises(FailedPrecondition, match=r"upshot\.db is in use .*upshot\.db\.lock"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


def test_only_files_are_taken() -> None:
    for name in ("mysql://localhost/upshot", ":memory:", "sqlite:///:memory:", ""):
        with pytest.raises(InvalidArgument, match="must be a path"):
            made(name)


async def test_a_url_names_the_same_file_as_a_path(path: Path) -> None:
    for url in (f"sqlite:///{path}", f"sqlite+aiosqlite:///{path}"):
        store = SqlStore(url, encode_outcome=lambda *_: b"")
        await store.open()
        await store.close()
    assert path.exists()


async def test_the_settings_of_the_writer_and_the_readers_are_in_force(store: SqlStore) -> None:
    def settings(connection):
        names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "query_only")
        return {n: connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in names}

    both = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1}
    assert await store._database.write(settings) == {**both, "query_only": 0}
    assert await store._database.read(settings) == {**both, "query_only": 1}


async def test_a_reader_cannot_write(store: SqlStore) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await store._database.read(lambda c: c.exec_driver_sql("DELETE FROM settings"))


# -- the schema ----------------------------------------------------------------------------------


def schema(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {" ".join(sql.split()) for (sql,) in rows if "alembic_version" not in sql}


async def test_the_migrations_make_exactly_the_tables(path: Path, tmp_path: Path) -> None:
    store = made(path)
    await store.open()
    await store.close()
    engine = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(path) == schema(tmp_path / "plain.db")

    migrated = create_engine(f"sqlite:///{path}")
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    migrated.dispose()


def test_the_newest_revision_is_the_one_that_is_asked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [migrating.HEAD]


async def test_a_database_that_stands_before_a_revision_is_upgraded(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    connection.close()
    store = made(path)
    await store.open()
    await store.commit([journey("ana")])
    assert await store.run(WS, "run-ana") is not None
    await store.close()


async def test_a_log_of_before_is_ready_to_be_sent_after_the_upgrade(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrating.migrate(connection, "0002")
    engine.dispose()
    old = [outcome_pb2.Outcome(outcome_id=f"o{n}", user_id="ana" * (n % 50)) for n in range(2_500)]
    with sqlite3.connect(path) as file:
        file.executemany(
            "INSERT INTO outcomes (workspace_id, partition, position, kind, workflow_id, user_id, "
            "channel, record_us, body) VALUES (?, ?, ?, 1, '', '', 0, 0, ?)",
            [(WS, n % 2, n // 2 + 1, o.SerializeToString()) for n, o in enumerate(old)],
        )
        file.executemany(
            "INSERT INTO outcome_heads (workspace_id, partition, earliest, head) "
            "VALUES (?, ?, 1, 1250)",
            [(WS, partition) for partition in (0, 1)],
        )
        file.execute("INSERT INTO settings (name, value) VALUES ('log.partitions', '2')")
    file.close()
    store = made(path)
    await store.open()
    for partition in (0, 1):
        read = await store.read_outcomes(WS, partition, 0, 5_000, OutcomeFilter(), 100)
        found = [
            outcome
            for page in read.pages
            for outcome in service_pb2.StreamOutcomesResponse.FromString(page.joined).outcomes
        ]
        assert [(o.partition, o.position) for o in found] == [
            (partition, position) for position in range(1, 1_251)
        ]
        assert [(o.outcome_id, o.user_id) for o in found] == [
            (o.outcome_id, o.user_id) for o in old[partition::2]
        ]
    await store.close()


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(path: Path) -> None:
    store = made(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(FailedPrecondition, match="another version of the program"):
        await made(path).open()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()


# -- failures ------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_the_batch_whole_and_room_heals_it(store: SqlStore) -> None:
    await store.commit([journey("ana")])

    def limit(pages: int):
        return lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()

    pages = await store._database.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    await store._database.write(limit(pages + 5))
    with pytest.raises(ResourceExhausted) as refused:
        await store.commit([journey("ben", payload=b"x" * 200_000)])
    assert refused.value.reason == "DATABASE_FULL"

    assert await store.run(WS, "run-ben") is None
    assert len(await positions(store)) == 2
    await store._database.write(limit(100_000))
    await store.commit([journey("ben", payload=b"x" * 200_000)])
    assert [position for position, _ in await positions(store)] == [1, 2, 3, 4]


async def test_canceled_callers_tear_nothing(store: SqlStore) -> None:
    chance = random.Random(7)

    async def once(number: int) -> None:
        await store.load(WS, Wanted(identities={(IdKind.USER, f"user{number}")}))
        await store.commit([journey(f"user{number}")])
        await store.runs(WS, RunFilter(), "", 10)

    tasks = []
    for number in range(39):
        task = asyncio.create_task(once(number))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() / 500)
        task.cancel()
        if chance.random() < 0.2:
            await asyncio.sleep(0)
            task.cancel()
        tasks.append(task)
    await asyncio.gather(*tasks, return_exceptions=True)

    async with asyncio.timeout(10):
        await store.commit([journey("last")])
        runs = await store.runs(WS, RunFilter(), "", 1000)
        log = await positions(store)
        # Whole or not at all: each run has its two outcomes, and the positions have no gap.
        assert [position for position, _ in log] == list(range(1, 2 * len(runs) + 1))
        whose = {name.split("-")[1] for _, name in log}
        assert whose == {run.run_id.removeprefix("run-") for run in runs}
        assert "last" in whose
        await store.close()


async def test_close_waits_for_what_was_abandoned(path: Path) -> None:
    store = made(path)
    await store.open()
    task = asyncio.create_task(store.commit([journey("ana")]))
    await asyncio.sleep(0)
    for _ in range(2):  # the second cancellation abandons the transaction
        task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await store.close()
    assert task.cancelled()
    again = made(path)
    await again.open()
    assert await again.run(WS, "run-ana") is not None
    await again.close()


async def test_a_closed_store_says_so(path: Path) -> None:
    store = made(path)
    await store.open()
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.spans(WS)


async def test_a_restart_keeps_everything(path: Path) -> None:
    store = made(path)
    await store.open()
    await store.commit([journey("ana"), journey("ben")])
    wanted = Wanted(identities={(IdKind.USER, "ana"), (IdKind.USER, "ben")})
    before = await store.load(WS, wanted)
    log, epoch = await positions(store), await store.log_epoch()
    await store.put_setting("lab.offset", "5")
    await store.close()

    again = made(path)
    await again.open()
    assert await again.load(WS, wanted) == before
    assert (await positions(again), await again.log_epoch()) == (log, epoch)
    assert await again.setting("lab.offset") == "5"
    await again.close()


async def test_a_log_keeps_the_number_of_partitions_it_began_with(path: Path) -> None:
    first = SqlStore(path, encode_outcome=lambda *_: b"", partitions=3)
    await first.open()
    await first.close()
    second = SqlStore(path, encode_outcome=lambda *_: b"", partitions=7)
    await second.open()
    assert second.partitions == 3
    assert sorted(await second.spans(WS)) == [0, 1, 2]
    await second.close()


async def test_of_160_concurrent_increments_none_is_lost(store: SqlStore) -> None:
    await store.commit([journey("ana")])
    identity = (IdKind.USER, "ana")

    async def increment() -> int:
        refused = 0
        while True:
            state = await store.load(WS, Wanted(identities={identity}))
            profile = state.profiles["profile-ana"]
            count = profile.traits.get("count", 0)
            assert isinstance(count, int)
            changes = Changes(WS)
            changes.profiles[profile.profile_id] = replace(profile, traits={"count": count + 1})
            try:
                await store.commit([changes])
            except Conflict:
                refused += 1
            else:
                return refused

    async def several() -> int:
        return sum([await increment() for _ in range(20)])

    refused = sum(await asyncio.gather(*(several() for _ in range(8))))
    found = await store.profile(WS, identity)
    assert found is not None
    assert found[0].traits == {"count": 160}
    assert refused > 0  # they did meet, or this shows nothing


# -- many rows, odd values -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13, 100, 511, 512, 513, 777, 1500])
async def test_any_number_of_rows_is_written_and_loaded(store: SqlStore, count: int) -> None:
    changes = Changes(WS)
    for number in range(count):
        changes.extend(journey(f"user{number}", outcomes=1))
    await store.commit([changes])
    state = await store.load(WS, Wanted(identities=set(changes.identities)))
    assert len(state.runs) == len(state.profiles) == len(state.events) == count
    assert [position for position, _ in await positions(store)] == list(range(1, count + 1))


async def test_what_people_can_type_comes_back_as_it_was(store: SqlStore) -> None:
    odd = 'O\'Brien "q" \\ ünï 人 \U0001f600 \u2028 \x01 \x7f ]},[{ null'
    changes = journey("ana", payload=bytes(range(256)))
    run = replace(
        changes.runs["run-ana"],
        start_key=odd,
        reentry_key=odd,
        cancellation_key=odd,
        steps={odd: {"values": [1, 2.5, True, None, odd, {"deep": 10**25}]}},
    )
    changes.runs["run-ana"] = run
    changes.identities[IdKind.ANONYMOUS, odd] = "profile-ana"
    await store.commit([changes])
    state = await store.load(
        WS, Wanted(identities={(IdKind.ANONYMOUS, odd)}, cancellation_keys={odd})
    )
    assert state.runs["run-ana"] == replace(
        run, row_version=1, steps={odd: {"values": [1, 2.5, True, None, odd, {"deep": 1e25}]}}
    )
    assert state.by_cancellation_key == {odd: ["run-ana"]}
    assert state.events["event-ana"].payload == bytes(range(256))


# -- merges --------------------------------------------------------------------------------------
