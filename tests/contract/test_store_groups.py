"""Who is in a group: what every store answers, and what it makes of profiles of before."""

import pytest

from tests.builders import NOON, a_profile, changes
from tests.stores import Durable
from upshotd.application.ports import Store
from upshotd.domain.errors import Conflict
from upshotd.domain.profile import Erasure, Merge, Profile
from upshotd.domain.state import Changes, IdKind, Wanted
from upshotd.domain.values import replace

ANA, BEN = a_profile(), a_profile(user_id="ben")
ANON = a_profile(profile_id="profile-anon", user_id="", anonymous_ids=("a1",))


def joining(group_id: str, *profiles: Profile, **fields: object) -> Changes:
    members = {(group_id, profile.profile_id): True for profile in profiles}
    return changes(*profiles, group_members=members, **fields)  # type: ignore[arg-type]


async def members(
    store: Store, group_id: str = "acme", after: str = "", workspace_id: str = "default"
) -> list[str]:
    return await store.group_members(workspace_id, group_id, after, 100)


async def known(store: Store) -> Profile:
    state = await store.load("default", Wanted(identities={(IdKind.USER, "ana")}))
    return state.profiles["profile-ana"]


async def test_members_come_in_order_of_their_ids_page_by_page(store: Store) -> None:
    people = [a_profile(user_id=f"p{n}") for n in (3, 0, 4, 1, 2)]
    await store.commit([joining("acme", *people[:2])])
    await store.commit([joining("acme", *people[2:])])
    pages, after = [], ""
    while page := await store.group_members("default", "acme", after, 2):
        pages.append(page)
        after = page[-1]
    in_order = [f"profile-p{n}" for n in range(5)]
    assert pages == [in_order[:2], in_order[2:4], in_order[4:]]
    assert await members(store, after="profile-p2") == in_order[3:]


async def test_a_group_has_its_own_members_and_so_has_a_workspace(store: Store) -> None:
    await store.commit(
        [
            joining("acme", ANA),
            joining("labs", BEN),
            joining("acme", BEN, workspace_id="elsewhere"),
        ]
    )
    assert await members(store) == ["profile-ana"]
    assert await members(store, "labs") == ["profile-ben"]
    assert await members(store, workspace_id="elsewhere") == ["profile-ben"]
    assert await members(store, "nobody's") == []


async def test_who_joins_twice_is_in_it_once_and_who_goes_is_not(store: Store) -> None:
    await store.commit([joining("acme", ANA, BEN)])
    await store.commit([joining("acme", await known(store))])
    assert await members(store) == ["profile-ana", "profile-ben"]
    leaving = changes(await known(store), group_members={("acme", "profile-ana"): False})
    await store.commit([leaving])
    assert await members(store) == ["profile-ben"]
    never = changes(await known(store), group_members={("labs", "profile-ana"): False})
    await store.commit([never])
    assert await members(store, "labs") == []


async def test_after_a_merge_the_group_finds_who_they_became(store: Store) -> None:
    await store.commit([joining("acme", ANON), changes(ANA), joining("labs", BEN)])
    moved = {("acme", "profile-anon"): False, ("acme", "profile-ana"): True}
    merged = replace(await known(store), anonymous_ids=("a1",), group_ids=("acme",))
    merge = Merge("profile-anon", "profile-ana")
    await store.commit([changes(merged, merge, group_members=moved)])
    assert await members(store) == ["profile-ana"]
    assert await members(store, "labs") == ["profile-ben"]


async def test_who_is_erased_is_in_no_group(store: Store) -> None:
    await store.commit([joining("acme", ANA, BEN)])
    tombstone = replace(await known(store), erase_us=NOON, create_us=0)
    gone = Erasure("profile-ana", ("profile-ana",), "ana", (), (), NOON)
    left = {("acme", "profile-ana"): False}
    await store.commit([changes(tombstone, erasures={"profile-ana": gone}, group_members=left)])
    assert await members(store) == ["profile-ben"]


async def test_a_transaction_that_fails_leaves_members_as_they_were(store: Store) -> None:
    await store.commit([joining("acme", ANA)])
    stale = joining("acme", BEN, consents={"profile-ana": 7})
    stale.group_members["acme", "profile-ana"] = False
    with pytest.raises(Conflict):
        await store.commit([stale])
    stale = joining("acme", BEN)
    stale.group_members["acme", "profile-ana"] = False
    stale.profiles["profile-ana"] = ANA
    with pytest.raises(Conflict):
        await store.commit([stale])
    assert await members(store) == ["profile-ana"]


async def test_members_of_before_are_found_after_the_upgrade(durable: Durable) -> None:
    """The table is taken away, and comes back filled from more than one page of profiles."""
    store = durable.store
    people = [
        a_profile(user_id=f"p{n:04d}", group_ids=("all", f"of {n % 7}")[: n % 3])
        for n in range(2_500)
    ]
    alone = a_profile(user_id="alone", group_ids=("all",))
    await store.commit([changes(*people), changes(alone, workspace_id="elsewhere")])
    await durable.take_back("0006")
    store = await durable.reopen()
    for group_id in ("all", "of 0", "of 6", "nobody's"):
        said = [p.profile_id for p in people if group_id in p.group_ids]
        assert await store.group_members("default", group_id, "", 5_000) == said
    assert len(await store.group_members("default", "all", "", 5_000)) == 1_666
    assert await members(store, "all", workspace_id="elsewhere") == ["profile-alone"]
