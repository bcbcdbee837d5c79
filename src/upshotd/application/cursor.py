"""Cursors: places in the outcome log, as opaque text that consumers keep and send back.

A cursor is {format version, log epoch, workspace, partition -> position}. Each position is the
last one that was read; 0 is before the first outcome.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from upshotd.application.ports import PartitionSpan
from upshotd.domain.errors import CursorExpired, InvalidArgument, Violation

#: Version of the encoding, the first byte.
FORMAT: Final = 1
#: Longest cursor that is looked at, in characters; one of 16 partitions has less than 700.
LENGTH_MAX: Final = 4_096
#: Positions are 64-bit integers in every store.
POSITION_MAX: Final = 2**63 - 1
_CHECKSUM_BYTES: Final = 4
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one log of one workspace."""

    #: Id of the log; another after a restore, another in another database.
    epoch: str
    workspace_id: str
    #: partition -> last position read; partitions that are not here have not been begun.
    positions: Mapping[int, int]


def encode(cursor: Cursor) -> str:
    """Return *cursor* as url-safe text; equal cursors are equal texts."""
    return CursorWriter(cursor.epoch, cursor.workspace_id).text(cursor.positions)


class CursorWriter:
    """Encodes the cursors of one log: a stream writes one with every response."""

    def __init__(self, epoch: str, workspace_id: str) -> None:
        names = json.dumps([epoch, workspace_id], separators=(",", ":"))
        # What all of them begin with. The checksum goes on from its own.
        self._begin = bytes((FORMAT,)) + f"{names[:-1]},[".encode()
        self._checksum = zlib.crc32(self._begin)

    def text(self, positions: Mapping[int, int]) -> str:
        """Return the cursor at *positions*."""
        if len(positions) == 1:  # a log of one partition: the usual one, once for every response
            (pair,) = positions.items()
            pairs = f"[{pair[0]},{pair[1]}]"
        else:
            pairs = ",".join(f"[{place},{positions[place]}]" for place in sorted(positions))
        end = f"{pairs}]]".encode()
        # The checksum finds what was cut, mistyped or put together by hand.
        checksum = zlib.crc32(end, self._checksum).to_bytes(_CHECKSUM_BYTES, "big")
        sealed = self._begin + end + checksum
        text = binascii.b2a_base64(sealed, newline=False).translate(_URL_SAFE)
        return text.rstrip(b"=").decode()


def parse(text: str) -> Cursor | None:
    """Return the cursor in *text*, of whatever log; None when it is malformed."""
    if not 0 < len(text) <= LENGTH_MAX or not text.isascii():
        return None
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
        body, checksum = sealed[:-_CHECKSUM_BYTES], sealed[-_CHECKSUM_BYTES:]
        if body[:1] != bytes((FORMAT,)) or zlib.crc32(body) != int.from_bytes(checksum, "big"):
            return None
        return _shaped(json.loads(body[1:]))
    except (ValueError, RecursionError):
        return None


def _shaped(found: object) -> Cursor | None:
    match found:
        case [str(epoch), str(workspace_id), list(pairs)]:
            positions = dict(filter(None, map(_place, pairs)))
            # A pair that is none, or a partition named twice: not written by us.
            whole = len(positions) == len(pairs)
            return Cursor(epoch, workspace_id, positions) if whole else None
        case _:
            return None


def _place(pair: object) -> tuple[int, int] | None:
    match pair:
        case [partition, position] if type(partition) is int and type(position) is int:
            within = partition >= 0 and 0 <= position <= POSITION_MAX
            return (partition, position) if within else None
        case _:
            return None


def decode(text: str, epoch: str, workspace_id: str, partitions: int, field: str) -> dict[int, int]:
    """Return the positions of a cursor of the log *epoch* with this many *partitions*.

    Raises InvalidArgument (CURSOR_INVALID), naming *field*, for text that is malformed and for a
    cursor of another log or workspace.
    """
    cursor = parse(text)
    fault = ""
    if cursor is None:
        fault = "is no cursor of this server"
    elif cursor.epoch != epoch:
        fault = "is a cursor of another log: of another database, or from before a restore"
    elif cursor.workspace_id != workspace_id:
        fault = "is a cursor of another workspace"
    elif any(partition >= partitions for partition in cursor.positions):
        fault = f"names a partition that is not there; the log has {partitions}"
    if cursor is None or fault:
        violation = Violation(field, fault)
        raise InvalidArgument(f"{field} {fault}", (violation,), reason="CURSOR_INVALID")
    return dict(cursor.positions)


def check_head(
    positions: Mapping[int, int], spans: Mapping[int, PartitionSpan], field: str
) -> None:
    """Raise InvalidArgument (CURSOR_AHEAD) when a position is beyond its partition's head."""
    for partition, position in positions.items():
        head = spans[partition].head
        if position > head:
            fault = f"is at {position} of partition {partition}, which ends at {head}"
            violation = Violation(field, fault)
            raise InvalidArgument(f"{field} {fault}", (violation,), reason="CURSOR_AHEAD")


def check_kept(
    positions: Mapping[int, int], spans: Mapping[int, PartitionSpan], writer: CursorWriter
) -> None:
    """Raise CursorExpired when something after *positions* is no longer kept.

    Its `earliest_cursor` is the earliest from which this reader can go on: partitions that
    have lost nothing stay where they are.
    """
    earliest = {
        partition: max(position, spans[partition].earliest - 1)
        for partition, position in positions.items()
    }
    if earliest != positions:
        text = "outcomes after the cursor are older than the retention of the log and gone"
        raise CursorExpired(text, earliest_cursor=writer.text(earliest))
