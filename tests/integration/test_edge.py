"""The HTTP edge as SDKs, people, scanners and attackers meet it."""

import asyncio
import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.integration.edge_world import (
    NOW_US,
    World,
    click_path,
    open_path,
    world,
)
from upshot.v1 import admin_pb2_grpc, service_pb2_grpc
from upshotd.adapters.http.edge import Edge
from upshotd.domain.errors import FailedPrecondition

TRACK = {"type": "track", "event": "Trial Started", "userId": "ana", "messageId": "m-1"}
SUCCESS = (200, {"success": True})


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
    # Behind one that only asks whether the key is good.
    assert [len(request) for request in there.server.requests] == [0, 1_000, 1_000, 500]
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
            admin=admin_pb2_grpc.AdminServiceStub(channel),
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


async def test_an_address_that_is_taken_is_said(there: World) -> None:
    second = Edge(
        listen_host="127.0.0.1",
        listen_port=there.edge.port,
        stub=None,  # type: ignore[arg-type]
        admin=None,  # type: ignore[arg-type]
        links=there.links,
        now_us=lambda: NOW_US,
    )
    with pytest.raises(FailedPrecondition, match=str(there.edge.port)):
        await second.start()
