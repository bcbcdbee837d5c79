"""Reading what was answered: bounded, and one JSON object or nothing."""

from collections.abc import Mapping
from typing import Final

import aiohttp
import orjson

from upshotd.domain.fetching import Fetched, Unfetched

#: Statuses that another attempt may better.
_PASSING: Final = frozenset({408, 425, 429})
_CHUNK: Final = 16 * 1024
#: The longest wait that Retry-After may ask, in microseconds.
_PATIENCE_US: Final = 3_600_000_000
#: Deepest nesting of what is taken: it becomes a part of the run, which must be stored and shown.
NESTING_MAX: Final = 20


async def answer(response: aiohttp.ClientResponse, most: int) -> Fetched | Unfetched:
    """Return the JSON object of a response of at most *most* bytes, or why there is none."""
    if not 200 <= response.status < 300:
        again = response.status >= 500 or response.status in _PASSING
        return Unfetched("HTTP_ERROR", f"answered {response.status}", again, _wait_us(response))
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            return Unfetched("TOO_LARGE", f"answered more than {most} bytes")
    found = json_object(bytes(body))
    if found is None:
        text = f"the answer is no JSON object, or nested deeper than {NESTING_MAX}"
        return Unfetched("NO_OBJECT", text)
    return Fetched(found)


def json_object(text: bytes | str) -> Mapping[str, object] | None:
    """Return the JSON object in *text*, None where it is none or nested deeper than NESTING_MAX."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and _is_flat(found, NESTING_MAX) else None


def _is_flat(value: object, most: int) -> bool:
    """Return whether there are at most *most* brackets around anything in *value*."""
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return most > 0 and all(_is_flat(item, most - 1) for item in inside)


def _wait_us(response: aiohttp.ClientResponse) -> int:
    """Return what Retry-After asks in seconds; as a date it is left to our backoff."""
    text = response.headers.get("retry-after", "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return 0
    return min(int(text) * 1_000_000, _PATIENCE_US)
