"""Protobuf's varints from tables: they frame everything that goes through the log."""

_LOW_BITS = 14
_LOW_MASK = (1 << _LOW_BITS) - 1
_UNSIGNED = (1 << 64) - 1


def _two_bytes(number: int) -> bytes:
    return bytes((number & 127 | 128, number >> 7))


#: Numbers of up to 14 bits: lengths of nearly everything.
SHORT = [bytes((n,)) if n < 128 else _two_bytes(n) for n in range(1 << _LOW_BITS)]
#: The low 14 bits of a number that has more.
LOW = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << _LOW_BITS)]


def varint(number: int) -> bytes:
    """Return *number* as a varint; a negative one in the ten bytes of an int64."""
    if 0 <= number <= _LOW_MASK:
        return SHORT[number]
    number &= _UNSIGNED
    return LOW[number & _LOW_MASK] + varint(number >> _LOW_BITS)


def tag(field: int, wire_type: int) -> bytes:
    """Return the tag of a field: wire type 0 is a varint, 2 has a length."""
    return varint(field << 3 | wire_type)
