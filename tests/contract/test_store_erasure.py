"""What every store does with an erased person: rows are emptied at once, the rest can be found."""

import json

import pytest

from tests.builders import (
    NOON,
    a_message,
    a_profile,
    a_rejection,
    a_run,
    accepted,
    an_event,
    an_outcome,
    changes,
)
from tests.stores import found
from upshotd.application.erased import PREFIX, erasure_of
from upshotd.application.ports import MessageFilter, OutcomeFilter, RunFilter, Store
from upshotd.domain import addresses
from upshotd.domain.errors import Conflict
from upshotd.domain.message import Channel, Email, MessageState
from upshotd.domain.profile import Erasure, Profile, Suppression
from upshotd.domain.run import Run, RunState, TimelineEntry
from upshotd.domain.state import IdKind, StartedRun, State, Wanted
from upshotd.domain.values import replace

ANAS = addresses.key(Channel.EMAIL, "ana@example.com")
FORMER = addresses.key(Channel.EMAIL, "ana@old.example")
COMPLAINED = Suppression(Channel.EMAIL, reason="COMPLAINED")


def gone(profile: Profile, erase_us: int = NOON) -> Erasure:
    who = profile.profile_id
    return Erasure(who, (who, "profile-former"), "ana", ("a1",), (ANAS,), erase_us)


def ended(**fields: object) -> Run:
    return a_run(
        state=RunState.COMPLETED,
        steps={"mail": {"name": "Ana"}},
        timeline=(TimelineEntry(NOON, "mail", "branched", "ana@example.com"),),
        reentry_key="ana@example.com",
        cancellation_key="order of ana",
        **fields,
    )


async def known(store: Store) -> State:
    """Write everything that there can be of a person; return what was loaded of it."""
    profile = a_profile(anonymous_ids=("a1",), contact={"email": "ana@example.com"})
    run = ended(run_id="r1", holds_ever=True)
    mail = a_message(
        message_id="m1",
        run_id="r1",
        recipient="ana@old.example",
        content=Email("Hi", text="Hello Ana"),
        detail="told ana@example.com",
        provider_message_id="p1",
        facts={"opened": NOON},
    )
    event = accepted(an_event(event_id="e1"), profile.profile_id, run)
    listed = {(ANAS, COMPLAINED.scope): COMPLAINED, (FORMER, COMPLAINED.scope): COMPLAINED}
    people = (profile, a_profile(user_id="ben"))
    await store.commit([changes(*people, run, mail, event, suppressions=listed)])
    return await store.load("default", Wanted(identities={(IdKind.USER, "ana")}, run_ids={"r1"}))


async def erased(store: Store) -> Erasure:
    """Erase the person, as the engine does."""
    state = await known(store)
    profile = state.profiles["profile-ana"]
    tombstone = Profile(
        profile.profile_id, "ana", ("a1",), erase_us=NOON, row_version=profile.row_version
    )
    erasure = gone(profile)
    erasures = {profile.profile_id: erasure}
    await store.commit([changes(tombstone, an_outcome(), erasures=erasures)])
    return erasure


async def test_runs_and_messages_are_emptied_and_belong_to_nobody(store: Store) -> None:
    await erased(store)
    run = await store.run("default", "r1")
    assert run is not None
    assert (run.profile_id, run.steps, run.timeline, run.reentry_key) == ("", {}, (), "")
    assert not run.holds_ever
    message = await store.message("default", "m1")
    assert message is not None
    assert (message.recipient, message.content, message.detail) == ("", None, "")
    assert (message.state, message.reason) == (MessageState.SUPPRESSED, "ERASED")
    assert not await store.runs("default", RunFilter(profile_id="profile-ana"), "", 10)
    assert not await store.messages("default", MessageFilter(profile_id="profile-ana"), "", 10)


async def test_the_tombstone_keeps_its_ids_and_its_time(store: Store) -> None:
    await erased(store)
    found = await store.profile("default", (IdKind.ANONYMOUS, "a1"))
    assert found is not None
    profile, _ = found
    assert (profile.user_id, profile.erase_us, profile.erased) == ("ana", NOON, True)


async def test_callbacks_find_the_tombstone_by_the_provider_s_id(store: Store) -> None:
    await erased(store)
    state = await store.load("default", Wanted(provider_keys={("smtp", "p1")}))
    assert state.messages[state.provider_messages["smtp", "p1"]].reason == "ERASED"


async def test_whoever_has_loaded_a_row_cannot_write_it_back(store: Store) -> None:
    before = await known(store)
    erasures = {"profile-ana": gone(before.profiles["profile-ana"])}
    await store.commit([changes(erasures=erasures)])
    for row in (before.runs["r1"], before.messages["m1"]):
        with pytest.raises(Conflict):
            await store.commit([changes(row)])


async def test_addresses_stay_on_the_list_by_their_hash_also_former_ones(store: Store) -> None:
    await erased(store)
    listed = {one.owner: one.suppression for one in await store.suppressions("default", "", 10)}
    assert listed == {addresses.hidden(ANAS): COMPLAINED, addresses.hidden(FORMER): COMPLAINED}


async def test_a_run_that_began_meanwhile_makes_it_be_decided_again(store: Store) -> None:
    state = await known(store)
    await store.commit([changes(a_run(run_id="r2"))])
    erasures = {"profile-ana": gone(state.profiles["profile-ana"])}
    with pytest.raises(Conflict):
        await store.commit([changes(erasures=erasures)])


async def test_who_came_back_is_known(store: Store) -> None:
    await erased(store)
    people = {"profile-ana", "profile-ben", "nobody"}
    assert await store.erased_rows.returned("default", people) == {"profile-ben"}


async def test_what_is_left_to_do_is_written_with_it_and_forgotten_when_it_is_done(
    store: Store,
) -> None:
    erasure = await erased(store)
    ((name, value),) = (await store.settings(PREFIX)).items()
    assert "default" in name
    assert erasure_of(value) == replace(erasure, addresses=())
    assert "example.com" not in json.dumps(value)
    await store.drop_setting(name)
    assert not await store.settings(PREFIX)
    await store.erased_rows.erased()


async def test_events_are_found_by_whose_they_were_page_by_page(store: Store) -> None:
    await store.commit(
        [
            changes(
                accepted(an_event(event_id="e1"), "profile-ana", a_run(run_id="r")),
                accepted(an_event(event_id="e2"), "profile-former"),
                accepted(an_event(event_id="e3"), "profile-ben"),
                accepted(an_event(event_id="e4", receive_us=NOON + 1), "profile-ana"),
            )
        ]
    )
    until_us, after, pages = {"profile-ana": NOON, "profile-former": NOON}, "", 0
    last: str | None = after
    while last is not None:
        last = await store.erased_rows.erase_events("default", until_us, last, 2)
        pages += 1
    assert pages < 5
    payloads = {}
    for event_id in ("e1", "e2", "e3", "e4"):
        event = await store.event("default", event_id)
        assert event is not None
        payloads[event_id] = event.stored.payload
    assert [event_id for event_id, payload in payloads.items() if not payload] == ["e1", "e2"]
    state = await store.load("default", Wanted(event_ids={"e1", "e3"}))
    assert state.seen == {"e1": (), "e3": ()}, "it still counts once"
    assert StartedRun("welcome", 1, "r") not in state.seen["e1"]


async def test_the_log_is_rewritten_at_its_places(partitioned: Store) -> None:
    store = partitioned
    await store.commit([changes(an_outcome(outcome_id="o1"), an_outcome(outcome_id="o2"))])
    rows = store.erased_rows
    partition = rows.partition_of("profile-ana")

    def clear(body: bytes) -> bytes | None:
        return body.replace(b"o1", b"xx") if b"o1" in body else None

    last: int | None = 0
    while last is not None:
        last = await rows.erase_outcomes("default", partition, last, 1, clear)
    read = await store.read_outcomes("default", partition, 0, 10, OutcomeFilter(), 10)
    assert found(read) == [(1, "xx"), (2, "o2")]


async def test_refused_events_lose_their_payload(store: Store) -> None:
    hers = a_rejection(rejection_id="r1", payload='{"user_id": "ana", "email": "ana@example.com"}')
    others = a_rejection(rejection_id="r2", payload='{"user_id": "ben"}')
    await store.commit([changes(hers, others)])
    last: str | None = ""
    while last is not None:
        last = await store.erased_rows.erase_rejected("default", {"ana": NOON}, last, 1)
    payloads = [one.payload for one in await store.rejected_events("default", "", 10)]
    assert payloads == ['{"user_id": "ben"}', ""]
