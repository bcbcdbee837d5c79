"""A throttle of everybody, on every store and over several replicas: never one more than may."""

import asyncio

import pytest

from tests.flows import delay, track
from tests.sim import HOUR
from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.ports import RunFilter, Store
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Workflow

ALWAYS = Reentry(ReentryMode.ALWAYS)


def limited(most: int) -> Workflow:
    throttle = Throttle(most, HOUR, scope=ThrottleScope.WORKSPACE)
    return track("Go", Step("limit", throttle), delay(), reentry=ALWAYS)


async def reasons(store: Store) -> list[str]:
    runs = await store.runs("default", RunFilter(), "", 1_000)
    return sorted(run.reason for run in runs)


@pytest.fixture(params=KINDS)
async def here(request, tmp_path):
    encode = ContractCodec().encode_outcome
    async with opened(request.param, tmp_path, encode=encode) as store, world(store) as running:
        yield running


async def test_many_at_once_share_the_places(here: World) -> None:
    await here.define(limited(7))
    await asyncio.gather(*(here.track(f"u{n}", "Go") for n in range(40)))
    assert await reasons(here.store) == [""] * 7 + ["THROTTLED"] * 33
    await here.lab.advance(HOUR)
    await here.track("late", "Go")
    assert (await reasons(here.store)).count("") >= 1


async def test_a_definition_that_is_new_here_counts_with_what_has_passed_before(
    here: World,
) -> None:
    await here.define(limited(2))
    await here.track("ana", "Go")
    await here.define(track("Other", delay(), workflow_id="other"))
    await here.track("ben", "Go")
    await here.track("cleo", "Go")
    assert await reasons(here.store) == ["", "", "THROTTLED"]
