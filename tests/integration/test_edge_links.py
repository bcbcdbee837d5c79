"""The links of our own e-mails: opened, clicked, unsubscribed, forged."""

import asyncio
import base64
import random
import string
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.integration.edge_world import (
    NOW_US,
    TARGET,
    World,
    click_path,
    open_path,
    unsubscribe_path,
    world,
)
from upshot.v1 import engagement_pb2, service_pb2
from upshotd.adapters.http import links as links_module

TRACK = {"type": "track", "event": "Trial Started", "userId": "ana", "messageId": "m-1"}
SUCCESS = (200, {"success": True})


@pytest_asyncio.fixture
async def there() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


# -- links -------------------------------------------------------------------------------------


async def test_the_pixel_tells_of_an_opening(there: World) -> None:
    path = open_path(there)
    response = await there.get(path)
    body = await response.read()
    assert (response.status, response.content_type, len(body)) == (200, "image/gif", 43)
    assert body.startswith(b"GIF89a")
    assert "no-store" in response.headers["Cache-Control"]
    (fact,) = there.server.engagements
    assert fact.kind == engagement_pb2.ENGAGEMENT_KIND_OPENED
    assert (fact.message_id, fact.engagement_id) == ("msg-1", "open:msg-1")
    assert fact.occur_time.ToMicroseconds() == NOW_US
    assert not fact.machine
    token = path.removeprefix("/o/").removesuffix(".gif")
    assert there.server.credentials == [f"Link {token}"]


async def test_a_click_is_recorded_and_leads_to_its_target_letter_by_letter(there: World) -> None:
    response = await there.get(click_path(there))
    assert response.status == 302
    assert response.headers["Location"] == TARGET
    assert response.headers["Referrer-Policy"] == "no-referrer"
    (fact,) = there.server.engagements
    assert fact.kind == engagement_pb2.ENGAGEMENT_KIND_CLICKED
    assert fact.link_url == TARGET
    assert fact.engagement_id.startswith("click:msg-1:")
    assert len(fact.engagement_id) == len("click:msg-1:") + 16


async def test_two_links_of_one_message_are_two_clicks_and_one_link_is_one(there: World) -> None:
    for target in (TARGET, TARGET, "https://shop.example/other"):
        await there.get(click_path(there, target))
    ids = [fact.engagement_id for fact in there.server.engagements]
    assert ids[0] == ids[1] != ids[2]


async def test_a_target_in_letters_of_the_world_becomes_a_header(there: World) -> None:
    response = await there.get(click_path(there, "https://shop.example/ä" + "ü" * 1_000))
    assert response.headers["Location"] == "https://shop.example/%C3%A4" + "%C3%BC" * 1_000


async def test_head_records_nothing(there: World) -> None:
    for path in (open_path(there), click_path(there), unsubscribe_path(there)):
        async with there.http.head(there.url + path, allow_redirects=False) as response:
            assert response.status in (200, 302)
    assert there.server.engagements == []


async def test_a_scanner_is_a_machine_and_the_person_after_it_counts(there: World) -> None:
    for headers in ({"User-Agent": "Mozilla/5.0 (compatible; bingbot/2.0)"}, {},
                    {"Sec-Purpose": "prefetch;prerender"}):  # fmt: skip
        await there.get(open_path(there), headers=headers)
    scanner, person, browser = there.server.engagements
    assert (scanner.machine, person.machine, browser.machine) == (True, False, True)
    assert scanner.engagement_id == browser.engagement_id != person.engagement_id


async def test_gmails_proxy_opens_for_a_person(there: World) -> None:
    agent = "Mozilla/5.0 (Windows NT 5.1) Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    await there.get(open_path(there), headers={"User-Agent": agent})
    assert not there.server.engagements[0].machine


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED])
async def test_people_see_picture_and_page_although_nothing_can_be_recorded(
    there: World, code: grpc.StatusCode
) -> None:
    there.server.refusal = (code, None)
    with capture_logs() as logs:
        assert (await there.get(open_path(there))).status == 200
        assert (await there.get(click_path(there))).headers["Location"] == TARGET
    told = [line["kind"] for line in logs if line["event"] == "link.not_recorded"]
    assert told == ["OPENED", "CLICKED"]


async def test_a_slow_store_keeps_nobody_from_the_page_and_loses_no_click(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "PATIENCE_S", 0.01)
    release = asyncio.Event()
    there.server.hold = release.wait
    response = await there.get(click_path(there))
    assert response.headers["Location"] == TARGET
    assert there.server.engagements == []
    stopping = asyncio.create_task(there.edge.stop())
    release.set()
    await stopping  # the end of the edge waits for what is under way
    assert len(there.server.engagements) == 1


async def test_more_recordings_than_can_be_held_are_told_of_and_not_kept(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "RECORDINGS_MAX", 0)
    with capture_logs() as logs:
        assert (await there.get(click_path(there))).status == 302
    assert [line["reason"] for line in logs if line["event"] == "link.not_recorded"] == [
        "OVERLOADED"
    ]
    assert there.server.engagements == []


async def test_reading_the_unsubscribe_page_changes_nothing(there: World) -> None:
    response = await there.get(unsubscribe_path(there))
    page = await response.text()
    assert response.status == 200
    assert '<form method="post">' in page
    assert "<script" not in page
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert there.server.engagements == []


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"data": {"confirm": "yes"}},
        {"data": b""},
        {"data": b"\xff" * 10_000, "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
async def test_any_post_unsubscribes_and_twice_is_once(
    there: World, options: dict[str, Any]
) -> None:
    for _ in range(2):
        url = there.url + unsubscribe_path(there)
        async with there.http.post(url, **options) as response:
            assert response.status == 200
            assert "Unsubscribed" in await response.text()
        there.server.engagement_state = service_pb2.ENGAGEMENT_STATE_DUPLICATE
    kinds = {fact.kind for fact in there.server.engagements}
    ids = {fact.engagement_id for fact in there.server.engagements}
    assert kinds == {engagement_pb2.ENGAGEMENT_KIND_UNSUBSCRIBED}
    assert ids == {"unsubscribe:msg-1"}


@pytest.mark.parametrize(
    ("code", "status"),
    [(grpc.StatusCode.UNAVAILABLE, 503), (grpc.StatusCode.RESOURCE_EXHAUSTED, 503),
     (grpc.StatusCode.UNAUTHENTICATED, 404)],
)  # fmt: skip
async def test_nobody_is_told_of_an_unsubscription_that_did_not_happen(
    there: World, code: grpc.StatusCode, status: int
) -> None:
    there.server.refusal = (code, None)
    async with there.http.post(there.url + unsubscribe_path(there)) as response:
        assert response.status == status
        assert "no more messages" not in await response.text()


async def test_a_message_that_is_gone_cannot_be_unsubscribed_from(there: World) -> None:
    there.server.engagement_state = service_pb2.ENGAGEMENT_STATE_REJECTED
    async with there.http.post(there.url + unsubscribe_path(there)) as response:
        assert response.status == 404


async def test_a_link_is_good_for_its_own_purpose_only(there: World) -> None:
    tokens = [open_path(there)[3:].removesuffix(".gif"), click_path(there)[3:],
              unsubscribe_path(there)[3:]]  # fmt: skip
    own = ("o", "c", "u")
    for kind, token in zip(own, tokens, strict=True):
        for other in own:
            if other == kind:
                continue
            path = f"/{other}/{token}" + (".gif" if other == "o" else "")
            assert (await there.get(path)).status == 404
            async with there.http.post(there.url + f"/u/{token}") as response:
                assert response.status == (200 if kind == "u" else 404)
    kinds = {fact.kind for fact in there.server.engagements}
    assert kinds == {engagement_pb2.ENGAGEMENT_KIND_UNSUBSCRIBED}


async def test_a_thousand_forged_links_lead_nowhere_and_record_nothing(there: World) -> None:
    dice = random.Random(1)
    letters = string.ascii_letters + string.digits + "-_.~%"
    for turn in range(1_000):
        path = (click_path(there), open_path(there), unsubscribe_path(there))[turn % 3]
        token = path[3:].removesuffix(".gif")
        forged = list(token)
        place = dice.randrange(len(forged))
        match dice.randrange(3):
            case 0:
                forged[place] = dice.choice(letters.replace(forged[place], ""))
            case 1:
                del forged[place]
            case _:
                forged.insert(place, dice.choice(letters))
        if "".join(forged) == token:
            continue
        response = await there.get(path.replace(token, "".join(forged)).replace("%", "%25"))
        assert response.status == 404
        assert "Location" not in response.headers
    assert there.server.engagements == []
