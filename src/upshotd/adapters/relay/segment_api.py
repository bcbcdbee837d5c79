"""Segment's HTTP Tracking API: one POST, and what its answer means."""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

import aiohttp

#: One whole attempt, connecting included, in seconds.
_ATTEMPT_SECONDS = 30.0
#: The longest wait that an answer may ask of us, in microseconds.
_PATIENCE_US: Final = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Taken:
    """2xx: the batch is Segment's now."""


@dataclass(frozen=True, slots=True)
class Busy:
    """429, 5xx, or no answer: the same batch again, later. It may have been taken."""

    #: Status or kind of failure.
    words: str
    #: What the answer asked us to wait, in microseconds.
    retry_after_us: int = 0


@dataclass(frozen=True, slots=True)
class Unfit:
    """400 or 413: something in the batch is not taken, or all of it is too large."""

    #: The status.
    words: str


@dataclass(frozen=True, slots=True)
class Barred:
    """Any other answer: it is us who are not let in, not the batch."""

    #: The status.
    words: str


Verdict: TypeAlias = Taken | Busy | Unfit | Barred


class SegmentApi:
    """Posts batches. `close` it after use."""

    def __init__(
        self, endpoint: str, write_key: Callable[[], str], version: str, now_us: Callable[[], int]
    ) -> None:
        """*write_key* is asked each time; *now_us* is the wall clock: Retry-After may be a date."""
        self._write_key = write_key
        self._endpoint = endpoint
        self._now_us = now_us
        self._session = aiohttp.ClientSession(
            headers={
                "content-type": "application/json",
                "user-agent": f"upshot/{version}",
            },
            timeout=aiohttp.ClientTimeout(total=_ATTEMPT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def post(self, body: bytes) -> Verdict:
        """Post *body* once and return what the answer means."""
        key = b64encode(f"{self._write_key()}:".encode()).decode()
        try:
            async with self._session.post(
                self._endpoint,
                data=body,
                headers={"authorization": f"Basic {key}"},
                allow_redirects=False,
            ) as response:
                return self._verdict(response)
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            return Busy(type(error).__name__)

    async def close(self) -> None:
        """Close the connections that are kept open."""
        await self._session.close()

    def _verdict(self, response: aiohttp.ClientResponse) -> Verdict:
        status = response.status
        words = f"HTTP {status}"
        if 200 <= status < 300:
            return Taken()
        if status in (408, 425, 429) or status >= 500:
            asked = response.headers.get("retry-after") or response.headers.get("x-ratelimit-reset")
            return Busy(words, retry_after_us(asked or "", self._now_us()))
        if status in (400, 413):
            return Unfit(words)
        return Barred(words)


def retry_after_us(value: str, now_us: int) -> int:
    """Return what Retry-After asks, in seconds or as a date; at most an hour, 0 for nothing."""
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(int(text) * 1_000_000, _PATIENCE_US)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, min((moment - _EPOCH) // timedelta(microseconds=1) - now_us, _PATIENCE_US))
