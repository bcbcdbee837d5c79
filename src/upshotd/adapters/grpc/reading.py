"""Reading a message whole although parts of it are wrong: every fault is noted by its path."""

from enum import IntEnum
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from upshotd.adapters.grpc import structs
from upshotd.adapters.grpc.times import duration_fault, instant_us, span_us, timestamp_fault
from upshotd.domain.errors import Violation

E = TypeVar("E", bound=IntEnum)

#: Stands for a span that cannot be read: legal wherever a span is, so that it is not told twice.
_HARMLESS_SPAN_US = 1


class Reading:
    """The faults that were found so far."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def fault(self, path: str, text: str) -> None:
        """Note one fault."""
        self.violations.append(Violation(path, text))

    def missing(self, message: Message, path: str, oneof: str, text: str) -> None:
        """Note a oneof that is not set, unless it may be among the fields that are not known."""
        if not len(UnknownFieldSet(message)):
            self.fault(f"{path}.{oneof}", text)

    def enum(self, kind: type[E], number: int, path: str, instead: E) -> E:
        """Return the member of *kind* with this number; *instead* is harmless."""
        try:
            return kind(number)
        except ValueError:
            self.fault(path, f"{number} is no value this server knows")
            return instead

    def span_us(self, message: Duration, path: str) -> int:
        """Return a duration in microseconds, 0 when it is not set."""
        text = duration_fault(message)
        if text is None:
            return span_us(message)
        self.fault(path, text)
        return _HARMLESS_SPAN_US

    def instant_us(self, message: Timestamp, path: str) -> int:
        """Return an instant in microseconds since the epoch."""
        text = timestamp_fault(message)
        if text is not None:
            self.fault(path, text)
        return instant_us(message)

    def plain(self, message: Struct, path: str) -> dict[str, object]:
        """Return open data as plain values."""
        text = structs.fault(message)
        if text is None:
            return structs.plain(message)
        self.fault(path, text)
        return {}

    def unknown_fields(self, message: Message, path: str) -> None:
        """Note every field, at any depth, that is not in this server's contract."""
        unknown = UnknownFieldSet(message)
        for number in sorted({unknown[i].field_number for i in range(len(unknown))}):
            self.fault(path, f"field {number} is not known to this server")
        for descriptor, value in message.ListFields():
            if not _ours(descriptor):
                continue
            below = f"{path}.{descriptor.name}"
            if isinstance(value, Message):
                self.unknown_fields(value, below)
            else:
                for index, item in enumerate(value):
                    self.unknown_fields(item, f"{below}[{index}]")


def _ours(descriptor: FieldDescriptor) -> bool:
    """Return whether a field holds messages of the contract: none of protobuf's own, and no map."""
    kind = descriptor.message_type
    if kind is None:
        return False
    return kind.file.package == "upshot.v1" and not kind.GetOptions().map_entry
