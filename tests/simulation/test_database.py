"""The simulated database against the stories of `tests/contract/test_store_replicas.py`.

The simulation is worth what this model is: what PostgreSQL does in those stories it must do too.
"""

from collections.abc import Callable

import pytest

from tests.builders import NOON, a_message, a_run, an_outcome, changes
from tests.simulation.database import SimDatabase, at_once
from tests.stores import encode
from upshotd.domain.errors import LeaseLost
from upshotd.domain.message import MessageState
from upshotd.domain.state import Wanted
from upshotd.domain.values import replace

LEASE_US = 15_000_000


class Time:
    """What the database says that it is."""

    def __init__(self) -> None:
        self.us = NOON

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def shared(time: Callable[[], int]) -> SimDatabase:
    database = SimDatabase(
        encode_outcome=encode, partitions=1, shared=True, now_us=time, lease_us=LEASE_US
    )
    for owner in ("one", "two"):
        database.join_as(owner)
    return database


def due_runs(count: int) -> list[object]:
    return [a_run(run_id=f"run-{n:02d}", start_key=f"s{n}", due_us=NOON + n) for n in range(count)]


def sending(owner: str, due_us: int = NOON + 3_600_000_000) -> object:
    return a_message(message_id="m", state=MessageState.SENDING, owner=owner, due_us=due_us)


def names(found: list[object]) -> list[str]:
    return [due.run_id or due.message_id for due in found]


def test_a_timer_is_claimed_by_one_earliest_first(shared):
    shared.commit_as("one", [changes(*due_runs(10))])
    first, second = shared.claim_as("one", NOON + 9, 6), shared.claim_as("two", NOON + 9, 6)
    assert names(first) == [f"run-{n:02d}" for n in range(6)]
    assert names(second) == [f"run-{n:02d}" for n in range(6, 10)]
    assert shared.claim_as("one", NOON + 9, 6) == first
    assert shared.claim_as("two", NOON + 9, 6) == second


def test_a_claim_is_forgotten_when_its_row_is_written(shared):
    shared.commit_as("one", [changes(*due_runs(1))])
    shared.claim_as("one", NOON, 1)
    state = at_once(shared.load("default", Wanted(run_ids={"run-00"})))
    shared.commit_as("one", [changes(replace(state.runs["run-00"], due_us=NOON + 5))])
    assert names(shared.claim_as("two", NOON + 5, 1)) == ["run-00"]


def test_what_a_dead_one_had_is_taken_over(shared, time):
    shared.commit_as("one", [changes(*due_runs(2), sending("one"))])
    shared.claim_as("one", NOON + 2, 9)
    assert shared.claim_as("two", NOON + 2, 9) == []
    time.us += LEASE_US - 1
    shared.beat("two")
    assert shared.claim_as("two", NOON + 2, 9) == []
    time.us += 2
    shared.beat("two")
    assert names(shared.claim_as("two", NOON + 2, 9)) == ["m", "run-00", "run-01"]


def test_whoever_was_taken_for_dead_cannot_commit_and_begins_anew(shared, time):
    time.us += LEASE_US + 1
    shared.beat("two")
    with pytest.raises(LeaseLost):
        shared.commit_as("one", [changes(*due_runs(1), an_outcome())])
    with pytest.raises(LeaseLost):
        shared.beat("one")
    assert at_once(shared.log_size()) == 0
    shared.join_as("one-again")
    shared.commit_as("one-again", [changes(*due_runs(1), an_outcome())])
    assert at_once(shared.log_size()) == 1


def test_a_lease_that_ran_out_unseen_is_still_good(shared, time):
    time.us += LEASE_US + 1
    shared.commit_as("one", [changes(*due_runs(1))])
    shared.beat("one")
    shared.commit_as("one", [changes(a_run(run_id="x", start_key="x"))])


def test_whoever_leaves_is_not_waited_for(shared):
    shared.commit_as("one", [changes(*due_runs(1), sending("one"))])
    shared.claim_as("one", NOON, 1)
    shared.leave_as("one")
    assert names(shared.claim_as("two", NOON, 9)) == ["m", "run-00"]


def test_a_message_under_a_living_lease_is_left_alone(shared):
    shared.commit_as("one", [changes(sending("one", due_us=NOON))])
    assert shared.claim_as("two", NOON, 9) == []
    assert names(shared.claim_as("one", NOON, 9)) == ["m"]


def test_alone_whoever_comes_next_is_sure_that_the_one_before_is_dead(time):
    alone = SimDatabase(
        encode_outcome=encode, partitions=1, shared=False, now_us=time, lease_us=LEASE_US
    )
    alone.join_as("before")
    alone.commit_as("before", [changes(sending("before"))])
    assert alone.claim_as("before", NOON, 9) == []
    alone.join_as("after")
    assert names(alone.claim_as("after", NOON, 9)) == ["m"]
