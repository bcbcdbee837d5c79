"""Google's service accounts: a signed assertion for an access token, which is kept while it lasts.

By hand, because it is one signature and one request: Google's own library brings a transport of its
own that blocks, and cryptography is here already.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import orjson
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from upshotd.adapters.providers.posting import Answer, Posting
from upshotd.adapters.providers.wording import Quoting
from upshotd.domain.message import Deferred

#: Where tokens are given out, unless the account or the settings say otherwise.
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: How long an assertion is good, in seconds; Google takes no longer one.
_ASSERTED_S: Final = 3600
#: A token is not used any more when this is left of it, in microseconds.
_SPARE_US: Final = 300_000_000
#: How long one is good that does not say it, in seconds.
_LASTS_S: Final = 3600


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who asks, as the file of the console says."""

    email: str
    key: RSAPrivateKey = field(repr=False)
    key_id: str = ""
    project_id: str = ""
    token_url: str = TOKEN_URL

    def assertion(self, audience: str, scope: str, now_us: int) -> str:
        """Return a signed JWT that asks for a token of *scope* at *audience*."""
        now_s = now_us // 1_000_000
        header = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        claims = {
            "iss": self.email,
            "scope": scope,
            "aud": audience,
            "iat": now_s,
            "exp": now_s + _ASSERTED_S,
        }
        signed = b".".join(_base64(orjson.dumps(part)) for part in (header, claims))
        signature = self.key.sign(signed, PKCS1v15(), SHA256())
        return (signed + b"." + _base64(signature)).decode()


def service_account(text: str) -> ServiceAccount:
    """Return the account out of its JSON; raises ValueError that says what it lacks."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("is no JSON") from None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        raise ValueError("is no key of a service account: it has no type service_account")
    named = {name: value for name, value in found.items() if isinstance(value, str)}
    for name in ("client_email", "private_key"):
        if not named.get(name):
            raise ValueError(f"has no {name}")
    return ServiceAccount(
        email=named["client_email"],
        key=_private_key(named["private_key"]),
        key_id=named.get("private_key_id", ""),
        project_id=named.get("project_id", ""),
        token_url=named.get("token_uri", TOKEN_URL),
    )


def _private_key(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("has a private_key that cannot be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("has a private_key that is not one of RSA")
    return key


class AccessTokens:
    """Gives out the access token of an account; asks for one at a time, however many want it."""

    def __init__(
        self,
        account: ServiceAccount,
        url: str,
        scope: str,
        posting: Posting,
        now_us: Callable[[], int],
    ) -> None:
        self._account = account
        self._url = url
        self._scope = scope
        self._posting = posting
        self._now_us = now_us
        self._token = ""
        self._until_us = 0
        self._asking: asyncio.Task[str | Deferred] | None = None
        #: The tokens that were shown last: nobody's words may repeat them.
        self.shown: tuple[str, ...] = ()

    async def get(self) -> str | Deferred:
        """Return a token that is good for a while, or why there is none now."""
        if self._token and self._now_us() < self._until_us:
            return self._token
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        # Whoever is cut off leaves the others their answer.
        return await asyncio.shield(self._asking)

    def throw_away(self, token: str) -> None:
        """Forget a token that was refused, unless there is another one by now."""
        if token == self._token:
            self._token = ""

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> str | Deferred:
        try:
            now_us = self._now_us()
            assertion = self._account.assertion(self._url, self._scope, now_us)
            body = urlencode({"grant_type": _GRANT, "assertion": assertion}).encode()
            headers = {"content-type": "application/x-www-form-urlencoded"}
            answer = await self._posting.post(self._url, body, headers)
            if not isinstance(answer, Answer):  # nothing was sent yet: it is only put off
                return Deferred(f"no access token: {answer.detail}")
            return self._taken(answer, now_us, Quoting(assertion))
        finally:
            self._asking = None

    def _taken(self, answer: Answer, asked_us: int, quoting: Quoting) -> str | Deferred:
        found = answer.json()
        token, lasts_s = found.get("access_token"), found.get("expires_in")
        if answer.status == 200 and isinstance(token, str) and token.isascii() and token:
            if not isinstance(lasts_s, int) or not 0 < lasts_s <= 86_400:
                lasts_s = _LASTS_S
            self._token = token
            self.shown = (*self.shown[-1:], token)
            # Of a short one half is used.
            spare_us = min(_SPARE_US, lasts_s * 500_000)
            self._until_us = asked_us + lasts_s * 1_000_000 - spare_us
            return token
        words = f"no access token: HTTP {answer.status}{_told(found, quoting)}"
        if answer.status == 429 or answer.status >= 500:
            return Deferred(words, answer.retry_after_us(asked_us))
        return Deferred(f"configuration: {words}")


def _told(found: Mapping[str, object], quoting: Quoting) -> str:
    error, text = found.get("error"), found.get("error_description")
    words = ": ".join(part for part in (error, text) if isinstance(part, str) and part)
    return f", {quoting.detail(words)}" if words else ""


def _base64(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")
