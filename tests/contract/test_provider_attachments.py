"""Attachments by URL: from public hosts only, whole or not at all, before mail is handed over."""

import email
import email.policy
import socket
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest
from aiohttp import web

from tests.contract.provider_worlds import (
    SmtpWorld,
    email_delivery,
)
from upshotd.adapters.providers import attachments
from upshotd.adapters.providers.attachments import Files, Unfetched
from upshotd.domain.message import Accepted, Attachment, Deferred, Refused, SendResult
from upshotd.public_hosts import is_public

PDF = b"%PDF-1.7 " + bytes(range(256))


class Shop:
    """A web server with an invoice, and things that are none."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.asked.append(path)
        if path.isdigit():
            return web.Response(status=int(path))
        if path == "large":
            return web.Response(body=b"x" * (attachments.BYTES_MAX // 2 + 1))
        if path.startswith("to/"):
            raise web.HTTPFound(request.query["url"])
        if path == "loop":
            raise web.HTTPFound("/loop")
        if path == "odd":
            return web.Response(body=b"x", headers={"Content-Type": "multipart/evil; x=y"})
        return web.Response(body=PDF, content_type="application/pdf")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    made = Shop()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def world() -> AsyncIterator[SmtpWorld]:
    made = SmtpWorld()
    await made.start()
    yield made
    await made.provider.close()
    await made.stop()


async def sent(
    world: SmtpWorld, shop: Shop, *files: Attachment, host: str = ""
) -> tuple[SendResult, list[EmailMessage]]:
    """Send an e-mail with *files*; return the answer, and the files that arrived."""
    provider = world.build(attachment_hosts=host or f"127.0.0.1:{shop.port}")
    kept: list[bytes] = []

    async def keep(_server: object, _session: object, envelope: object) -> str:
        kept.append(envelope.content)  # type: ignore[attr-defined]
        return "250 queued"

    world.handle_DATA = keep  # type: ignore[method-assign,assignment]
    result = await provider.send(email_delivery(attachments=files))
    await provider.close()
    if not kept:
        return result, []
    read = email.message_from_bytes(kept[0], policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    body = read.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "Hi Ana", "the text is still the text"
    return result, [part for part in read.iter_attachments() if isinstance(part, EmailMessage)]


async def test_files_arrive_as_they_are_under_their_names(world: SmtpWorld, shop: Shop) -> None:
    files = [
        Attachment(shop.url("invoice%20no%201.pdf?token=secret")),
        Attachment(shop.url("x"), "Rechnung für Ana.pdf"),
        Attachment(shop.url(""), 'a/b\\c "d".pdf'),
        Attachment(shop.url("odd")),
    ]
    result, parts = await sent(world, shop, *files)
    assert isinstance(result, Accepted)
    names = [part.get_filename() for part in parts]
    assert names == ["invoice no 1.pdf", "Rechnung für Ana.pdf", "c 'd'.pdf", "odd"]
    assert parts[0].get_content_type() == "application/pdf"
    assert parts[0].get_content() == PDF
    assert parts[3].get_content_type() == "application/octet-stream"


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("404", Refused, "answered 404"),
        ("403", Refused, "answered 403"),
        ("500", Deferred, "answered 500"),
        ("429", Deferred, "answered 429"),
        ("loop", Refused, "redirects"),
    ],
)
async def test_what_cannot_be_had_is_said_and_nothing_is_sent(
    world: SmtpWorld, shop: Shop, path: str, kind: type, words: str
) -> None:
    result, parts = await sent(world, shop, Attachment(shop.url("a")), Attachment(shop.url(path)))
    assert isinstance(result, kind)
    assert words in result.detail  # type: ignore[attr-defined]
    assert not parts
    if isinstance(result, Refused):
        assert result.reason == "ATTACHMENT_ERROR"


async def test_ten_mebibytes_are_all_that_is_carried(world: SmtpWorld, shop: Shop) -> None:
    large = Attachment(shop.url("large"))
    result, parts = await sent(world, shop, large, large)
    assert isinstance(result, Refused)
    assert "larger than 10 MiB" in result.detail
    assert not parts


async def test_who_is_slow_is_asked_again_later(
    world: SmtpWorld, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "FETCH_S", 0.0)
    result, _ = await sent(world, shop, Attachment(shop.url("a")))
    assert isinstance(result, Deferred)


async def test_a_host_that_is_not_there_is_asked_again_later(world: SmtpWorld, shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}/a"
        result, _ = await sent(world, shop, Attachment(url), host=f"127.0.0.1:{port}")
    assert isinstance(result, Deferred)


# -- who may not be asked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a",
        "http://localhost:{port}/a",
        "http://2130706433:{port}/a",
        "http://0x7f.1:{port}/a",
        "http://[::1]:{port}/a",
        "http://[::ffff:127.0.0.1]:{port}/a",
        "http://[64:ff9b::7f00:1]:{port}/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/a",
        "http://0.0.0.0:{port}/a",
        "http://user:word@127.0.0.1:{port}/a",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "http:///a",
        "http://127.0.0.1:99999/a",
    ],
)
async def test_hosts_that_are_not_public_are_not_asked(shop: Shop, url: str) -> None:
    files = Files()
    with pytest.raises(Unfetched) as refused:
        await files.fetch([Attachment(url.format(port=shop.port))])
    await files.close()
    assert not refused.value.again
    assert shop.asked == []


async def test_nor_by_a_redirect_of_one_that_may_be(shop: Shop) -> None:
    files = Files(frozenset({f"127.0.0.1:{shop.port}"}))
    for target in (f"http://localhost:{shop.port}/inside", "http://[::1]/inside", "file:///inside"):
        with pytest.raises(Unfetched) as refused:
            await files.fetch([Attachment(shop.url(f"to/?url={target}"))])
        assert not refused.value.again
        assert "token" not in str(refused.value)
    await files.close()
    assert set(shop.asked) == {"to/"}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("2002:7f00:1::", False),
        ("::", False),
        ("::ffff:93.184.216.34", True),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0:93.184.216.34", False),
        ("::93.184.216.34", False),
        ("64:ff9b::5db8:d822", False),
        ("64:ff9b:1::5db8:d822", False),
        ("fec0::1", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public
