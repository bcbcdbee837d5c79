"""Text messages by Twilio's Messages API (2010-04-01).

Twilio knows no key of repetition. What it answers with a 4xx it has not made a message of; after a
5xx or silence nobody can tell.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from upshotd.adapters.providers.options import Home, Options
from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.twilio_account import (
    NUMBER,
    TOO_MANY,
    TwilioAccount,
    account_of,
)
from upshotd.domain.message import (
    Accepted,
    Deferred,
    Delivery,
    Refused,
    SendResult,
    Sms,
    Unknown,
)

API: Final = "https://api.twilio.com"
#: Longest text, in characters (error 21617).
BODY_CHARS: Final = 1600
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")
_SENDER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|[A-Za-z0-9 +_&-]{1,11}")
#: Numbers that no text message reaches: invalid, not mobile, a landline.
_BAD_NUMBER: Final = frozenset({21211, 21614, 21635})
#: The person told it to stop.
_STOPPED: Final = 21610
#: Credentials, permissions for a country, a trial account, faults of the sender's number: they are
#: ours to mend, and another provider may do it meanwhile.
_OURS: Final = frozenset({20003, 21408, 21606, 21608, 21612, 21659, 21660, 21703})
#: Those of them that are about the recipient's number: others may be reached meanwhile.
_OF_NUMBER: Final = frozenset({21408, 21608, 21612})
_VALID_S: Final = 36_000


@dataclass(frozen=True, slots=True)
class TwilioSettings:
    """As whom and how."""

    account: TwilioAccount
    #: A number, short code or name; empty beside a service.
    sender: str = ""
    #: A Messaging Service, MG and 32 hex digits; empty beside a sender.
    service: str = ""
    base_url: str = API
    #: For how long it may be queued, in seconds; 0 leaves it to Twilio.
    valid_s: int = 0
    timeout_us: int = 15_000_000


class TwilioProvider:
    """Hands each text message to Twilio, with the address where it tells what became of it."""

    idempotent = False

    def __init__(self, name: str, settings: TwilioSettings, home: Home) -> None:
        self.name = name
        self._settings = settings
        self._home = home
        self._posting = Posting(settings.timeout_us)
        self._authorization = settings.account.authorization
        self._url = f"{settings.base_url}/2010-04-01/Accounts/{settings.account.sid}/Messages.json"

    async def send(self, delivery: Delivery) -> SendResult:
        """Post once; see the module for what a failure means."""
        content = delivery.content
        if not isinstance(content, Sms):
            return Refused("PROVIDER_ERROR", "Twilio carries text messages only")
        if not NUMBER.fullmatch(delivery.recipient):
            return Refused("INVALID_ADDRESS", "not a number with its country code")
        if not content.body.strip() or len(content.body) > BODY_CHARS:
            text = f"a text of {len(content.body)} characters; 1 to {BODY_CHARS} are taken"
            return Refused("PROVIDER_ERROR", text)
        try:
            body = urlencode(self._form(delivery, content), errors="strict").encode()
        except UnicodeEncodeError:
            return Refused("PROVIDER_ERROR", "the content is not valid Unicode")
        headers = {
            "authorization": self._authorization,
            "content-type": "application/x-www-form-urlencoded",
        }
        answer = await self._posting.post(self._url, body, headers)
        return self._result(answer) if isinstance(answer, Answer) else answer

    async def check(self) -> str:
        """Return what is wrong with the credentials; empty when the account is reached."""
        url = self._url.replace("/Messages.json", ".json")
        return await self._posting.look(url, {"authorization": self._authorization})

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._posting.close()

    def _form(self, delivery: Delivery, content: Sms) -> dict[str, str]:
        settings, home = self._settings, self._home
        form = {"To": delivery.recipient, "Body": content.body}
        if settings.service:
            form["MessagingServiceSid"] = settings.service
        else:
            form["From"] = settings.sender
        if settings.valid_s:
            form["ValidityPeriod"] = str(settings.valid_s)
        if home.public_url:  # without one it could not reach us
            token = home.callback_token(delivery.workspace_id, delivery.message_id)
            form["StatusCallback"] = f"{home.public_url}/callbacks/twilio/{self.name}/{token}"
        return form

    def _result(self, answer: Answer) -> SendResult:
        if 200 <= answer.status < 300:
            sid = answer.json().get("sid")
            return Accepted(sid if isinstance(sid, str) and len(sid) <= 100 else "")
        code, words = self._settings.account.told(answer)
        return _verdict(answer, code, words, self._home.now_us())


def _verdict(answer: Answer, code: int, words: str, now_us: int) -> SendResult:
    if answer.status == 429 or code == TOO_MANY:
        return Deferred(words, answer.retry_after_us(now_us))
    if answer.status >= 500 or answer.status < 400:
        return Unknown(words)
    if code in _OURS or answer.status in (401, 403, 404):
        return Deferred(f"configuration: {words}", of_message=code in _OF_NUMBER)
    if code == _STOPPED:
        return Refused("STOP", words)
    return Refused("INVALID_ADDRESS" if code in _BAD_NUMBER else "PROVIDER_ERROR", words)


def make(name: str, options: Options, home: Home) -> TwilioProvider:
    """The provider out of its table; raises InvalidArgument with every fault of it."""
    account = account_of(options)
    sender, service = options.text("from"), options.text("messaging_service")
    for option, value, form, words in (
        ("messaging_service", service, _SERVICE, "must be MG and 32 hex digits"),
        ("from", sender, _SENDER, "must be a number as +4179..., a short code or a name"),
    ):
        if value and not form.fullmatch(value):
            options.fault(option, words)
    if bool(sender) == bool(service):
        options.fault("from", "give either from or messaging_service")
    settings = TwilioSettings(
        account=account,
        sender=sender,
        service=service,
        base_url=options.web_address("base_url").rstrip("/") or API,
        valid_s=options.number("validity_period", 0, 1, _VALID_S),
        timeout_us=options.timeout_us(),
    )
    options.check("twilio")
    return TwilioProvider(name, settings, home)
