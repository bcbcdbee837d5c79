"""The outcome log of every store: contiguous, in order, resumable, pruned from the front."""

import asyncio
from itertools import chain
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import (
    DAY,
    HOUR,
    NOON,
    a_rejection,
    a_run,
    accepted,
    an_engagement,
    an_event,
    an_outcome,
    changes,
)
from tests.stores import LOG_KINDS, Durable, found, opened, put_subscription
from upshotd.application.ports import (
    OutcomeCount,
    OutcomeFilter,
    PartitionSpan,
    Retention,
    Store,
    Subscription,
)
from upshotd.domain.errors import Conflict
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.profile import Group
from upshotd.domain.run import RunState
from upshotd.domain.state import Wanted

ALL = OutcomeFilter()


@pytest.fixture(params=LOG_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store it is, also with the end of its log in memory."""
    return str(request.param)


async def append(store: Store, *ids: str, workspace_id: str = "default", **fields: object) -> None:
    outcomes = [an_outcome(outcome_id=name, **fields) for name in ids]
    await store.commit([changes(*outcomes, workspace_id=workspace_id)])


async def whole_log(store: Store, workspace_id: str = "default") -> dict[int, list[str]]:
    """Return the ids of each partition, after checking that the positions have no gap."""
    log: dict[int, list[str]] = {}
    for partition, span in (await store.spans(workspace_id)).items():
        records = found(await store.read_outcomes(workspace_id, partition, 0, 10_000, ALL, 7))
        assert [at for at, _ in records] == list(range(span.earliest, span.head + 1))
        log[partition] = [name for _, name in records]
    return log


# -- positions -----------------------------------------------------------------------------------


async def test_an_empty_log_holds_nothing(store: Store) -> None:
    assert store.partitions == 1
    assert await store.spans("default") == {0: PartitionSpan(1, 0)}
    page = await store.read_outcomes("default", 0, 0, 10, ALL, 100)
    assert (found(page), page.through) == ([], 0)
    assert await store.outcome_time("default", 0, 1) is None


async def test_an_empty_log_names_all_its_partitions(partitioned: Store) -> None:
    assert partitioned.partitions == 4
    assert await partitioned.spans("default") == dict.fromkeys(range(4), PartitionSpan(1, 0))


async def test_outcomes_stand_in_the_order_in_which_they_were_decided(store: Store) -> None:
    await append(store, "c", "a", "b")
    await append(store, "z")
    assert await whole_log(store) == {0: ["c", "a", "b", "z"]}
    assert await store.spans("default") == {0: PartitionSpan(1, 4)}


async def test_a_batch_appends_workspace_by_workspace(store: Store) -> None:
    batch = [changes(an_outcome(outcome_id=name), workspace_id=name) for name in ("one", "two")]
    await store.commit(batch)
    await append(store, "more", workspace_id="two")
    assert await whole_log(store, "one") == {0: ["one"]}
    assert await whole_log(store, "two") == {0: ["two", "more"]}
    assert await whole_log(store, "three") == {0: []}


async def test_a_person_has_one_partition_for_ever(partitioned: Store) -> None:
    people = [f"profile-{number}" for number in range(40)]
    for turn in range(2):
        outcomes = [an_outcome(outcome_id=f"{who}.{turn}", profile_id=who) for who in people]
        await partitioned.commit([changes(*outcomes)])
    found = await whole_log(partitioned)
    for partition, names in found.items():
        theirs = [who for who in people if crc32(who.encode()) % 4 == partition]
        assert theirs
        assert names == [f"{who}.{turn}" for turn in range(2) for who in theirs]


async def test_a_commit_that_fails_burns_no_position(partitioned: Store) -> None:
    await partitioned.commit([changes(Group("g"), an_outcome(outcome_id="first"))])
    for number in range(3):
        lost = [an_outcome(profile_id=f"profile-{n}") for n in range(8)]
        with pytest.raises(Conflict):
            await partitioned.commit(
                [changes(*lost, workspace_id="two"), changes(*lost, Group("g"))]
            )
        await append(partitioned, f"next-{number}")
    found = await whole_log(partitioned)
    assert list(chain(*found.values())) == ["first", "next-0", "next-1", "next-2"]
    assert list(chain(*(await whole_log(partitioned, "two")).values())) == []


async def test_commits_at_once_share_no_position(store: Store) -> None:
    await asyncio.gather(*(append(store, f"{n}.1", f"{n}.2") for n in range(20)))
    (names,) = (await whole_log(store)).values()
    assert sorted(names) == sorted(f"{n}.{part}" for n in range(20) for part in (1, 2))
    for n in range(20):
        assert names.index(f"{n}.2") == names.index(f"{n}.1") + 1


async def test_a_log_knows_itself_again_and_no_other(store: Store, tmp_path: Path) -> None:
    epoch = await store.log_epoch()
    assert epoch
    assert await store.log_epoch() == epoch
    (tmp_path / "other").mkdir()
    for kind in LOG_KINDS:
        async with opened(kind, tmp_path / "other") as other:
            assert await other.log_epoch() != epoch


# -- reading -------------------------------------------------------------------------------------


async def test_reading_goes_on_after_a_position_and_looks_at_a_limit(store: Store) -> None:
    await append(store, "a", "b", "c", "d")
    page = await store.read_outcomes("default", 0, 1, 2, ALL, 100)
    assert (found(page), page.through) == ([(2, "b"), (3, "c")], 3)
    page = await store.read_outcomes("default", 0, page.through, 2, ALL, 100)
    assert (found(page), page.through) == ([(4, "d")], 4)
    page = await store.read_outcomes("default", 0, page.through, 2, ALL, 100)
    assert (found(page), page.through) == ([], 4)


FILTERS = {
    "kind": (OutcomeFilter(kinds=frozenset({OutcomeKind.MESSAGE_OPENED})), "b"),
    "workflow": (OutcomeFilter(workflow_ids=frozenset({"other", "x"})), "c"),
    "person": (OutcomeFilter(user_ids=frozenset({"ben"})), "d"),
    "channel": (OutcomeFilter(channels=frozenset({Channel.SMS})), "ef"),
    "several of a set": (OutcomeFilter(user_ids=frozenset({"ben", "ana"})), "abcdef"),
    "all sets": (
        OutcomeFilter(
            kinds=frozenset({OutcomeKind.MESSAGE_CLICKED}), channels=frozenset({Channel.SMS})
        ),
        "f",
    ),
    "nothing": (OutcomeFilter(user_ids=frozenset({"zoe"})), ""),
}


@pytest.mark.parametrize("by", FILTERS)
async def test_a_filter_leaves_holes_and_moves_on_through_them(store: Store, by: str) -> None:
    outcomes = [
        an_outcome(outcome_id="a"),
        an_outcome(outcome_id="b", kind=OutcomeKind.MESSAGE_OPENED),
        an_outcome(outcome_id="c", workflow_id="other"),
        an_outcome(outcome_id="d", user_id="ben"),
        an_outcome(outcome_id="e", channel=Channel.SMS),
        an_outcome(outcome_id="f", channel=Channel.SMS, kind=OutcomeKind.MESSAGE_CLICKED),
    ]
    await store.commit([changes(*outcomes)])
    chosen, expected = FILTERS[by]
    after, seen = 0, ""
    for _ in range(3):
        page = await store.read_outcomes("default", 0, after, 2, chosen, 100)
        assert page.through == after + 2
        for position, name in found(page):
            assert after < position <= page.through
            assert "abcdef"[position - 1] == name
            seen += name
        after = page.through
    assert seen == expected


async def test_the_time_of_a_position_is_when_it_was_recorded(store: Store) -> None:
    for number in range(3):
        await append(store, f"o{number}", record_us=NOON + number, occur_us=NOON - DAY)
    times = [await store.outcome_time("default", 0, position) for position in (0, 1, 3, 4)]
    assert times == [NOON, NOON, NOON + 2, None]


# -- subscriptions -------------------------------------------------------------------------------


async def test_a_subscription_is_kept_changed_and_forgotten(store: Store) -> None:
    relay = Subscription("relay", {0: 7}, NOON, NOON)
    await put_subscription(store, "default", relay)
    await put_subscription(store, "default", Subscription("audit", {0: 0, 3: 2}, NOON, NOON))
    await put_subscription(store, "other", Subscription("relay", {0: 1}, NOON, NOON))
    assert await store.subscription("default", "relay") == relay
    later = Subscription("relay", {0: 9}, NOON, NOON + HOUR)
    await put_subscription(store, "default", later)
    found = await store.subscriptions("default")
    assert [(held.name, dict(held.positions)) for held in found] == [
        ("audit", {0: 0, 3: 2}),
        ("relay", {0: 9}),
    ]
    assert found[1].commit_us == NOON + HOUR
    assert await store.delete_subscription("default", "relay") is True
    assert await store.delete_subscription("default", "relay") is False
    assert await store.subscription("default", "relay") is None
    assert await store.subscription("other", "relay") is not None


# -- counts --------------------------------------------------------------------------------------


async def test_outcomes_are_counted_in_their_commit_by_whole_hours(store: Store) -> None:
    sms = {"channel": Channel.SMS, "step_id": "text"}
    await append(store, "1", "2", record_us=NOON)
    await append(store, "3", record_us=NOON + HOUR - 1)
    await append(store, "4", record_us=NOON + HOUR)
    await append(store, "5", record_us=NOON, kind=OutcomeKind.MESSAGE_OPENED, workflow_id="other")
    await append(store, "6", record_us=NOON, **sms)
    await append(store, "7", workspace_id="elsewhere")

    async def counted(start_us: int, end_us: int, workflow_id: str = "") -> list[OutcomeCount]:
        found = await store.counts("default", start_us, end_us, workflow_id)
        return sorted(found, key=lambda c: (c.workflow_id, c.step_id, c.channel, c.kind))

    sent, opened_kind = OutcomeKind.MESSAGE_SENT, OutcomeKind.MESSAGE_OPENED
    other = OutcomeCount("other", "mail", Channel.EMAIL, opened_kind, 1)
    texts = OutcomeCount("welcome", "text", Channel.SMS, sent, 1)

    def mails(count: int) -> OutcomeCount:
        return OutcomeCount("welcome", "mail", Channel.EMAIL, sent, count)

    assert await counted(NOON, NOON + HOUR) == [other, mails(3), texts]
    assert await counted(NOON, NOON + 2 * HOUR, "welcome") == [mails(4), texts]
    assert await counted(NOON + 1, NOON + HOUR) == []
    assert await counted(NOON + HOUR, NOON + HOUR + 1) == [mails(1)]


# -- retention -----------------------------------------------------------------------------------

KEEP = Retention(events_us=0, outcomes_us=0, rejected_us=0)
PAST_ALL = Retention(events_us=2 * NOON, outcomes_us=2 * NOON, rejected_us=2 * NOON)


async def test_old_outcomes_go_from_the_front_and_positions_stay(store: Store) -> None:
    for number in range(5):
        await append(store, f"o{number}", record_us=NOON + number)
    assert await store.prune(KEEP, 100) == 0
    old = Retention(events_us=0, outcomes_us=NOON + 3, rejected_us=0)
    assert await store.prune(old, 2) == 2
    assert await store.spans("default") == {0: PartitionSpan(3, 5)}
    assert await store.prune(old, 2) == 1
    assert await store.prune(old, 2) == 0
    assert await whole_log(store) == {0: ["o3", "o4"]}
    page = await store.read_outcomes("default", 0, 1, 1, ALL, 100)
    assert (found(page), page.through) == ([(4, "o3")], 4)
    assert await store.outcome_time("default", 0, 1) == NOON + 3
    # Counts stay.
    assert sum(c.count for c in await store.counts("default", 0, 2 * NOON, "")) == 5


async def test_positions_go_on_where_everything_was_pruned(store: Store) -> None:
    await append(store, "a", "b")
    assert await store.prune(PAST_ALL, 100) == 2
    assert await store.spans("default") == {0: PartitionSpan(3, 2)}
    page = await store.read_outcomes("default", 0, 2, 10, ALL, 100)
    assert (found(page), page.through) == ([], 2)
    await append(store, "c")
    assert await whole_log(store) == {0: ["c"]}
    assert await store.spans("default") == {0: PartitionSpan(3, 3)}


async def test_positions_go_on_after_a_restart_that_follows_a_prune(durable: Durable) -> None:
    await append(durable.store, "a", "b")
    await durable.store.prune(PAST_ALL, 100)
    store = await durable.reopen()
    await append(store, "c")
    assert await store.spans("default") == {0: PartitionSpan(3, 3)}


async def test_events_go_when_they_are_old_and_no_run_needs_them(store: Store) -> None:
    active = a_run(run_id="active", event_id="active")
    enrolled = a_run(run_id="enrolled", event_id="first", start_key="parent/step")
    ended = a_run(run_id="ended", event_id="ended", state=RunState.COMPLETED)
    names = ("active", "first", "ended", "plain")
    events = [accepted(an_event(event_id=name, receive_us=NOON)) for name in names]
    late = an_event(event_id="late", receive_us=NOON + HOUR, event_us=NOON - DAY)
    await store.commit([changes(active, enrolled, ended, *events, late)])
    until = Retention(events_us=NOON + HOUR, outcomes_us=0, rejected_us=0)
    assert await store.prune(until, 100) == 2
    seen = (await store.load("default", Wanted(event_ids={*names, "late"}))).seen
    assert seen.keys() == {"active", "first", "late"}
    # The key is free again.
    await store.commit([changes(an_event(event_id="plain"))])


async def test_refused_events_and_engagements_go_in_their_time(store: Store) -> None:
    recorded = an_engagement(engagement_id="recorded", message_id="m")
    waiting = an_engagement(engagement_id="waiting")
    whole = changes(a_rejection(), waiting, a_rejection(), recorded={"m": recorded})
    await store.commit([whole])
    ids = Wanted(engagement_ids={"recorded", "waiting"}, provider_keys={("smtp", "m-1")})
    assert await store.prune(KEEP, 100) == 0
    refused = Retention(events_us=0, outcomes_us=0, rejected_us=2 * NOON)
    assert await store.prune(refused, 1) == 2
    assert await store.prune(refused, 1) == 1
    assert await store.rejected_events("default", "", 10) == []
    state = await store.load("default", ids)
    assert state.pending == {}
    assert "recorded" in state.engagement_ids
    assert await store.prune(PAST_ALL, 100) == 1
    assert (await store.load("default", ids)).engagement_ids == set()


# -- any history ---------------------------------------------------------------------------------

PEOPLE = st.sampled_from([f"profile-{number}" for number in range(6)])
COMMIT = st.tuples(
    st.sampled_from(["default", "other"]), st.lists(PEOPLE, min_size=0, max_size=6), st.booleans()
)


@pytest.mark.parametrize("kind", LOG_KINDS)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(commits=st.lists(COMMIT, max_size=12), cut=st.integers(0, 12), step=st.integers(1, 5))
def test_from_any_cursor_the_rest_comes_exactly_once(
    kind: str,
    commits: list[tuple[str, list[str], bool]],
    cut: int,
    step: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("history")
    asyncio.run(_history(kind, folder, commits, cut, step))


async def _history(kind, folder, commits, cut, step) -> None:  # type: ignore[no-untyped-def]
    written: dict[str, dict[int, list[str]]] = {
        name: {number: [] for number in range(4)} for name in ("default", "other")
    }
    async with opened(kind, folder, partitions=4) as store:
        await store.commit([changes(Group("g"), workspace_id=name) for name in written])
        for number, (workspace_id, people, fails) in enumerate(commits):
            outcomes = [
                an_outcome(outcome_id=f"{number}.{at}", profile_id=who)
                for at, who in enumerate(people)
            ]
            if fails:
                with pytest.raises(Conflict):
                    await store.commit([changes(*outcomes, Group("g"), workspace_id=workspace_id)])
                continue
            await store.commit([changes(*outcomes, workspace_id=workspace_id)])
            for outcome in outcomes:
                partition = crc32(outcome.profile_id.encode()) % 4
                written[workspace_id][partition].append(outcome.outcome_id)
        for workspace_id, partitions in written.items():
            assert await whole_log(store, workspace_id) == partitions
            for partition, names in partitions.items():
                after, read = min(cut, len(names)), []
                while after < len(names):
                    page = await store.read_outcomes(workspace_id, partition, after, step, ALL, 100)
                    read += [name for _, name in found(page)]
                    assert page.through > after
                    after = page.through
                assert read == names[min(cut, len(names)) :]
