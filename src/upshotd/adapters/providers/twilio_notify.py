"""Push by Twilio Notify, which Twilio ends on 2027-10-31: `fcm` is the way forward.

A notification goes to all bindings of an identity, here the user's id. So the devices of a message
are bound first where they are not yet: that sends nothing, and can be done again. Notify knows no
key of repetition; what it answers with a 4xx it has not made a notification of.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import orjson

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.several import MESSAGE_ID
from upshotd.adapters.providers.twilio_account import TOO_MANY, TwilioAccount, account_of
from upshotd.domain.message import (
    Accepted,
    Deferred,
    Delivery,
    Push,
    Refused,
    SendResult,
    Unknown,
)

API: Final = "https://notify.twilio.com"
#: The last day of the service, by Twilio's notice.
LAST_DAY: Final = "2027-10-31"
_END = datetime.fromisoformat(f"{LAST_DAY}T00:00:00+00:00") + timedelta(days=1)
_END_US: Final = (_END - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
#: Credentials, a service that is not there, an API that is not there any more.
_OURS: Final = frozenset({401, 403, 404, 410})
#: How long a device that is bound is taken for bound, in microseconds; Twilio unbinds what is gone.
_BOUND_US: Final = 3_600_000_000
#: Most devices that are remembered as bound.
_BOUND_MAX: Final = 50_000
_SERVICE = re.compile(r"IS[0-9a-fA-F]{32}")
_TTL_S: Final = 2_419_200

#: The parameters of a form, in their order.
Form = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """As whom and how."""

    account: TwilioAccount
    #: IS and 32 hex digits.
    service: str
    #: What the devices' tokens are of: fcm or apn.
    binding_type: str = "fcm"
    base_url: str = API
    #: For how long a device that is away may get it, in seconds; None leaves it to Twilio.
    ttl_s: int | None = None
    timeout_us: int = 15_000_000


class TwilioNotifyProvider:
    """Binds the devices of the person, and notifies them by the person's id."""

    idempotent = False

    def __init__(self, name: str, settings: NotifySettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._headers = {
            "authorization": settings.account.authorization,
            "content-type": "application/x-www-form-urlencoded",
        }
        self._url = f"{settings.base_url}/v1/Services/{settings.service}"
        #: (identity, device) -> until when it is taken for bound.
        self._bound: dict[tuple[str, str], int] = {}
        #: Held while devices of an identity are looked for and bound, so that each is bound once.
        self._binding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(self, delivery: Delivery) -> SendResult:
        """Bind what is not bound, then notify; see the module for what a failure means."""
        content = delivery.content
        if not isinstance(content, Push):
            return Refused("PROVIDER_ERROR", "Notify carries push messages only")
        if any(key.startswith("twi_") for key in content.data):
            return Refused("PROVIDER_ERROR", "data.twi_* is reserved by Notify")
        devices = list(dict.fromkeys(delivery.recipient.split()))
        if not devices:
            return Refused("INVALID_ADDRESS", "no device")
        identity = delivery.user_id or _nameless(devices[0])
        try:
            body = _encoded(self._form(delivery, content, identity))
            _encoded([("Address", device) for device in devices])
        except (UnicodeEncodeError, TypeError):
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        async with self._binding.setdefault(identity, asyncio.Lock()):
            bound = await self._bind(identity, devices)
        if isinstance(bound, Deferred | Refused):
            return bound._replace(detail=_without(devices, bound.detail))
        answer = await self._posting.post(f"{self._url}/Notifications", body, self._headers)
        result = self._result(answer, bound) if isinstance(answer, Answer) else answer
        return result._replace(detail=_without(devices, result.detail))

    async def check(self) -> str:
        """Return what is wrong with credentials or service; empty when both are good."""
        return await self._posting.look(self._url, self._headers)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()

    def _form(self, delivery: Delivery, content: Push, identity: str) -> Form:
        home = self._home
        data = orjson.dumps({**content.data, MESSAGE_ID: delivery.message_id}).decode()
        form = [("Identity", identity), ("Data", data)]
        form += [(k, v) for k, v in (("Title", content.title), ("Body", content.body)) if v]
        if self._settings.ttl_s is not None:
            form.append(("Ttl", str(self._settings.ttl_s)))
        if home.public_url:  # without one it could not reach us
            token = home.callback_token(delivery.workspace_id, delivery.message_id)
            url = f"{home.public_url}/callbacks/twilio_notify/{self.name}/{token}"
            form.append(("DeliveryCallbackUrl", url))
        return form

    # bindings

    async def _bind(self, identity: str, devices: Sequence[str]) -> str | Deferred | Refused:
        """Bind *devices*; return which were not, empty when all are, or why nothing is sent."""
        now_us = self._home.now_us()
        wanted = [one for one in devices if self._bound.get((identity, one), 0) <= now_us]
        if not wanted:
            return ""
        known = await self._known(identity)
        if isinstance(known, Deferred):
            return known
        missing = [device for device in wanted if device not in known]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._bind_one(identity, one)) for one in missing]
        failed: list[Refused] = []
        for device, task in zip(missing, tasks, strict=True):
            result = task.result()
            if isinstance(result, Deferred):
                return result
            if result is not None:
                failed.append(result)
                wanted.remove(device)
        self._remember(identity, wanted, now_us + _BOUND_US)
        if len(failed) == len(devices):
            return failed[0]
        count = len(devices) - len(failed)
        return f"{count} of {len(devices)} devices: {failed[0].detail}" if failed else ""

    async def _known(self, identity: str) -> set[str] | Deferred:
        """Return the devices that are bound already: bound again they might count twice."""
        query = urlencode({"Identity": identity, "PageSize": 100})
        answer = await self._posting.get(f"{self._url}/Bindings?{query}", self._headers)
        if not isinstance(answer, Answer):
            return Deferred(f"bindings not read: {answer.detail}")
        if answer.status != 200:
            return self._later(answer, "bindings not read") or Deferred(
                f"configuration: bindings not read: {self._settings.account.told(answer)[1]}"
            )
        found = answer.json().get("bindings")
        found = found if isinstance(found, list) else []
        kind = self._settings.binding_type
        of_kind = (b for b in found if isinstance(b, Mapping) and b.get("binding_type") == kind)
        return {str(binding.get("address")) for binding in of_kind}

    async def _bind_one(self, identity: str, device: str) -> Deferred | Refused | None:
        """Bind one device; return None when it is."""
        kind = self._settings.binding_type
        form = [("Identity", identity), ("BindingType", kind), ("Address", device)]
        url = f"{self._url}/Bindings"
        answer = await self._posting.post(url, _encoded(form), self._headers)
        if not isinstance(answer, Answer):
            return Deferred(f"not bound: {answer.detail}")
        if 200 <= answer.status < 300:
            return None
        return self._later(answer, "not bound") or Refused(
            "INVALID_ADDRESS", self._settings.account.told(answer)[1]
        )

    def _later(self, answer: Answer, what: str) -> Deferred | None:
        """Return why a step before the notification is to be done again; None for never."""
        code, words = self._settings.account.told(answer)
        if answer.status in _OURS:
            return Deferred(f"configuration: {what}: {words}")
        if answer.status == 429 or code == TOO_MANY or not 400 <= answer.status < 500:
            return Deferred(f"{what}: {words}", answer.retry_after_us(self._home.now_us()))
        return None

    def _remember(self, identity: str, devices: Iterable[str], until_us: int) -> None:
        if len(self._bound) > _BOUND_MAX:
            self._bound.clear()
        for device in devices:
            self._bound[identity, device] = until_us

    # notifications

    def _result(self, answer: Answer, unbound: str) -> SendResult:
        if 200 <= answer.status < 300:
            sid = answer.json().get("sid")
            return Accepted(sid if isinstance(sid, str) and len(sid) <= 100 else "", unbound)
        code, words = self._settings.account.told(answer)
        if answer.status == 429 or code == TOO_MANY:
            return Deferred(words, answer.retry_after_us(self._home.now_us()))
        if answer.status >= 500 or answer.status < 400:
            return Unknown(words)
        if answer.status in _OURS:
            return Deferred(f"configuration: {words}")
        return Refused("PROVIDER_ERROR", words)


def _encoded(form: Form) -> bytes:
    return urlencode(form, errors="strict").encode()


def _without(devices: Iterable[str], words: str) -> str:
    """Return *words* without the tokens of devices."""
    for device in devices:
        words = words.replace(device, "<device>")
    return words


def _nameless(device: str) -> str:
    """Return an identity for somebody without a user id, who has this device."""
    return f"anonymous-{sha256(device.encode(errors='replace')).hexdigest()[:32]}"


def make(name: str, options: Options, home: Home) -> TwilioNotifyProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    if home.now_us() >= _END_US:
        options.fault("kind", f"Twilio has ended Notify on {LAST_DAY}; kind fcm is the way forward")
    account, service = account_of(options), options.text("service_sid", required=True)
    if service and not _SERVICE.fullmatch(service):
        options.fault("service_sid", "must be IS and 32 hex digits")
    binding_type = options.text("binding_type") or "fcm"
    if binding_type not in ("fcm", "apn"):
        options.fault("binding_type", "must be fcm or apn: what the tokens of devices are of")
    ttl_s = options.number("ttl", -1, 0, _TTL_S)
    settings = NotifySettings(
        account=account,
        service=service,
        binding_type=binding_type,
        base_url=options.web_address("base_url").rstrip("/") or API,
        ttl_s=ttl_s if ttl_s >= 0 else None,
        timeout_us=options.timeout_us(),
    )
    options.check("twilio_notify")
    return TwilioNotifyProvider(name, settings, home)
