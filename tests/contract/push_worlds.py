"""The far ends of push, as strict as they are: FCM with Google's tokens, and Twilio Notify."""

import asyncio
import base64
import json
from functools import cache
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.contract.http_worlds import TWILIO_ACCOUNT, HttpWorld
from tests.contract.provider_worlds import PATIENCE, Mood, Received, push_delivery, wall_us
from upshotd.adapters.providers.build import build
from upshotd.adapters.providers.options import Home
from upshotd.application.provider import Provider
from upshotd.domain.message import Delivery

EMAIL = "upshot@demo-1.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


@cache
def rsa_key(number: int = 0) -> RSAPrivateKey:
    """A key that costs a while to make, once; another one by *number*."""
    return generate_private_key(65537, 2048)


def pem_of(key: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    """A key as it stands in a file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def account_json(key: RSAPrivateKey | None = None, **changes: object) -> str:
    """The file that the console gives out."""
    given = {
        "type": "service_account",
        "project_id": "demo-1",
        "private_key_id": "key-1",
        "private_key": pem_of(key or rsa_key()),
        "client_email": EMAIL,
        "token_uri": "https://oauth2.googleapis.com/token",
        **changes,
    }
    return json.dumps({name: value for name, value in given.items() if value is not None})


def fcm_error(status: int, code: str, general: str = "", **more: Any) -> dict[str, Any]:
    """An error as FCM tells it: the general word outside, its own one in the details."""
    details: list[dict[str, Any]] = [{"@type": FCM_ERROR, "errorCode": code}] if code else []
    if "field" in more:
        violation = {"field": more["field"], "description": "Invalid value"}
        details.append({"@type": BAD_REQUEST, "fieldViolations": [violation]})
    message = more.get("message", "something about the message")
    return {
        "error": {"code": status, "message": message, "status": general or code, "details": details}
    }


class PushWorld(HttpWorld):
    """A server that takes pushes."""

    recipient = "device-1"

    def delivery(self, message_id: str = "msg-1", **changes: Any) -> Delivery:
        return push_delivery(
            message_id,
            recipient=changes.get("recipient", self.recipient),
            title=changes.get("subject", "Hello Ana"),
            body=changes.get("text", "Hi Ana"),
        )


class FcmWorld(PushWorld):
    """Gives tokens to who signs for them, and takes messages from who has one that is good."""

    def __init__(self) -> None:
        super().__init__()
        #: What devices are answered, by their tokens: (status, body, headers).
        self.answers: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {}
        #: Devices whose requests are held until the end.
        self.held: set[str] = set()
        #: What the next requests for a token are answered: (status, body).
        self.token_answers: list[tuple[int, dict[str, Any]]] = []
        self.token_requests = 0
        #: How long a token is good, in seconds.
        self.lasts_s = 3600
        #: Good tokens, and until when.
        self.tokens: dict[str, int] = {}
        #: Whole requests, whatever they were answered.
        self.asked: list[dict[str, Any]] = []
        self.now_us = wall_us

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/token", self._give)
        app.router.add_post("/v1/projects/demo-1/messages:send", self._take)

    @property
    def token_url(self) -> str:
        """What the assertion must be for."""
        return f"http://127.0.0.1:{self.port}/token"

    def build(self, **changes: object) -> Provider:
        options: dict[str, object] = {
            "service_account": account_json(),
            "base_url": f"http://127.0.0.1:{self.port}",
            "token_url": self.token_url,
            "timeout": PATIENCE,
        }
        given = {name: value for name, value in {**options, **changes}.items() if value is not None}
        return build("fcm", "test", given, Home(lambda: self.now_us()))

    async def _give(self, request: web.Request) -> web.Response:
        self.token_requests += 1
        form = await request.post()
        await asyncio.sleep(0)
        if self.token_answers:
            status, body = self.token_answers.pop(0)
            return web.json_response(body, status=status, headers={"Retry-After": "9"})
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        if fault := self._fault(str(form["assertion"])):
            told = {"error": "invalid_grant", "error_description": fault}
            return web.json_response(told, status=400)
        token = f"ya29.{self.token_requests}"
        self.tokens[token] = self.now_us() + self.lasts_s * 1_000_000
        given = {"access_token": token, "expires_in": self.lasts_s, "token_type": "Bearer"}
        return web.json_response(given)

    def _fault(self, assertion: str) -> str:
        """Return what is wrong with an assertion; empty when it is good."""
        head, body, signature = assertion.split(".")
        header, claims = json.loads(_octets(head)), json.loads(_octets(body))
        now_s = self.now_us() // 1_000_000
        if (header["alg"], header["typ"], header["kid"]) != ("RS256", "JWT", "key-1"):
            return "Invalid JWT header."
        public = rsa_key().public_key()
        try:
            public.verify(_octets(signature), f"{head}.{body}".encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return "Invalid JWT Signature."
        if (claims["iss"], claims["aud"]) != (EMAIL, self.token_url):
            return "Invalid JWT: wrong issuer or audience."
        if claims["scope"] != SCOPE:
            return "Invalid OAuth scope."
        if not now_s - 300 <= claims["iat"] <= now_s + 1 < claims["exp"] <= claims["iat"] + 3600:
            return "Invalid JWT: Token must be a short-lived token."
        return ""

    async def _take(self, request: web.Request) -> web.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        if self.tokens.get(token, 0) <= self.now_us():
            return web.json_response(fcm_error(401, "", "UNAUTHENTICATED"), status=401)
        body = await request.json()
        self.asked.append(body)
        message = body["message"]
        if self.mood in {Mood.REFUSES, Mood.DEFERS}:
            told = (
                (400, "INVALID_ARGUMENT") if self.mood is Mood.REFUSES else (429, "QUOTA_EXCEEDED")
            )
            return web.json_response(fcm_error(*told), status=told[0])
        device = message.get("token", "")
        if device in self.held:
            await self.released.wait()
        if device in self.answers:
            status, told_body, headers = self.answers[device]
            return web.json_response(told_body, status=status, headers=headers)
        name = f"projects/demo-1/messages/0:{len(self.asked)}"
        if body.get("validate_only"):
            return web.json_response({"name": "projects/demo-1/messages/fake_message_id"})
        self.ledger.append(_pushed(device, message))
        await self._end(request)
        return web.json_response({"name": name})


def _octets(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _pushed(device: str, message: dict[str, Any]) -> Received:
    shown, data = message["notification"], message["data"]
    assert all(isinstance(value, str) for value in data.values()), "FCM takes texts only"
    return Received(
        message_id=data["upshot_message_id"],
        recipients=[device],
        subject=shown.get("title", ""),
        text=shown.get("body", ""),
        headers=data,
    )


NOTIFY_SERVICE = "IS" + "0123456789abcdef" * 2


class NotifyWorld(PushWorld):
    """Keeps bindings, and hands a notification to all those of its identity."""

    path = f"/v1/Services/{NOTIFY_SERVICE}"

    def __init__(self) -> None:
        super().__init__()
        #: (identity, binding type, address), in the order in which they were made.
        self.bindings: list[tuple[str, str, str]] = []
        #: What the next requests are answered, by `GET`, `Bindings` or `Notifications`.
        self.answers: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        #: Requests: `GET` and the last part of those that post.
        self.asked: list[str] = []
        #: Forms of notifications.
        self.forms: list[dict[str, str]] = []
        self.now_us = wall_us

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(f"{self.path}/Bindings", self._list)
        app.router.add_get(self.path, self._service)
        app.router.add_post(f"{self.path}/Bindings", self._bind)
        app.router.add_post(f"{self.path}/Notifications", self._take)

    def build(self, public_url: str = "https://up.example", **changes: object) -> Provider:
        """A provider of this server."""
        options: dict[str, object] = {
            "account_sid": TWILIO_ACCOUNT,
            "auth_token": "token",
            "service_sid": NOTIFY_SERVICE,
            "base_url": f"http://127.0.0.1:{self.port}",
            "timeout": PATIENCE,
        }
        home = Home(
            lambda: self.now_us(),
            callback_token=lambda *ids: ".".join(ids),
            public_url=public_url,
        )
        given = {name: value for name, value in {**options, **changes}.items() if value is not None}
        return build("twilio_notify", "test", given, home)

    def _answer(self, request: web.Request, what: str) -> web.Response | None:
        self.asked.append(what)
        login = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        assert login == f"{TWILIO_ACCOUNT}:token"
        if not self.answers.get(what):
            return None
        status, body = self.answers[what].pop(0)
        return web.json_response(body, status=status, headers={"Retry-After": "7"})

    async def _service(self, request: web.Request) -> web.Response:
        return self._answer(request, "service") or web.json_response({"sid": NOTIFY_SERVICE})

    async def _list(self, request: web.Request) -> web.Response:
        identity = request.query["Identity"]
        found = [
            {"identity": identity, "binding_type": kind, "address": address}
            for whose, kind, address in self.bindings
            if whose == identity
        ]
        return self._answer(request, "GET") or web.json_response({"bindings": found, "meta": {}})

    async def _bind(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (told := self._answer(request, "Bindings")) is not None:
            return told
        binding = (str(form["Identity"]), str(form["BindingType"]), str(form["Address"]))
        self.bindings.append(binding)
        return web.json_response({"sid": f"BS{len(self.bindings):032x}"}, status=201)

    async def _take(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        if (told := self._answer(request, "Notifications")) is not None:
            return told
        if self.mood in {Mood.REFUSES, Mood.DEFERS}:
            status = 400 if self.mood is Mood.REFUSES else 429
            words = {"code": 20001, "message": "something about +41790000000", "status": status}
            return web.json_response(words, status=status)
        self.forms.append(form)
        data = json.loads(form["Data"])
        for identity, _, address in self.bindings:
            if identity == form["Identity"]:
                title, body = form.get("Title", ""), form.get("Body", "")
                message_id = data["upshot_message_id"]
                self.ledger.append(Received(message_id, [address], title, body, headers=data))
        await self._end(request)
        return web.json_response({"sid": f"NT{len(self.forms):032x}"}, status=201)
