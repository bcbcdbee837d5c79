"""Suppressions of the contract <-> those of the domain."""

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import outcome_pb2
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import timestamp
from upshotd.application.suppressions import Entry
from upshotd.domain.errors import Violation
from upshotd.domain.message import Channel
from upshotd.domain.profile import Suppression
from upshotd.domain.state import IdKind

#: What an address is called in an entry, by its channel.
_ADDRESSES = {"email": Channel.EMAIL, "phone_number": Channel.SMS}


def message(held: Suppression) -> pb.Suppression:
    """Return one channel or topic that is held back."""
    until = None if held.until_us is None else timestamp(held.until_us)
    shown = pb.Suppression(until_time=until, reason=held.reason)
    if held.topic:
        shown.topic = held.topic
        shown.on_channel = outcome_pb2.Channel.ValueType(held.channel)
    else:
        shown.channel = outcome_pb2.Channel.ValueType(held.channel)
    return shown


def entry_message(entry: Entry) -> pb.SuppressionEntry:
    """Return an entry of the list."""
    shown = pb.SuppressionEntry(suppression=message(entry.suppression))
    if entry.identity is not None:
        kind, value = entry.identity
        shown.user_id = value if kind is IdKind.USER else ""
        if kind is IdKind.ANONYMOUS:
            shown.anonymous_id = value
    elif entry.channel is Channel.EMAIL:
        shown.email = entry.address
    elif entry.channel is Channel.SMS:
        shown.phone_number = entry.address
    return shown


def entries(request: pb.SetSuppressionsRequest) -> tuple[list[Entry], tuple[Violation, ...]]:
    """Return the entries, as far as *request* says them, and every fault by path."""
    reading = Reading()
    found = [_entry(e, f"entries[{index}]", reading) for index, e in enumerate(request.entries)]
    return found, tuple(reading.violations)


def _entry(given: pb.SuppressionEntry, path: str, reading: Reading) -> Entry:
    held = _suppression(given.suppression, f"{path}.suppression", reading)
    owner = given.WhichOneof("owner")
    value = getattr(given, owner) if owner else ""
    if not value:
        text = "user_id, anonymous_id, email or phone_number is required"
        reading.missing(given, path, owner or "owner", text)
    if owner in _ADDRESSES:
        return Entry(held, None, _ADDRESSES[owner], value)
    kind = IdKind.ANONYMOUS if owner == "anonymous_id" else IdKind.USER
    return Entry(held, (kind, value))


def _suppression(given: pb.Suppression, path: str, reading: Reading) -> Suppression:
    reading.unknown_fields(given, path)
    number, name = given.channel, "channel"
    if given.topic:
        number, name = given.on_channel, "on_channel"
    channel = reading.enum(Channel, number, f"{path}.{name}", Channel.EMAIL)
    until_us = None
    if given.HasField("until_time"):
        until_us = reading.instant_us(given.until_time, f"{path}.until_time")
    return Suppression(channel, given.topic, until_us, given.reason or "SUPPRESSED")
