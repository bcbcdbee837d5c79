"""The edge's bounds: bodies that do not come, silent connections, and too many of them."""

import asyncio
import gzip
import json

import grpc
import pytest

from tests.integration.edge_world import World, world
from tests.integration.test_edge_callbacks import KEYS
from upshotd.adapters.http import answers, connections
from upshotd.adapters.http.callbacks import Keys

LARGE = b"[" + b"[]," * 200_000 + b"[]]"


async def said(there: World, raw: bytes, patience_s: float = 5) -> bytes:
    """Return what comes back until the edge closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", there.edge.port)
    writer.write(raw)
    try:
        return await asyncio.wait_for(reader.read(), patience_s)
    finally:
        writer.close()


def begun(path: str, length: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", "["]).encode()


@pytest.mark.parametrize(
    "path", ["/v1/batch", "/callbacks/sendgrid/mail", "/inbound/segment", "/inbound/segment/key"]
)
async def test_a_body_that_does_not_come_is_not_waited_for(
    path: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(answers, "BODY_S", 0.1)
    monkeypatch.setattr(connections, "LINGER_S", 0.1)
    async with world(KEYS) as there:
        answer = await said(there, begun(path, 1_000))
        assert answer.startswith(b"HTTP/1.1 408 "), answer


async def test_a_connection_that_asks_nothing_whole_is_closed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    async with world() as there:
        assert await said(there, b"") == b""
        assert await said(there, b"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-Sl") == b""


async def test_no_more_connections_than_there_may_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    async with world() as there:
        held = [await asyncio.open_connection("127.0.0.1", there.edge.port) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert await _health(there) == b"", "closed without a word"
        held.pop()[1].close()
        async with asyncio.timeout(5):
            while not (await _health(there)).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.02)
        for _, writer in held:
            writer.close()


async def _health(there: World) -> bytes:
    try:
        return await said(there, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 30_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_hears_nothing_of_how_it_was_read(raw: bytes):
    async with world() as there:
        answer = await said(there, raw)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in head.splitlines()[0]
        assert b"Server: upshot" in head
        assert json.loads(body) == {"success": False, "error": "Bad Request"}


@pytest.mark.parametrize("path", ["/callbacks/sendgrid/mail", "/inbound/segment", "/v1/batch"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_what_is_not_packed_as_it_says_is_refused(path: str, coding: str):
    async with world(KEYS) as there:
        headers = {"Content-Encoding": coding}
        async with there.http.post(
            there.url + path, data=b"not packed at all", headers=headers
        ) as response:
            assert response.status == 400
            assert "headers say" in (await response.json())["error"]


@pytest.mark.parametrize("packed", [False, True])
async def test_a_large_body_of_a_stranger_is_not_read(packed: bool):
    async with world(Keys(segment="a secret of the destination")) as there:
        there.server.refusal = (grpc.StatusCode.UNAUTHENTICATED, None)
        for path in ("/inbound/segment/key", "/inbound/segment", "/v1/batch"):
            body = gzip.compress(LARGE) if packed else LARGE
            if path == "/v1/batch":  # it may have the key in it
                body = json.dumps({"batch": [{"a": ["b"] * 20_000}], "writeKey": "k"}).encode()
            headers = {"Content-Encoding": "gzip"} if packed and path != "/v1/batch" else {}
            status = await _status(there, path, body, headers)
            assert status == 401, path
        assert there.server.requests == []


async def _status(there: World, path: str, body: bytes, headers: dict[str, str]) -> int:
    async with there.http.post(there.url + path, data=body, headers=headers) as response:
        return response.status


async def test_an_event_that_is_far_too_large_is_refused_before_it_is_read():
    async with world() as there:
        for body in (LARGE, b'{"a": "' + b"x" * 200_000 + b'"}'):
            assert await _status(there, "/inbound/segment", body, {}) in (400, 413)
        assert [request for request in there.server.requests if request] == []
