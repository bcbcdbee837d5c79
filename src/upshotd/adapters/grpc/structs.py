"""Struct <-> plain values, by hand: protobuf's own conversion is several times slower.

A Struct knows only doubles; integral ones become int again as far as doubles count exactly. What
came over the wire is never nested deeper than 32, lists in each other 45: protobuf refuses to parse
more. What is sent is not nested deeper than 30, whatever it stands in.
"""

import sys
from collections.abc import Iterator, Mapping
from math import isfinite, isnan

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

#: Doubles count without gaps up to here.
_EXACT = 2.0**53
_LARGEST = sys.float_info.max
#: A Struct nested deeper than this could not be read back from the wire.
DEPTH_MAX = 30


def plain(struct: Struct) -> dict[str, object]:
    """Return *struct* as plain values. NaN and infinities become the words of protobuf JSON."""
    # Looked up by key: that is quicker here than items().
    fields = struct.fields
    return {key: _plain(fields[key]) for key in fields}


def _plain(value: Value) -> object:
    # A field that is not the one set reads as its default, so that a value that is none of the
    # defaults needs no look at which one is set.
    text = value.string_value
    if text:
        return text
    number = value.number_value
    if number:
        return _number(number)
    match value.WhichOneof("kind"):
        case "struct_value":
            return plain(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "bool_value":
            return value.bool_value
        case "string_value":
            return ""
        case "number_value":
            return 0
        case _:
            return None


def _number(number: float) -> object:
    if number.is_integer():
        return int(number) if -_EXACT <= number <= _EXACT else number
    if isfinite(number):
        return number
    return "NaN" if isnan(number) else "Infinity" if number > 0 else "-Infinity"


def fault(struct: Struct) -> str | None:
    """Return what has no plain form in *struct*, or None; for what can be refused as a whole."""
    return _fault(Value(struct_value=struct), DEPTH_MAX + 1)


def _fault(value: Value, depth: int) -> str | None:
    match value.WhichOneof("kind"):
        case "number_value" if not isfinite(value.number_value):
            return "NaN and infinities are no JSON numbers"
        case "struct_value":
            items = list(value.struct_value.fields.values())
        case "list_value":
            items = list(value.list_value.values)
        case _:
            return None
    if depth == 0:
        return f"nested deeper than {DEPTH_MAX}"
    return next((text for item in items if (text := _fault(item, depth - 1))), None)


def struct(values: Mapping[str, object]) -> Struct:
    """Return plain values as a Struct.

    Raises ValueError for NaN, infinities, nesting deeper than 30 and what is no JSON value.
    """
    return _struct(values, DEPTH_MAX)


def shallow(values: Mapping[str, object]) -> Struct:
    """Return plain values as a Struct; what is nested deeper than 30 is left out."""
    return struct({key: _cut(item, DEPTH_MAX - 1) for key, item in values.items()})


def _cut(item: object, depth: int) -> object:
    if not isinstance(item, Mapping | list | tuple):
        return item
    if depth <= 0:
        return "..."
    if isinstance(item, Mapping):
        return {key: _cut(inside, depth - 1) for key, inside in item.items()}
    return [_cut(inside, depth - 1) for inside in item]


def _struct(values: Mapping[str, object], depth: int) -> Struct:
    if depth < 0:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    return Struct(fields={key: _value(item, depth) for key, item in values.items()})


def _value(item: object, depth: int) -> Value:
    match item:
        case str():
            return Value(string_value=item)
        case bool():
            return Value(bool_value=item)
        case int() | float():
            if not -_LARGEST <= item <= _LARGEST:  # NaN is not either
                raise ValueError("NaN, infinities and what no double can hold are no numbers here")
            return Value(number_value=item)
        case None:
            return Value(null_value=NULL_VALUE)
        case Mapping():
            return Value(struct_value=_struct(item, depth - 1))
        case list() | tuple():
            if depth <= 0:
                raise ValueError(f"nested deeper than {DEPTH_MAX}")
            return Value(list_value=ListValue(values=[_value(i, depth - 1) for i in item]))
        case _:
            raise ValueError(f"{type(item).__name__} is no JSON value")


class LazyStruct(Mapping[str, object]):
    """A Struct as a mapping of plain values that costs nothing until somebody reads it.

    One key alone is decoded alone. The Struct must not change any more.
    """

    __slots__ = ("_keys", "_struct", "_values")

    def __init__(self, struct: Struct) -> None:
        self._struct = struct
        self._keys: frozenset[str] | None = None
        self._values: dict[str, object] | None = None

    def plain(self) -> dict[str, object]:
        """Return all of it, decoded once; the caller does not change it."""
        if self._values is None:
            self._values = plain(self._struct)
        return self._values

    def __getitem__(self, key: str) -> object:
        if self._values is not None:
            return self._values[key]
        # Asked first: reading a missing key of a protobuf map would add it.
        if key not in self._struct.fields:
            raise KeyError(key)
        return _plain(self._struct.fields[key])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._struct.fields

    def get(self, key: str, default: object = None) -> object:
        """Return one value, or *default*; without the price of an exception."""
        if self._values is not None:
            return self._values.get(key, default)
        fields = self._struct.fields
        return _plain(fields[key]) if key in fields else default

    def text_at(self, path: tuple[str, ...]) -> str:
        """Return the text at *path*, empty where there is none; decodes nothing else."""
        if self._keys is None:  # most of what is asked for is not there
            self._keys = frozenset(self._struct.fields)
        if path[0] not in self._keys:
            return ""
        fields = self._struct.fields
        for key in path[:-1]:
            # Asked first: reading a missing key of a protobuf map would add it.
            if key not in fields:
                return ""
            fields = fields[key].struct_value.fields
        return fields[path[-1]].string_value if path[-1] in fields else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain())

    def __len__(self) -> int:
        return len(self._struct.fields)

    def __repr__(self) -> str:
        return repr(self.plain())
