"""The HTTP edge as SDKs, people, scanners and attackers meet it."""

import asyncio
import base64
import gzip
import json
import random
import string
import zlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.integration.edge_world import NOW_US, World, world
from upshot.v1 import engagement_pb2, service_pb2, service_pb2_grpc
from upshotd.adapters.http import links as links_module
from upshotd.adapters.http.edge import Edge
from upshotd.domain.errors import FailedPrecondition, InvalidArgument

TRACK = {"type": "track", "event": "Trial Started", "userId": "ana", "messageId": "m-1"}
SUCCESS = (200, {"success": True})
TARGET = "https://shop.example/a?b=c&d=%C3%A9#e"


@pytest_asyncio.fixture
async def there() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


# -- Segment's calls ---------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("kind", ["track", "identify", "group", "page", "screen", "alias"])
async def test_each_call_has_its_path(there: World, kind: str, slash: str) -> None:
    call = {"userId": "ana", "messageId": "m-1"}
    assert await there.post(f"/v1/{kind}{slash}", call) == SUCCESS
    assert await there.post(f"/v1/{kind[0]}", call) == SUCCESS
    first, second = there.server.events
    assert first == second
    assert first.WhichOneof("call") == kind
    assert (first.user_id, first.event_id) == ("ana", "m-1")


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/batch/", "/v1/import", "/v1/b"])
async def test_a_batch_keeps_its_order(there: World, path: str) -> None:
    batch = [{**TRACK, "messageId": f"m-{n}"} for n in range(3)]
    assert await there.post(path, {"batch": batch}) == SUCCESS
    assert [event.event_id for event in there.server.events] == ["m-0", "m-1", "m-2"]


async def test_a_long_batch_is_sent_in_several_requests_one_after_the_other(there: World) -> None:
    batch = [{"type": "track", "messageId": f"{n}"} for n in range(2_500)]
    assert await there.post("/v1/batch", {"batch": batch}) == SUCCESS
    assert [len(request) for request in there.server.requests] == [1_000, 1_000, 500]
    assert [int(event.event_id) for event in there.server.events] == list(range(2_500))


@pytest.mark.parametrize(
    ("headers", "body_key", "expected"),
    [
        (basic("key-1"), None, "Bearer key-1"),
        (basic("key-1"), "key-2", "Bearer key-1"),
        ({}, "key-2", "Bearer key-2"),
        ({"Authorization": "Bearer token"}, None, "Bearer token"),
        ({"Authorization": "Bearer token"}, "key-2", "Bearer key-2"),
        ({}, None, None),
        ({"Authorization": "Basic %%%"}, None, None),
        ({"Authorization": "Link forged"}, None, None),
        (basic(""), None, None),
        ({}, "schlüssel\n", "Bearer schl%C3%BCssel%0A"),
        ({}, "k" * 5_000, "Bearer " + "k" * 256),
        ({}, 7, None),
    ],
)
async def test_the_write_key_is_passed_on_wherever_it_stands(
    there: World, headers: dict[str, str], body_key: object, expected: str | None
) -> None:
    body = {**TRACK, "writeKey": body_key} if body_key is not None else TRACK
    assert await there.post("/v1/track", body, headers) == SUCCESS
    assert await there.post("/v1/batch", {"batch": [], "writeKey": body_key}, headers) == SUCCESS
    assert there.server.credentials == [expected]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read(there: World, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zlib.compress
    body = compress(json.dumps({"batch": [TRACK]}).encode())
    assert await there.post("/v1/batch", body, {"Content-Encoding": coding}) == SUCCESS
    assert there.server.events[0].track.event == "Trial Started"


@pytest.mark.parametrize(
    "body",
    [b"no gzip at all", gzip.compress(json.dumps({"batch": [TRACK]}).encode())[:-20], b""],
)
async def test_a_broken_gzip_is_400(there: World, body: bytes) -> None:
    status, answer = await there.post("/v1/batch", body, {"Content-Encoding": "gzip"})
    assert (status, answer["success"]) == (400, False)
    assert there.server.requests == []


async def test_a_bomb_of_200_megabytes_is_400_and_costs_little(there: World) -> None:
    packer = zlib.compressobj(wbits=31)
    megabyte = b" " * (1024 * 1024)
    bomb = b"".join([*(packer.compress(megabyte) for _ in range(200)), packer.flush()])
    assert len(bomb) < 300_000
    status, answer = await there.post("/v1/batch", bomb, {"Content-Encoding": "gzip"})
    assert (status, answer["success"]) == (400, False)
    assert await there.post("/v1/track", TRACK) == SUCCESS


async def test_an_event_of_40_kilobytes_is_400_alone_and_harms_no_batch(there: World) -> None:
    large = {**TRACK, "properties": {"text": "x" * 40_000}}
    status, answer = await there.post("/v1/track", large)
    assert (status, answer) == (
        400, {"success": False, "error": "an event has at most 32768 bytes"}
    )  # fmt: skip
    assert there.server.requests == []
    # In a batch the server rejects it where people can see it, and takes its neighbours.
    assert await there.post("/v1/batch", {"batch": [large, TRACK]}) == SUCCESS
    assert len(there.server.events) == 2


async def test_an_event_that_grows_too_large_on_the_way_is_400_as_well(there: World) -> None:
    there.server.ingest_reason = "EVENT_TOO_LARGE"
    status, _ = await there.post("/v1/track", {**TRACK, "properties": {"zeros": [0] * 5_000}})
    assert status == 400


async def test_what_segment_drops_without_a_word_is_200_and_seen_by_the_server(
    there: World,
) -> None:
    there.server.ingest_reason = "MISSING_USER_ID"
    with capture_logs() as logs:
        assert await there.post("/v1/track", {"event": "x"}) == SUCCESS
        assert await there.post("/v1/batch", {"batch": [{}, {"type": "delete"}, 7]}) == SUCCESS
    assert len(there.server.events) == 4
    counts = [line["rejected"] for line in logs if line["event"] == "segment.rejected"]
    assert counts == [1, 3]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/batch", b'{"batch":[' + b" " * 501 * 1024 + b"]}"),
        ("/v1/batch", {"batch": [{"type": "track"}] * 2_501}),
        ("/v1/batch", {"batch": "no list"}),
        ("/v1/batch", {}),
        ("/v1/batch", b"{"),
        ("/v1/track", b"{"),
        ("/v1/track", b"[]"),
        ("/v1/track", b""),
        ("/v1/track", b'{"properties":{"a":NaN}}'),
        ("/v1/track", b"[" * 30_000),
    ],
)
async def test_what_cannot_be_taken_as_a_whole_is_400_with_the_reason(
    there: World, path: str, body: object
) -> None:
    status, answer = await there.post(path, body)
    assert (status, answer["success"]) == (400, False)
    assert answer["error"]
    assert there.server.requests == []


async def test_a_batch_of_exactly_500_kilobytes_is_taken(there: World) -> None:
    start, end = b'{"batch":[', b"]}"
    body = start + b" " * (500 * 1024 - len(start) - len(end)) + end
    assert await there.post("/v1/batch", body) == SUCCESS
    status, _ = await there.post("/v1/batch", body + b" ")
    assert status == 400


@pytest.mark.parametrize(
    ("code", "retry_s", "status", "retry_after"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3, 429, "3"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, 429, "1"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 9_999, 429, "60"),
        (grpc.StatusCode.UNAVAILABLE, 2, 503, "2"),
        (grpc.StatusCode.UNAVAILABLE, 0, 503, "1"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, 503, "1"),
        (grpc.StatusCode.UNAUTHENTICATED, None, 401, None),
        (grpc.StatusCode.PERMISSION_DENIED, None, 401, None),
        (grpc.StatusCode.INTERNAL, None, 500, None),
    ],
)
async def test_what_the_server_does_not_take_is_never_200(
    there: World, code: grpc.StatusCode, retry_s: int | None, status: int, retry_after: str | None
) -> None:
    there.server.refusal = (code, retry_s)
    for path, body in (("/v1/track", TRACK), ("/v1/batch", {"batch": [TRACK]})):
        async with there.http.post(there.url + path, json=body) as response:
            assert response.status == status
            assert response.headers.get("Retry-After") == retry_after
            text = await response.text()
        assert json.loads(text)["success"] is False
        assert "own words" not in text
    assert there.server.requests == []


async def test_a_batch_of_which_the_second_half_is_refused_is_not_200(there: World) -> None:
    there.server.refusal = (grpc.StatusCode.UNAVAILABLE, None)
    there.server.refuse_from = 1
    status, _ = await there.post("/v1/batch", {"batch": [{"type": "track"}] * 1_500})
    assert status == 503
    assert len(there.server.events) == 1_000  # repeated with the same ids they are duplicates


async def test_a_server_that_is_gone_is_503(there: World, unused_tcp_port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{unused_tcp_port}") as channel:
        stub = service_pb2_grpc.UpshotServiceStub(channel)
        edge = Edge(
            listen_host="localhost",
            listen_port=0,
            stub=stub,
            links=there.links,
            now_us=lambda: NOW_US,
        )
        await edge.start()
        try:
            url = f"http://127.0.0.1:{edge.port}/v1/track"
            async with there.http.post(url, json=TRACK) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
        finally:
            await edge.stop()


async def test_browsers_of_every_site_may_send(there: World) -> None:
    async with there.http.options(f"{there.url}/v1/track") as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    async with there.http.post(f"{there.url}/v1/track", data=b"{") as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/track", 405), ("POST", "/v1/delete", 404), ("GET", "/", 404),
     ("POST", "/healthz", 405), ("GET", "/o/x.png", 404)],
)  # fmt: skip
async def test_what_is_not_here_is_said_in_json(
    there: World, method: str, path: str, status: int
) -> None:
    async with there.http.request(method, there.url + path) as response:
        assert response.status == status
        assert (await response.json())["success"] is False
        assert response.headers["Server"] == "upshot"


async def test_health(there: World) -> None:
    response = await there.get("/healthz")
    assert (response.status, await response.json()) == (200, {"status": "ok"})


# -- links -------------------------------------------------------------------------------------


def path_of(url: str) -> str:
    return url.removeprefix("http://links.example")


def open_path(there: World, message_id: str = "msg-1") -> str:
    return path_of(there.links.open_url("default", message_id))


def click_path(there: World, target: str = TARGET) -> str:
    return path_of(there.links.click_url("default", "msg-1", target))


def unsubscribe_path(there: World) -> str:
    return path_of(there.links.unsubscribe_url("default", "msg-1"))


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


# -- the edge itself ---------------------------------------------------------------------------


async def test_a_request_is_one_line_of_the_log_without_anything_personal(there: World) -> None:
    path = click_path(there)
    with capture_logs() as logs:
        await there.get(path)
        await there.post("/v1/track", {**TRACK, "userId": "ana@home.example"}, basic("secret"))
        await there.get("/ana@home.example")
    requests = [line for line in logs if line["event"] == "http.request"]
    assert [(line["route"], line["status"]) for line in requests] == [
        ("/c/{token}", 302), ("/v1/track", 200), ("none", 404)
    ]  # fmt: skip
    assert all(line["ms"] >= 0 for line in requests)
    text = repr(logs)
    assert not any(word in text for word in (path[3:], "ana@", "secret", "shop.example"))


async def test_a_fault_of_ours_is_500_without_a_word_of_it(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("dsn=postgres://user:password@host")

    monkeypatch.setattr(there.links, "read", broken)
    with capture_logs() as logs:
        response = await there.get(open_path(there))
    assert response.status == 500
    assert await response.json() == {"success": False, "error": "internal error"}
    assert any(line["event"] == "http.broke" for line in logs)


async def test_what_is_no_http_is_400_and_not_in_the_log(
    there: World, caplog: pytest.LogCaptureFixture
) -> None:
    for request in (b"ana@home.example\r\n\r\n", b"GET / HTTP/1.1\r\nbad header ana@home\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", there.edge.port)
        writer.write(request)
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert "ana@" not in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
async def test_only_this_machine_can_be_listened_to(there: World, host: str) -> None:
    with pytest.raises(InvalidArgument, match="listens on loopback only"):
        Edge(
            listen_host=host,
            listen_port=0,
            stub=None,  # type: ignore[arg-type]
            links=there.links,
            now_us=lambda: NOW_US,
        )


async def test_an_address_that_is_taken_is_said(there: World) -> None:
    second = Edge(
        listen_host="127.0.0.1",
        listen_port=there.edge.port,
        stub=None,  # type: ignore[arg-type]
        links=there.links,
        now_us=lambda: NOW_US,
    )
    with pytest.raises(FailedPrecondition, match=str(there.edge.port)):
        await second.start()
