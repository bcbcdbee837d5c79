"""Secrets and certificates that change while the server runs: nobody has to start it again."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from twilio.request_validator import RequestValidator

from tests.integration.test_tls import Files, ask, files, settings, trusting
from tests.wire import identify, running, sms, track, workflow
from upshot.v1 import outcome_pb2
from upshotd import app
from upshotd.adapters.clock import SystemClock
from upshotd.adapters.relay.far_end import Item, Taken
from upshotd.adapters.relay.segment import Segment
from upshotd.adapters.relay.settings import RelaySettings, relay_settings
from upshotd.adapters.relay.webhook import Webhook
from upshotd.secret_files import Renewed, SecretFiles
from upshotd.signing import keys_of, signature

__all__ = ["files"]

OLD, NEW = "whsec_" + "o" * 40, "whsec_" + "n" * 40
PUBLIC = "https://up.example"
ACCOUNT = "AC" + "0" * 32


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[tuple[Any, bytes]]]]:
    """A far end that takes everything; yields its address and what came."""
    came: list[tuple[Any, bytes]] = []

    async def take(request: web.Request) -> web.StreamResponse:
        came.append((request.headers, await request.read()))
        return web.json_response({"id": "theirs"})

    application = web.Application()
    application.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/in", came
    finally:
        await runner.cleanup()


async def test_a_message_is_signed_by_the_secret_of_its_moment(
    database: Path, tmp_path: Path, capsys: Any
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(OLD)
    async with listening() as (url, came):
        toml = f"""
            [providers.texts]
            kind = "webhook"
            url = "{url}"
            secret_file = "{secret}"
            [channels]
            sms = "texts"
        """
        async with running(database, toml) as wire:
            always = {"mode": "REENTRY_MODE_ALWAYS"}
            await wire.define(workflow("welcome", "Signed Up", sms(), reentry=always))
            for number, text in enumerate((OLD, NEW, "nonsense", "")):
                secret.write_text(text)
                wire.app.look_again()
                await wire.ingest(identify(f"i{number}"), track(f"e{number}"))
                await wire.advance()
    signed = []
    for headers, body in came:
        given = (headers["webhook-id"], headers["webhook-timestamp"], body)
        signed += [
            name
            for name, text in (("old", OLD), ("new", NEW))
            if signature(keys_of(text), *given) == headers["webhook-signature"]
        ]
    assert signed == ["old", "new", "new", "new"], "what is none, or empty, changes nothing"
    told = "".join(capsys.readouterr())
    assert "secret.refused" in told
    assert "secret.unreadable" in told
    assert not any(part in told for part in ("o" * 40, "n" * 40, "nonsense"))


async def test_callbacks_are_checked_by_the_secrets_of_their_moment(
    database: Path, tmp_path: Path
) -> None:
    token, shared = tmp_path / "token", tmp_path / "shared"
    token.write_text("first token")
    shared.write_text("first shared secret")
    toml = f"""
        public_url = "{PUBLIC}"
        [segment]
        webhook_secret_file = "{shared}"
        [providers.texts]
        kind = "twilio"
        account_sid = "{ACCOUNT}"
        auth_token_file = "{token}"
        from = "+15550009999"
        [channels]
        sms = "texts"
    """
    async with running(database, toml) as wire, aiohttp.ClientSession() as session:
        path = f"/callbacks/twilio/texts/{wire.app.links.callback_token('default', 'msg-1')}"
        form = {"MessageSid": "SM1", "MessageStatus": "delivered"}

        async def twilio(secret: str) -> int:
            sign = RequestValidator(secret).compute_signature(PUBLIC + path, form)
            url = f"http://{wire.app.http_address}{path}"
            headers = {"X-Twilio-Signature": sign}
            async with session.post(url, data=form, headers=headers) as response:
                return response.status

        async def segment(secret: str) -> int:
            body = json.dumps({"type": "track", "event": "X", "userId": "u"}).encode()
            sign = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
            url = f"http://{wire.app.http_address}/inbound/segment/any"
            async with session.post(url, data=body, headers={"X-Signature": sign}) as response:
                return response.status

        assert (await twilio("first token"), await twilio("second token")) == (204, 403)
        assert (await segment("first shared secret"), await segment("another secret!!")) == (
            202,
            401,
        )
        token.write_text("second token")
        shared.write_text("another secret!!")
        wire.app.look_again()
        assert (await twilio("first token"), await twilio("second token")) == (403, 204)
        assert (await segment("first shared secret"), await segment("another secret!!")) == (
            401,
            202,
        )


async def test_relays_use_the_secrets_of_their_moment(tmp_path: Path) -> None:
    key, keys = tmp_path / "key", tmp_path / "keys"
    signed = ["whsec_" + base64.b64encode(word * 8).decode() for word in (b"one.", b"two.")]
    key.write_text("first")
    keys.write_text(signed[0])
    secrets = SecretFiles(SystemClock().monotonic_us)
    async with listening() as (url, came):
        tables: dict[str, object] = {
            "segment": {"write_key_file": str(key), "endpoint": url},
            "webhook": {"secret_file": str(keys), "url": url},
        }

        def read(name: str) -> RelaySettings:
            return relay_settings(name, tables, {}, {}, "1", secrets)

        def renewed(name: str) -> Renewed[Any]:
            settings = read(name)
            version = lambda: secrets.version(settings.files)  # noqa: E731
            return Renewed(settings.far_end, lambda: read(name).far_end, version, name)

        segment = Segment(renewed("segment")(), lambda: 0, renewed("segment"))
        webhook = Webhook(renewed("webhook")(), lambda: 0, renewed("webhook"))
        item = Item(outcome_pb2.Outcome(outcome_id="o1"), b"{}")
        for text, secret in zip(("first", "second", "no:key"), (*signed, "none"), strict=True):
            key.write_text(text)
            keys.write_text(secret)
            secrets.look()
            for far_end in (segment, webhook):
                assert await far_end.post([item]) == Taken()
        await segment.close()
        await webhook.close()
    headers = [headers for headers, _ in came]
    shown = [aiohttp.BasicAuth.decode(one["authorization"]).login for one in headers[::2]]
    assert shown == ["first", "second", "second"]
    for one, secret in zip(headers[1::2], (signed[0], signed[1], signed[1]), strict=True):
        expected = signature(keys_of(secret), "o1", one["webhook-timestamp"], b"{}")
        assert one["webhook-signature"] == expected


async def test_both_ports_show_the_certificate_of_their_moment(
    files: Files, database: Path, tmp_path: Path
) -> None:
    paths = {"tls.cert": tmp_path / "cert.pem", "tls.key": tmp_path / "key.pem"}

    def show(name: str, *, key: str = "") -> None:
        paths["tls.cert"].write_bytes((files.folder / f"{name}.pem").read_bytes())
        paths["tls.key"].write_bytes((files.folder / f"{key or name}_key.pem").read_bytes())

    async def seen(authority: str, there: app.App) -> tuple[bool, bool]:
        """Whether who trusts *authority* gets in by gRPC, and by HTTP."""
        code = await ask(there.grpc_port, trusting(files, authority))
        context = ssl.create_default_context(cafile=str(files.folder / f"{authority}.pem"))
        url = f"https://127.0.0.1:{there.http_port}/healthz"
        try:
            async with aiohttp.ClientSession() as session, session.get(url, ssl=context):
                return code is grpc.StatusCode.OK, True
        except aiohttp.ClientError:
            return code is grpc.StatusCode.OK, False

    show("server")
    wanted = settings(files, database, **{name: str(path) for name, path in paths.items()})
    async with app.run(wanted, {}) as there:
        assert await seen("ca", there) == (True, True)
        for name, key in (("stranger", "server"), ("server", "stranger")):
            show(name, key=key)  # between the writing of the one and the other
            there.look_again()
            assert await seen("ca", there) == (True, True)
        show("stranger")
        there.look_again()
        assert await seen("other", there) == (True, True)
        assert await seen("ca", there) == (False, False)


async def test_a_server_that_is_told_to_look_does_so_and_lives(tmp_path: Path) -> None:
    secret, config = tmp_path / "secret", tmp_path / "upshot.toml"
    secret.write_text(OLD)
    config.write_text(f"""
        listen = "127.0.0.1:0"
        http = "127.0.0.1:0"
        database = "memory:"
        [providers.texts]
        kind = "webhook"
        url = "http://127.0.0.1:9/in"
        secret_file = "{secret}"
        [channels]
        sms = "texts"
    """)
    command = [sys.executable, "-m", "upshotd", "serve", "--config", str(config)]
    environ = {**os.environ, "UPSHOT_LOG_FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None

    async def says(word: bytes) -> None:
        while word not in (line := await process.stderr.readline()):
            assert line, "it ended"

    async with asyncio.timeout(20):
        await says(b"gRPC on")
        secret.write_text(NEW)
        process.send_signal(1)  # SIGHUP
        await says(b"secret.changed")
        process.terminate()
        assert await process.wait() == 0
