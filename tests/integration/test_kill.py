"""kill -9, standing still, a database that goes away, all under load: nothing that was acknowledged
is lost, nothing happens twice. `make chaos` tells the same stories longer."""

from pathlib import Path

import pytest

from tests import postgres
from tests.crash import Crash
from tests.crash_audit import History, audit
from tests.crash_failing import Failing
from tests.crash_scenarios import DatabaseAway, Pauses

LEASE_S = 2.0


@pytest.mark.timeout(180)
async def test_ten_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    crash = Crash(tmp_path, cycles=10, seed=2)
    history = await crash.run()
    assert audit(history) == []
    # That it was a test: there was load, kills hit calls in flight, and ids came again.
    assert len(crash.recoveries_s) == 10
    assert len(history.runs) > 500
    assert history.tally[1] > 100, "goals were reached on the way"
    assert crash.unanswered > 0
    assert any(ack.state == "DUPLICATE" for ack in history.acks)
    assert len([stream for stream in history.validator.streams if stream.responses]) > 5
    assert max(crash.recoveries_s) < 30


def _said(crash: Crash, word: str) -> int:
    """Return how often the servers wrote *word* in their logs."""
    return sum(log.read_text().count(word) for log in crash.folder.glob("*/serve.err"))


def _loaded(crash: Crash, history: History, cycles: int) -> None:
    assert audit(history) == []
    assert len(crash.recoveries_s) == cycles
    assert len(history.runs) > 200
    assert len(history.heads) > 8, "most of the 16 partitions were used"


#: Every commit, both sides of a provider's call, the answer, the stream, the cursor.
CELLS = [
    ("commit.before", "disk-full"),
    ("commit.after", "exit"),
    ("commit.after", "disk-full"),
    ("write.before_log", "raise"),
    ("answer.before", "exit"),
    ("intent.before_call", "exit"),
    ("provider.answered", "raise"),
    ("provider.answered", "exit"),
    ("stream.after_write", "raise"),
    ("cursor.after_commit", "exit"),
    ("define.after_commit", "exit"),
]


@pytest.mark.timeout(180)
async def test_a_server_that_fails_at_the_worst_points_loses_nothing(tmp_path: Path) -> None:
    crash = Failing(tmp_path, cycles=0, seed=6, cells=CELLS)
    assert audit(await crash.run()) == []
    assert crash.hit == set(CELLS), "each of them failed there"


@pytest.mark.timeout(180)
async def test_one_of_three_replicas_killed_again_and_again(tmp_path: Path) -> None:
    async with postgres.database() as database:
        crash = Crash(tmp_path, cycles=5, seed=3, database=database, replicas=3, lease_s=LEASE_S)
        history = await crash.run()
    _loaded(crash, history, 5)
    assert crash.unanswered > 0
    assert _said(crash, "replica.taken_over") > 0


@pytest.mark.timeout(180)
async def test_a_replica_that_stood_still_past_its_lease_commits_nothing_stale(
    tmp_path: Path,
) -> None:
    async with postgres.database() as database:
        crash = Pauses(tmp_path, cycles=3, seed=4, database=database, replicas=3, lease_s=LEASE_S)
        history = await crash.run()
    _loaded(crash, history, 3)
    # It was taken over, noticed that, and went on under another name.
    assert _said(crash, "replica.taken_over") > 0
    assert _said(crash, "loop.joined_again") > 0


@pytest.mark.timeout(180)
async def test_a_database_that_crashes_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    server = postgres.OwnServer()
    crash = DatabaseAway(
        tmp_path, cycles=3, seed=5, database=server.address, replicas=2, server=server,
        lease_s=LEASE_S,
    )  # fmt: skip
    history = await crash.run()
    _loaded(crash, history, 3)
    assert _said(crash, "database.failed") > 0
    assert max(crash.recoveries_s) < 15
