"""Bodies that come packed: gzip or deflate, and not one byte more than is wanted of them. Pure.

The server underneath would inflate a body as it comes, also one that nobody wants any more.
"""

import zlib
from typing import Final

#: Most parts of a gzip, one behind the other.
_PARTS_MAX: Final = 16
_GZIP, _ZLIB, _RAW = 31, 15, -15


class TooLarge(Exception):
    """There is more in it than is wanted."""


def inflated(body: bytes, coding: str, bytes_max: int) -> bytes:
    """Return what *body* holds; *coding* is its Content-Encoding.

    Raises TooLarge beyond *bytes_max*, and ValueError where it is not what it says.
    """
    match coding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _gunzipped(body, bytes_max)
        case "deflate":
            # By the standard it has zlib's header; some senders leave it out.
            with_header = body[:1] and body[0] & 0x0F == 8
            found, rest = _part(body, _ZLIB if with_header else _RAW, bytes_max)
            if not rest:
                return found
    raise ValueError("not plain, gzip or deflate")


def _gunzipped(body: bytes, bytes_max: int) -> bytes:
    found, rest = _part(body, _GZIP, bytes_max)
    for _ in range(_PARTS_MAX):
        if not rest:
            return found
        more, rest = _part(rest, _GZIP, bytes_max - len(found))
        found += more
    raise ValueError("too many parts")


def _part(body: bytes, form: int, bytes_max: int) -> tuple[bytes, bytes]:
    """Return what the first part holds, and what is behind it."""
    inflating = zlib.decompressobj(form)
    try:
        found = inflating.decompress(body, bytes_max + 1)
    except zlib.error:
        raise ValueError("not packed so") from None
    if len(found) > bytes_max:
        raise TooLarge
    if not inflating.eof:
        raise ValueError("cut off")
    return found, inflating.unused_data
