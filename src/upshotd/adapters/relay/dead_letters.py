"""Outcomes that a far end does not take, kept in a file of JSON lines until they are retried."""

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.line_file import LineFile
from upshotd.adapters.relay.plain import outcome_json, outcome_of

#: What the name of the file is followed by while it is being retried.
RETRYING: Final = ".retrying"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NoDeadLetter(Exception):
    """A line of the file is something else; nothing of the file is lost."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of one relay."""

    path: Path
    #: Name of the relay.
    relay: str
    include_recipient: bool
    #: The wall clock, in microseconds.
    now_us: Callable[[], int]

    def add(self, outcome: pb.Outcome, reason: NotExported, words: str) -> None:
        """Put one on the disk. Raises OSError."""
        written = outcome_json(outcome, include_recipient=self.include_recipient)
        moment = _EPOCH + timedelta(microseconds=self.now_us())
        letter = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "relay": self.relay,
            "reason": reason.value,
            **({"detail": words} if words else {}),
            "outcome": orjson.Fragment(written),
        }
        file = LineFile(self.path)
        try:
            file.append([orjson.dumps(letter)])
        finally:
            file.close()

    def set_apart(self) -> Path | None:
        """Move the letters to where they can be read at leisure; None when there are none.

        Those of a retry that was broken off come first. Who has read them deletes the file.
        """
        apart = self.path.with_name(self.path.name + RETRYING)
        if apart.exists():
            return apart
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # not while somebody adds one
            self.path.rename(apart)
        finally:
            os.close(fd)
        return apart


def outcomes_in(path: Path) -> Iterator[pb.Outcome]:
    """Yield the outcomes of a file of dead letters. Raises NoDeadLetter that names the line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield outcome_of(orjson.loads(line)["outcome"])
            except (ValueError, KeyError, TypeError) as error:
                raise NoDeadLetter(f"{path}, line {number}: {error}") from None
