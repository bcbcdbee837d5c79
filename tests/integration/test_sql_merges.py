"""Merges of people in the SQL store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.sql_world import WS, journey, made
from upshotd.adapters.storage.store import SqlStore
from upshotd.domain.errors import (
    Conflict,
)
from upshotd.domain.profile import Merge
from upshotd.domain.run import Run, RunState
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


def held_by(name: str, changes: Changes, **fields: object) -> Run:
    run = replace(changes.runs[f"run-{name}"], **fields)
    changes.runs[run.run_id] = run
    return run


async def test_after_a_merge_two_entries_for_ever_are_one(store: SqlStore) -> None:
    ana, anonymous = journey("ana"), journey("anon")
    for name, changes in (("ana", ana), ("anon", anonymous)):
        held_by(name, changes, holds_active=True, holds_ever=True)
    await store.commit([ana, anonymous])
    state = await store.load(WS, Wanted(run_ids={"run-ana", "run-anon"}))
    known, other = state.runs["run-ana"], state.runs["run-anon"]

    # The older one, which was anonymous, stays; the other lets go.
    merging = Changes(WS)
    merging.merges.append(Merge("profile-anon", "profile-ana"))
    merging.runs["run-anon"] = replace(other, profile_id="profile-ana")
    merging.runs["run-ana"] = replace(known, state=RunState.CANCELED, holds_active=False)
    await store.commit([merging])

    state = await store.load(WS, Wanted(run_ids={"run-ana", "run-anon"}))
    assert {run.run_id for run in state.runs.values() if run.holds_active} == {"run-anon"}
    assert {run.run_id for run in state.runs.values() if run.holds_ever} == {"run-ana"}
    assert {run.profile_id for run in state.runs.values()} == {"profile-ana"}
    assert await store.profiles(WS, {"profile-anon"}) == {}


async def test_rows_of_one_batch_follow_a_merge_of_the_same_batch(store: SqlStore) -> None:
    await store.commit([journey("ana")])
    batch = journey("anon")
    ended = held_by("anon", batch, state=RunState.COMPLETED)
    merging = Changes(WS)
    merging.merges.append(Merge("profile-anon", "profile-ana"))
    merging.identities[IdKind.USER, "anon"] = "profile-ana"
    batch.extend(merging)
    await store.commit([batch])

    found = await store.run(WS, ended.run_id)
    assert found is not None
    assert found.profile_id == "profile-ana"
    assert await store.profiles(WS, {"profile-anon"}) == {}


async def test_a_profile_that_was_merged_away_does_not_come_back(store: SqlStore) -> None:
    await store.commit([journey("ana"), journey("anon")])
    stale = (await store.load(WS, Wanted(identities={(IdKind.USER, "anon")}))).profiles
    merging = Changes(WS)
    merging.merges.append(Merge("profile-anon", "profile-ana"))
    merging.identities[IdKind.USER, "anon"] = "profile-ana"
    await store.commit([merging])

    late = Changes(WS, profiles=dict(stale))
    with pytest.raises(Conflict, match="merged"):
        await store.commit([late])
    late = Changes(WS, identities={(IdKind.USER, "anon"): "profile-anon"})
    with pytest.raises(Conflict, match="identities"):
        await store.commit([late])
