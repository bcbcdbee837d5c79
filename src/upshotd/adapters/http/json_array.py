"""An array of JSON, cut into its values one at a time: nothing is made of the whole of it.

A few megabytes of brackets would otherwise become hundreds of megabytes of lists, and stop
everybody else for seconds while they are made.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, NoReturn

#: Values are shorter, in characters: every event is, and nothing longer is read at once.
VALUE_CHARS_MAX: Final = 128 * 1024
#: What most values are shorter than.
_SHORT: Final = 8 * 1024
_SPACE = re.compile(r"[ \t\n\r]*")


def is_array(body: bytes) -> bool:
    """Return whether *body* begins as an array."""
    return body[:64].lstrip().startswith(b"[")


def values(body: bytes) -> Iterator[bytes]:
    """Yield the values of the array in *body*, as they are written.

    Raises ValueError where it is none, or a value is not shorter than VALUE_CHARS_MAX.
    """
    text = body.decode()
    at = _after(text, 0, "[")
    if _next(text, at) == "]":
        at = _after(text, at, "]")
    else:
        while True:
            start, at = _value(text, at)
            yield text[start:at].encode()
            if _next(text, at) == "]":
                at = _after(text, at, "]")
                break
            at = _after(text, at, ",")
    if _space(text, at) != len(text):
        raise ValueError("there is something behind the array")


def _value(text: str, at: int) -> tuple[int, int]:
    """Return where the value at *at* begins, and where it ends."""
    at = _space(text, at)
    for length in (_SHORT, VALUE_CHARS_MAX):
        try:
            _, end = _decoder.raw_decode(text[at : at + length])
        except RecursionError:
            break
        except ValueError:
            continue  # cut off, perhaps
        # A number that goes on behind the cut would be taken for a shorter one.
        if end < length or at + end == len(text):
            return at, at + end
    raise ValueError("no value of JSON that is short enough")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "nothing is space as well"
    return found.end()


def _next(text: str, at: int) -> str:
    at = _space(text, at)
    return text[at : at + 1]


def _after(text: str, at: int, sign: str) -> int:
    if _next(text, at) != sign:
        raise ValueError(f"{sign} is missing")
    return _space(text, at) + 1


# Of numbers only the place is wanted; Python refuses to read very long ones.
_decoder = json.JSONDecoder(parse_constant=_refuse, parse_int=str)
