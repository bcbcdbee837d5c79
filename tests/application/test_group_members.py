"""Who is in a group, as people join, turn out to be others and are erased, on every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.application.test_audiences_elsewhere import Elsewhere
from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.domain.event import Event, EventType
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import EraseRequested, EventArrived

ANA = (IdKind.USER, "ana")
ALIAS = Event("alias", EventType.ALIAS, "ana", previous_id="a1")


@pytest.fixture(params=KINDS)
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    encode = ContractCodec().encode_outcome
    async with opened(request.param, tmp_path, encode=encode) as store, world(store) as running:
        yield running


def joins(group_id: str, user_id: str = "", anonymous_id: str = "") -> Event:
    named = f"{user_id or anonymous_id} joins {group_id}"
    return Event(named, EventType.GROUP, user_id, anonymous_id, group_id=group_id)


async def members(w: World, group_id: str) -> list[str]:
    """Return who is in a group by ids from outside; everybody who is found must be there."""
    ids = await w.store.group_members("default", group_id, "", 100)
    people = await w.store.profiles("default", set(ids))
    assert people.keys() == set(ids)
    return [people[one].user_id or people[one].anonymous_ids[0] for one in ids]


async def test_a_group_call_makes_somebody_a_member_whom_the_group_finds(w: World) -> None:
    await w.ingest(joins("acme", "ana"), joins("acme", "ben"), joins("labs", "ben"))
    assert await members(w, "acme") == ["ana", "ben"]
    assert await members(w, "labs") == ["ben"]


async def test_who_joined_as_a_stranger_is_found_as_the_user_whom_they_become(w: World) -> None:
    await w.identify("ana", plan="pro")
    await w.ingest(joins("acme", anonymous_id="a1"))
    assert await members(w, "acme") == ["a1"]
    await w.ingest(ALIAS)
    assert await members(w, "acme") == ["ana"]


async def test_joining_and_becoming_known_in_one_batch_ends_the_same(w: World) -> None:
    await w.identify("ana", plan="pro")
    await w.ingest(joins("acme", anonymous_id="a1"), ALIAS, joins("labs", anonymous_id="a1"))
    assert await members(w, "acme") == await members(w, "labs") == ["ana"]


async def test_who_is_erased_is_found_again_once_they_are_back_and_have_joined(w: World) -> None:
    await w.ingest(joins("acme", "ana"), joins("acme", anonymous_id="a1"), ALIAS)
    await w.loop.ask("default", [EraseRequested(ANA)])
    assert await members(w, "acme") == []
    await w.advance(1_000_000)
    await w.track("ana", "Back")
    assert await members(w, "acme") == []
    await w.ingest(Event("again", EventType.GROUP, "ana", group_id="acme"))
    assert await members(w, "acme") == ["ana"]


async def test_what_a_stranger_joins_on_another_replica_while_they_become_known_is_not_lost() -> (
    None
):
    store = Elsewhere()
    await store.open()
    async with world(store) as w:
        await w.identify("ana", plan="pro")
        await w.ingest(Event("seen", EventType.TRACK, anonymous_id="a1", name="Seen"))
        store.world, store.who = w, (IdKind.ANONYMOUS, "a1")
        store.stimulus = EventArrived(w.event(joins("acme", anonymous_id="a1")))
        await w.ingest(ALIAS)
        assert store.stimulus is None, "the other one came in between"
        assert await members(w, "acme") == ["ana"]
        found = await store.profile("default", ANA)
        assert found is not None
        assert found[0].group_ids == ("acme",)
