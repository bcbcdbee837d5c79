"""Who is asked for a decision: how every store finds it when they are erased, or wanted."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.approvals import ASKED, RUN, STEP, approval, keep, message, run
from tests.builders import DAY, HOUR, NOON, a_message, a_profile, a_run, changes
from tests.stores import Durable, opened
from upshotd.adapters.storage import erasing, reading
from upshotd.adapters.storage.store import SqlStore
from upshotd.application.ports import MessageFilter, Retention, Store
from upshotd.domain import addresses
from upshotd.domain.approval import Asking, Phase
from upshotd.domain.errors import Conflict
from upshotd.domain.message import Ask, Channel, MessageState
from upshotd.domain.profile import Erasure, Profile, Suppression
from upshotd.domain.run import Run, RunState
from upshotd.domain.state import Changes, Wanted
from upshotd.domain.values import replace

ANN, BEN, PIA = (f"profile-{name}" for name in ("ann", "ben", "pia"))
LATER = NOON + HOUR


def erasure(profile_id: str = ANN) -> Erasure:
    user_id = profile_id.removeprefix("profile-")
    return Erasure(profile_id, (profile_id,), user_id, (), (), LATER)


async def erasing_them(store: Store, profile_id: str = ANN, **fields: Any) -> Changes:
    """Return what erases somebody, as they are by now."""
    known = (await store.profiles("default", {profile_id}))[profile_id]
    tombstone = Profile(
        profile_id, user_id=known.user_id, erase_us=LATER, row_version=known.row_version
    )
    return changes(tombstone, erasures={profile_id: erasure(profile_id)}, **fields)


async def erase(store: Store, profile_id: str = ANN) -> None:
    await store.commit([await erasing_them(store, profile_id)])


async def kept_run(store: Store, run_id: str = RUN) -> Run:
    found = await store.run("default", run_id)
    assert found is not None
    return found


async def is_emptied(store: Store, message_id: str) -> bool:
    found = await store.message("default", message_id)
    assert found is not None
    return (found.profile_id, found.recipient, found.reason) == ("", "", "ERASED")


async def test_what_they_were_asked_by_is_emptied_and_what_others_were_is_not(
    store: Store,
) -> None:
    await keep(store)
    theirs = changes(message("ann"), a_profile(user_id="ann"), workspace_id="elsewhere")
    await store.commit([theirs])
    await erase(store)
    assert await is_emptied(store, ASKED["ann"])
    for message_id in (ASKED["ben"], "m-pia"):
        assert not await is_emptied(store, message_id)
    other = await store.message("elsewhere", ASKED["ann"])
    assert other is not None
    assert other.profile_id == ANN


async def test_a_run_that_waits_for_them_is_due_at_once(store: Store) -> None:
    await keep(store, due_us=NOON + DAY)
    await erase(store)
    assert (await kept_run(store)).due_us == LATER
    assert await store.next_due() == LATER
    assert await store.claim(LATER - 1, 9) == []
    (due,) = await store.claim(LATER, 9)
    assert due.run_id == RUN


@pytest.mark.parametrize("phase", [Phase.CONTEXT, Phase.REVIEWERS])
async def test_one_that_waits_for_an_answer_is_written_but_not_hurried(
    store: Store, phase: Phase
) -> None:
    """What was decided on it before is a conflict, and decided again without them."""
    await keep(store, approval(phase=phase), due_us=NOON + DAY)
    before = await kept_run(store)
    await erase(store)
    assert (await kept_run(store)).due_us == NOON + DAY
    with pytest.raises(Conflict):
        await store.commit([changes(before)])


@pytest.mark.parametrize(
    "fields", [{"step_id": "later"}, {"state": RunState.COMPLETED, "step_id": "", "due_us": None}]
)
async def test_one_that_waits_for_them_no_more_stays_as_it_is(
    store: Store, fields: dict[str, Any]
) -> None:
    await keep(store, **{"due_us": NOON + DAY, **fields})
    before = await kept_run(store)
    await erase(store)
    assert await kept_run(store) == before
    assert await is_emptied(store, ASKED["ann"])


async def test_who_asks_about_themself_leaves_a_run_that_wakes_for_nobody(store: Store) -> None:
    await keep(store)
    known = await kept_run(store)
    ended = replace(known, state=RunState.CANCELED, reason="ERASED", due_us=None, step_id="")
    asked = message("ann", message_id="m-self", profile_id=PIA)
    await store.commit([changes(asked)])
    gone = await erasing_them(store, PIA)
    gone.runs[RUN] = ended
    await store.commit([gone])
    left = await kept_run(store)
    assert (left.profile_id, left.steps, left.due_us) == ("", {}, None)
    assert await is_emptied(store, "m-self")


async def test_what_asks_somebody_is_listed_as_theirs_whoevers_run_it_is(store: Store) -> None:
    async def listed(profile_id: str) -> list[str]:
        found = await store.messages("default", MessageFilter(profile_id=profile_id), "", 9)
        return [message.message_id for message in found]

    await keep(store)
    await store.commit([changes(message("ann", message_id="m-self", profile_id=PIA))])
    assert await listed(ANN) == ["m-ann"]
    assert await listed(PIA) == ["m-self", "m-pia"]
    await erase(store)
    assert await listed(ANN) == []
    assert await listed(PIA) == ["m-self", "m-pia"]


@pytest.mark.parametrize("gone", [PIA, ANN])
async def test_whoever_is_erased_takes_no_address_of_others_off_the_list(
    store: Store, gone: str
) -> None:
    listed = {name: f"email:{name}@example.com" for name in ("pia", "ann", "ben")}
    held = Suppression(Channel.EMAIL, reason="BOUNCED")
    await keep(store)
    sent = [await store.message("default", name) for name in ("m-pia", "m-ann", "m-ben")]
    mails = [
        replace(one, recipient=listed[one.message_id[2:]].removeprefix("email:"))
        for one in sent
        if one is not None
    ]
    await store.commit(
        [changes(*mails, suppressions={(one, held.scope): held for one in listed.values()})]
    )
    ended = replace(await kept_run(store), state=RunState.CANCELED, step_id="", due_us=None)
    await store.commit([changes(ended)])
    await erase(store, gone)
    kept = {one.owner for one in await store.suppressions("default", "", 9)}
    theirs = listed.pop(gone.removeprefix("profile-"))
    assert kept == {addresses.hidden(theirs), *listed.values()}


async def test_what_was_asked_since_the_erasure_was_decided_is_emptied_too(store: Store) -> None:
    await keep(store)
    gone = await erasing_them(store)
    late = a_run(run_id="late", workflow_id="pay", profile_id=PIA, step_id=STEP)
    made = approval(asked=(Asking(ANN, Ask.REQUEST, 1, NOON, message_ids=("m-late",)),))
    late = replace(late, steps={STEP: made.left()}, due_us=NOON + DAY)
    request = message("ann", message_id="m-late", run_id="late")
    relied = (await store.profiles("default", {ANN}))[ANN].row_version
    await store.commit([changes(late, request, consents={ANN: relied})])
    await store.commit([gone])
    assert await is_emptied(store, "m-late")
    assert (await kept_run(store, "late")).due_us == LATER


async def test_an_erasure_that_fails_leaves_everything_to_the_next_one(store: Store) -> None:
    await keep(store, due_us=NOON + DAY)
    with pytest.raises(Conflict):
        await store.commit([await erasing_them(store, consents={BEN: 7})])
    stale = await erasing_them(store)
    stale.erasures[PIA] = erasure(PIA)  # whose run has not ended
    with pytest.raises(Conflict):
        await store.commit([stale])
    assert (await kept_run(store)).due_us == NOON + DAY
    assert not await is_emptied(store, ASKED["ann"])
    await erase(store)
    assert (await kept_run(store)).due_us == LATER
    assert await is_emptied(store, ASKED["ann"])


async def test_who_is_asked_and_erased_in_one_transaction_leaves_nothing_to_find(
    store: Store,
) -> None:
    await keep(store)
    blank = message("ann", message_id="m-2", profile_id="", state=MessageState.SUPPRESSED)
    await store.commit([await erasing_them(store), changes(replace(blank, reason="ERASED"))])
    assert await is_emptied(store, "m-2")
    again = (await store.message("default", ASKED["ann"]), await store.message("default", "m-2"))
    await erase(store)
    known = (await store.message("default", ASKED["ann"]), await store.message("default", "m-2"))
    assert known == again, "they are not touched once more"


async def test_who_comes_back_is_found_by_what_they_are_asked_then(store: Store) -> None:
    await keep(store)
    await erase(store)
    back = replace((await store.profiles("default", {ANN}))[ANN], create_us=LATER)
    await store.commit([changes(back, message("ann", message_id="m-new"))])
    assert not await is_emptied(store, "m-new")
    await erase(store)
    assert await is_emptied(store, "m-new")


async def test_retention_keeps_them_findable(store: Store) -> None:
    """As runs and messages are: what is asked is kept for as long as they are."""
    await keep(store, due_us=NOON + DAY)
    far = 10 * NOON
    await store.prune(Retention(events_us=far, outcomes_us=far, rejected_us=far), 100)
    await erase(store)
    assert await is_emptied(store, ASKED["ann"])
    assert (await kept_run(store)).due_us == LATER


# -- what is loaded ------------------------------------------------------------------------------


async def test_a_run_comes_with_whom_it_has_asked_after_they_were_erased(store: Store) -> None:
    await keep(store)
    await erase(store)
    for wanted in (Wanted(run_ids={RUN}), Wanted(message_ids={ASKED["ben"]})):
        state = await store.load("default", wanted)
        assert state.profiles.keys() == {PIA, ANN, BEN}
        assert state.profiles[ANN].erased


async def test_a_run_comes_with_whom_it_will_write_to_after_their_quiet_hours(
    store: Store,
) -> None:
    asked = (Asking(ANN, Ask.REQUEST, 1, NOON, due_us=LATER),)
    made = run(approval(asked=asked))
    hers = a_run(run_id="hers", profile_id=ANN)
    await store.commit([changes(*map(_person, ("ann", "pia")), made, hers)])
    state = await store.load("default", Wanted(run_ids={RUN}))
    assert state.profiles.keys() == {PIA, ANN}
    assert state.runs.keys() == {RUN, "hers"}, "everything of hers, as of whom has a message"


def _person(name: str) -> Profile:
    return a_profile(user_id=name)


# -- databases -----------------------------------------------------------------------------------


async def test_requests_of_before_are_found_after_the_upgrade(durable: Durable) -> None:
    """The table is taken away, and comes back filled from more than one page of messages."""
    store = durable.store
    await keep(store, due_us=NOON + DAY)
    asks = [message("ann", message_id=f"a{n:04d}") for n in range(1_500)]
    mails = [a_message(message_id=f"b{n:04d}", run_id=RUN) for n in range(1_500)]
    emptied = message("ann", message_id="c", profile_id="", reason="ERASED")
    alone = changes(message("ann"), workspace_id="elsewhere")
    await store.commit([changes(*asks, *mails, emptied), alone])
    await durable.take_back("0007")
    store = await durable.reopen()
    assert isinstance(store, SqlStore)
    found = await store._database.read(_asks)
    expected = [("default", ANN, name) for name in ("m-ann", *(a.message_id for a in asks))]
    expected += [("default", BEN, "m-ben"), ("elsewhere", ANN, "m-ann")]
    assert found == sorted(expected)
    await erase(store)
    assert await is_emptied(store, "a1499")
    assert (await kept_run(store)).due_us == LATER


def _asks(connection: Connection) -> list[tuple[Any, ...]]:
    text = "SELECT workspace_id, profile_id, message_id FROM asks"
    return sorted(tuple(row) for row in connection.exec_driver_sql(text))


async def test_no_statement_of_an_erasure_reads_through_a_table(tmp_path: Path) -> None:
    async with opened("sqlite", tmp_path) as store:
        await keep(store)
        assert isinstance(store, SqlStore)
        said = await traced(store, lambda c: erasing.erase(c, "default", erasure()))
        plans = await store._database.write(lambda c: [_plan(c, text) for text in said])
    read = [line.split() for plan in plans for line in plan if line.startswith(("SCAN", "SEARCH"))]
    rows = [words for words in read if words[1] in {"asks", "messages", "runs"}]
    assert {words[1] for words in rows} == {"asks", "messages", "runs"}
    # By a key of the person's, and not by the workspace alone.
    assert [words for words in rows if words[0] == "SCAN" or words[-1] == "(workspace_id=?)"] == []


async def test_the_messages_to_somebody_are_not_looked_for_among_all(tmp_path: Path) -> None:
    chosen = MessageFilter(profile_id=ANN)
    async with opened("sqlite", tmp_path) as store:
        await keep(store)
        assert isinstance(store, SqlStore)
        look = partial(reading.message_list, workspace_id="default", chosen=chosen)
        said = await traced(store, lambda c: look(c, before="", limit=9))
        plans = await store._database.write(lambda c: [_plan(c, text) for text in said])
    read = [line.split() for plan in plans for line in plan if line.startswith(("SCAN", "SEARCH"))]
    assert {"asks", "messages", "runs"} <= {words[1] for words in read}
    assert [words for words in read if words[-1] == "(workspace_id=?)"] == []


async def test_a_message_that_asks_for_nothing_costs_no_statement_more(tmp_path: Path) -> None:
    async with opened("sqlite", tmp_path) as store:
        await keep(store)
        assert isinstance(store, SqlStore)
        plain = await written(store, a_message(message_id="m-1", run_id=RUN))
        asks = await written(store, message("ben", message_id="m-2"))
        sent = await store.message("default", "m-2")
        assert sent is not None
        again = await written(store, sent)
    assert [text for text in (*plain, *again) if "asks" in text] == []
    assert len([text for text in asks if "INTO asks" in text]) == 1


async def written(store: SqlStore, one: Any) -> list[str]:
    """Return the statements by which a message is written."""
    said: list[str] = []
    await store._database.write(lambda c: _driver(c).set_trace_callback(said.append))
    await store.commit([changes(one)])
    await store._database.write(lambda c: _driver(c).set_trace_callback(None))
    return said


async def traced(store: SqlStore, work: Any) -> list[str]:
    """Return the statements of *work* that read or write rows."""
    said: list[str] = []

    def watched(connection: Connection) -> None:
        _driver(connection).set_trace_callback(said.append)
        work(connection)
        _driver(connection).set_trace_callback(None)

    await store._database.write(watched)
    return [text for text in said if text.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]


def _driver(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


def _plan(connection: Connection, text: str) -> list[str]:
    return [str(row[3]) for row in _driver(connection).execute(f"EXPLAIN QUERY PLAN {text}")]
