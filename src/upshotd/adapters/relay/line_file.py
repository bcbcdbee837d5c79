"""A file that whole lines are appended to, while others read it, move it away and crash with us."""

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from typing import Final

import orjson
import structlog

#: Longest line that is looked for at the end of a file, in bytes; no line of ours is as long.
LINE_BYTES_MAX: Final = 1 << 20

log = structlog.get_logger()


class FileInUse(OSError):
    """Another process appends to the file."""


class LineFile:
    """Appends lines of JSON; opened when the first one comes.

    One process at a time has the file. A file that was moved away or deleted is left at the next
    line, for a new one at the old path. Made readable for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._asked_to_reopen = False

    def append(self, lines: Iterable[bytes]) -> None:
        """Put *lines* on the disk, all of them when this returns. Raises OSError, FileInUse.

        After an error some of them may be there; a torn one is mended before the next line.
        """
        fd = self._current()
        end = os.fstat(fd).st_size
        data = b"".join(line + b"\n" for line in lines)
        try:
            _write(fd, data)
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, end)
            self.close()  # opening looks at how it ends
            raise

    def reopen(self) -> None:
        """Open the path anew before the next line."""
        self._asked_to_reopen = True

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _current(self) -> int:
        asked, self._asked_to_reopen = self._asked_to_reopen, False
        if asked or (self._fd is not None and not _is_at(self._fd, self.path)):
            self.close()
        while self._fd is None:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _lock(fd, self.path)
                if _is_at(fd, self.path):  # it may have been moved before it was locked
                    _mend(fd, self.path)
                    _make_durable(self.path.parent)
                    self._fd, fd = fd, -1
            finally:
                if fd != -1:
                    os.close(fd)
        return self._fd


def _lock(fd: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(EINVAL, "is no regular file", str(path))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileInUse(error.errno, "another process appends to it", str(path)) from None


def _is_at(fd: int, path: Path) -> bool:
    """Whether *path* still leads to the open file."""
    try:
        there, here = path.stat(), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _mend(fd: int, path: Path) -> None:
    """End the last line: one that is whole gets its newline, a torn one is cut off.

    What is cut off was never taken for written, and comes again.
    """
    size = os.fstat(fd).st_size
    tail = os.pread(fd, LINE_BYTES_MAX, max(0, size - LINE_BYTES_MAX))
    torn = tail.rpartition(b"\n")[2]
    if not torn:
        return
    if len(torn) == LINE_BYTES_MAX:
        raise OSError(EINVAL, "does not end as a file of JSON lines does", str(path))
    whole = _is_json(torn)
    if whole:
        _write(fd, b"\n")
    else:
        os.ftruncate(fd, size - len(torn))
    os.fsync(fd)
    log.warning("relay.file_mended", path=str(path), kept=whole, length=len(torn))


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _make_durable(folder: Path) -> None:
    """Let a new name in *folder* survive a loss of power."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
