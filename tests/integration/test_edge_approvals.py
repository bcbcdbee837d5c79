"""The pages where reviewers decide: a GET never does, the first POST that does counts."""

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from tests.approvals import SUMMARY
from tests.builders import HOUR, NOON
from tests.integration.approval_world import NOW_US, PUBLIC, World, approval_world
from upshot.v1 import admin_pb2, outcome_pb2
from upshotd.adapters.grpc.structs import plain
from upshotd.adapters.http.edge import Edge
from upshotd.adapters.links import LinkSigner
from upshotd.domain.approval import QUESTIONS_MAX, Question
from upshotd.domain.run import RunState
from upshotd.domain.steps.approve import ApprovalDecision

KINDS = "adqr"
DECIDED = outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED
ASKED = outcome_pb2.OUTCOME_KIND_APPROVAL_ASKED
#: A form of each kind, and what it says.
FORMS = {
    "a": {"do": "approve", "comment": "fine"},
    "d": {"do": "deny", "comment": "no"},
    "q": {"do": "ask", "question": "Why?"},
}


@pytest_asyncio.fixture
async def there() -> AsyncIterator[World]:
    async with approval_world() as made:
        yield made


# -- looking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_the_page_shows_what_it_is_about_and_decides_nothing(there: World, kind: str) -> None:
    before = await there.approval()
    status, shown, headers = await there.send("GET", there.path(kind))
    assert status == 200
    assert "Pay 120 € to &lt;Acme &amp; Sons&gt;?<br>Invoice 7" in shown
    assert "until 2026-07-03 at 12:00 UTC" in shown
    assert ('value="approve"' in shown) is (kind in "ar")
    assert ('value="deny"' in shown) is (kind in "dr")
    assert ('value="ask"' in shown) is (kind in "qr")
    assert "no-store" in headers["Cache-Control"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "script-src" not in headers["Content-Security-Policy"]
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    assert "<script" not in shown
    for method, path in (
        ("HEAD", there.path(kind)),
        ("GET", there.path(kind) + "?do=approve&comment=x"),
        ("GET", there.path(kind) + "?do=deny&do=ask&question=why"),
    ):
        status, _, _ = await there.send(method, path)
        assert status == 200
    assert await there.told() == []
    assert await there.approval() == before


async def test_questions_are_shown_with_their_answers(there: World) -> None:
    questions = (
        Question(
            "q1", there.sent["ben"], "ben", "What\nis it?", NOON, "<b>A bill</b>", NOON + HOUR
        ),
        Question("q2", there.sent["ann"], "<ann>", "Due when?", NOON),
    )
    await there.put((await there.approval())._replace(questions=questions))
    _, shown = await there.get(there.path("r"))
    assert "ben asked on 2026-07-01 at 12:00 UTC:<br>What<br>is it?" in shown
    assert "Answered on 2026-07-01 at 13:00 UTC:<br>&lt;b&gt;A bill&lt;/b&gt;" in shown
    assert "&lt;ann&gt; asked" in shown
    assert "There is no answer yet." in shown


# -- deciding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "says"), [("a", "Approved"), ("d", "Denied")])
async def test_who_decides_reads_that_it_is_so(there: World, kind: str, says: str) -> None:
    status, shown = await there.post(there.path(kind), **FORMS[kind])
    assert status == 200
    assert f"<h1>{says}</h1>" in shown
    assert f"{says} by ann on 2026-07-01 at 13:00 UTC." in shown
    assert f"They said: {FORMS[kind]['comment']}" in shown
    assert "<form" not in shown
    (told,) = await there.told()
    assert (told.kind, told.message_id) == (DECIDED, there.sent["ann"])
    assert told.occur_time.ToMicroseconds() == NOW_US
    comment = FORMS[kind]["comment"]
    assert plain(told.properties) == {
        "decision": says.upper(),
        "decided_by": "ann",
        "comment": comment,
    }


@pytest.mark.parametrize("way", FORMS)
async def test_the_page_for_everything_takes_each_of_them(there: World, way: str) -> None:
    status, _ = await there.post(there.path("r"), **FORMS[way])
    assert status == 200
    (told,) = await there.told()
    assert told.message_id == there.sent["ann"]
    assert told.kind == (ASKED if way == "q" else DECIDED)
    assert plain(told.properties).get("decision") == {"a": "APPROVED", "d": "DENIED"}.get(way)


async def test_a_comment_is_not_asked_for(there: World) -> None:
    status, shown = await there.post(there.path("a"), do="approve", comment=" \r\n")
    assert (status, "They said" in shown) == (200, False)
    assert plain((await there.told())[0].properties) == {
        "decision": "APPROVED",
        "decided_by": "ann",
    }


async def test_a_second_click_is_the_first_one_again(there: World) -> None:
    for _ in range(3):
        status, shown = await there.post(there.path("a"), **FORMS["a"])
        assert (status, "Approved by ann" in shown) == (200, True)
    assert len(await there.told()) == 1


async def test_who_comes_too_late_reads_that_somebody_was_faster(there: World) -> None:
    await there.post(there.path("d", "ben"), do="deny", comment="<b>never</b>\nagain")
    status, shown = await there.post(there.path("a"), **FORMS["a"])
    assert status == 409
    assert "somebody was faster" in shown
    assert "Denied by ben on 2026-07-01 at 13:00 UTC." in shown
    assert "&lt;b&gt;never&lt;/b&gt;<br>again" in shown
    assert (await there.approval()).decision is ApprovalDecision.DENIED
    assert len(await there.told()) == 1
    _, shown = await there.get(there.path("a"))
    assert ("Denied by ben" in shown, "faster" in shown, "<form" in shown) == (True, False, False)


async def test_when_nobody_decided_in_time_it_says_so(there: World) -> None:
    ended = (await there.approval())._replace(timed_out=True, end_us=NOON + HOUR)
    await there.put(ended)
    status, shown = await there.post(there.path("a"), **FORMS["a"])
    assert status == 409
    assert "it came too late" in shown
    assert "Nobody decided in time; it ended on 2026-07-01 at 13:00 UTC." in shown
    await there.put(ended._replace(decision=ApprovalDecision.DENIED))
    status, shown = await there.get(there.path("r"))
    assert (status, "It counts as denied." in shown, "<form" in shown) == (200, True, False)


async def test_when_the_run_was_canceled_it_is_not_needed_any_more(there: World) -> None:
    canceled = {"state": RunState.CANCELED, "step_id": "", "end_us": NOON + HOUR}
    await there.put(await there.approval(), **canceled)
    status, shown = await there.get(there.path("a"))
    assert status == 200
    assert "It is not needed any more; it ended on 2026-07-01 at 13:00 UTC." in shown
    assert "<form" not in shown


# -- asking ----------------------------------------------------------------------------------------


async def test_a_question_is_recorded_and_it_can_still_be_decided(there: World) -> None:
    status, shown = await there.post(there.path("q"), do="ask", question="Why\r\nso much?")
    assert status == 200
    assert "you get the answer by message" in shown
    assert "still decide by the links" in shown
    assert "ann asked on 2026-07-01 at 13:00 UTC:<br>Why<br>so much?" in shown
    (told,) = await there.told()
    assert (told.kind, told.message_id) == (ASKED, there.sent["ann"])
    assert plain(told.properties)["question"] == "Why\nso much?"
    status, shown = await there.post(there.path("a"), **FORMS["a"])
    assert (status, "Approved by ann" in shown) == (200, True)


async def test_the_same_question_is_one_and_another_is_another(there: World) -> None:
    for question in ("Why?", "Why?", "How?"):
        status, _ = await there.post(there.path("q"), do="ask", question=question)
        assert status == 200
    assert [one.question for one in (await there.approval()).questions] == ["Why?", "How?"]
    for number in range(QUESTIONS_MAX - 2):
        await there.post(there.path("q"), do="ask", question=f"And {number}?")
    status, shown = await there.post(there.path("q"), do="ask", question="Who?")
    assert (status, "too many" in shown) == (409, True)
    assert len((await there.approval()).questions) == QUESTIONS_MAX


# -- what is not taken -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        ("a", {}, "not the form"),
        ("a", {"do": "deny"}, "not the form"),
        ("d", {"do": "approve"}, "not the form"),
        ("q", {"do": "approve", "question": "x"}, "not the form"),
        ("r", {"do": "answer"}, "not the form"),
        ("a", {"do": "approve", "comment": "x" * 2_001}, "2001 characters; at most 2000"),
        ("r", {"do": "deny", "comment": "é" * 2_001}, "2001 characters; at most 2000"),
        ("q", {"do": "ask", "question": "x" * 2_001}, "2001 characters; at most 2000"),
        ("q", {"do": "ask", "question": " \n\x00 "}, "no question"),
        ("q", {"do": "ask"}, "no question"),
    ],
)
async def test_a_form_that_says_nothing_or_too_much_is_refused_in_words(
    there: World, kind: str, fields: dict[str, str], says: str
) -> None:
    status, shown = await there.post(there.path(kind), **fields)
    assert (status, says in shown) == (400, True)
    assert await there.told() == []


async def test_the_longest_text_is_taken(there: World) -> None:
    longest = "\N{BEAR FACE}" * 2_000
    status, _ = await there.post(there.path("a"), do="approve", comment=longest)
    assert status == 200
    assert (await there.approval()).comment == longest


@pytest.mark.parametrize(
    ("body", "kind", "statuses"),
    [
        (b"", "", {400}),
        (b'{"do": "approve"}', "application/json", {400}),
        (b"do=approve", "text/plain", {400}),
        (b"--x\r\n\r\napprove\r\n--x--", "multipart/form-data; boundary=x", {400}),
        (b"\xff=\xff", "application/x-www-form-urlencoded", {400}),
        (b"a=1&" * 10_000, "application/x-www-form-urlencoded", {400}),
        (b"do=approve&comment=" + b"x" * 70_000, "application/x-www-form-urlencoded", {413}),
    ],
)
async def test_what_is_not_the_form_of_the_page_decides_nothing(
    there: World, body: bytes, kind: str, statuses: set[int]
) -> None:
    path = there.path("a") + "?do=approve"
    headers = {"Content-Type": kind} if kind else {}
    status, _, _ = await there.send("POST", path, body, headers)
    assert status in statuses
    assert await there.told() == []


@pytest.mark.parametrize("whose", ["pia", "unknown"])
async def test_a_link_of_a_message_that_asks_for_nothing_leads_nowhere(
    there: World, whose: str
) -> None:
    for kind in KINDS:
        assert (await there.get(there.path(kind, whose)))[0] == 404
    assert (await there.post(there.path("a", whose), **FORMS["a"]))[0] == 404
    assert await there.told() == []


async def test_a_link_of_a_key_that_the_server_does_not_have_leads_nowhere(there: World) -> None:
    """The edge and the server read the key of links at their start; one may be the older."""
    links = LinkSigner(b"o" * 32, PUBLIC)
    other = Edge(
        listen_host="127.0.0.1",
        listen_port=0,
        stub=there.upshot,
        admin=there.admin,
        links=links,
        now_us=lambda: NOW_US,
    )
    await other.start()
    try:
        url = str(links.named("default", there.sent["ann"])["approve"])
        here = f"http://127.0.0.1:{other.port}/" + url.split("/", 3)[3]
        async with there.http.get(here) as shown, there.http.post(here, data=FORMS["a"]) as taken:
            assert (shown.status, taken.status) == (404, 404)
    finally:
        await other.stop()
    assert await there.told() == []


async def test_while_the_server_cannot_be_asked_people_are_told_to_come_back(there: World) -> None:
    there.engine.loop.drain()
    status, shown = await there.post(there.path("a"), **FORMS["a"])
    assert (status, "try again" in shown) == (503, True)
    assert (await there.approval()).open


# -- what links are told ---------------------------------------------------------------------------


async def test_who_was_asked_is_not_for_who_comes_with_a_link(there: World) -> None:
    request = admin_pb2.GetApprovalRequest(message_id=there.sent["ann"])
    for kind in KINDS:
        link = [("authorization", f"Link {there.token(kind)}")]
        found = (await there.admin.GetApproval(request, metadata=link)).approval
        assert (found.summary, list(found.reviewers)) == (SUMMARY, [])
    key = [("authorization", f"Bearer {there.key}")]
    found = (await there.admin.GetApproval(request, metadata=key)).approval
    assert [one.user_id for one in found.reviewers] == ["ann", "ben"]
    by_step = admin_pb2.GetApprovalRequest(run_id=found.run_id, step_id=found.step_id)
    assert (await there.admin.GetApproval(by_step, metadata=key)).approval == found


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "run_id"),
        ({"run_id": "run-pay"}, "step_id"),
        ({"step_id": "ok"}, "run_id"),
        ({"message_id": "m-ann", "run_id": "run-pay"}, "message_id"),
    ],
)
async def test_an_approval_is_named_by_a_message_or_by_run_and_step(
    there: World, fields: dict[str, str], field: str
) -> None:
    key = [("authorization", f"Bearer {there.key}")]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await there.admin.GetApproval(admin_pb2.GetApprovalRequest(**fields), metadata=key)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(raised.value.details())
