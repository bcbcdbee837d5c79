"""The far ends that speak HTTP: what each of them takes, refuses and answers."""

import base64
import json

from aiohttp import web
from standardwebhooks import Webhook as StandardWebhook

from tests.contract.provider_worlds import PATIENCE, Mood, Received, World, wall_us
from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.application.provider import Provider

SECRET = "whsec_" + base64.b64encode(b"first secret of the receiver").decode()
NEXT_SECRET = "whsec_" + base64.b64encode(b"secret that comes after it").decode()
TWILIO_ACCOUNT = "AC" + "0123456789abcdef" * 2


class HttpWorld(World):
    """A server of one path."""

    path = ""
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        self.add_routes(app)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]
        self.provider = self.build()

    def add_routes(self, app: web.Application) -> None:
        """Say what is asked where."""
        app.router.add_post(self.path, self._take)

    def build(self, **changes: object) -> Provider:
        """A provider of this server."""
        raise NotImplementedError

    async def _take(self, request: web.Request) -> web.Response:
        raise NotImplementedError

    async def _end(self, request: web.Request) -> None:
        """Do with a message that was taken what the mood says."""
        if self.mood is Mood.DROPS and request.transport is not None:
            request.transport.abort()
        if self.mood is Mood.HANGS:
            await self.released.wait()

    async def go_down(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None


class WebhookWorld(HttpWorld):
    """A real HTTP server that checks signatures with the standard's own library."""

    path = "/in"
    status = 0
    secret = SECRET

    def __init__(self) -> None:
        super().__init__()
        self.answer: dict[str, object] | str = {"id": "theirs-1"}
        self.answer_headers: dict[str, str] = {}

    def build(self, **changes: object) -> Provider:
        """A provider of this server."""
        url = f"http://127.0.0.1:{self.port}/in"
        options: dict[str, object] = {"url": url, "secret": SECRET, "timeout": PATIENCE}
        return build("webhook", "test", {**options, **changes}, Home(wall_us))

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        StandardWebhook(self.secret).verify(body, dict(request.headers))
        if self.status or self.mood in {Mood.REFUSES, Mood.DEFERS}:
            status = self.status or (422 if self.mood is Mood.REFUSES else 503)
            return web.json_response(self.answer, status=status, headers=self.answer_headers)
        self.ledger.append(_posted(body, dict(request.headers)))
        await self._end(request)
        if isinstance(self.answer, str):
            return web.Response(text=self.answer)
        return web.json_response(self.answer)


class SendGridWorld(HttpWorld):
    """A server that answers as SendGrid's mail/send does."""

    path = "/v3/mail/send"
    status = 0
    #: The errors it tells: (message, field).
    errors: tuple[tuple[str, str | None], ...] = (("something about ana@example.com", None),)
    #: What it says in place of them.
    answer_text = ""

    def __init__(self) -> None:
        super().__init__()
        self.answer_headers: dict[str, str] = {}

    def build(self, **changes: object) -> Provider:
        """A provider of this server."""
        options: dict[str, object] = {
            "api_key": "SG.key",
            "from": "Upshot Ärger <hello@example.org>",
            "base_url": f"http://127.0.0.1:{self.port}",
            "timeout": PATIENCE,
        }
        home = Home(wall_us, callback_token=lambda *ids: ".".join(ids))
        return build("sendgrid", "test", {**options, **changes}, home)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.headers["authorization"] == "Bearer SG.key"
        if self.status or self.mood in {Mood.REFUSES, Mood.DEFERS}:
            status = self.status or (400 if self.mood is Mood.REFUSES else 429)
            told = [{"message": m, "field": f, "help": None} for m, f in self.errors]
            text = self.answer_text or json.dumps({"errors": told})
            return web.Response(text=text, status=status, headers=self.answer_headers)
        self.ledger.append(_mailed(body))
        await self._end(request)
        mail = json.loads(body)
        sandbox = mail.get("mail_settings", {}).get("sandbox_mode", {}).get("enable")
        headers = {} if sandbox else {"X-Message-Id": f"sg-{len(self.ledger)}"}
        return web.Response(status=200 if sandbox else 202, headers=headers)


class TwilioWorld(HttpWorld):
    """A server that answers as Twilio's Messages API does."""

    path = f"/2010-04-01/Accounts/{TWILIO_ACCOUNT}/Messages.json"
    status = 0
    code = 0
    #: What it says in place of its own words.
    answer_text = ""

    def __init__(self) -> None:
        super().__init__()
        self.answer_headers: dict[str, str] = {}

    def build(self, public_url: str = "https://up.example", **changes: object) -> Provider:
        """A provider of this server."""
        options: dict[str, object] = {
            "account_sid": TWILIO_ACCOUNT,
            "auth_token": "token",
            "from": "+15550009999",
            "base_url": f"http://127.0.0.1:{self.port}",
            "timeout": PATIENCE,
        }
        home = Home(wall_us, callback_token=lambda *ids: ".".join(ids), public_url=public_url)
        given = {name: value for name, value in {**options, **changes}.items() if value is not None}
        return build("twilio", "test", given, home)

    async def _take(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        login = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        assert login == f"{TWILIO_ACCOUNT}:token"
        if self.status or self.mood in {Mood.REFUSES, Mood.DEFERS}:
            status = self.status or (400 if self.mood is Mood.REFUSES else 429)
            told = {
                "code": self.code,
                "message": f"The 'To' number {form['To']} is not what it should be",
                "more_info": "https://www.twilio.com/docs/errors/",
                "status": status,
            }
            text = self.answer_text or json.dumps(told)
            return web.Response(text=text, status=status, headers=self.answer_headers)
        message_id = form.get("StatusCallback", "").rpartition(".")[2]
        self.ledger.append(Received(message_id, [form["To"]], "", form["Body"], headers=form))
        await self._end(request)
        made = {"sid": f"SM{len(self.ledger):032x}", "status": "queued", "error_code": None}
        return web.json_response(made, status=201)


def _mailed(body: bytes) -> Received:
    mail = json.loads(body)
    texts = {part["type"]: part["value"] for part in mail["content"]}
    return Received(
        message_id=mail["headers"]["X-Upshot-Message-Id"],
        recipients=[to["email"] for one in mail["personalizations"] for to in one["to"]],
        subject=mail["subject"],
        text=texts.get("text/plain", ""),
        headers=mail["headers"],
        raw=body,
    )


def _posted(body: bytes, headers: dict[str, str]) -> Received:
    data = json.loads(body)["data"]
    content = data["content"]
    return Received(
        message_id=headers["webhook-id"],
        recipients=[data["recipient"]],
        subject=content.get("subject", ""),
        text=content.get("text") or content.get("body", ""),
        headers=headers,
        raw=body,
    )


class ResendWorld(HttpWorld):
    """A server that answers as Resend does: the same to a key that it knows."""

    path = "/emails"
    status = 0
    #: Name and message of the error it tells.
    error = ("validation_error", "something about ana@example.com")

    def __init__(self) -> None:
        super().__init__()
        self.answer_headers: dict[str, str] = {}
        self.known: dict[str, tuple[bytes, str]] = {}

    def build(self, **changes: object) -> Provider:
        options: dict[str, object] = {
            "api_key": "re_key",
            "from": "Upshot Ärger <hello@example.org>",
            "base_url": f"http://127.0.0.1:{self.port}",
            "timeout": PATIENCE,
        }
        return build("resend", "test", {**options, **changes}, Home(wall_us))

    async def _take(self, request: web.Request) -> web.Response:
        body, key = await request.read(), request.headers["idempotency-key"]
        assert request.headers["authorization"] == "Bearer re_key"
        if self.status or self.mood in {Mood.REFUSES, Mood.DEFERS}:
            status = self.status or (422 if self.mood is Mood.REFUSES else 429)
            told = {"statusCode": status, "name": self.error[0], "message": self.error[1]}
            return web.json_response(told, status=status, headers=self.answer_headers)
        if key in self.known and self.known[key][0] != body:
            told = {"statusCode": 409, "name": "invalid_idempotent_request", "message": "other"}
            return web.json_response(told, status=409)
        if key not in self.known:
            mail = json.loads(body)
            self.known[key] = (body, f"re-{len(self.known) + 1}")
            received = Received(
                key, mail["to"], mail["subject"], mail.get("text", ""), mail["headers"], body
            )
            self.ledger.append(received)
        await self._end(request)
        return web.json_response({"id": self.known[key][1]})


class SlackWorld(HttpWorld):
    """A server that answers as Slack's chat.postMessage does."""

    path = "/chat.postMessage"
    status = 200
    error = ""
    #: What it says in place of its own words.
    answer_text = ""

    def __init__(self) -> None:
        super().__init__()
        self.answer_headers: dict[str, str] = {}

    def build(self, **changes: object) -> Provider:
        options: dict[str, object] = {
            "token": "xoxb-1",
            "base_url": f"http://127.0.0.1:{self.port}",
            "timeout": PATIENCE,
        }
        return build("slack", "test", {**options, **changes}, Home(wall_us))

    async def _take(self, request: web.Request) -> web.Response:
        message = await request.json()
        assert request.headers["authorization"] == "Bearer xoxb-1"
        if self.error or self.answer_text or self.status != 200:
            text = self.answer_text or json.dumps({"ok": False, "error": self.error})
            return web.Response(text=text, status=self.status, headers=self.answer_headers)
        self.ledger.append(Received("", [message["channel"]], "", message["text"]))
        await self._end(request)
        stamp = f"17672256.{len(self.ledger):06}"
        return web.json_response({"ok": True, "channel": message["channel"], "ts": stamp})
