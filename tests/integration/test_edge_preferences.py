"""The page where people choose: reached by the link in a mail, and by nothing else."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio

from tests.integration.edge_world import World, unsubscribe_path, world
from tests.integration.test_edge_app import sent_message, settings
from tests.wire import identify, track
from upshot.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    outcome_pb2,
    service_pb2,
    service_pb2_grpc,
    workflow_pb2,
)
from upshotd import app

IN, OUT = admin_pb2.PREFERENCE_STATUS_OPTED_IN, admin_pb2.PREFERENCE_STATUS_OPTED_OUT
EMAIL, SMS, PUSH = (outcome_pb2.CHANNEL_EMAIL, outcome_pb2.CHANNEL_SMS, outcome_pb2.CHANNEL_PUSH)


@pytest_asyncio.fixture
async def there() -> AsyncIterator[World]:
    async with world() as made:
        news = admin_pb2.Topic(topic_id="news", display_name="<News>", description="Once & again")
        bills = admin_pb2.Topic(topic_id="bills", default=admin_pb2.TOPIC_DEFAULT_REQUIRED)
        made.server.people.preferences = [
            admin_pb2.Preference(
                topic=news, status=IN, channels_off=[SMS, outcome_pb2.CHANNEL_CHAT]
            ),
            admin_pb2.Preference(topic=bills, status=IN),
        ]
        yield made


def address(there: World) -> str:
    return there.links.preferences_url("default", "msg-1").replace("http://links.example", "")


async def test_the_page_shows_what_holds_and_changes_nothing(there: World) -> None:
    response = await there.get(address(there))
    shown = await response.text()
    assert response.status == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert "&lt;News&gt;" in shown
    assert "Once &amp; again" in shown
    assert 'name="news" value="in" checked' in shown
    assert f'name="news/{EMAIL}" value="on" checked' in shown
    assert f'name="news/{SMS}" value="on">' in shown
    assert "You always get these" in shown
    assert '<input type="hidden" name="bills" value="in">' in shown
    assert there.server.people.chosen == []
    token = address(there).removeprefix("/p/")
    assert there.server.people.credentials == [f"Link {token}"]


async def post(there: World, **fields: str) -> aiohttp.ClientResponse:
    given = {name.replace("_", "/"): value for name, value in fields.items()}
    url = there.url + address(there)
    async with there.http.post(url, data=given, allow_redirects=False) as response:
        await response.read()
        return response


async def test_what_is_changed_is_chosen_and_nothing_else(there: World) -> None:
    everywhere = {"bills": "in", **{f"bills_{channel}": "on" for channel in (EMAIL, SMS, PUSH)}}
    same = {f"news_{EMAIL}": "on", f"news_{PUSH}": "on", **everywhere}
    response = await post(there, news="in", **same)
    assert (response.status, response.headers["Location"]) == (303, address(there) + "?saved")
    assert there.server.people.chosen == []
    await post(there, news="out", **same)
    (out,) = there.server.people.chosen
    assert (out.topic_id, out.status, out.HasField("channels")) == ("news", OUT, False)
    there.server.people.chosen.clear()
    del same[f"news_{PUSH}"], same[f"bills_{EMAIL}"]
    await post(there, news="in", **same)
    news, bills = there.server.people.chosen
    assert news.status == admin_pb2.PREFERENCE_STATUS_UNSPECIFIED
    # Where it cannot be chosen here it stays as it was.
    assert list(news.channels.off) == [SMS, PUSH, outcome_pb2.CHANNEL_CHAT]
    assert (bills.topic_id, list(bills.channels.off)) == ("bills", [EMAIL])
    response = await there.get(address(there) + "?saved")
    assert "Saved." in await response.text()


async def test_a_form_that_does_not_know_a_topic_leaves_it(there: World) -> None:
    await post(there, **{f"bills_{channel}": "on" for channel in (EMAIL, SMS, PUSH)})
    assert there.server.people.chosen == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"news=perhaps&bills=&x=y", "application/x-www-form-urlencoded"),
        (b'{"news": "out"}', "application/json"),
        (b"news=out", "text/plain"),
        (b"--x\r\n\r\nout\r\n--x--", "multipart/form-data; boundary=x"),
        (b"\xff=\xff", "application/x-www-form-urlencoded; charset=nonsense"),
        (b"a=1&" * 10_000, "application/x-www-form-urlencoded"),
        (b" " * 100_000, "application/x-www-form-urlencoded"),
    ],
)
async def test_what_is_not_the_form_of_the_page_changes_nothing(
    there: World, body: bytes, kind: str
) -> None:
    async with there.http.post(
        there.url + address(there),
        data=body,
        headers={"Content-Type": kind},
        allow_redirects=False,
    ) as response:
        assert response.status in (303, 400, 413)
    assert there.server.people.chosen == []


async def test_links_of_another_kind_and_forged_ones_lead_nowhere(there: World) -> None:
    token = address(there).removeprefix("/p/")
    for path in (f"/p/{unsubscribe_path(there)[3:]}", f"/p/{token[:-1]}x", f"/u/{token}"):
        assert (await there.get(path)).status == 404
        async with there.http.post(there.url + path, data={"news": "out"}) as response:
            assert response.status == 404
    assert there.server.people.credentials == []


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.UNAUTHENTICATED, 404),
    ],
)
async def test_nobody_is_told_of_a_choice_that_was_not_taken(
    there: World, code: grpc.StatusCode, status: int
) -> None:
    there.server.people.refusal = code
    assert (await there.get(address(there))).status == status
    assert (await post(there, news="out")).status == status


async def test_where_there_is_nothing_to_choose_the_page_says_so(there: World) -> None:
    there.server.people.preferences = []
    assert "nothing to choose" in await (await there.get(address(there))).text()


async def test_the_unsubscribe_page_leads_to_it(there: World) -> None:
    shown = await (await there.get(unsubscribe_path(there))).text()
    (found,) = re.findall(r'<a href="http://links.example(/p/[^"]+)"', shown)
    assert found == address(there)


async def test_from_the_link_in_a_mail_to_the_next_mail_that_does_not_come(tmp_path: Path) -> None:
    html = '<a href="{{ links.preferences }}">Choose</a> <a href="https://shop.example">Shop</a>'
    content = workflow_pb2.EmailContent(subject="News", html=html)
    mail = workflow_pb2.Send(channel=EMAIL, email=content)
    workflow = workflow_pb2.Workflow(
        workflow_id="news",
        topic="news",
        trigger=workflow_pb2.Trigger(track=workflow_pb2.TrackTrigger(event="Due")),
        steps=[workflow_pb2.Step(step_id="mail", send=mail)],
    )
    async with (
        app.run(settings(tmp_path), {}) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
        aiohttp.ClientSession() as http,
    ):
        service = service_pb2_grpc.UpshotServiceStub(channel)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        topic = admin_pb2.Topic(topic_id="news", default=admin_pb2.TOPIC_DEFAULT_OPTED_IN)
        await admin.DefineTopic(admin_pb2.DefineTopicRequest(topic=topic))
        await service.DefineWorkflow(service_pb2.DefineWorkflowRequest(workflow=workflow))
        events = [identify("i1"), track("e1", "Due")]
        await service.Ingest(service_pb2.IngestRequest(events=events))
        stream = service.StreamOutcomes(
            service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_EARLIEST)
        )
        message_id = await sent_message(stream)
        got = await admin.GetMessage(admin_pb2.GetMessageRequest(message_id=message_id))
        written = str(got.message.content["html"])
        assert written.count("/c/") == 1, "a page of ours is no click"
        (link,) = re.findall(r'href="(http://[^"]+/p/[^"]+)"', written)
        async with http.get(unescape(link)) as answer:
            assert 'name="news" value="in" checked' in await answer.text()
        async with http.post(unescape(link), data={"news": "out"}) as answer:
            assert "Saved." in await answer.text()
        await service.Ingest(service_pb2.IngestRequest(events=[track("e2", "Due")]))
        async for page in stream:
            reasons = [outcome.reason for outcome in page.outcomes]
            if "OPTED_OUT" in reasons:
                break
