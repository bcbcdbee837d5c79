"""What every store keeps of audiences: memberships, their moments, and what one is filled from."""

import pytest

from tests.builders import NOON, a_message, a_profile, a_run, accepted, an_event, changes
from upshotd.application.ports import Due, Store
from upshotd.domain.audience import Membership
from upshotd.domain.errors import Conflict
from upshotd.domain.profile import Erasure, Merge
from upshotd.domain.state import Changes, State, Wanted
from upshotd.domain.values import replace

ANA, BEN = a_profile(), a_profile(user_id="ben")


def a_membership(who: str = "ana", audience_id: str = "vip", **fields: object) -> Membership:
    return Membership(audience_id, f"profile-{who}", 3, **fields)  # type: ignore[arg-type]


def written(*rows: Membership, **fields: object) -> Changes:
    made = changes(**fields)
    made.memberships = {(row.profile_id, row.audience_id): row for row in rows}
    return made


async def known(store: Store, *former: str) -> State:
    ids = {"profile-ana", "profile-ben"}
    return await store.load(
        "default", Wanted(profile_ids=ids, memberships=True, former_ids=set(former))
    )


async def test_a_membership_comes_back_as_it_was_written_and_goes(store: Store) -> None:
    row = a_membership(
        member=True,
        since_us=NOON,
        reason='did "Paid"',
        happened={"k1": ((NOON - 5, "e1"), (NOON, "e2")), "k2": ()},
        due_us=NOON + 9,
        ready=False,
    )
    other = a_membership(audience_id="other", since_us=4)
    await store.commit([changes(ANA), written(row, other)])
    state = await known(store)
    assert state.memberships == {"profile-ana": {"vip": row, "other": other}}
    assert state.profiles["profile-ana"].user_id == "ana", "people are found by our own ids"
    changed = replace(row, member=False, ready=True, due_us=None)
    gone = written(changed)
    gone.memberships["profile-ana", "other"] = None
    await store.commit([gone])
    assert (await known(store)).memberships == {"profile-ana": {"vip": changed}}
    unwanted = await store.load("default", Wanted(profile_ids={"profile-ana"}))
    assert unwanted.memberships == {}


async def test_what_is_remembered_of_nobody_is_found_by_asking_for_it(store: Store) -> None:
    row = a_membership("former", ready=False)
    await store.commit([written(row)])
    assert (await known(store, "profile-former")).memberships["profile-former"] == {"vip": row}


async def test_moments_are_due_with_all_other_timers_earliest_first(store: Store) -> None:
    await store.join("me")
    run = a_run(run_id="run-x", due_us=NOON + 2)
    rows = [a_membership("ana", due_us=NOON + 3), a_membership("ben", due_us=NOON + 1)]
    later = a_membership("ben", "other", due_us=NOON + 50)
    await store.commit([changes(ANA, BEN, run), written(*rows, later)])
    assert await store.next_due() == NOON + 1
    assert await store.claim(NOON + 3, 9) == [
        Due("default", NOON + 1, profile_id="profile-ben", audience_id="vip"),
        Due("default", NOON + 2, run_id="run-x"),
        Due("default", NOON + 3, profile_id="profile-ana", audience_id="vip"),
    ]
    await store.commit([written(replace(rows[0], due_us=None), replace(rows[1], due_us=NOON + 70))])
    assert [due.run_id for due in await store.claim(NOON + 3, 9)] == ["run-x"]
    gone = changes()
    gone.memberships["profile-ben", "vip"] = None
    await store.commit([gone])
    assert len(await store.claim(NOON + 99, 9)) == 2


async def test_a_transaction_that_fails_leaves_memberships_as_they_were(store: Store) -> None:
    row = a_membership(member=True, due_us=NOON)
    await store.commit([changes(ANA), written(row)])
    stale = written(replace(row, member=False, due_us=None))
    stale.consents["profile-ana"] = 7
    with pytest.raises(Conflict):
        await store.commit([stale])
    assert (await known(store)).memberships["profile-ana"] == {"vip": row}


async def test_members_come_in_pages_and_are_counted(store: Store) -> None:
    rows = [a_membership(f"p{n}", member=n != 2, ready=n != 3) for n in range(5)]
    elsewhere = a_membership("p0", "other", member=True)
    await store.commit([written(*rows, elsewhere)])
    found = store.audience_rows
    page = await found.members("default", "vip", "", 3)
    assert page == [rows[0], rows[1], rows[3]]
    assert await found.members("default", "vip", "profile-p3", 3) == [rows[4]]
    assert await found.member_count("default", "vip") == 4
    assert await found.unready("default", "vip", "", 9) == [rows[3]]
    assert await found.unready("default", "vip", "profile-p3", 9) == []
    assert await found.membership("default", "vip", "profile-p1") == rows[1]
    assert await found.membership("default", "no", "profile-p1") is None
    some = await found.memberships_of("default", {"profile-p1", "profile-p2", "profile-x"})
    assert {who: len(theirs) for who, theirs in some.items()} == {"profile-p1": 1, "profile-p2": 1}
    assert some["profile-p1"] == [rows[1]]
    assert await found.member_count("elsewhere", "vip") == 0


async def test_kept_events_come_in_pages_with_whose_they_were(store: Store) -> None:
    events = [an_event(event_id=name) for name in ("b", "A", "c", "Z9")]
    await store.commit([changes(*(accepted(e, f"profile-{e.event_id}") for e in events))])
    seen: list[tuple[str, str]] = []
    after = ""
    while page := await store.audience_rows.event_page("default", after, 3):
        seen += [(stored.event_id, profile_id) for profile_id, stored in page]
        after = page[-1][1].event_id
        assert all(stored.payload.startswith(b"payload of") for _, stored in page)
    assert sorted(seen) == sorted((e.event_id, f"profile-{e.event_id}") for e in events)


async def test_messages_are_found_by_whose_runs_they_are_also_after_a_merge(store: Store) -> None:
    stranger = a_profile(user_id="", profile_id="profile-x", anonymous_ids=("a1",))
    run = a_run(run_id="run-1", profile_id="profile-x")
    mail = a_message(run_id="run-1", profile_id="profile-x", facts={"opened": NOON})
    await store.commit([changes(ANA, stranger, run, mail)])
    before = await store.audience_rows.messages_of("default", ["profile-ana", "profile-x"])
    assert [m.message_id for m in before["profile-x"]] == [mail.message_id]
    assert before["profile-ana"] == []
    state = await known(store)
    merged = changes(state.profiles["profile-ana"], merges=[Merge("profile-x", "profile-ana")])
    await store.commit([merged])
    found = await store.audience_rows.messages_of("default", ["profile-ana"])
    assert [m.facts for m in found["profile-ana"]] == [{"opened": NOON}]
    assert await store.audience_rows.messages_of("default", []) == {}


async def test_who_is_erased_is_remembered_by_none(store: Store) -> None:
    rows = [a_membership("ana", member=True), a_membership("former"), a_membership("ben")]
    await store.commit([changes(ANA, BEN), written(*rows)])
    state = await known(store)
    ids = ("profile-ana", "profile-former")
    gone = Erasure("profile-ana", ids, "ana", (), (), NOON)
    emptied = replace(state.profiles["profile-ana"], erase_us=NOON, create_us=0)
    erased = changes(emptied, erasures={"profile-ana": gone})
    await store.commit([erased])
    left = (await known(store, *ids)).memberships
    assert {who for who, held in left.items() if held} == {"profile-ben"}
