"""The same history through the loop on a store, in batches, ends as the pure engine says."""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.histories import ALIASES, IDENTIFIES, REACHABLE, TRACKS, Told, check, told, workflows
from tests.sim import DAY, HOUR, Sim
from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.ports import RunFilter
from upshotd.domain.event import Event
from upshotd.domain.profile import Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import IdKind
from upshotd.domain.values import replace

IDENTITIES = [
    *((IdKind.USER, user_id) for user_id in ("u1", "u2")),
    *((IdKind.ANONYMOUS, anonymous_id) for anonymous_id in ("a1", "a2")),
]
BATCHES = st.lists(
    st.tuples(
        st.lists(st.one_of(TRACKS, TRACKS, IDENTIFIES, ALIASES), min_size=1, max_size=6),
        st.sampled_from([0, HOUR, DAY]),
    ),
    min_size=1,
    max_size=6,
)


def events(batch: list[Told], first: int, now_us: int) -> list[Event]:
    made = [told(replace(step, back=0), f"e{n}", now_us) for n, step in enumerate(batch, first)]
    return [event for event in made if event.user_id or event.anonymous_id]


def by_engine(batches: list[tuple[list[Told], int]]) -> list[object]:
    """Return how the pure engine ends; every send is taken as soon as a batch is over."""
    sim, number = Sim(workflows()), 1
    for batch, duration in batches:
        for event in events(batch, number, sim.now):
            sim.event(event)
        number += len(batch)
        _take(sim)
        target = sim.now + duration
        while (due_us := _next(sim)) is not None and due_us <= target:
            sim.advance(max(due_us - sim.now, 0))
            _take(sim)
        sim.now = target
    check(sim)
    people = [sim.state.identities.get(identity, "") for identity in IDENTITIES]
    held = {who: list(scopes.values()) for who, scopes in sim.state.suppressions.items()}
    return [
        _runs(sim.state.runs.values()),
        *(_person(sim.state.profiles.get(who), held.get(who, [])) for who in people),
    ]


def _runs(runs: Iterable[Run]) -> list[object]:
    return sorted(
        (r.workflow_id, r.start_key.split("/")[-1], r.event_id, r.state.name, r.reason, r.step_id)
        + (r.start_us, r.due_us or 0, r.end_us or 0, tuple(entry.what for entry in r.timeline))
        for r in runs
    )


def _person(profile: Profile | None, held: Iterable[Suppression]) -> object:
    if profile is None:
        return None
    scopes = sorted((s.scope, s.until_us or 0, s.reason) for s in held)
    return profile.user_id, profile.anonymous_ids, profile.traits, profile.contact, scopes


def _take(sim: Sim) -> None:
    while sim.sent:
        sim.answer()


def _next(sim: Sim) -> int | None:
    dues = [run.due_us for run in sim.state.runs.values() if run.due_us is not None]
    dues += [m.due_us for m in sim.state.messages.values() if m.due_us is not None]
    return min(dues, default=None)


async def by_loop(kind: str, batches: list[tuple[list[Told], int]]) -> list[object]:
    """Return how the loop on a store ends, each batch of events in one request."""
    encode = ContractCodec().encode_outcome
    with tempfile.TemporaryDirectory() as folder:
        async with opened(kind, Path(folder), encode=encode) as store, world(store) as w:
            await w.define(*workflows())
            number = 1
            for batch, duration in batches:
                if found := events(batch, number, w.clock.now_us()):
                    await w.ingest(*found)
                number += len(batch)
                await w.settle()
                await w.advance(duration)
            return await _seen(w)


async def _seen(w: World) -> list[object]:
    runs = await w.store.runs("default", RunFilter(), "", 1000)
    known = [await w.store.profile("default", identity) for identity in IDENTITIES]
    return [_runs(runs), *(_person(*found) if found else None for found in known)]


#: Each example makes a database on PostgreSQL, which takes seconds where others write too.
@pytest.mark.timeout(180)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(BATCHES)
def test_a_history_ends_the_same_on_every_store(batches):
    batches = [(list(REACHABLE), 0), *batches]
    expected = by_engine(batches)
    for kind in KINDS:
        assert asyncio.run(by_loop(kind, batches)) == expected
