"""Segment events from a file of JSON lines -> requests of Ingest that know their lines."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from upshot.v1 import event_pb2, service_pb2
from upshotd.adapters.http import segment_codec

#: Most events of one call.
CALL_EVENTS: Final = 500
#: Largest line that is read as an event, in bytes; the server takes 32 KiB of an event.
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
#: Largest event that is sent at all, in bytes: with a call's worth before it, it must fit into the
#: 4 MiB of a gRPC message. The server refuses it, and keeps it where people can see it.
EVENT_BYTES_MAX: Final = 1024 * 1024
#: What an id that was made from a line begins with.
MADE_PREFIX: Final = "line-"
_DIGEST_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Refused:
    """A line, or an event of it, that was not taken."""

    #: Counted from 1.
    line: int
    event_id: str
    #: Upper-case word.
    reason: str
    #: What is wrong, by field.
    faults: tuple[str, ...]


@dataclass(slots=True)
class Call:
    """One request, and where its events come from."""

    request: service_pb2.IngestRequest = field(default_factory=service_pb2.IngestRequest)
    #: Line of each event, counted from 1.
    lines: list[int] = field(default_factory=list)
    #: Lines that could not be read, among those of the events.
    refused: list[Refused] = field(default_factory=list)
    #: Bytes of all these lines in the file.
    read_bytes: int = 0
    #: Bytes of the request.
    size: int = 0
    #: Events that got an id made from their line.
    made_ids: int = 0

    @property
    def full(self) -> bool:
        """Whether it is to be sent."""
        return len(self.lines) >= CALL_EVENTS or self.size >= segment_codec.REQUEST_BYTES


def calls(lines: Iterable[bytes]) -> Iterator[Call]:
    """Yield requests of at most 500 events, in the order of the lines; empty lines are passed."""
    call = Call()
    for number, line in enumerate(lines, 1):
        call.read_bytes += len(line)
        text = line.strip()
        if not text:
            continue
        for event, refused in _events(text, number):
            if refused is not None:
                call.refused.append(refused)
            else:
                _add(call, event, number)
            if call.full:
                yield call
                call = Call()
    if call.lines or call.read_bytes:
        yield call


def _add(call: Call, event: event_pb2.Event, number: int) -> None:
    call.made_ids += event.event_id.startswith(MADE_PREFIX)
    call.request.events.append(event)
    call.lines.append(number)
    call.size += event.ByteSize()


def _events(text: bytes, number: int) -> Iterator[tuple[event_pb2.Event, Refused | None]]:
    """Yield what a line says: events, or why one is not taken."""
    if len(text) > LINE_BYTES_MAX:
        too_long = f"is longer than {LINE_BYTES_MAX} bytes"
        yield event_pb2.Event(), Refused(number, "", "MALFORMED", (too_long,))
        return
    try:
        events = _parsed(text)
    except segment_codec.Malformed as error:
        yield event_pb2.Event(), Refused(number, "", "MALFORMED", (str(error),))
        return
    digest = hashlib.sha256(text).hexdigest()
    for index, event in enumerate(events):
        if not event.event_id:
            at = f"-{index}" if len(events) > 1 else ""
            event.event_id = f"{MADE_PREFIX}{digest[:_DIGEST_LENGTH]}{at}"
        size = event.ByteSize()
        refused = None
        if size > EVENT_BYTES_MAX:
            faults = (f"{size} bytes; an event has at most {segment_codec.EVENT_BYTES_MAX}",)
            refused = Refused(number, event.event_id, "EVENT_TOO_LARGE", faults)
        yield event, refused


def _parsed(text: bytes) -> list[event_pb2.Event]:
    """Return the events of a line: one, or those of a batch. Raises Malformed."""
    body = segment_codec.parse(text)
    if "batch" in body:
        return [event for request in segment_codec.batch(body) for event in request.events]
    kind = body.get("type")
    if kind is None:
        raise segment_codec.Malformed("has no `type` (track, identify, ...) and is no batch")
    return list(segment_codec.single(body, kind if isinstance(kind, str) else "").events)
