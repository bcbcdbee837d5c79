"""Lists in pages: how many items, and from where on."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from upshotd.domain.errors import InvalidArgument, Violation

#: Items of a page whose caller names no size.
SIZE_DEFAULT = 50
#: Most items of a page; whoever asks for more gets this many.
SIZE_MAX = 500
#: Longest token that is looked at; ours are as long as an id.
_TOKEN_LENGTH = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list."""

    items: Sequence[T]
    #: Where the next page starts, opaque; empty at the end.
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a list is wanted."""

    #: Most items, 1 to 500.
    size: int
    #: Key of the last item of the page before; empty at the first.
    last: str

    def page(self, found: Sequence[T], key: Callable[[T], str]) -> Page[T]:
        """Return *found* as a page; it was read with one item more than `size` if there are."""
        items = found[: self.size]
        return Page(items, _token(key(items[-1])) if len(found) > self.size else "")


def asked(page_size: int, page_token: str) -> Asked:
    """Return what is asked for. A size of 0 is 50.

    Raises InvalidArgument for a negative size and for a token that is none of ours.
    """
    faults = []
    if page_size < 0:
        faults.append(Violation("page_size", f"is {page_size}; must not be negative"))
    last = _last(page_token)
    if last is None:
        faults.append(bad_token())
    if faults or last is None:
        raise InvalidArgument.of(faults)
    return Asked(min(page_size or SIZE_DEFAULT, SIZE_MAX), last)


def bad_token() -> Violation:
    """Return what is wrong with a token that nobody here gave out."""
    return Violation("page_token", "is no next_page_token of this list")


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _last(token: str) -> str | None:
    """Return the key in *token*, None when it is malformed."""
    if not token:
        return ""
    if len(token) > _TOKEN_LENGTH or not token.isascii():
        return None
    try:
        padded = token.encode() + b"=" * (-len(token) % 4)
        last = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        return None
    # Ids are printable; what is not would be a fault of the database at best.
    return last if last and last.isprintable() else None
