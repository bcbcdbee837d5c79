"""What a store refuses, and that nothing at all is written then. What merges move."""

from collections.abc import Callable

import pytest

from tests.builders import (
    NOON,
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
from upshotd.application.ports import MessageFilter, RunFilter, Store
from upshotd.domain.errors import Conflict, ConstraintFailure
from upshotd.domain.message import Channel
from upshotd.domain.profile import Group, Merge, Suppression
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Changes, IdKind, Wanted
from upshotd.domain.values import replace

ANA = (IdKind.USER, "ana")
ANON = (IdKind.ANONYMOUS, "a1")
PERSON = "profile-ana"
MUTED = Suppression(channel=Channel.EMAIL)
#: Where one replica overtakes another either is right: the batch is decided again, or split.
REFUSALS = (Conflict, ConstraintFailure)


async def history(store: Store) -> None:
    """Something of every kind."""
    run = a_run(run_id="r", event_id="e", holds_active=True)
    ended = a_run(
        run_id="ended", event_id="e0", workflow_id="once", holds_ever=True, state=RunState.COMPLETED
    )
    await store.commit(
        [
            changes(
                a_profile(),
                accepted(an_event(event_id="e"), PERSON, run),
                run,
                ended,
                a_message(message_id="m", run_id="r"),
                Group("g"),
                an_engagement(engagement_id="waiting"),
                a_rejection(rejection_id="x"),
                an_outcome(outcome_id="o"),
                recorded={"m": an_engagement(engagement_id="n", message_id="m")},
            )
        ]
    )


def bystanders(workspace_id: str = "default") -> Changes:
    """Return changes of every kind that nothing is wrong with, last in every order."""
    run = a_run(run_id="z-run", event_id="z-event", profile_id="profile-zoe", due_us=NOON)
    return changes(
        a_profile(user_id="zoe"),
        accepted(an_event(event_id="z-event", user_id="zoe"), "profile-zoe", run),
        run,
        a_message(message_id="z-message", run_id="z-run", profile_id="profile-zoe", due_us=NOON),
        Group("z-group"),
        an_engagement(engagement_id="z-waiting", provider_message_id="z"),
        a_rejection(rejection_id="z-rejection"),
        an_outcome(outcome_id="z-outcome", profile_id="profile-zoe"),
        workspace_id=workspace_id,
        recorded={"z-message": an_engagement(engagement_id="z-n", message_id="z-message")},
        suppressions={("profile-zoe", MUTED.scope): MUTED},
    )


async def everything(store: Store) -> list[object]:
    """Return all that can be seen of the store."""
    found: list[object] = [await store.next_due(), await store.claim(NOON * 2, 100)]
    for workspace_id in ("default", "second"):
        wanted = Wanted(
            event_ids={"e", "z-event", "new"},
            identities={ANA, ANON, (IdKind.USER, "zoe")},
            group_ids={"g", "z-group"},
            run_ids={"r", "ended", "z-run", "new"},
            message_ids={"m", "z-message"},
            provider_keys={("smtp", "m-1"), ("smtp", "z")},
            engagement_ids={"n", "waiting", "z-n", "z-waiting"},
        )
        found += [
            await store.load(workspace_id, wanted),
            await store.spans(workspace_id),
            await store.counts(workspace_id, 0, NOON * 2, ""),
            await store.rejected_events(workspace_id, "", 100),
            await store.runs(workspace_id, RunFilter(), "", 100),
            await store.messages(workspace_id, MessageFilter(), "", 100),
        ]
    return found


async def refused(store: Store, wrong: Changes, *errors: type[Exception]) -> None:
    """Check that *wrong* is refused, and with it everything else of its batch."""
    before = await everything(store)
    with pytest.raises(errors):
        await store.commit([bystanders("second"), _joined(bystanders(), wrong)])
    assert await everything(store) == before
    # No position is burnt either, and the others can go in without it.
    await store.commit([bystanders("second"), bystanders()])
    spans = await store.spans("default")
    assert sum(span.head for span in spans.values()) == 2


def _joined(first: Changes, then: Changes) -> Changes:
    first.extend(then)
    return first


# -- rows that have moved on ---------------------------------------------------------------------

STALE: dict[str, Callable[[], Changes]] = {
    "profile": lambda: changes(a_profile(row_version=2)),
    "profile as new": lambda: changes(a_profile()),
    "profile that went": lambda: changes(a_profile(user_id="gone", row_version=1)),
    "run": lambda: changes(a_run(run_id="r", event_id="e", row_version=7)),
    "run as new": lambda: changes(a_run(run_id="r", event_id="new")),
    "message": lambda: changes(a_message(message_id="m", run_id="r", row_version=2)),
    "message as new": lambda: changes(a_message(message_id="m", run_id="r")),
    "group": lambda: changes(Group("g", row_version=2)),
    "group as new": lambda: changes(Group("g")),
}


@pytest.mark.parametrize("what", STALE)
async def test_a_row_that_has_moved_on_is_a_conflict(store: Store, what: str) -> None:
    await history(store)
    await refused(store, STALE[what](), Conflict)


async def test_of_two_decisions_on_one_load_the_second_is_a_conflict(store: Store) -> None:
    await history(store)
    run = (await store.load("default", Wanted(run_ids={"r"}))).runs["r"]
    await store.commit([changes(replace(run, reason="FIRST"))])
    await refused(store, changes(replace(run, reason="SECOND"), an_outcome()), Conflict)
    assert (await store.load("default", Wanted(run_ids={"r"}))).runs["r"].reason == "FIRST"


# -- keys that are taken -------------------------------------------------------------------------

CAME_MEANWHILE: dict[str, Callable[[], Changes]] = {
    "event": lambda: changes(an_event(event_id="e")),
    "recorded engagement": lambda: changes(
        recorded={"m": an_engagement(engagement_id="n", message_id="m")}
    ),
    "waiting engagement": lambda: changes(an_engagement(engagement_id="waiting")),
    "rejection": lambda: changes(a_rejection(rejection_id="x")),
}
TAKEN: dict[str, Callable[[], Changes]] = {
    "start": lambda: changes(a_run(run_id="new", event_id="e")),
    "active entry": lambda: changes(a_run(run_id="new", holds_active=True)),
    "entry for ever": lambda: changes(a_run(run_id="new", workflow_id="once", holds_ever=True)),
}


@pytest.mark.parametrize("what", CAME_MEANWHILE)
async def test_what_came_meanwhile_is_not_taken_twice(store: Store, what: str) -> None:
    await history(store)
    await refused(store, CAME_MEANWHILE[what](), *REFUSALS)


@pytest.mark.parametrize("what", TAKEN)
async def test_a_start_that_is_taken_fails_the_whole_batch(store: Store, what: str) -> None:
    await history(store)
    await refused(store, TAKEN[what](), ConstraintFailure)


async def test_an_identity_that_names_somebody_else_is_refused(store: Store) -> None:
    await history(store)
    await refused(store, changes(identities={ANA: "profile-other"}), *REFUSALS)
    again = changes(identities={ANA: PERSON})
    await store.commit([again])


FREE: dict[str, Callable[[], Run]] = {
    "another workflow by the same event": lambda: a_run(event_id="e", workflow_id="other"),
    "another person": lambda: a_run(profile_id="profile-ben", holds_active=True),
    "another key": lambda: a_run(reentry_key="k", holds_active=True),
    "always": lambda: a_run(),
    "another key for ever": lambda: a_run(workflow_id="once", reentry_key="k", holds_ever=True),
    "active where it is for ever": lambda: a_run(workflow_id="once", holds_active=True),
}


@pytest.mark.parametrize("what", FREE)
async def test_a_start_beside_it_is_free(store: Store, what: str) -> None:
    await history(store)
    run = FREE[what]()
    await store.commit([changes(run)])
    assert await store.run("default", run.run_id) is not None


async def test_an_entry_is_free_again_when_the_run_that_held_it_ends(store: Store) -> None:
    await history(store)
    held = (await store.load("default", Wanted(run_ids={"r"}))).runs["r"]
    ended = replace(held, state=RunState.COMPLETED, holds_active=False)
    # In the same commit already, whichever stands first.
    await store.commit([changes(a_run(run_id="a-next", holds_active=True), ended)])
    nobody = a_run(run_id="new", holds_active=True)
    with pytest.raises(ConstraintFailure):
        await store.commit([changes(nobody)])


async def test_an_outcome_that_cannot_be_encoded_leaves_nothing(store: Store) -> None:
    await history(store)
    before = await everything(store)
    broken = an_outcome(outcome_id="\udc00")
    with pytest.raises(UnicodeEncodeError):
        await store.commit([_joined(bystanders(), changes(broken))])
    assert await everything(store) == before


# -- merges --------------------------------------------------------------------------------------

GHOST = "profile-ghost"
MERGE = Merge(GHOST, PERSON)


async def ghost(store: Store, *things: object, **fields: object) -> None:
    """Store ana, and somebody anonymous who has *things*."""
    await store.commit([changes(a_profile())])
    anonymous = a_profile(profile_id=GHOST, user_id="", anonymous_ids=("a1",))
    await store.commit([changes(anonymous, *things, **fields)])  # type: ignore[arg-type]


async def test_a_merge_moves_everything_and_the_merged_profile_is_gone(store: Store) -> None:
    runs = [
        a_run(run_id="active", profile_id=GHOST, due_us=NOON),
        a_run(run_id="ended", profile_id=GHOST, state=RunState.COMPLETED),
    ]
    messages = [
        a_message(message_id=f"m-{r.run_id}", run_id=r.run_id, profile_id=GHOST) for r in runs
    ]
    await ghost(store, *runs, *messages, suppressions={(GHOST, MUTED.scope): MUTED})
    await store.commit([changes(MERGE)])
    state = await store.load("default", Wanted(identities={ANON}))
    assert state.identities[ANON] == PERSON
    assert state.profiles.keys() == {PERSON}
    assert state.suppressions == {PERSON: {MUTED.scope: MUTED}}
    assert list(state.active[PERSON]) == ["active"]
    assert {run.profile_id for run in state.runs.values()} == {PERSON}
    assert await store.profiles("default", {GHOST, PERSON}) == state.profiles
    for chosen, count in ((GHOST, 0), (PERSON, 2)):
        assert len(await store.runs("default", RunFilter(profile_id=chosen), "", 9)) == count
        chosen_messages = MessageFilter(profile_id=chosen)
        assert len(await store.messages("default", chosen_messages, "", 9)) == count
    assert [due.run_id for due in await store.claim(NOON, 9)] == ["active"]


async def test_what_a_run_has_written_to_others_stays_theirs(store: Store) -> None:
    run = a_run(run_id="r", profile_id=GHOST)
    own = a_message(message_id="own", run_id="r", profile_id=GHOST)
    told = a_message(message_id="told", run_id="r", profile_id="profile-reviewer")
    # Nothing leads from a person to what the runs of others have written to them.
    elsewhere = a_message(message_id="elsewhere", run_id="other", profile_id=GHOST)
    await ghost(store, run, a_run(run_id="other"), own, told, elsewhere)
    await store.commit([changes(MERGE)])
    state = await store.load("default", Wanted(run_ids={"r", "other"}))
    whose = {message_id: message.profile_id for message_id, message in state.messages.items()}
    assert whose == {"own": PERSON, "told": "profile-reviewer", "elsewhere": GHOST}
    found = await store.messages("default", MessageFilter(profile_id=PERSON), "", 9)
    assert {message.message_id for message in found} == whose.keys()
    (theirs,) = (await store.audience_rows.messages_of("default", [PERSON])).values()
    assert {message.message_id for message in theirs} == whose.keys()


async def test_a_merge_goes_with_the_rows_that_were_decided_with_it(store: Store) -> None:
    await ghost(store, a_run(run_id="r", profile_id=GHOST))
    state = await store.load("default", Wanted(identities={ANA, ANON}))
    known = replace(state.profiles[PERSON], anonymous_ids=("a1",))
    moved = replace(state.runs["r"], profile_id=PERSON, step_id="next")
    await store.commit([changes(MERGE, known, moved)])
    state = await store.load("default", Wanted(identities={ANON}))
    assert state.profiles == {PERSON: replace(known, row_version=2)}
    assert state.runs == {"r": replace(moved, row_version=2)}


async def test_the_targets_suppression_counts_where_both_have_one(store: Store) -> None:
    theirs = Suppression(channel=Channel.EMAIL, reason="COMPLAINED")
    sms = Suppression(channel=Channel.SMS)
    await ghost(store, suppressions={(GHOST, MUTED.scope): theirs, (GHOST, sms.scope): sms})
    await store.commit([changes(suppressions={(PERSON, MUTED.scope): MUTED})])
    await store.commit([changes(MERGE)])
    state = await store.load("default", Wanted(identities={ANA}))
    assert state.suppressions == {PERSON: {MUTED.scope: MUTED, sms.scope: sms}}


async def test_of_two_active_entries_the_one_that_is_canceled_lets_go(store: Store) -> None:
    await ghost(store, a_run(run_id="younger", profile_id=GHOST, holds_active=True))
    await store.commit([changes(a_run(run_id="older", holds_active=True))])
    state = await store.load("default", Wanted(identities={ANON}))
    canceled = replace(
        state.runs["younger"], profile_id=PERSON, state=RunState.CANCELED, holds_active=False
    )
    await store.commit([changes(MERGE, canceled)])
    state = await store.load("default", Wanted(identities={ANA}))
    assert list(state.active[PERSON]) == ["older"]
    assert state.runs["older"].holds_active


async def test_the_merged_persons_entry_may_be_the_one_that_stays(store: Store) -> None:
    await ghost(store, a_run(run_id="older", profile_id=GHOST, holds_active=True))
    await store.commit([changes(a_run(run_id="younger", holds_active=True))])
    state = await store.load("default", Wanted(identities={ANON, ANA}))
    moved = replace(state.runs["older"], profile_id=PERSON)
    canceled = replace(state.runs["younger"], state=RunState.CANCELED, holds_active=False)
    await store.commit([changes(MERGE, moved, canceled)])
    state = await store.load("default", Wanted(identities={ANA}))
    assert list(state.active[PERSON]) == ["older"]
    with pytest.raises(ConstraintFailure):
        await store.commit([changes(a_run(holds_active=True))])


async def test_two_people_who_each_had_it_once_for_ever_can_be_merged(store: Store) -> None:
    once = {"workflow_id": "once", "holds_ever": True, "state": RunState.COMPLETED}
    await ghost(store, a_run(run_id="theirs", profile_id=GHOST, **once))
    await store.commit([changes(a_run(run_id="hers", **once))])
    await store.commit([changes(MERGE)])
    for run_id in ("theirs", "hers"):
        run = await store.run("default", run_id)
        assert run is not None
        assert run.profile_id == PERSON
    with pytest.raises(ConstraintFailure):
        await store.commit([changes(a_run(**once))])


async def test_one_who_was_never_stored_can_be_merged_in_the_same_batch(store: Store) -> None:
    await store.commit([changes(a_profile())])
    batch = changes(
        MERGE,
        a_run(run_id="r", profile_id=GHOST),
        a_message(message_id="m", run_id="r", profile_id=GHOST),
        identities={ANON: GHOST},
        suppressions={(GHOST, MUTED.scope): MUTED},
    )
    await store.commit([batch])
    state = await store.load("default", Wanted(identities={ANON}))
    assert state.identities[ANON] == PERSON
    assert state.suppressions == {PERSON: {MUTED.scope: MUTED}}
    assert state.runs["r"].profile_id == state.messages["m"].profile_id == PERSON


async def test_merges_in_a_row_end_at_the_last_target(store: Store) -> None:
    await ghost(store, a_run(run_id="r", profile_id=GHOST))
    await store.commit([changes(a_profile(profile_id="second", user_id="", anonymous_ids=("a2",)))])
    names = {ANON: "second", (IdKind.ANONYMOUS, "a2"): PERSON}
    both = (Merge(GHOST, "second"), Merge("second", PERSON))
    await store.commit([changes(*both, identities=names)])
    state = await store.load("default", Wanted(identities={ANON, (IdKind.ANONYMOUS, "a2")}))
    assert set(state.identities.values()) == {PERSON}
    assert state.runs["r"].profile_id == PERSON


async def test_what_was_merged_cannot_be_linked_to_another_or_written(store: Store) -> None:
    await ghost(store)
    stale = (await store.load("default", Wanted(identities={ANON}))).profiles[GHOST]
    await store.commit([changes(MERGE)])
    before = await everything(store)
    late = changes(Merge(GHOST, "profile-ben"), a_profile(user_id="ben"))
    late.identities[ANON] = "profile-ben"
    with pytest.raises(REFUSALS):
        await store.commit([late])
    with pytest.raises(Conflict):
        await store.commit([changes(replace(stale, traits={"late": True}))])
    assert await everything(store) == before
