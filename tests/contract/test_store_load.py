"""What a load brings of a store: everything that decisions about somebody read."""

import pytest

from tests.builders import (
    NOON,
    SECOND,
    a_message,
    a_profile,
    a_run,
    accepted,
    an_engagement,
    an_event,
    changes,
)
from upshotd.application.ports import Store
from upshotd.domain.message import (
    Channel,
)
from upshotd.domain.profile import Group, Suppression
from upshotd.domain.run import RunState
from upshotd.domain.state import IdKind, Wanted
from upshotd.domain.values import replace

ANA = (IdKind.USER, "ana")
PERSON = "profile-ana"
MUTED = Suppression(channel=Channel.EMAIL, until_us=NOON + SECOND)


async def life_of_ana(store: Store) -> None:
    """Ana: two active runs, an ended one, messages of each, and what started them."""
    runs = [
        a_run(run_id="r1", event_id="e1", reentry_key="k", start_us=NOON, cancellation_key="c"),
        a_run(run_id="r2", event_id="e2", workflow_id="other", start_us=NOON + 1),
        a_run(
            run_id="r3",
            event_id="e3",
            reentry_key="k",
            start_us=NOON + 2,
            state=RunState.COMPLETED,
            cancellation_key="c",
        ),
    ]
    events = [
        accepted(an_event(event_id="e1", context={"groupId": "acme"}), PERSON, runs[0]),
        accepted(an_event(event_id="e2"), PERSON, runs[1]),
        accepted(an_event(event_id="e3", context={"groupId": "old"}), PERSON, runs[2]),
        accepted(an_event(event_id="e4")),
    ]
    messages = [
        a_message(message_id=f"m{n}", run_id=f"r{n}", provider_message_id=f"p{n}")
        for n in (1, 2, 3)
    ]
    ana = a_profile(anonymous_ids=("a1",))
    muted = {(PERSON, MUTED.scope): MUTED}
    groups = [Group(name, {"name": name}, NOON) for name in ("acme", "old", "alien")]
    await store.commit([changes(ana, *runs, *events, *messages, *groups, suppressions=muted)])
    # Somebody else, who must not be in the way.
    stranger = a_run(run_id="x1", event_id="ex", profile_id="profile-ben", cancellation_key="d")
    theirs = a_message(message_id="mx", run_id="x1", profile_id="profile-ben")
    await store.commit([changes(a_profile(user_id="ben"), stranger, theirs)])


BY = {
    "user id": Wanted(identities={ANA}),
    "anonymous id": Wanted(identities={(IdKind.ANONYMOUS, "a1")}),
    "active run": Wanted(run_ids={"r1"}),
    "ended run": Wanted(run_ids={"r3"}),
    "message": Wanted(message_ids={"m2"}),
    "message of an ended run": Wanted(message_ids={"m3"}),
    "provider's id": Wanted(provider_keys={("smtp", "p1")}),
    "cancellation key": Wanted(cancellation_keys={"c"}),
}


@pytest.mark.parametrize("by", BY)
async def test_whatever_names_a_person_brings_everything_of_theirs(store: Store, by: str) -> None:
    await life_of_ana(store)
    state = await store.load("default", BY[by])
    assert state.profiles.keys() == {PERSON}
    assert state.suppressions == {PERSON: {MUTED.scope: MUTED}}
    assert {run_id for run_id, run in state.runs.items() if run.active} == {"r1", "r2"}
    assert list(state.active[PERSON]) == ["r1", "r2"]
    assert {"m1", "m2"} <= state.messages.keys()
    assert {"e1", "e2"} <= state.events.keys()
    assert state.groups["acme"].traits == {"name": "acme"}
    assert "alien" not in state.groups
    assert "x1" not in state.runs
    assert "mx" not in state.messages


@pytest.mark.parametrize("by", BY)
async def test_a_person_comes_with_all_their_identities(store: Store, by: str) -> None:
    await life_of_ana(store)
    state = await store.load("default", BY[by])
    assert state.identities == {ANA: PERSON, (IdKind.ANONYMOUS, "a1"): PERSON}


async def test_an_ended_run_is_loaded_only_where_it_is_wanted(store: Store) -> None:
    await life_of_ana(store)
    assert "r3" not in (await store.load("default", BY["user id"])).runs
    for by in ("ended run", "message of an ended run"):
        state = await store.load("default", BY[by])
        assert state.runs["r3"].state is RunState.COMPLETED
        assert "r3" not in state.active[PERSON]
        assert "m3" in state.messages
        assert "e3" in state.events
        assert "old" in state.groups


async def test_an_event_that_was_seen_names_the_runs_it_started_then(store: Store) -> None:
    await life_of_ana(store)
    state = await store.load("default", Wanted(event_ids={"e1", "e4", "e5"}))
    assert state.seen.keys() == {"e1", "e4"}
    assert [started.run_id for started in state.seen["e1"]] == ["r1"]
    assert state.seen["e4"] == ()


async def test_the_event_of_a_run_keeps_its_payload_and_times(store: Store) -> None:
    run = a_run(run_id="r", event_id="e")
    event = an_event(event_id="e", receive_us=NOON + 5, event_us=NOON + 3, payload=b"\x00\xff")
    await store.commit([changes(a_profile(), run, accepted(event, PERSON, run))])
    kept = (await store.load("default", Wanted(run_ids={"r"}))).events["e"]
    assert (kept.event_id, kept.payload) == ("e", b"\x00\xff")
    assert (kept.receive_us, kept.event_us) == (NOON + 5, NOON + 3)


async def test_a_wanted_group_is_loaded_without_a_person(store: Store) -> None:
    await life_of_ana(store)
    state = await store.load("default", Wanted(group_ids={"alien", "nobody's"}))
    assert state.groups == {"alien": Group("alien", {"name": "alien"}, NOON, 1)}


async def test_a_cancellation_key_names_active_runs_of_all_people(store: Store) -> None:
    await life_of_ana(store)
    bens = a_run(run_id="x2", profile_id="profile-ben", cancellation_key="c")
    await store.commit([changes(bens)])
    state = await store.load("default", Wanted(cancellation_keys={"c", "unknown"}))
    assert {key: sorted(runs) for key, runs in state.by_cancellation_key.items()} == {
        "c": ["r1", "x2"]
    }
    assert state.profiles.keys() == {PERSON, "profile-ben"}
    run = (await store.load("default", Wanted(run_ids={"x2"}))).runs["x2"]
    await store.commit([changes(replace(run, state=RunState.COMPLETED))])
    state = await store.load("default", Wanted(cancellation_keys={"c"}))
    assert state.by_cancellation_key == {"c": ["r1"]}


async def test_a_provider_key_finds_the_message_of_that_provider(store: Store) -> None:
    await life_of_ana(store)
    wanted = Wanted(provider_keys={("smtp", "p1"), ("other", "p2"), ("smtp", "")})
    state = await store.load("default", wanted)
    assert state.provider_messages["smtp", "p1"] == "m1"
    assert ("other", "p2") not in state.provider_messages
    assert ("smtp", "") not in state.provider_messages


async def test_the_last_start_counts_ended_runs_too_in_wanted_workflows_only(store: Store) -> None:
    await life_of_ana(store)
    wanted = replace(BY["user id"], entry_workflow_ids={"welcome"})
    state = await store.load("default", wanted)
    assert state.last_starts == {("welcome", PERSON, "k"): NOON + 2}
    assert (await store.load("default", BY["user id"])).last_starts == {}


# -- suppressions and engagements ----------------------------------------------------------------


async def test_suppressions_are_set_changed_and_removed_by_scope(store: Store) -> None:
    topic = Suppression(topic="news", reason="UNSUBSCRIBED")
    keys = [(PERSON, MUTED.scope), (PERSON, topic.scope)]
    await store.commit([changes(a_profile(), suppressions={keys[0]: MUTED, keys[1]: topic})])
    found = await store.profile("default", ANA)
    assert found is not None
    assert sorted(found[1], key=lambda held: held.scope) == [MUTED, topic]
    for_good = replace(MUTED, until_us=None, reason="COMPLAINED")
    await store.commit([changes(suppressions={keys[0]: for_good, keys[1]: None})])
    state = await store.load("default", Wanted(identities={ANA}))
    assert state.suppressions == {PERSON: {MUTED.scope: for_good}}
    # Removing what is not there is no fault.
    await store.commit([changes(suppressions={keys[1]: None})])


async def test_an_engagement_waits_until_its_message_is_known(store: Store) -> None:
    early = [
        an_engagement(engagement_id=f"n{n}", occur_us=NOON + n, data={"n": n}, machine=True)
        for n in (1, 2)
    ]
    alien = an_engagement(provider="other")
    await store.commit([changes(*early, alien)])
    key = ("smtp", "m-1")
    wanted = Wanted(provider_keys={key}, engagement_ids={"n1", "n2", "n3"})
    state = await store.load("default", wanted)
    assert state.pending == {key: tuple(early)}
    assert state.engagement_ids == {"n1", "n2"}
    # Applied: nothing waits any more, and they are still known.
    recorded = changes(applied_pending=[key])
    recorded.engagements = {e.engagement_id: (e, "m") for e in early}
    await store.commit([recorded])
    state = await store.load("default", wanted)
    assert (state.pending, state.engagement_ids) == ({}, {"n1", "n2"})
    alien_key = ("other", "m-1")
    state = await store.load("default", Wanted(provider_keys={alien_key}))
    assert state.pending == {alien_key: (alien,)}


async def test_an_engagement_can_wait_and_be_applied_in_one_batch(store: Store) -> None:
    early = an_engagement(engagement_id="n")
    key = ("smtp", "m-1")
    await store.commit([changes(early, recorded={"m": early}, applied_pending=[key])])
    state = await store.load("default", Wanted(provider_keys={key}, engagement_ids={"n"}))
    assert (state.pending, state.engagement_ids) == ({}, {"n"})


async def test_a_topic_is_held_back_on_one_channel_beside_the_whole_of_it(store: Store) -> None:
    rows = [
        Suppression(Channel.SMS, "news", reason="CHANNEL_OFF"),
        Suppression(topic="news", reason="UNSUBSCRIBED"),
        Suppression(topic="news", until_us=0, reason="OPTED_IN"),
    ]
    held: dict[tuple[str, str], Suppression | None] = {(PERSON, s.scope): s for s in rows}
    await store.commit([changes(a_profile(), suppressions=held)])
    state = await store.load("default", Wanted(identities={ANA}))
    assert state.suppressions[PERSON] == {s.scope: s for s in rows}
    assert len(state.suppressions[PERSON]) == 3


async def test_names_that_no_row_can_have_find_nothing_and_are_in_nobodys_way(
    store: Store,
) -> None:
    await life_of_ana(store)
    odd = "a\0b"
    wanted = Wanted(
        event_ids={odd},
        identities={ANA, (IdKind.USER, odd), (IdKind.ANONYMOUS, odd)},
        group_ids={odd},
        run_ids={odd},
        message_ids={odd},
        content_ids={odd},
        provider_keys={("smtp", odd)},
        recipients={odd},
        engagement_ids={odd},
        cancellation_keys={odd},
        addresses={odd},
        profile_ids={odd},
    )
    state = await store.load("default", wanted)
    assert set(state.profiles) == {PERSON}
    assert set(state.runs) == {"r1", "r2"}
    assert await store.users("default", {odd}) == {}
    assert await store.group_members("default", odd, "", 9) == []
