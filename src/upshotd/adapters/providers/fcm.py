"""Push by Firebase Cloud Messaging's HTTP v1 API: one request for each device of the person.

FCM knows no key of repetition. What it answers with a 4xx has not gone out, nor what it is too busy
for (UNAVAILABLE); after another 5xx or silence nobody can tell. A repeated notification replaces
the first one on the device, because both are shown under the message's id.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.service_account import (
    AccessTokens,
    ServiceAccount,
    service_account,
)
from upshotd.adapters.providers.several import GONE, MESSAGE_ID, together
from upshotd.adapters.providers.wording import Quoting, shown
from upshotd.domain.message import (
    Accepted,
    Deferred,
    Delivery,
    Push,
    Refused,
    SendResult,
    Unknown,
)

API: Final = "https://fcm.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,61}[a-z0-9]")
#: Keys of data that FCM keeps for itself.
_RESERVED = re.compile(r"from|message_type|google\..*|gcm\.notification.*", re.DOTALL)
_ERROR_TYPE: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
#: What FCM wants to be left in peace where its 429 does not say it, in microseconds.
_PEACE_US: Final = 60_000_000
_TTL_S: Final = 2_419_200


@dataclass(frozen=True, slots=True)
class FcmSettings:
    """As whom and how."""

    account: ServiceAccount = field(repr=False)
    project: str
    base_url: str = API
    token_url: str = ""
    #: Everything is checked, nothing is delivered.
    sandbox: bool = False
    #: For how long a device that is away may get it, in seconds; None leaves it to FCM.
    ttl_s: int | None = None
    #: Of Android: normal or high; empty leaves it to FCM.
    priority: str = ""
    timeout_us: int = 15_000_000


class FcmProvider:
    """Sends each message to all devices of the person at once."""

    idempotent = False

    def __init__(self, name: str, settings: FcmSettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._tokens = AccessTokens(
            settings.account, settings.token_url, SCOPE, self._posting, home.now_us
        )
        self._url = f"{settings.base_url}/v1/projects/{settings.project}/messages:send"

    async def send(self, delivery: Delivery) -> SendResult:
        """Ask once for each device; see `together` for what they make of it."""
        content = delivery.content
        if not isinstance(content, Push):
            return Refused("PROVIDER_ERROR", "FCM carries push messages only")
        for key in content.data:
            if _RESERVED.fullmatch(key):
                return Refused("PROVIDER_ERROR", f"data.{shown(key)[:100]} is reserved by FCM")
        devices = dict.fromkeys(delivery.recipient.split())
        try:
            bodies = {one: self._body(one, content, delivery.message_id) for one in devices}
        except TypeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        if not bodies:
            return Refused("INVALID_ADDRESS", "no device")
        async with asyncio.TaskGroup() as group:
            asked = {one: group.create_task(self._push(one, body)) for one, body in bodies.items()}
        return together({device: task.result() for device, task in asked.items()})

    async def check(self) -> str:
        """Return what is wrong with the account; empty when it may send. Sends nothing."""
        message = {"topic": "upshot-doctor", "notification": {"title": "Upshot"}}
        answer = await self._ask(orjson.dumps({"validate_only": True, "message": message}))
        if isinstance(answer, Answer):
            return "" if answer.status == 200 else _words(answer, self._quoting())
        return answer.detail

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._tokens.close()
        await self._posting.close()

    async def _push(self, device: str, body: bytes) -> SendResult:
        answer = await self._ask(body)
        if not isinstance(answer, Answer):
            return answer
        result = _verdict(answer, self._home.now_us(), self._quoting())
        return result._replace(detail=result.detail.replace(device, "<device>"))

    def _quoting(self) -> Quoting:
        """Return what takes the tokens that FCM was shown out of its words."""
        return Quoting(*self._tokens.shown)

    async def _ask(self, body: bytes) -> Answer | Deferred | Unknown:
        """Post once; once more with another token where the first one is refused."""
        token = await self._tokens.get()
        if not isinstance(token, str):
            return token
        answer = await self._posting.post(self._url, body, _headers(token))
        if not (isinstance(answer, Answer) and _refuses_token(answer)):
            return answer
        self._tokens.throw_away(token)
        token = await self._tokens.get()
        if not isinstance(token, str):
            return token
        return await self._posting.post(self._url, body, _headers(token))

    def _body(self, device: str, content: Push, message_id: str) -> bytes:
        settings = self._settings
        android: dict[str, object] = {"notification": {"tag": message_id}}
        apns = {"apns-collapse-id": message_id[:64]}
        if settings.ttl_s is not None:
            android["ttl"] = f"{settings.ttl_s}s"
            apns["apns-expiration"] = str(self._home.now_us() // 1_000_000 + settings.ttl_s)
        if settings.priority:
            android["priority"] = settings.priority
        texts = {"title": content.title, "body": content.body}
        message = {
            "token": device,
            "notification": {name: text for name, text in texts.items() if text},
            "data": {**content.data, MESSAGE_ID: message_id},
            "android": android,
            "apns": {"headers": apns},
        }
        return orjson.dumps({"message": message, "validate_only": settings.sandbox})


def _headers(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


def _error(answer: Answer) -> Mapping[str, Any]:
    error = answer.json().get("error")
    return error if isinstance(error, dict) else {}


def _details(answer: Answer) -> list[Mapping[str, Any]]:
    details = _error(answer).get("details")
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def _code(answer: Answer) -> str:
    """Return FCM's own word for an error, else the general one; empty without any."""
    own = [one.get("errorCode") for one in _details(answer) if one.get("@type") == _ERROR_TYPE]
    words = [word for word in (*own, _error(answer).get("status")) if isinstance(word, str)]
    return words[0] if words else ""


def _words(answer: Answer, quoting: Quoting) -> str:
    code, told = quoting.detail(_code(answer)), _error(answer).get("message")
    words = f"HTTP {answer.status}" + (f", {code}" if code else "")
    return f"{words}: {quoting.detail(told)}" if isinstance(told, str) and told else words


def _refuses_token(answer: Answer) -> bool:
    # APNs or a browser's push service refusing FCM is no fault of the token.
    return answer.status == 401 and _code(answer) != "THIRD_PARTY_AUTH_ERROR"


def _names_the_device(answer: Answer) -> bool:
    """Return whether FCM says that it is the device's token that is wrong."""
    violations = [one for detail in _details(answer) for one in _violations(detail)]
    if any(one.get("field") == "message.token" for one in violations):
        return True
    return "registration token" in str(_error(answer).get("message", "")).lower()


def _violations(detail: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = detail.get("fieldViolations")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _verdict(answer: Answer, now_us: int, quoting: Quoting) -> SendResult:
    status, code = answer.status, _code(answer)
    if 200 <= status < 300:
        name = answer.json().get("name")
        return Accepted(name[:200] if isinstance(name, str) else "")
    words = _words(answer, quoting)
    if status == 429:
        return Deferred(words, answer.retry_after_us(now_us) or _PEACE_US)
    if status == 503 and code == "UNAVAILABLE":
        return Deferred(words, answer.retry_after_us(now_us))
    if status >= 500 or status < 400:
        return Unknown(words)
    if status == 404 and code == "UNREGISTERED":
        return Refused(GONE, words)
    if status in (401, 403, 404):
        return Deferred(f"configuration: {words}")
    return Refused("INVALID_ADDRESS" if _names_the_device(answer) else "PROVIDER_ERROR", words)


def make(name: str, options: Options, home: Home) -> FcmProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    account = _account(options)
    project = options.text("project") or (account.project_id if account is not None else "")
    if account is not None and not _PROJECT.fullmatch(project):
        options.fault("project", "is required, as the Firebase console shows it")
    priority = options.text("priority")
    if priority not in ("", "normal", "high"):
        options.fault("priority", "must be normal or high")
    ttl_s = options.number("ttl", -1, 0, _TTL_S)
    base_url = options.web_address("base_url").rstrip("/") or API
    token_url = options.web_address("token_url")
    sandbox, timeout_us = options.flag("sandbox"), options.timeout_us()
    options.check("fcm")
    assert account is not None, "what has no account has a fault"
    settings = FcmSettings(
        account=account,
        project=project,
        base_url=base_url,
        token_url=token_url or account.token_url,
        sandbox=sandbox,
        ttl_s=ttl_s if ttl_s >= 0 else None,
        priority=priority,
        timeout_us=timeout_us,
    )
    return FcmProvider(name, settings, home)


def _account(options: Options) -> ServiceAccount | None:
    """Return the account; None where the options have a fault."""
    text = options.text("service_account", required=True)
    if not text:
        return None
    try:
        return service_account(text)
    except ValueError as error:
        options.fault("service_account", str(error))
        return None
