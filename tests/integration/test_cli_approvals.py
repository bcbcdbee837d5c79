"""`upshot approval`: what is asked and decided, and a say in it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.approvals import STEP, WORKSPACE
from tests.builders import changes
from tests.integration.approval_world import World, approval_world
from tests.integration.cli_world import Ask, command, event, jsonl
from upshotd.application.ports import RunFilter
from upshotd.domain.values import replace


@pytest_asyncio.fixture
async def there() -> AsyncIterator[World]:
    async with approval_world() as made:
        yield made


async def upshot(there: World, *words: str, code: int = 0) -> tuple[str, str]:
    environ = {"UPSHOT_SERVER": there.address, "UPSHOT_KEY": there.key}
    return await command(environ, "approval", *words, code=code)


async def test_it_is_shown_by_its_step_and_by_a_message(there: World) -> None:
    out, _ = await upshot(there, "show", there.run_id, "ok")
    for said in (
        "pay/ok",
        "open",
        "2026-07-03 12:00:00",
        "Pay 120 €",
        "ann",
        "ben",
        there.sent["ben"],
    ):
        assert said in out
    assert (await upshot(there, "show", "--message", there.sent["ann"]))[0] == out
    assert (await upshot(there, "show", there.run_id))[0] == out
    shown = json.loads((await upshot(there, "show", "--message", there.sent["ann"], "--json"))[0])
    assert shown["state"] == "APPROVAL_STATE_OPEN"
    assert [one["user_id"] for one in shown["reviewers"]] == ["ann", "ben"]
    _, err = await upshot(there, "show", there.run_id, "later", code=1)
    assert f"no approval '{there.run_id}/later' (NOT_FOUND)" in err


async def test_the_step_is_named_where_it_is_not_the_only_one(there: World) -> None:
    await upshot(there, "approve", there.sent["ben"])
    out, _ = await upshot(there, "show", there.run_id)
    assert "pay/ok" in out
    left = (await there.run()).steps[STEP]
    run = replace(await there.run(), step_id="later", steps={STEP: left, "before": left})
    await there.engine.store.commit([changes(run)])
    _, err = await upshot(there, "show", there.run_id, code=2)
    assert f"give STEP: run {there.run_id} has asked at before, ok" in err
    (told,) = await there.engine.store.runs(WORKSPACE, RunFilter(workflow_id="told"), "", 9)
    _, err = await upshot(there, "show", told.run_id, code=2)
    assert "has asked nobody for a decision" in err
    await upshot(there, "show", "nowhere", code=1)


WANTED = """
workflow_id: wanted
trigger: {track: {event: Wanted}}
steps:
  - step_id: ok
    approve:
      summary: Well?
      levels: [{users: {user_ids: [amy, bob, cat]}}]
      request: {channel: CHANNEL_EMAIL, email: {subject: Well, text: "{{ links.review }}"}}
      timeout: 24h
"""


def test_it_shows_who_could_not_be_reached(ask: Ask, tmp_path: Path) -> None:
    ask("define", "-", given=WANTED)
    names = {"amy": {"email": "amy@example.com"}, "bob": {}, "cat": {"email": "cat@example.com"}}
    calls = [event(who, f"{who}-1", type="identify", traits=has) for who, has in names.items()]
    ask("suppress", "cat@example.com", "--reason", "complained")
    ask("ingest", jsonl(tmp_path / "them.jsonl", calls))
    ask("ingest", jsonl(tmp_path / "it.jsonl", [event("dan", "dan-1", event="Wanted")]))
    ask("advance", "0s")
    (run,) = ask.rows("runs", "--user", "dan")
    said = ask("approval", "show", str(run["run_id"])).stdout
    rows = {words[0]: " ".join(words[5:]) for words in map(str.split, said.splitlines()) if words}
    assert rows["amy"] == "request by email: accepted, sent"
    assert rows["bob"].startswith("request by email: unroutable (NO_ADDRESS"), said
    assert "COMPLAINED" in rows["cat"], said
    (message,) = (one for one in ask.rows("messages", "--user", "amy"))
    ask("engage", str(message["message_id"]), "bounced")
    said = ask("approval", "show", str(run["run_id"])).stdout
    assert "request by email: undeliverable (BOUNCED), sent, bounced" in said


async def test_a_question_goes_there_and_back_and_it_is_decided_once(there: World) -> None:
    out, _ = await upshot(there, "ask", there.sent["ann"], "What is it for?")
    assert out == "recorded\n"
    out, _ = await upshot(there, "ask", there.sent["ann"], "What is it for?")
    assert out == "duplicate\n"
    out, _ = await upshot(there, "show", "--message", there.sent["ann"])
    assert "What is it for?" in out
    assert "none yet" in out
    await upshot(there, "answer", there.sent["ann"], "The hosting.", "--question", "q1")
    _, err = await upshot(there, "answer", there.sent["ann"], "Again.", code=4)
    assert "rejected (NO_QUESTION: no question of the message is open)" in err
    await upshot(there, "approve", there.sent["ben"], "--comment", "in the budget")
    _, err = await upshot(there, "deny", there.sent["ann"], code=4)
    assert "rejected (ALREADY_DECIDED: somebody was first" in err
    out, _ = await upshot(there, "show", there.run_id, "ok")
    for said in ("decided", "approved", "ben", "in the budget", "The hosting."):
        assert said in out


async def test_what_asks_for_nothing_is_refused_with_the_reason(there: World) -> None:
    _, err = await upshot(there, "deny", there.sent["pia"], "--comment", "no", code=4)
    assert "NO_APPROVAL: the message asks for nothing" in err


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("show", "", "ok"),
        ("show", "run-pay", "--message", "m-ann"),
        ("show", "run-pay", "ok", "--message", "m-ann"),
        ("approve", ""),
        ("ask", "m-ann"),
        ("answer", "m-ann"),
    ],
)
async def test_what_is_missing_or_too_much_is_a_fault_of_usage(
    there: World, words: tuple[str, ...]
) -> None:
    await upshot(there, *words, code=2)
    assert await there.told() == []
