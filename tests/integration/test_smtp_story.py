"""The whole loop in one process: a mail that really left, and what its reader does with it."""

import re
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import pytest

from tests.sinks import Mailbox, mailbox, part
from tests.wire import (
    DAY_S,
    Watch,
    Wire,
    identify,
    kinds,
    mail,
    opened,
    running,
    track,
    workflow,
)
from upshot.v1 import admin_pb2

TARGET = "https://shop.example/start?plan=gold&from=mail"
HTML = (
    "<html><body><p>Hello {{ traits.name }}</p>"
    '<a href="https://shop.example/start?plan=gold&amp;from=mail">Start</a>'
    "</body></html>"
)


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as running_box:
        yield running_box


@pytest.fixture
async def wire(database: Path, box: Mailbox) -> AsyncIterator[Wire]:
    async with running(database, box.toml) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def received(wire: Wire, box: Mailbox, event_id: str = "e1") -> EmailMessage:
    """Define the workflow, let ana sign up, and return the mail she got."""
    step = mail(subject="Hello {{ traits.name }}", text="Hello {{ traits.name }}")
    step["send"]["email"]["html"] = HTML
    await wire.define(workflow("welcome", "Signed Up", step, opened(), topic="onboarding"))
    person = identify(f"i-{event_id}", email="ana@home.example", name="Ana & Co")
    await wire.ingest(person, track(event_id))
    await wire.advance()
    return box.mails[-1]


def link(text: str, kind: str) -> str:
    """Return the address of a pixel (o), a click (c) or an unsubscription (u)."""
    found = re.search(rf'http://[^"<>\s]+/{kind}/[^"<>\s]+', text)
    assert found is not None, text
    return found[0]


async def test_a_mail_carries_its_headers_its_pixel_and_its_links(wire: Wire, box: Mailbox) -> None:
    message = await received(wire, box)
    assert (message["Subject"], message["To"]) == ("Hello Ana & Co", "ana@home.example")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    edge = f"http://{wire.app.http_address}"
    assert message["List-Unsubscribe"].startswith(f"<{edge}/u/")

    html = part(message, "html")
    assert "<p>Hello Ana &amp; Co</p>" in html, "values are escaped"
    assert link(html, "o").startswith(f"{edge}/o/")
    assert html.index(link(html, "o")) < html.index("</body>")
    assert "shop.example" not in html, "the link leads through us"
    assert link(html, "c").startswith(f"{edge}/c/")
    assert part(message, "plain").strip() == "Hello Ana & Co"


async def test_fetching_the_pixel_is_an_opening(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    html = part(await received(wire, box), "html")
    stream = watched_stream(wire)
    sent = await stream.until_kind("MESSAGE_SENT")
    for _ in range(2):
        async with http.get(link(html, "o")) as answer:
            assert (answer.status, answer.content_type) == (200, "image/gif")
            assert "no-store" in answer.headers["Cache-Control"]
    seen = await stream.until_kind("MESSAGE_OPENED")
    assert (seen.message_id, seen.user_id, seen.machine) == (sent.message_id, "ana", False)
    run = await wire.run(seen.run_id)
    assert run.state == admin_pb2.RUN_STATE_COMPLETED, "what it waited for has come"
    assert kinds(await watched_stream.all(wire)).count("MESSAGE_OPENED") == 1


async def test_software_that_fetches_ahead_is_told_apart(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    html = part(await received(wire, box), "html")
    async with http.get(link(html, "o"), headers={"Sec-Purpose": "prefetch"}) as answer:
        assert answer.status == 200
    stream = watched_stream(wire)
    assert (await stream.until_kind("MESSAGE_OPENED")).machine
    (message,) = await wire.messages()
    assert (await wire.run(message.run_id)).step_id == "opened", "it waits for a person"
    async with http.get(link(html, "o")) as answer:
        assert answer.status == 200
    assert (await wire.run(message.run_id)).state == admin_pb2.RUN_STATE_COMPLETED


async def test_a_click_leads_to_the_target_and_is_told(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    html = part(await received(wire, box), "html")
    async with http.get(link(html, "c"), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, TARGET)
    clicked = await watched_stream(wire).until_kind("MESSAGE_CLICKED")
    assert (clicked.link_url, clicked.user_id) == (TARGET, "ana")
    assert (await wire.run(clicked.run_id)).state == admin_pb2.RUN_STATE_COMPLETED


async def test_one_click_unsubscribes_and_the_next_mail_is_held_back(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    message = await received(wire, box)
    address = message["List-Unsubscribe"].strip("<>")
    async with http.get(address) as answer:
        assert answer.status == 200
        assert "<form" in await answer.text()
    assert not (await wire.profile(user_id="ana")).suppressions, "a GET changes nothing"
    for _ in range(2):
        async with http.post(address, data={"List-Unsubscribe": "One-Click"}) as answer:
            assert answer.status == 200

    stream = watched_stream(wire)
    left = await stream.until_kind("MESSAGE_UNSUBSCRIBED")
    (held,) = (await wire.profile(user_id="ana")).suppressions
    assert (held.topic, held.reason) == ("onboarding", "UNSUBSCRIBED")
    assert left.user_id == "ana"

    # The next of this topic is held back; what is about something else still comes.
    await wire.define(workflow("tour", "Tour Begun", mail(), topic="onboarding"))
    await wire.define(workflow("receipt", "Paid", mail(subject="Receipt"), topic="orders"))
    await wire.ingest(track("t1", "Tour Begun"), track("p1", "Paid"))
    await wire.advance()
    suppressed = await stream.until_kind("MESSAGE_SUPPRESSED")
    assert (suppressed.workflow_id, suppressed.reason) == ("tour", "UNSUBSCRIBED")
    assert [m["Subject"] for m in box.mails] == ["Hello Ana & Co", "Receipt"]
    told = kinds(await watched_stream.all(wire))
    assert told.count("MESSAGE_UNSUBSCRIBED") == 1
    assert told.count("MESSAGE_SENT") == 2


async def test_without_a_topic_the_whole_channel_is_held_back(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession
) -> None:
    await wire.define(workflow("news", "News", mail(subject="News")))
    await wire.ingest(identify("i1"), track("n1", "News"))
    await wire.advance()
    async with http.post(box.mails[0]["List-Unsubscribe"].strip("<>")) as answer:
        assert answer.status == 200
    await received(wire, box)
    assert len(box.mails) == 1
    assert [m.reason for m in await wire.messages()] == ["", "UNSUBSCRIBED"]


async def test_a_link_that_was_changed_leads_nowhere(
    wire: Wire, box: Mailbox, http: aiohttp.ClientSession, watched_stream: Watch
) -> None:
    html = part(await received(wire, box), "html")
    good = link(html, "c")
    token = good.rpartition("/")[2]
    edge = good.partition("/c/")[0]
    for forged in (f"{good}x", f"{edge}/c/{token[1:]}", f"{edge}/u/{token}", f"{edge}/c/nonsense"):
        async with http.get(forged, allow_redirects=False) as answer:
            assert answer.status == 404
    await wire.advance(2 * DAY_S)
    assert "MESSAGE_CLICKED" not in kinds(await watched_stream.all(wire))
