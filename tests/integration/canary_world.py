"""A server on the network whose every secret is a canary, and far ends that shout them back."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web

from tests import canaries, certificates, postgres
from tests.certificates import Files
from tests.contract.push_worlds import account_json
from tests.integration.cli_world import command
from tests.servers import Server
from tests.unit.test_sendgrid_events import KEY, shown

ACCOUNT = "AC" + "0123456789abcdef" * 2
ACCOUNT_JSON = account_json()
ROOT = "root-7c1f-canary-of-the-root-key-93ab"
SECRETS = {
    "root": ROOT,
    "sendgrid": "SG.51e0-canary-sendgrid.a77b40c2",
    "resend": "re_77ab_canary_resend_c0de1234",
    "twilio token": "40b1canarytwiliotoken0099aa",
    "twilio second": "52c9canarytwiliosecond0177bb",
    "twilio secret": "61d8canarytwiliosecret0255cc",
    "slack": "xoxb-3317-canary-slack-aa20",
    "smtp": "smtp-6612-canary-password-07",
    "webhook": base64.b64encode(b"canary of the webhook 81").decode(),
    "webhook header": "hdr-90ca-canary-header-3321",
    "segment webhook": "seg-1187-canary-destination-04",
    "database": "pg-0c55-canary-of-the-database",
    "segment write key": "wk2204canarywritekey7781ab",
    "notify token": "73e7canarynotifytoken0344dd",
    "fcm token": "ya29.84f6-canary-access-token-0422",
    "fcm key": json.loads(ACCOUNT_JSON)["private_key"].splitlines()[3],
}
CONFIG = """
public_url = "https://up.example"
{tls}
[auth]
required = true
root_key = "{root}"
[segment]
webhook_secret = "{segment}"
[log]
level = "debug"
[breaker]
failures = 0
[providers.mail]
kind = "sendgrid"
api_key = "{sendgrid}"
from = "Us <us@example.org>"
base_url = "{url}"
timeout = "500ms"
webhook_key = "{public}"
[providers.spare]
kind = "resend"
api_key = "{resend}"
from = "us@example.org"
base_url = "{url}"
timeout = "500ms"
[providers.post]
kind = "smtp"
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
from = "us@example.org"
username = "upshot"
password = "{smtp}"
timeout = "500ms"
[providers.texts]
kind = "twilio"
account_sid = "{account}"
auth_token = "{twilio}"
secondary_auth_token = "{second}"
api_key = "SK0123456789abcdef0123456789abcdef"
api_secret = "{secret}"
from = "+15550009999"
base_url = "{url}"
timeout = "500ms"
[providers.team]
kind = "slack"
token = "{slack}"
base_url = "{url}"
timeout = "500ms"
[providers.hook]
kind = "webhook"
url = "{url}/hook"
secret = "whsec_{webhook}"
timeout = "500ms"
headers = {{x-team = "{header}"}}
[providers.devices]
kind = "fcm"
service_account = '''{fcm}'''
base_url = "{url}"
token_url = "{url}/token"
timeout = "500ms"
[providers.notify]
kind = "twilio_notify"
account_sid = "{account}"
auth_token = "{notify}"
service_sid = "IS0123456789abcdef0123456789abcdef"
base_url = "{url}"
timeout = "500ms"
[channels]
email = ["mail", "spare", "post"]
sms = ["texts", "hook"]
chat = "team"
push = ["devices", "notify", "hook"]
[relay.segment]
endpoint = "{url}/v1/batch"
write_key = "{write_key}"
"""


def config(url: str, smtp_port: int, tls: str = "") -> str:
    """Return settings with every secret there is, for far ends at *url*."""
    secrets = SECRETS
    return CONFIG.format(
        tls=tls,
        url=url,
        smtp_port=smtp_port,
        public=shown(KEY),
        account=ACCOUNT,
        root=secrets["root"],
        segment=secrets["segment webhook"],
        sendgrid=secrets["sendgrid"],
        resend=secrets["resend"],
        smtp=secrets["smtp"],
        twilio=secrets["twilio token"],
        second=secrets["twilio second"],
        secret=secrets["twilio secret"],
        slack=secrets["slack"],
        webhook=secrets["webhook"],
        header=secrets["webhook header"],
        write_key=secrets["segment write key"],
        fcm=ACCOUNT_JSON,
        notify=secrets["notify token"],
    )


@dataclass
class FarEnds:
    """All makers behind one port, and a mail server; they say what they were shown."""

    #: fine, or the status that all of them answer, or hang.
    mood: str = "fine"
    url: str = ""
    smtp_port: int = 0
    #: Everything that came, headers as well.
    came: list[bytes] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        shown = request.headers.get("authorization", "") + request.headers.get("x-team", "")
        self.came.append(f"{dict(request.headers)}".encode() + body)
        if self.mood == "hang":
            await self.released.wait()
        if request.path == "/token":
            token = {"access_token": SECRETS["fcm token"], "expires_in": 3600}
            return web.json_response(token)
        if self.mood in ("fine", "hang"):
            said = {"ok": True, "id": "their-1", "sid": "SM1", "channel": "C1", "ts": "1.1"}
            status = 202 if "mail/send" in request.path else 200
            return web.json_response(said, status=status, headers={"X-Message-Id": "sg-1"})
        words = f"{shown} {_login(shown)} is not good for {body.decode(errors='replace')[:2000]}"
        told = {
            "errors": [{"message": words, "field": None}],
            "code": 20003 if self.mood == "401" else 0,
            "message": words,
            "name": "no",
            "ok": False,
            "error": words,
        }
        status = 200 if "/chat" in request.path or "/auth" in request.path else int(self.mood)
        return web.json_response(told, status=status)

    async def mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak as much SMTP as is needed to refuse somebody in his own words."""
        writer.write(b"220 sink\r\n")
        login = b""
        while line := await reader.readline():
            self.came.append(line)
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-sink\r\n250 AUTH PLAIN\r\n")
            elif verb == b"AUTH":
                coded = line.split()[-1]
                login = base64.b64decode(coded).replace(b"\0", b" ") + b" " + coded
                good = self.mood == "fine"
                writer.write(b"235 ok\r\n" if good else b"535 who is " + login + b"\r\n")
            elif verb == b"RCPT" and self.mood != "fine":
                writer.write(b"550 not " + line.strip() + b" of " + login + b"\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


def _login(shown: str) -> str:
    coded = shown.partition("Basic ")[2]
    return base64.b64decode(coded).decode() if coded else ""


@asynccontextmanager
async def far_ends() -> AsyncIterator[FarEnds]:
    ends, app = FarEnds(), web.Application()
    app.router.add_route("*", "/{path:.*}", ends.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ends.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    mail = await asyncio.start_server(ends.mail, "127.0.0.1", 0)
    ends.smtp_port = mail.sockets[0].getsockname()[1]
    try:
        yield ends
    finally:
        ends.released.set()
        mail.close()
        await runner.cleanup()


@dataclass
class World:
    """The server, its far ends, its clients, and everything that anybody was told."""

    server: Server
    ends: FarEnds
    files: Files
    http: aiohttp.ClientSession
    #: Keys that the server made, by scope.
    keys: dict[str, str] = field(default_factory=dict)
    #: What the processes printed, what calls failed with, what HTTP was answered.
    printed: list[tuple[str, bytes]] = field(default_factory=list)
    errors: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    #: What callers with the right key were given.
    given: list[tuple[str, bytes]] = field(default_factory=list)
    link_key: str = ""

    @property
    def secrets(self) -> dict[str, str]:
        """Every secret there is by now."""
        pem = (self.files.folder / "server_key.pem").read_text().splitlines()[1]
        made = {f"key {scope}": text.split("_", 2)[2] for scope, text in self.keys.items()}
        own = {"link key": self.link_key} if self.link_key else {}
        return {**SECRETS, **made, **own, "tls key": pem}

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        trust = certificates.trusting(self.files)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.server.address, trust, options) as channel:
            yield channel

    async def call(self, method: Any, request: Any, key: str | None) -> Any:
        """Return the answer, or None where it failed; both are remembered."""
        metadata = [("authorization", f"Bearer {key}")] if key is not None else []
        name = type(request).__name__
        try:
            answer = await method(request, metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            told = f"{error.code()} {error.details()} {error.trailing_metadata()}"
            self.errors.append((name, told.encode()))
            return None
        if name != "CreateKeyRequest":  # the one answer that is a secret
            self.given.append((name, answer.SerializeToString()))
        return answer

    async def ask(self, verb: str, path: str, **more: Any) -> int:
        """Ask the edge; return the status."""
        url = f"https://{self.server.http_address}{path}"
        trust = ssl.create_default_context(cafile=str(self.files.ca))
        async with self.http.request(
            verb, url, ssl=trust, allow_redirects=False, **more
        ) as response:
            body = str(dict(response.headers)).encode() + await response.read()
            self.answers.append((f"{verb} {path[:40]} {response.status}", body))
            return response.status

    async def command(self, key: str, *words: str, code: int = 0, **environ: str) -> str:
        """Run a command; return its stdout. What it says on stderr is remembered."""
        trust = {"UPSHOT_TLS_CA": str(self.files.ca), "UPSHOT_SERVER": self.server.address}
        out, err = await command({**trust, "UPSHOT_KEY": key, **environ}, *words, code=code)
        self.printed.append((f"stderr of {words[0]}", err.encode()))
        return out

    def remember_logs(self) -> None:
        """Take over what the server's processes printed."""
        for name in ("serve.err", "serve.out"):
            self.printed.append((name, (self.server.folder / name).read_bytes()))


def twilio_signature(token: str, url: str, form: dict[str, str]) -> str:
    text = url + "".join(name + value for name, value in sorted(form.items()))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


@asynccontextmanager
async def canary_world(kind: str, folder: Path) -> AsyncIterator[World]:
    """Yield the world; the server is not started yet."""
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(far_ends())
        database = ""
        if kind == "postgresql":
            address = await stack.enter_async_context(postgres.database())
            # Its server asks for none, and takes any.
            database = address.replace(":@", f":{SECRETS['database']}@", 1)
            assert SECRETS["database"] in database
        files = certificates.made(folder)
        tls = f'[tls]\ncert = "{files.server}"\nkey = "{files.server_key}"'
        server = stack.enter_context(
            Server(
                folder,
                config=config(ends.url, ends.smtp_port, tls),
                lab=True,
                database=database,
            )
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(server, ends, files, http)


def event_of(name: str, event_id: str) -> dict[str, Any]:
    """Return what Segment's SDKs would send about the person."""
    return {
        "type": "track",
        "event": name,
        "userId": "u-1",
        "messageId": event_id,
        "properties": {"from": canaries.EMAIL, "note": "said quokka"},
        "context": {"device": {"token": canaries.DEVICE}, "ip": "quokka-ip"},
    }


def body_of(value: object) -> bytes:
    return json.dumps(value).encode()
