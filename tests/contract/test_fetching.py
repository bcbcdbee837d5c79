"""Asking addresses and models: what comes back, what is refused, and whom nobody reaches."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from upshotd import public_hosts
from upshotd.adapters.fetching import OutsideFetcher
from upshotd.adapters.fetching.model import Endpoint, ModelFetcher
from upshotd.adapters.fetching.web import ANSWER_BYTES_MAX, WebFetcher
from upshotd.domain.fetching import (
    Fetch,
    Fetched,
    FetchResult,
    HttpMethod,
    HttpRequest,
    ModelRequest,
    Parts,
    Secret,
    Unfetched,
)

SCHEMA = {
    "type": "object",
    "properties": {"subject": {"type": "string", "maxLength": 20}},
    "required": ["subject"],
    "additionalProperties": False,
}
CANARY = "canary-of-the-shop"


class FarEnd:
    """An API and a model in one; it does as the path or `mood` says."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.mood: Callable[[], web.StreamResponse] = lambda: completion('{"subject": "Hi"}')
        #: Connections, whatever came of them.
        self.connections = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    def url(self, path: str = "price") -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def host(self) -> frozenset[str]:
        return frozenset({f"127.0.0.1:{self.port}"})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, path, headers, await request.read()))
        if path == "v1/chat/completions":
            return self.mood()
        if path.isdigit():
            return web.Response(status=int(path), headers={"Retry-After": "7"})
        if path.startswith("to/"):
            raise web.HTTPFound(request.query["url"])
        if path == "loop":
            raise web.HTTPFound("/loop")
        if path == "stall":
            await asyncio.sleep(30)
        if path == "flood":
            return web.Response(body=b'{"a": "' + b"x" * ANSWER_BYTES_MAX + b'"}')
        if path.startswith("nested/"):
            depth = int(path.partition("/")[2])
            return web.Response(text='{"a":' * depth + "1" + "}" * depth)
        if path == "list":
            return web.json_response([1])
        if path == "text":
            return web.Response(text="hello")
        return web.json_response({"price": 12, "for": {"name": "Ana"}})


def completion(content: object, **more: object) -> web.Response:
    message = {"role": "assistant", "content": content}
    return web.json_response({"choices": [{"index": 0, "message": message, **more}]})


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    made = FarEnd()
    await made.start()
    yield made
    await made.stop()


async def ask(
    far_end: FarEnd,
    url: str,
    method: HttpMethod = HttpMethod.GET,
    headers: dict[str, Parts] | None = None,
    body: str = "",
    hosts: frozenset[str] | None = None,
) -> FetchResult:
    secrets = {"shop": CANARY}
    web_fetcher = WebFetcher(far_end.host if hosts is None else hosts, secrets.__getitem__)
    fetcher = OutsideFetcher(web_fetcher, ModelFetcher(None))
    request = HttpRequest(method, url, headers or {}, body)
    try:
        async with asyncio.timeout(3):
            return await fetcher.fetch(Fetch("run", "ask", 1, request, 1_000_000))
    finally:
        await fetcher.close()


async def test_an_object_comes_back(far_end: FarEnd) -> None:
    found = await ask(far_end, far_end.url())
    assert found == Fetched({"price": 12, "for": {"name": "Ana"}})
    ((method, _, headers, body),) = far_end.requests
    assert (method, body) == ("GET", b"")
    assert headers["accept"] == "application/json"
    assert "idempotency-key" not in headers


@pytest.mark.parametrize("method", [HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH])
async def test_what_changes_something_can_be_known_again(
    far_end: FarEnd, method: HttpMethod
) -> None:
    await ask(far_end, far_end.url(), method, body='{"a": 1}')
    ((name, _, headers, body),) = far_end.requests
    assert (name, body) == (method.name, b'{"a": 1}')
    assert headers["idempotency-key"] == "run/ask"
    assert headers["content-type"] == "application/json"


async def test_a_secret_is_put_in_by_whoever_asks(far_end: FarEnd) -> None:
    given: dict[str, Parts] = {"Authorization": ("Bearer ", Secret("shop"))}
    await ask(far_end, far_end.url(), headers=given)
    assert far_end.requests[0][2]["authorization"] == f"Bearer {CANARY}"
    missing = await ask(far_end, far_end.url(), headers={"x": (Secret("other"),)})
    assert missing == Unfetched("NO_SECRET", "the settings have no secret other")
    assert len(far_end.requests) == 1


@pytest.mark.parametrize(
    ("path", "reason", "again"),
    [
        ("404", "HTTP_ERROR", False),
        ("401", "HTTP_ERROR", False),
        ("429", "HTTP_ERROR", True),
        ("500", "HTTP_ERROR", True),
        ("408", "HTTP_ERROR", True),
        ("list", "NO_OBJECT", False),
        ("text", "NO_OBJECT", False),
        ("flood", "TOO_LARGE", False),
        ("nested/21", "NO_OBJECT", False),
        ("nested/1000", "NO_OBJECT", False),
        ("nested/9999", "NO_OBJECT", False),
        ("loop", "HTTP_ERROR", False),
    ],
)
async def test_what_is_no_answer_is_said(
    far_end: FarEnd, path: str, reason: str, again: bool
) -> None:
    found = await ask(far_end, far_end.url(path))
    assert isinstance(found, Unfetched)
    assert (found.reason, found.again) == (reason, again)
    if path == "429":
        assert found.retry_after_us == 7_000_000


async def test_an_answer_of_some_depth_is_taken(far_end: FarEnd) -> None:
    assert isinstance(await ask(far_end, far_end.url("nested/20")), Fetched)


async def test_a_host_that_is_not_there_may_come_back(far_end: FarEnd) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url, hosts = f"http://127.0.0.1:{port}/a", frozenset({f"127.0.0.1:{port}"})
        found = await ask(far_end, url, hosts=hosts)
    assert isinstance(found, Unfetched)
    assert (found.reason, found.again) == ("UNREACHABLE", True)


async def test_a_redirect_to_another_host_takes_no_secret_along(far_end: FarEnd) -> None:
    other = FarEnd()
    await other.start()
    given: dict[str, Parts] = {"authorization": (Secret("shop"),)}
    here = far_end.url(f"to/?url={far_end.url()}")
    there = far_end.url(f"to/?url={other.url()}")
    for url in (here, there):
        found = await ask(far_end, url, headers=given, hosts=far_end.host | other.host)
        assert isinstance(found, Fetched)
    await other.stop()
    assert [r[2].get("authorization") for r in far_end.requests] == [CANARY] * 3
    assert "authorization" not in other.requests[0][2]


async def test_what_changes_something_follows_no_redirect(far_end: FarEnd) -> None:
    found = await ask(far_end, far_end.url(f"to/?url={far_end.url()}"), HttpMethod.POST)
    assert isinstance(found, Unfetched)
    assert len(far_end.requests) == 1


# -- whom nobody reaches -----------------------------------------------------------------------

#: Ways to write an address inside, each with the port of a listener there.
INSIDE = (
    *("127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "0.0.0.0", "0", "localhost"),
    *("localhost.", "LOCALHOST", "2130706433", "0x7f000001", "0x7f.0x0.0x0.0x1", "0177.0.0.1"),
    *("017700000001", "0x7f.1", "127.0.0.1.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fd00::1]", "[ff02::1]"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "192.0.0.1"),
    *("198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.9"),
    *("user@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1#@example.com", "%31%32%37.0.0.1"),
    *("１２７.０.０.１", "①27.0.0.1", "127。0。0。1", "127｡0｡0｡1", "𝟏𝟐𝟕.0.0.1", "１２７.１"),
    *("２１３０７０６４３３", "ⓛocalhost", "١٢٧.0.0.1", "[::ffff:0:127.0.0.1]", "[fec0::1]"),
    *("[64:ff9b:1::7f00:1]", "[::1%25lo]"),
)


def test_there_are_forty_of_them_and_more():
    assert len(INSIDE) == len(set(INSIDE)) >= 40


@pytest.mark.parametrize("host", INSIDE)
async def test_no_way_to_write_an_address_leads_inside(far_end: FarEnd, host: str) -> None:
    name, hash_, rest = host.partition("#")
    url = f"http://{name}:{far_end.port}{hash_}{rest}/price"
    found = await ask(far_end, url, hosts=frozenset())
    assert isinstance(found, Unfetched)
    assert found.reason in ("NOT_PUBLIC", "INVALID_URL", "UNREACHABLE")
    assert not far_end.requests


async def test_nor_does_a_redirect(far_end: FarEnd) -> None:
    inside = FarEnd()
    await inside.start()
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        url = far_end.url(f"to/?url=http://{host}:{inside.port}/")
        found = await ask(far_end, url)
        assert isinstance(found, Unfetched)
        assert found.reason == "NOT_PUBLIC"
        assert "where it leads, is not public, nor among fetch.hosts" in found.detail
    await inside.stop()
    assert not inside.requests


class Rebinding:
    """Says that a name is public the first time, and inside ever after."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(self, host: str, port: int, family: int) -> list[ResolveResult]:
        self.asked += 1
        address = "93.184.216.34" if self.asked == 1 else "127.0.0.1"
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def test_nor_does_a_name_that_means_something_else_after_the_look(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Rebinding()
    monkeypatch.setattr(public_hosts, "ThreadedResolver", lambda: names)
    fetcher = WebFetcher(frozenset(), lambda name: name)
    request = HttpRequest(HttpMethod.GET, f"http://rebinding.example:{far_end.port}/price")
    for _ in range(3):
        try:
            async with asyncio.timeout(1):
                await fetcher.fetch(request, "key")
        except TimeoutError:
            pass  # what is public cannot be reached from here
    await fetcher.close()
    assert names.asked >= 2
    assert not far_end.requests


# -- a model -----------------------------------------------------------------------------------


async def question(far_end: FarEnd, key: str = "") -> FetchResult:
    endpoint = Endpoint(far_end.url("v1/chat/completions"), "small", "model_key" if key else "")
    fetcher = ModelFetcher(endpoint, {"model_key": key}.__getitem__)
    request = ModelRequest("Write to Ana", "Be brief.", json.dumps(SCHEMA), most_tokens=50)
    try:
        return await fetcher.fetch(request)
    finally:
        await fetcher.close()


async def test_a_model_answers_an_object_of_the_schema(far_end: FarEnd) -> None:
    assert await question(far_end, CANARY) == Fetched({"subject": "Hi"})
    ((_, _, headers, body),) = far_end.requests
    assert headers["authorization"] == f"Bearer {CANARY}"
    sent = json.loads(body)
    assert sent["model"] == "small"
    assert sent["max_tokens"] == 50
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA


def flood() -> web.Response:
    return web.Response(body=b'{"choices": [' + b'"' + b"x" * 300_000 + b'"]}')


@pytest.mark.parametrize(
    ("mood", "reason", "again"),
    [
        (lambda: completion("I would rather not."), "INVALID_ANSWER", True),
        (lambda: completion('{"subject": "' + "x" * 21 + '"}'), "INVALID_ANSWER", True),
        (lambda: completion('{"subject": "Hi", "html": "<script>"}'), "INVALID_ANSWER", True),
        (lambda: completion('{"subject": 7}'), "INVALID_ANSWER", True),
        (lambda: completion("[]"), "INVALID_ANSWER", True),
        (lambda: completion('{"subject":' * 999 + "1" + "}" * 999), "INVALID_ANSWER", True),
        (lambda: completion(None), "INVALID_ANSWER", True),
        (lambda: completion({"subject": "Hi"}), "INVALID_ANSWER", True),
        (lambda: web.json_response({"choices": []}), "INVALID_ANSWER", True),
        (lambda: web.json_response({"error": "x"}), "INVALID_ANSWER", True),
        (lambda: web.Response(text="data: {}"), "NO_OBJECT", False),
        (lambda: web.Response(status=503), "HTTP_ERROR", True),
        (lambda: web.Response(status=401), "HTTP_ERROR", False),
        (flood, "TOO_LARGE", False),
    ],
)
async def test_a_model_that_says_something_else_has_not_answered(
    far_end: FarEnd, mood: Any, reason: str, again: bool
) -> None:
    far_end.mood = mood
    found = await question(far_end)
    assert isinstance(found, Unfetched)
    assert (found.reason, found.again) == (reason, again)
    assert "rather" not in found.detail, "what it said is not repeated"


async def test_without_a_model_in_the_settings_there_is_no_answer() -> None:
    found = await ModelFetcher(None).fetch(ModelRequest("Hi", "", "{}"))
    assert found == Unfetched("NOT_CONFIGURED", "the settings name no model")


async def test_a_schema_that_refers_to_elsewhere_is_not_followed(far_end: FarEnd) -> None:
    fetcher = ModelFetcher(Endpoint(far_end.url("v1/chat/completions"), "small"))
    schema = {"type": "object", "properties": {"subject": {"$ref": far_end.url("schema")}}}
    found = await fetcher.fetch(ModelRequest("Hi", "", json.dumps(schema)))
    await fetcher.close()
    assert isinstance(found, Unfetched)
    assert found.reason == "INVALID_SCHEMA"
    assert len(far_end.requests) == 1


#: A schema of 26 steps, each of which asks the next one twice.
DOUBLING = {
    f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} if n < 26 else {"type": "string"}
    for n in range(27)
}


@pytest.mark.parametrize(
    ("part", "answer", "reason"),
    [
        ({"pattern": r"^(\w+\s?)*$"}, "a" * 60 + "!", "INVALID_ANSWER"),
        ({"pattern": "^(a|aa)+$"}, "a" * 200_000 + "!", "INVALID_ANSWER"),
        ({"uniqueItems": True}, [{"n": n} for n in range(6_000)], ""),
        ({"uniqueItems": True}, [{"n": n % 5_999} for n in range(6_000)], "INVALID_ANSWER"),
        ({"$ref": "#/$defs/d0"}, 1, "INVALID_SCHEMA"),
        ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 60 + "!": 1}, "INVALID_SCHEMA"),
    ],
)
async def test_no_answer_of_a_model_keeps_the_server_busy(
    far_end: FarEnd, part: dict[str, object], answer: object, reason: str
) -> None:
    schema = {"type": "object", "properties": {"it": part}, "$defs": DOUBLING}
    far_end.mood = lambda: completion(json.dumps({"it": answer}))
    fetcher = ModelFetcher(Endpoint(far_end.url("v1/chat/completions"), "small"))
    begin = time.thread_time()
    found = await fetcher.fetch(ModelRequest("Hi", "", json.dumps(schema)))
    await fetcher.close()
    assert time.thread_time() - begin < 2
    assert (found.reason if isinstance(found, Unfetched) else "") == reason
