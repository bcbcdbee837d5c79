"""What every store must do: load what a decision reads, complete, and write what it decided."""

from typing import TypeVar

import pytest

from tests.builders import (
    NOON,
    SECOND,
    a_message,
    a_profile,
    a_rejection,
    a_run,
    accepted,
    an_engagement,
    an_event,
    an_outcome,
    changes,
)
from tests.stores import Durable
from upshotd.application.ports import Store
from upshotd.domain.errors import Violation
from upshotd.domain.message import (
    Attachment,
    Channel,
    Chat,
    Content,
    Email,
    Inbox,
    Message,
    MessageState,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.profile import Group, Profile, Suppression
from upshotd.domain.run import Run, RunState, TimelineEntry
from upshotd.domain.state import IdKind, State, Wanted
from upshotd.domain.trial import Trial
from upshotd.domain.values import replace

ANA = (IdKind.USER, "ana")
PERSON = "profile-ana"
Row = TypeVar("Row", Profile, Run, Message)

MUTED = Suppression(channel=Channel.EMAIL, until_us=NOON + SECOND)
STEPS = {"mail": {"sent": True, "facts": [1, 2.5, None, "ü"], "deep": {"er": {}}}}


def next_version(row: Row) -> Row:
    """Return how a store gives back a row that was written."""
    return replace(row, row_version=row.row_version + 1)


# -- writing and reading back --------------------------------------------------------------------


async def test_what_was_never_stored_does_not_exist(store: Store) -> None:
    everything = Wanted(
        event_ids={"e"},
        identities={ANA},
        group_ids={"g"},
        run_ids={"r"},
        message_ids={"m"},
        provider_keys={("smtp", "p")},
        engagement_ids={"n"},
        cancellation_keys={"c"},
        entry_workflow_ids={"w"},
    )
    assert await store.load("default", everything) == State(counters=frozenset())
    assert await store.load("default", Wanted()) == State(counters=frozenset())


async def test_a_profile_comes_back_as_it_was_with_the_next_row_version(store: Store) -> None:
    profile = a_profile(
        anonymous_ids=("a1", "a2"),
        traits={"plan": "pro", "n": 3, "half": 0.5, "no": None, "list": [1, {"x": "y"}]},
        contact={"email": "ana@example.org"},
        group_ids=("acme",),
        identify_us=NOON,
        passes={"welcome/limit/": (NOON, NOON + 1), "welcome/limit/p1": (NOON,)},
        trials=(
            Trial("r", "welcome", 3, "try", "a", NOON, NOON + 1, "order-7"),
            Trial("s", "welcome", 3, "try", "holdout", NOON, NOON + 2),
        ),
    )
    await store.commit([changes(profile)])
    state = await store.load("default", Wanted(identities={ANA}))
    assert state.profiles == {PERSON: next_version(profile)}


async def test_each_write_of_a_row_gives_it_the_next_version(store: Store) -> None:
    profile, run, group = a_profile(), a_run(run_id="r"), Group("acme", {"size": 1}, NOON)
    message = a_message(message_id="m", run_id="r")
    await store.commit([changes(profile, run, message, group)])
    wanted = Wanted(identities={ANA}, group_ids={"acme"})
    for version in (1, 2, 3):
        state = await store.load("default", wanted)
        rows = (state.profiles[PERSON], state.runs["r"], state.messages["m"], state.groups["acme"])
        assert [row.row_version for row in rows] == [version] * 4
        await store.commit([changes(*rows)])


async def test_a_run_comes_back_as_it_was(store: Store) -> None:
    run = a_run(
        run_id="r",
        state=RunState.CANCELED,
        reason="MERGED",
        step_id="mail",
        enter_us=NOON + 1,
        due_us=NOON + 2,
        end_us=NOON + 3,
        reentry_key="order-7",
        holds_ever=True,
        cancellation_key="order-7",
        depth=2,
        steps=STEPS,
        timeline=(TimelineEntry(NOON, "", "started"), TimelineEntry(NOON + 1, "mail", "sent", "x")),
    )
    await store.commit([changes(a_profile(), run)])
    assert await store.run("default", "r") == next_version(run)
    plain = a_run(run_id="plain")
    await store.commit([changes(plain)])
    assert await store.run("default", "plain") == next_version(plain)


@pytest.mark.parametrize(
    "content",
    [
        None,
        Email("Hi", "<p>ü</p>", "ü", "https://u.example/1"),
        Email("Hi", text="ü", attachments=(Attachment("https://f.example/1", "ü.pdf"),)),
        Email("Hi", text="ü", reply_to="us@u.example", headers={"X-Stream": "news"}),
        Sms("hi"),
        Push("hi", "ü", {"to": "/inbox"}),
        Webhook('{"a":1}'),
        Chat("hi"),
        Inbox("hi", "ü", "/orders/1"),
    ],
)
async def test_a_message_comes_back_as_it_was(store: Store, content: Content | None) -> None:
    message = a_message(
        message_id="m",
        run_id="r",
        state=MessageState.SENDING,
        recipient="ana@example.org",
        content=content,
        reason="BOUNCED",
        detail="550 no",
        attempt=2,
        due_us=NOON + SECOND,
        owner="process-1",
        provider_message_id="p-1",
        possible_duplicate=True,
        unsure=True,
        expire_us=NOON + 9,
        facts={"sent": NOON, "opened": NOON + 5},
    )
    await store.commit([changes(a_profile(), a_run(run_id="r"), message)])
    assert await store.message("default", "m") == next_version(message)


async def test_a_refused_event_is_kept_with_every_fault(store: Store) -> None:
    faults = (Violation("event.user_id", "is required"), Violation("event.call", "which?"))
    refused = a_rejection(event_id="e", violations=faults, payload='{"a": "ü"}')
    await store.commit([changes(refused)])
    assert await store.rejected_events("default", "", 10) == [refused]
    # It leaves no dedupe key.
    assert (await store.load("default", Wanted(event_ids={"e"}))).seen == {}


async def test_a_batch_of_several_workspaces_is_written_whole(store: Store) -> None:
    batch = [changes(a_profile(traits={"of": name}), workspace_id=name) for name in ("one", "two")]
    await store.commit(batch)
    for name in ("one", "two"):
        state = await store.load(name, Wanted(identities={ANA}))
        assert state.profiles[PERSON].traits == {"of": name}


async def test_the_same_ids_in_two_workspaces_are_different_things(store: Store) -> None:
    for name in ("one", "two"):
        run = a_run(run_id="r", event_id="e", holds_active=True, reason=name)
        whole = changes(
            a_profile(traits={"of": name}),
            accepted(an_event(event_id="e"), PERSON, run),
            run,
            a_message(message_id="m", run_id="r", reason=name),
            an_engagement(engagement_id="n", reason=name),
            an_outcome(outcome_id=f"o-{name}"),
            a_rejection(rejection_id="x", reason=name),
            Group("g", {"of": name}),
            workspace_id=name,
        )
        await store.commit([whole])
    wanted = Wanted(identities={ANA}, group_ids={"g"}, provider_keys={("smtp", "m-1")})
    for name in ("one", "two"):
        state = await store.load(name, wanted)
        assert state.runs["r"].reason == state.messages["m"].reason == name
        assert state.profiles[PERSON].traits == state.groups["g"].traits == {"of": name}
        assert [e.reason for e in state.pending["smtp", "m-1"]] == [name]
        assert [r.reason for r in await store.rejected_events(name, "", 5)] == [name]
        assert (await store.spans(name))[0].head == 1
    assert await store.load("three", wanted) == State(counters=frozenset())
    assert await store.profile("three", ANA) is None
    assert await store.run("three", "r") is None
    assert await store.message("three", "m") is None


async def test_what_was_loaded_can_be_changed_without_touching_the_store(store: Store) -> None:
    run = a_run(run_id="r")
    muted = {(PERSON, MUTED.scope): MUTED}
    await store.commit([changes(a_profile(), run, suppressions=muted)])
    wanted = Wanted(identities={ANA})
    state = await store.load("default", wanted)
    state.absorb(
        changes(
            replace(state.runs["r"], state=RunState.COMPLETED), suppressions=dict.fromkeys(muted)
        )
    )
    again = await store.load("default", wanted)
    assert again.suppressions[PERSON] == {MUTED.scope: MUTED}
    assert list(again.active[PERSON]) == ["r"]


async def test_what_was_committed_is_there_after_a_restart(durable: Durable) -> None:
    store = durable.store
    run = a_run(run_id="r", due_us=NOON + 5)
    await store.commit([changes(a_profile(), run, an_outcome(outcome_id="o"))])
    await store.define("default", "w", b"one", None, NOON)
    await store.put_setting("key", "value")
    epoch = await store.log_epoch()
    store = await durable.reopen()
    state = await store.load("default", Wanted(identities={ANA}))
    assert state.runs == {"r": next_version(run)}
    assert await store.next_due() == NOON + 5
    assert (await store.workflow("default", "w", 0)).definition == b"one"
    assert (await store.setting("key"), await store.log_epoch()) == ("value", epoch)
    await store.commit([changes(an_outcome())])
    assert (await store.spans("default"))[0].head == 2
