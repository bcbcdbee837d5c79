"""A decision by the links of mails that really left: opened, clicked, too late, and told."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.integration.payment_world import (
    RECORDED,
    approval,
    define_payments,
    messages,
    propose,
    say,
)
from tests.sinks import Mailbox, mailbox, part
from tests.wire import DAY_S, Watch, Wire, kinds, running
from upshot.v1 import admin_pb2


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as running_box:
        yield running_box


@pytest.fixture
async def wire(database: Path, box: Mailbox) -> AsyncIterator[Wire]:
    async with running(database, box.toml) as started:
        await define_payments(started)
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def mails(box: Mailbox, name: str) -> list[tuple[str, str]]:
    """Return subject and text of what somebody got, in order."""
    found = [mail for mail in box.mails if mail["To"] == f"{name}@example.com"]
    return [(str(mail["Subject"]), part(mail, "plain").replace("\r\n", "\n")) for mail in found]


def link(box: Mailbox, name: str, kind: str) -> str:
    """Return a link of the last mail that somebody got."""
    found = re.search(rf"http://\S+/{kind}/\S+", mails(box, name)[-1][1])
    assert found is not None, mails(box, name)
    return found[0]


async def post(http: aiohttp.ClientSession, url: str, **form: str) -> tuple[int, str]:
    async with http.post(url, data=form) as answer:
        return answer.status, await answer.text()


async def proposed(wire: Wire) -> str:
    """Return a run for which Ann and Ben have their mails."""
    run_id = await propose(wire)
    await messages(wire, run_id, 2)
    return run_id


async def test_the_first_link_decides_the_second_is_too_late_and_both_are_told(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    run_id = await proposed(wire)
    yes, no = link(box, "ann", "a"), link(box, "ben", "d")
    async with http.get(yes) as answer:
        assert answer.status == 200
        shown = await answer.text()
    assert "Pay 900.00 EUR to Acme?" in shown
    assert 'value="approve"' in shown
    assert (await approval(wire, run_id)).state == admin_pb2.APPROVAL_STATE_OPEN
    assert (await wire.run(run_id)).step_id == "finance", "who looks decides nothing"

    status, shown = await post(http, yes, do="approve", comment="in the budget")
    assert (status, "Approved by ann" in shown) == (200, True)
    assert (await wire.run(run_id)).state == admin_pb2.RUN_STATE_COMPLETED
    status, shown = await post(http, no, do="deny", comment="never")
    assert (status, "somebody was faster" in shown, "Approved by ann" in shown) == (409, True, True)
    assert "never" not in shown

    await messages(wire, run_id, 4)
    told = ("APPROVED: Pay 900.00 EUR to Acme?", "By ann. in the budget")
    for name in ("ann", "ben"):
        asked, notice = mails(box, name)
        assert asked[0] == "Pay Acme?"
        assert (notice[0], notice[1].strip()) == told
    outcomes = await watched_stream.all(wire)
    assert kinds(outcomes).count("APPROVAL_DECIDED") == 1
    events = [one.event for one in outcomes if one.run_id == run_id]
    assert ("Payment Approved" in events, "Payment Denied" in events) == (True, False)


async def test_a_scanner_that_opens_every_link_of_every_mail_decides_nothing(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    run_id = await proposed(wire)
    opened = 0
    for mail in box.mails:
        for url in re.findall(r"http://\S+", part(mail, "plain")):
            for call in (http.head, http.get, http.get):
                async with call(url, allow_redirects=False) as answer:
                    assert answer.status == 200
                    opened += 1
            for form in ({}, {"List-Unsubscribe": "One-Click"}):
                assert (await post(http, url, **form))[0] == 400, "nor by a POST without the form"
    assert opened == 2 * 3 * 3
    assert (await approval(wire, run_id)).state == admin_pb2.APPROVAL_STATE_OPEN
    outcomes = kinds(await watched_stream.all(wire))
    assert {"APPROVAL_DECIDED", "APPROVAL_ASKED"}.isdisjoint(outcomes)


async def test_a_question_by_a_link_comes_back_by_mail_and_its_links_decide(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession
) -> None:
    run_id = await proposed(wire)
    status, _ = await post(http, link(box, "ben", "q"), do="ask", question="What for?")
    assert status == 200
    (question,) = (await approval(wire, run_id)).questions
    assert question.asked_by == "ben"
    done = await say(wire, "ANSWERED", question.message_id, body="A lamp.")
    assert done.state == RECORDED
    await messages(wire, run_id, 3)
    assert mails(box, "ben")[-1][1].startswith("You asked: What for?\nAnswer: A lamp.\n")
    status, shown = await post(http, link(box, "ben", "d"), do="deny")
    assert (status, "Denied by ben" in shown) == (200, True)
    assert (await wire.run(run_id)).reason == "DENIED"


async def test_a_link_after_the_end_says_that_it_came_too_late(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession
) -> None:
    run_id = await proposed(wire)
    yes = link(box, "ann", "a")
    await wire.advance(2 * DAY_S + 1)
    status, shown = await post(http, yes, do="approve")
    assert (status, "it came too late" in shown) == (409, True)
    assert "It counts as denied" in shown
    assert (await wire.run(run_id)).reason == "DENIED"


async def test_nothing_that_a_reviewer_says_is_in_the_servers_log(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession
) -> None:
    with capture_logs() as logged:
        run_id = await proposed(wire)
        yes, no, ask = (link(box, *one) for one in (("ann", "a"), ("ben", "d"), ("ben", "q")))
        await post(http, ask, do="ask", question="Does the quokka know?")
        (question,) = (await approval(wire, run_id)).questions
        await say(wire, "ANSWERED", question.message_id, body="Every quokka knows.")
        await say(wire, "DENIED", "no-such-message", comment="says the quokka")
        await post(http, yes, do="approve", comment="The quokka agrees.")
        late = await post(http, no, do="deny", comment="No quokka.")
        await post(http, yes, do="approve", comment="quokka" * 400)
    assert late[0] == 409
    assert "approval.not_recorded" in {one["event"] for one in logged}
    tokens = [url.rpartition("/")[2] for url in (yes, no, ask)]
    assert not [
        one for one in logged for word in ("quokka", "@example.com", *tokens) if word in str(one)
    ]
