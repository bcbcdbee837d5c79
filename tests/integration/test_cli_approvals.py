"""`upshot approval`: what is asked and decided, and a say in it."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.approval_world import World, approval_world
from tests.integration.cli_world import command


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
    shown = json.loads((await upshot(there, "show", "--message", there.sent["ann"], "--json"))[0])
    assert shown["state"] == "APPROVAL_STATE_OPEN"
    assert [one["user_id"] for one in shown["reviewers"]] == ["ann", "ben"]
    _, err = await upshot(there, "show", there.run_id, "later", code=1)
    assert f"no approval '{there.run_id}/later' (NOT_FOUND)" in err


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
        ("show", "run-pay"),
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
