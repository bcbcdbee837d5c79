"""Definitions, timers, and what people and services look at, in every store."""

import pytest

from tests.builders import (
    NOON,
    SECOND,
    a_message,
    a_profile,
    a_rejection,
    a_run,
    an_event,
    changes,
)
from upshotd.application.ports import (
    Defined,
    Due,
    MessageFilter,
    RunFilter,
    Store,
    StoredWorkflow,
)
from upshotd.domain.errors import VersionMismatch
from upshotd.domain.explanation import Explanation
from upshotd.domain.message import Channel, Email, MessageState
from upshotd.domain.profile import Suppression
from upshotd.domain.run import RunState
from upshotd.domain.state import AcceptedEvent, IdKind, StartedRun, Wanted
from upshotd.domain.values import replace

ANA = (IdKind.USER, "ana")

# -- timers --------------------------------------------------------------------------------------


async def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert await store.next_due() is None
    assert await store.claim(NOON, 10) == []


async def test_timers_of_all_workspaces_come_earliest_first_ties_by_id(store: Store) -> None:
    one = changes(
        a_run(run_id="c", due_us=NOON),
        a_run(run_id="a", due_us=NOON + 1),
        a_message(message_id="b", run_id="a", due_us=NOON),
        workspace_id="one",
    )
    two = changes(
        a_run(run_id="d", due_us=NOON - 1),
        a_run(run_id="e", due_us=NOON + 2),
        a_run(run_id="f"),
        workspace_id="two",
    )
    await store.commit([one, two])
    assert await store.next_due() == NOON - 1
    expected = [
        Due("two", NOON - 1, run_id="d"),
        Due("one", NOON, message_id="b"),
        Due("one", NOON, run_id="c"),
        Due("one", NOON + 1, run_id="a"),
    ]
    assert await store.claim(NOON + 1, 10) == expected
    # Looking takes nothing away, and a limit takes the earliest.
    assert await store.claim(NOON + 1, 2) == expected[:2]
    assert await store.claim(NOON - 2, 10) == []


async def test_a_timer_moves_and_goes_with_its_row(store: Store) -> None:
    await store.commit([changes(a_run(run_id="r", due_us=NOON))])
    await store.commit([changes(a_message(message_id="m", run_id="r", due_us=NOON + 1))])
    for due_us in (NOON + 5, NOON, NOON + 7):
        run = (await store.load("default", Wanted(run_ids={"r"}))).runs["r"]
        await store.commit([changes(replace(run, due_us=due_us))])
        found = await store.claim(NOON + 9, 10)
        assert [due.due_us for due in found if due.run_id] == [due_us]
        assert await store.next_due() == min(due_us, NOON + 1)
    state = await store.load("default", Wanted(run_ids={"r"}))
    run, message = state.runs["r"], state.messages["m"]
    await store.commit([changes(replace(run, due_us=None), replace(message, due_us=None))])
    assert await store.claim(NOON * 2, 10) == []
    assert await store.next_due() is None


# -- definitions ---------------------------------------------------------------------------------


async def test_a_changed_definition_is_a_new_version_an_equal_one_is_not(store: Store) -> None:
    assert await store.define("default", "w", b"one", None, NOON) == Defined(1, unchanged=False)
    assert await store.define("default", "w", b"one", None, NOON + 1) == Defined(1, unchanged=True)
    assert await store.define("default", "w", b"two", None, NOON + 2) == Defined(2, unchanged=False)
    # Equal to an older one only.
    assert await store.define("default", "w", b"one", None, NOON + 3) == Defined(3, unchanged=False)
    first = StoredWorkflow("w", 1, b"one", NOON)
    latest = StoredWorkflow("w", 3, b"one", NOON + 3)
    assert await store.workflow("default", "w", 1) == first
    assert await store.workflow("default", "w", 0) == latest
    for missing in (("default", "w", 4), ("default", "x", 0), ("default", "x", 1), ("b", "w", 0)):
        assert await store.workflow(*missing) is None


async def test_a_definition_may_expect_the_current_version(store: Store) -> None:
    with pytest.raises(VersionMismatch):
        await store.define("default", "w", b"one", 1, NOON)
    assert (await store.define("default", "w", b"one", 0, NOON)).version == 1
    for stale in (0, 2):
        with pytest.raises(VersionMismatch):
            await store.define("default", "w", b"two", stale, NOON)
    assert (await store.define("default", "w", b"two", 1, NOON)).version == 2
    assert len(await store.workflow_versions("default", "w", None, 10)) == 2


async def test_the_current_workflows_come_by_id_and_versions_newest_first(store: Store) -> None:
    for definition in (b"1", b"2", b"3"):
        await store.define("default", "b", definition, None, NOON)
    await store.define("default", "a", b"1", None, NOON)
    await store.define("other", "c", b"1", None, NOON)
    current = await store.current_workflows("default")
    assert [(stored.workflow_id, stored.version) for stored in current] == [("a", 1), ("b", 3)]
    assert await store.current_workflows("nobody's") == []
    for before, limit, expected in (
        (None, 10, [3, 2, 1]),
        (None, 2, [3, 2]),
        (3, 10, [2, 1]),
        (1, 10, []),
    ):
        found = await store.workflow_versions("default", "b", before, limit)
        assert [stored.version for stored in found] == expected
    assert await store.workflow_versions("default", "x", None, 10) == []


# -- lists ---------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_page_by_page(store: Store) -> None:
    runs = [
        a_run(run_id="r3", state=RunState.COMPLETED),
        a_run(run_id="r1"),
        a_run(run_id="r4", workflow_id="other"),
        a_run(run_id="r2", profile_id="profile-ben"),
    ]
    await store.commit([changes(*runs), changes(a_run(run_id="r9"), workspace_id="other")])

    async def listed(chosen: RunFilter, before: str = "", limit: int = 10) -> list[str]:
        return [run.run_id for run in await store.runs("default", chosen, before, limit)]

    assert await listed(RunFilter()) == ["r4", "r3", "r2", "r1"]
    assert await listed(RunFilter(), limit=3) == ["r4", "r3", "r2"]
    assert await listed(RunFilter(), before="r2", limit=3) == ["r1"]
    assert await listed(RunFilter(workflow_id="welcome")) == ["r3", "r2", "r1"]
    assert await listed(RunFilter(profile_id="profile-ana")) == ["r4", "r3", "r1"]
    assert await listed(RunFilter(state=RunState.COMPLETED)) == ["r3"]
    chosen = RunFilter(workflow_id="welcome", profile_id="profile-ana", state=RunState.ACTIVE)
    assert await listed(chosen) == ["r1"]
    assert await listed(chosen, before="r1") == []


async def test_messages_are_listed_newest_first_page_by_page(store: Store) -> None:
    runs = [a_run(run_id="r1"), a_run(run_id="r2", profile_id="profile-ben", workflow_id="other")]
    messages = [
        a_message(message_id="m2", run_id="r1", state=MessageState.UNROUTABLE),
        a_message(message_id="m1", run_id="r1"),
        a_message(message_id="m3", run_id="r2", workflow_id="other", profile_id="profile-ben"),
    ]
    await store.commit([changes(*runs, *messages)])

    async def listed(chosen: MessageFilter, before: str = "", limit: int = 10) -> list[str]:
        found = await store.messages("default", chosen, before, limit)
        return [message.message_id for message in found]

    assert await listed(MessageFilter()) == ["m3", "m2", "m1"]
    assert await listed(MessageFilter(), limit=1) == ["m3"]
    assert await listed(MessageFilter(), before="m3", limit=1) == ["m2"]
    assert await listed(MessageFilter(run_id="r1")) == ["m2", "m1"]
    assert await listed(MessageFilter(workflow_id="other")) == ["m3"]
    assert await listed(MessageFilter(profile_id="profile-ana"), before="m2") == ["m1"]
    assert await listed(MessageFilter(run_id="r1", workflow_id="other")) == []
    assert await store.messages("other", MessageFilter(), "", 10) == []


async def test_refused_events_are_listed_newest_first_page_by_page(store: Store) -> None:
    names = ("x2", "x1", "x3")
    await store.commit([changes(*(a_rejection(rejection_id=name) for name in names))])
    for before, limit, expected in (("", 2, ["x3", "x2"]), ("x2", 2, ["x1"]), ("x1", 2, [])):
        found = await store.rejected_events("default", before, limit)
        assert [rejected.rejection_id for rejected in found] == expected


async def test_a_person_is_found_by_any_id_from_outside(store: Store) -> None:
    muted = Suppression(channel=Channel.SMS, until_us=NOON + SECOND)
    profile = a_profile(anonymous_ids=("ana",), traits={"n": 1})
    held = {(profile.profile_id, muted.scope): muted}
    await store.commit([changes(profile, a_profile(user_id="a1"), suppressions=held)])
    expected = (replace(profile, row_version=1), [muted])
    assert await store.profile("default", ANA) == expected
    assert await store.profile("default", (IdKind.ANONYMOUS, "ana")) == expected
    found = await store.profile("default", (IdKind.USER, "a1"))
    assert found is not None
    assert found[1] == []
    assert await store.profile("default", (IdKind.ANONYMOUS, "a1")) is None


async def test_people_are_found_by_our_own_ids(store: Store) -> None:
    await store.commit([changes(a_profile(), a_profile(user_id="ben"))])
    found = await store.profiles("default", {"profile-ana", "profile-zoe"})
    assert {profile_id: profile.user_id for profile_id, profile in found.items()} == {
        "profile-ana": "ana"
    }
    assert await store.profiles("default", set()) == {}
    assert await store.profiles("other", {"profile-ana"}) == {}


async def test_people_are_found_by_their_user_ids(store: Store) -> None:
    known = a_profile(user_id="ann", anonymous_ids=("ben",))
    await store.commit([changes(known, a_profile(user_id="cem"))])
    found = await store.users("default", {"ann", "ben", "cem", "dan"})
    assert sorted(found) == ["ann", "cem"]
    assert found["ann"] == replace(known, row_version=1)
    assert await store.users("default", set()) == {}
    assert await store.users("other", {"ann"}) == {}


async def test_a_setting_is_kept_and_replaced(store: Store) -> None:
    assert await store.setting("lab_offset_us") is None
    for value in ("1", "2", ""):
        await store.put_setting("lab_offset_us", value)
        assert await store.setting("lab_offset_us") == value
    assert await store.setting("other") is None


async def test_content_is_loaded_where_it_is_wanted_and_kept_where_it_is_not(store: Store) -> None:
    content = Email("Hello Ana", "<p>Hi</p>", "Hi", "https://example.com/u/x")
    message = a_message(message_id="m", run_id="r", content=content)
    await store.commit([changes(a_profile(), a_run(run_id="r"), message)])
    wanted = Wanted(message_ids={"m"}, content_ids={"m"})
    assert (await store.load("default", wanted)).messages["m"].content == content

    loaded = (await store.load("default", Wanted(message_ids={"m"}))).messages["m"]
    await store.commit([changes(replace(loaded, state=MessageState.UNDELIVERABLE))])
    kept = await store.message("default", "m")
    assert kept is not None
    assert (kept.content, kept.state) == (content, MessageState.UNDELIVERABLE)


async def test_an_event_comes_back_with_what_workflows_made_of_it(store: Store) -> None:
    refused = (Explanation("b", 3, "CONDITION_FALSE", 'plan == "pro", where plan is "ü"'),)
    started = (StartedRun("a", 1, "run-1"),)
    both = AcceptedEvent(an_event(event_id="both"), "profile-ana", started, refused)
    alone = AcceptedEvent(an_event(event_id="alone"), "profile-ana", (), refused)
    quiet = AcceptedEvent(an_event(event_id="quiet"), "profile-ana")
    await store.commit([changes(a_profile(), both, alone, quiet)])
    kept = await store.event("default", "both")
    assert kept is not None
    assert kept.stored.payload == both.event.payload
    assert (kept.started, kept.refused) == (started, refused)
    assert [e.reason for e in kept.explanations] == ["STARTED", "CONDITION_FALSE"]
    only = await store.event("default", "alone")
    assert only is not None
    assert (only.started, only.refused) == ((), refused)
    nothing = await store.event("default", "quiet")
    assert nothing is not None
    assert nothing.explanations == ()
    assert await store.event("default", "nobody") is None
    assert await store.event("elsewhere", "both") is None
    seen = (await store.load("default", Wanted(event_ids={"both", "alone"}))).seen
    assert seen == {"both": started, "alone": ()}


async def test_a_task_is_written_with_the_version_it_is_about_and_only_then(store: Store) -> None:
    def task(version: int) -> tuple[str, str]:
        return "task/default/w", f"for {version}"

    await store.define("default", "w", b"one", None, NOON, task)
    assert await store.settings("task/") == {"task/default/w": "for 1"}
    await store.put_setting("task/default/w", "done")
    await store.define("default", "w", b"one", None, NOON, task)  # unchanged
    with pytest.raises(VersionMismatch):
        await store.define("default", "w", b"two", 7, NOON, task)
    await store.put_setting("task%other", "x")
    assert await store.settings("task/") == {"task/default/w": "done"}
    await store.define("default", "w", b"", None, NOON, task)  # archived
    assert await store.settings("task/") == {"task/default/w": "for 2"}
    assert [w.definition for w in await store.current_workflows("default")] == [b""]
