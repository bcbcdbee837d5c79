"""Secrets kept in files, read again when their file has changed.

No thread and no timer: whoever uses a secret looks, once a second at most. A file that is gone,
empty or no text keeps what it said before, and the log says so.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog

from upshotd.domain.errors import InvalidArgument

log = structlog.get_logger("upshot.secret")

T = TypeVar("T")

#: Files are looked at no more often than this, in microseconds.
LOOK_US: Final = 1_000_000
_BYTES_MAX: Final = 64 * 1024

#: By what a change is seen: times, size and the file itself; None where there is none.
_Stamp = tuple[int, int, int, int] | None


@dataclass(slots=True)
class _Kept:
    text: str
    stamp: _Stamp
    #: How often it has changed.
    version: int = 0


class SecretFiles:
    """The files of one process that hold secrets."""

    def __init__(self, monotonic_us: Callable[[], int] = lambda: 0) -> None:
        """Without a clock each file is read once."""
        self._monotonic_us = monotonic_us
        self._looked_us = monotonic_us()
        self._kept: dict[str, _Kept] = {}

    def text(self, path: str) -> str:
        """Return what a file says, without space around it; ValueError says why it cannot be."""
        kept = self._kept.get(path)
        if kept is None:
            stamp = _stamp(path)
            kept = self._kept[path] = _Kept(_read(path), stamp)
        return kept.text

    def version(self, paths: Collection[str] | None = None) -> int:
        """Return a number that grows when one of *paths* (None: of all) says something else."""
        now_us = self._monotonic_us()
        if now_us - self._looked_us >= LOOK_US:
            self._looked_us = now_us
            self.look()
        wanted = self._kept if paths is None else paths
        return sum(self._kept[path].version for path in wanted)

    def look(self) -> None:
        """Look at all files now."""
        for path, kept in self._kept.items():
            stamp = _stamp(path)
            if stamp != kept.stamp:
                kept.stamp = stamp
                _look_again(path, kept)


class Renewed(Generic[T]):
    """Something made out of secrets; made anew, at its next use, when they have changed."""

    def __init__(
        self, value: T, make: Callable[[], T], version: Callable[[], int], name: str
    ) -> None:
        """*value* is the first one; *name* is logged.

        *make* raises InvalidArgument where the secrets are not what they must be.
        """
        self._value = value
        self._make = make
        self._version = version
        self._of = version()
        self._name = name

    def __call__(self) -> T:
        """Return the newest one that could be made."""
        version = self._version()
        if version != self._of:
            self._of = version
            try:
                self._value = self._make()
            except InvalidArgument as error:
                faults = [f"{fault.field} {fault.description}" for fault in error.violations]
                log.error("secret.refused", of=self._name, faults=faults, kept="the old one")
        return self._value


def _look_again(path: str, kept: _Kept) -> None:
    try:
        text = _read(path)
    except ValueError as error:
        log.error("secret.unreadable", file=path, fault=str(error), kept="the old one")
        return
    if text != kept.text:
        kept.text = text
        kept.version += 1
        log.info("secret.changed", file=path)


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_BYTES_MAX + 1)
        text = raw.decode().strip()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("the file is no text") from None
    if not text or len(raw) > _BYTES_MAX:
        raise ValueError("the file is empty" if not text else "the file is too large for a secret")
    return text
