"""Timestamps and durations of the contract <-> microseconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

SECOND_US = 1_000_000
#: What a Timestamp can say: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z.
TIMESTAMP_MIN_US = -62_135_596_800 * SECOND_US
TIMESTAMP_MAX_US = 253_402_300_800 * SECOND_US - 1
#: What a Duration can say, in seconds: 10 000 years.
_DURATION_MAX_S = 315_576_000_000
_NANOS_MAX = 999_999_999


def clamped(us: int) -> int:
    """Return the instant nearest to *us* that a Timestamp can say."""
    return min(max(us, TIMESTAMP_MIN_US), TIMESTAMP_MAX_US)


def timestamp(us: int) -> Timestamp:
    """Return microseconds since the epoch as a Timestamp, clamped to what it can say."""
    seconds, rest = divmod(clamped(us), SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def instant_us(pb: Timestamp) -> int:
    """Return a Timestamp in microseconds since the epoch, clamped to the years 1 to 9999."""
    us = pb.seconds * SECOND_US + pb.nanos // 1000
    return us if TIMESTAMP_MIN_US <= us <= TIMESTAMP_MAX_US else clamped(us)


def timestamp_fault(pb: Timestamp) -> str | None:
    """Return what is wrong with a Timestamp, or None."""
    us = pb.seconds * SECOND_US
    if clamped(us) != us or not 0 <= pb.nanos <= _NANOS_MAX:
        return "is no timestamp of the years 1 to 9999"
    return None


def duration(us: int) -> Duration:
    """Return microseconds as a Duration."""
    seconds, rest = divmod(abs(us), SECOND_US)
    sign = -1 if us < 0 else 1
    return Duration(seconds=sign * seconds, nanos=sign * rest * 1000)


def span_us(pb: Duration) -> int:
    """Return a Duration in microseconds; what is finer is cut off."""
    rest = abs(pb.nanos) // 1000
    return pb.seconds * SECOND_US + (rest if pb.nanos >= 0 else -rest)


def duration_fault(pb: Duration) -> str | None:
    """Return what is wrong with a Duration, or None."""
    in_range = abs(pb.seconds) <= _DURATION_MAX_S and abs(pb.nanos) <= _NANOS_MAX
    if not in_range or pb.seconds * pb.nanos < 0:
        return "is no duration: out of range, or seconds and nanos of different signs"
    return None
