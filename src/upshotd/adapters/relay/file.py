"""A file of JSON lines that gets each outcome."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.far_end import Barred, Busy, Item, Limits, NotExported, Taken, Verdict
from upshotd.adapters.relay.line_file import FileInUse, LineFile
from upshotd.adapters.relay.plain import outcome_json

#: One fsync for so many lines and bytes at most.
LIMITS: Final = Limits(1_000, 4_000_000)
#: What asking again does not mend.
_FINAL = (FileInUse, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Where lines go."""

    path: Path
    include_recipient: bool = False


class File:
    """A file as the far end. `close` it after use."""

    name = "the file"
    advice = "check path, and that no other process writes there"
    limits = LIMITS

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings
        self._file = LineFile(settings.path)

    def items(self, outcome: pb.Outcome) -> tuple[Item, ...] | NotExported:
        """Return *outcome* as one line of protobuf JSON."""
        if not outcome.outcome_id:
            return NotExported.NO_ID
        include = self._settings.include_recipient
        return (Item(outcome, outcome_json(outcome, include_recipient=include)),)

    async def post(self, items: Sequence[Item]) -> Verdict:
        """Append *items*; Taken when they are on the disk."""
        try:
            await asyncio.to_thread(self._file.append, [item.body for item in items])
        except _FINAL as error:
            return Barred(error.strerror or type(error).__name__)
        except OSError as error:
            return Busy(error.strerror or type(error).__name__)
        return Taken()

    def reopen(self) -> None:
        """Open the path anew before the next line."""
        self._file.reopen()

    async def close(self) -> None:
        """Let go of the file."""
        self._file.close()
