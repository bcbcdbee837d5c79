"""One HTTP request to a far end, and what its answer means."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from upshotd.adapters.relay.far_end import Barred, Busy, Taken, Unfit, Verdict

#: Most of one attempt where nothing is said, connecting included, in microseconds.
TIMEOUT_US: Final = 30_000_000
#: The longest wait that an answer may ask of us, in microseconds.
_PATIENCE_US: Final = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Posting:
    """Posts JSON to one address over connections that are kept open. `close` it after use."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_us: int,
        unfit: Collection[int],
        now_us: Callable[[], int],
    ) -> None:
        """*unfit* are the statuses that blame what is posted, and not us.

        *now_us* is the wall clock: Retry-After may be a date.
        """
        self._url = url
        self._unfit = unfit
        self._now_us = now_us
        self._session = aiohttp.ClientSession(
            headers={"content-type": "application/json", **headers},
            timeout=aiohttp.ClientTimeout(total=timeout_us / 1_000_000),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Verdict:
        """Post *body* once and return what the answer means."""
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
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
            return Busy(words, self._asked_us(response.headers))
        return Unfit(words) if status in self._unfit else Barred(words)

    def _asked_us(self, headers: Mapping[str, str]) -> int:
        asked = headers.get("retry-after")
        if asked:
            return retry_after_us(asked, self._now_us())
        # Segment gives seconds to come; of others it may be a time, which is no wait of hours.
        reset_us = retry_after_us(headers.get("x-ratelimit-reset", ""), self._now_us())
        return reset_us if reset_us < _PATIENCE_US else 0


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
