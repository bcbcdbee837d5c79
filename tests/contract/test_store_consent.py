"""A send relies on what a person wanted when it was decided: what has changed since refuses it."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

from tests import postgres
from tests.builders import a_message, a_profile, a_run, an_outcome, changes
from tests.stores import encode
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.ports import Store
from upshotd.domain import addresses
from upshotd.domain.addresses import LIST
from upshotd.domain.errors import Conflict
from upshotd.domain.message import Channel, MessageState
from upshotd.domain.outcome import Outcome
from upshotd.domain.profile import Merge, Profile, Suppression
from upshotd.domain.state import Changes, IdKind, Wanted

PERSON = "profile-ana"
UNSUBSCRIBED = Suppression(channel=Channel.EMAIL, reason="UNSUBSCRIBED")


async def ana(store: Store) -> Profile:
    state = await store.load("default", Wanted(identities={(IdKind.USER, "ana")}))
    return state.profiles[PERSON]


def opting_out(profile: Profile, *things: object) -> Changes:
    """Return the changes of an opt-out: the profile is written with it."""
    held = {(PERSON, UNSUBSCRIBED.scope): UNSUBSCRIBED}
    return changes(profile, *things, suppressions=held)


def sending(profile: Profile, **fields: object) -> Changes:
    """Return the changes of a send that was decided by *profile*."""
    message = a_message(message_id="m", run_id="r", state=MessageState.SENDING)
    return changes(a_run(run_id="r"), message, consents={PERSON: profile.row_version}, **fields)


async def test_a_send_that_was_decided_before_an_opt_out_is_refused_whole(store: Store) -> None:
    await store.commit([changes(a_profile())])
    profile = await ana(store)
    await store.commit([opting_out(profile)])
    with pytest.raises(Conflict):
        await store.commit([sending(profile)])
    assert await store.run("default", "r") is None
    assert await store.message("default", "m") is None
    await store.commit([sending(await ana(store))])
    assert await store.message("default", "m") is not None


async def test_a_send_to_somebody_who_was_merged_away_is_refused(store: Store) -> None:
    anonymous = a_profile(profile_id="profile-a1", user_id="", anonymous_ids=("a1",))
    await store.commit([changes(a_profile(), anonymous)])
    await store.commit([changes(Merge("profile-a1", PERSON))])
    run = a_run(run_id="r", profile_id="profile-a1")
    message = a_message(message_id="m", run_id="r", profile_id="profile-a1")
    with pytest.raises(Conflict):
        await store.commit([changes(run, message, consents={"profile-a1": 1})])


async def test_somebody_who_came_with_the_batch_needs_no_row_to_rely_on(store: Store) -> None:
    await store.commit([sending(a_profile())])  # version 0: nobody else can know them
    await store.commit([changes(a_profile(user_id="ben"), consents={"profile-ben": 0})])
    assert await store.message("default", "m") is not None


async def test_a_send_beside_an_opt_out_that_is_being_committed_waits_for_it() -> None:
    """Two replicas in the same moment: the row of the person is locked until the opt-out is in."""
    at_the_log, may_end = threading.Event(), threading.Event()

    def slow(outcome: Outcome, partition: int, position: int) -> bytes:
        at_the_log.set()
        may_end.wait(10)
        return encode(outcome, partition, position)

    async with postgres.database() as address, AsyncExitStack() as stack:
        stores = [SqlStore(address, encode_outcome=encode_by) for encode_by in (slow, encode)]
        for number, store in enumerate(stores):
            await store.open()
            stack.push_async_callback(store.close)
            await store.join(f"r{number}")
        one, other = stores
        await other.commit([changes(a_profile())])
        profile = await ana(other)
        leaving = asyncio.create_task(one.commit([opting_out(profile, an_outcome())]))
        await asyncio.to_thread(at_the_log.wait, 10)
        send = asyncio.create_task(other.commit([sending(profile)]))
        done, _ = await asyncio.wait({send}, timeout=0.3)
        assert not done
        may_end.set()
        await leaving
        with pytest.raises(Conflict):
            await send


# -- the suppression list ------------------------------------------------------------------------

ANAS = addresses.key(Channel.EMAIL, "ana@example.com")
BOUNCED = Suppression(channel=Channel.EMAIL, reason="BOUNCED")


async def the_list(store: Store) -> Profile:
    state = await store.load("default", Wanted(identities={(IdKind.USER, "ana")}))
    return state.profiles.get(LIST, Profile(LIST))


async def listing(store: Store, *owners: str) -> Changes:
    """Return changes that put addresses on the list."""
    held = {(owner, BOUNCED.scope): BOUNCED for owner in owners}
    return changes(await the_list(store), suppressions=held)


def relying(version: int, name: str) -> Changes:
    message = a_message(message_id=f"m-{name}", run_id=f"r-{name}", state=MessageState.SENDING)
    return changes(a_run(run_id=f"r-{name}"), message, consents={LIST: version})


async def test_a_send_that_was_decided_before_the_list_changed_is_refused(store: Store) -> None:
    await store.commit([changes(a_profile())])
    await store.commit([relying(0, "before")])
    await store.commit([await listing(store, ANAS)])
    with pytest.raises(Conflict):
        await store.commit([relying(0, "stale")])  # there was no list when it was decided
    await store.commit([await listing(store, "email:ben@example.com")])
    with pytest.raises(Conflict):
        await store.commit([relying(1, "stale")])
    await store.commit([relying(2, "fresh")])
    assert await store.message("default", "m-stale") is None
    assert await store.message("default", "m-fresh") is not None


async def test_addresses_of_people_and_of_wanted_messages_are_looked_up(store: Store) -> None:
    anas = a_profile(contact={"email": "Ana@Example.com", "phone_number": "+15550001"})
    old = a_message(message_id="m", run_id="r", recipient="old@example.com")
    await store.commit([changes(anas, a_run(run_id="r"), old)])
    wanted = Wanted(identities={(IdKind.USER, "ana")}, message_ids={"m"}, addresses={"sms:+1"})
    assert (await store.load("default", wanted)).addresses is None, "there is no list yet"
    await store.commit([await listing(store, ANAS, "email:old@example.com", "sms:+1", "sms:+2")])
    state = await store.load("default", wanted)
    known = {ANAS, "sms:+15550001", "email:old@example.com", "sms:+1"}
    assert state.addresses is not None
    assert state.addresses >= known
    found = {owner for owner, held in state.suppressions.items() if held}
    assert found == {ANAS, "email:old@example.com", "sms:+1"}
    assert state.suppressions[ANAS] == {BOUNCED.scope: BOUNCED}


async def test_all_that_is_held_back_is_listed_in_pages(store: Store) -> None:
    await store.commit([changes(a_profile())])
    await store.commit([opting_out(await ana(store))])
    owners = [f"email:{n}@example.com" for n in range(5)]
    await store.commit([await listing(store, *owners)])
    found, after = [], ""
    while page := await store.suppressions("default", after, 2):
        found += page
        after = page[-1].key
    assert {one.owner for one in found} == {*owners, PERSON}
    assert len(found) == 6
    assert await store.suppressions("other", "", 10) == []
    gone: dict[tuple[str, str], Suppression | None] = {(owners[0], BOUNCED.scope): None}
    await store.commit([changes(await the_list(store), suppressions=gone)])
    assert len(await store.suppressions("default", "", 10)) == 5
