"""Times as Segment's senders write them: ISO 8601 in its usual forms, or a number of the epoch."""

import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What a Timestamp can say, in seconds: the years 1 to 9999.
_EARLIEST_S = -62_135_596_800
_LATEST_S = 253_402_300_799
#: Epoch numbers up to here are seconds (year 5138), then milliseconds (from 1973), micro-, nano-.
_SECONDS_MAX = 10**11
_MILLISECONDS_MAX = 10**14
_MICROSECONDS_MAX = 10**17
_NUMBER = re.compile(r"-?[0-9]{9,20}(\.[0-9]{1,9})?")


def put_moment(target: Timestamp, value: object) -> bool:
    """Write the time that *value* says into *target*; False, and nothing written, if it says none.

    A time without an offset is UTC. Finer than microseconds is cut off.
    """
    us = moment_us(value)
    if us is None:
        return False
    target.seconds, rest = divmod(us, 1_000_000)
    target.nanos = rest * 1_000
    return True


def moment_us(value: object) -> int | None:
    """Return the time that *value* says, in microseconds since the epoch, or None."""
    if isinstance(value, str):
        us = _of_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        us = _of_number(value)
    else:
        return None
    if us is None or not _EARLIEST_S * 1_000_000 <= us < (_LATEST_S + 1) * 1_000_000:
        return None
    return us


def _of_text(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        text = text.strip().upper()
        if _NUMBER.fullmatch(text):
            return _of_number(float(text) if "." in text else int(text))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    span = moment - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def _of_number(number: float) -> int | None:
    size = abs(number)
    if size < _SECONDS_MAX:
        return round(number * 1_000_000)
    if size < _MILLISECONDS_MAX:
        return round(number * 1_000)
    if size < _MICROSECONDS_MAX:
        return round(number)
    return round(number / 1_000) if size < _MICROSECONDS_MAX * 1_000 else None
