"""One HTTP request to a provider: its answer, or what it means that there is none."""

import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
import orjson

from upshotd.domain.message import Deferred, Unknown

#: What is read of an answer, in octets.
BODY_LIMIT = 64 * 1024
#: What is written in one piece, in octets; more would hold everybody else up.
_AT_ONCE = 256 * 1024
#: The longest wait that Retry-After may ask of us, in microseconds.
_PATIENCE_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Answer(NamedTuple):
    """What a server said."""

    status: int
    #: By name, in any case.
    headers: Mapping[str, str]
    #: Empty where it broke off or was longer than BODY_LIMIT: the status has been said.
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; empty when it is none."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    def retry_after_us(self, now_us: int) -> int:
        """Return what Retry-After asks of us, in microseconds; 0 without it."""
        return retry_after_us(self.headers.get("retry-after", ""), now_us)


class Posting:
    """Posts over connections that are kept open.

    *timeout_us* is for one whole attempt, connecting included, in microseconds.
    """

    def __init__(self, timeout_us: int) -> None:
        self._timeout_us = timeout_us
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | Deferred | Unknown:
        """Post once; Unknown when the connection stood and no status came, else Deferred."""
        return await self._ask("POST", url, body, headers)

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer | Deferred | Unknown:
        """Get once what changes nothing."""
        return await self._ask("GET", url, b"", headers)

    async def look(self, url: str, headers: Mapping[str, str]) -> str:
        """Return what is wrong with the credentials in *headers*, by getting *url* with them."""
        answer = await self.get(url, headers)
        if not isinstance(answer, Answer):
            return f"not reached: {answer.detail}"
        return "" if answer.status < 300 else f"HTTP {answer.status}"

    async def _ask(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | Deferred | Unknown:
        # Set by the trace once the request has a connection to travel on.
        phase = SimpleNamespace(connected=False)
        try:
            async with self._open_session().request(
                method,
                url,
                data=body if len(body) <= _AT_ONCE else io.BytesIO(body),
                headers={"accept-encoding": "identity", "user-agent": "upshot", **headers},
                allow_redirects=False,
                trace_request_ctx=phase,
            ) as response:
                return Answer(response.status, response.headers, await _read(response))
        except (aiohttp.ClientError, OSError) as error:
            words = type(error).__name__
            return Unknown(words) if phase.connected else Deferred(words)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_us / 1_000_000),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                trace_configs=[_trace()],
            )
        return self._session


def retry_after_us(value: str, now_us: int) -> int:
    """What Retry-After asks, in seconds or as a date; at most an hour, 0 where it says nothing."""
    text = value.strip()
    if re.fullmatch(r"[0-9]+", text):
        return _PATIENCE_US if len(text) > 9 else min(int(text) * 1_000_000, _PATIENCE_US)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, min((moment - _EPOCH) // timedelta(microseconds=1) - now_us, _PATIENCE_US))


def _trace() -> aiohttp.TraceConfig:
    async def connected(_session: object, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(BODY_LIMIT):
            body += chunk
            if len(body) > BODY_LIMIT:
                response.close()
                return b""
    except (aiohttp.ClientError, OSError):
        return b""  # the status has been said, whatever becomes of the rest
    return bytes(body)
