"""Nodes of a file -> a message of the contract, with every fault by its path and line."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from upshotd.cli import durations
from upshotd.cli.yamlfile import joined, line_of, resolved

_DURATION: Final = "google.protobuf.Duration"
_TIMESTAMP: Final = "google.protobuf.Timestamp"
_STRUCT: Final = "google.protobuf.Struct"
_LARGEST: Final = 1.7976931348623157e308
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
}
_FLOATS: Final = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    #: As the server names it: `workflow.steps[2].wait.timeout`.
    path: str
    text: str
    #: In its file, counted from 1; 0 where none can be said.
    line: int


class _Wrong(Exception):
    """A value is not what its field takes; the text says what it is and what is right."""


@dataclass(slots=True)
class Reader:
    """Fills messages and notes what is wrong; never stops at a fault."""

    faults: list[Fault] = field(default_factory=list)
    #: Path -> line of what stands there, for faults that only a server finds.
    lines: dict[str, int] = field(default_factory=dict)

    def message(self, node: Node, target: Message, path: str) -> None:
        """Fill *target* with what *node* says about it."""
        self.lines.setdefault(path, line_of(node))
        if not isinstance(node, MappingNode):
            names = ", ".join(known.name for known in target.DESCRIPTOR.fields) or "none, as {}"
            text = f"is {_kind(node)}; must be fields with their values: {names}"
            self._fault(path, node, text)
            return
        target.SetInParent()
        given: dict[str, Node] = {}
        for key, value in node.value:
            name = self._key(key, path)
            found = _field(target, name) if name is not None else None
            if found is not None:
                if self._first(found, key, given, path):
                    self.lines[f"{path}.{found.name}"] = line_of(key)
                    self._field(value, target, found, f"{path}.{found.name}")
            elif name is not None:
                self._fault(f"{path}.{name}", key, _unknown(name, target))

    def line(self, path: str) -> int:
        """Return the line of *path*, or of the nearest thing around it; 0 if there is none."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 0)

    def _fault(self, path: str, node: Node, text: str) -> None:
        self.faults.append(Fault(path, text, line_of(node)))

    def _key(self, node: Node, path: str) -> str | None:
        """Return a name of a field or of an entry; its text counts, so that `on` is one."""
        merging = isinstance(node, ScalarNode) and node.style is None and node.value == "<<"
        if isinstance(node, ScalarNode) and not merging:
            return joined(node.value)
        text = "is no name of a field"
        if merging:
            text = "merging by << is not supported; write the fields out"
        elif isinstance(node, MappingNode):
            text += "; a template that begins with {{ must stand in quotes"
        self._fault(path, node, text)
        return None

    def _first(self, found: FieldDescriptor, key: Node, given: dict[str, Node], path: str) -> bool:
        """Note a field or a oneof that is given a second time."""
        at = f"{path}.{found.name}"
        if found.name in given:
            first = line_of(given[found.name])
            self._fault(at, key, f"is given a second time; it stands in line {first} already")
            return False
        oneof = found.containing_oneof
        others = [] if oneof is None else [other.name for other in oneof.fields]
        other = next((name for name in others if name in given), None)
        given[found.name] = key
        if other is None:
            return True
        first = line_of(given[other])
        text = f"excludes `{other}` of line {first}; give one of {', '.join(others)}"
        self._fault(at, key, text)
        return False

    def _field(self, node: Node, target: Message, found: FieldDescriptor, path: str) -> None:
        if _null(node):
            if found.containing_oneof is not None:
                self._fault(path, node, "has no value; for one without fields write {}")
        elif found.is_repeated and _is_map(found):
            self._map(node, getattr(target, found.name), found, path)
        elif found.is_repeated:
            self._list(node, getattr(target, found.name), found, path)
        elif found.message_type is not None:
            self._submessage(node, getattr(target, found.name), path)
        else:
            try:
                setattr(target, found.name, _scalar(node, found))
            except _Wrong as wrong:
                self._fault(path, node, str(wrong))

    def _submessage(self, node: Node, target: Any, path: str) -> None:
        match target.DESCRIPTOR.full_name:
            case name if name in (_DURATION, _TIMESTAMP):
                try:
                    _fill_time(node, target, name)
                except _Wrong as wrong:
                    self._fault(path, node, str(wrong))
            case name if name == _STRUCT:
                self._struct(node, target, path)
            case _:
                self.message(node, target, path)

    def _list(self, node: Node, target: Any, found: FieldDescriptor, path: str) -> None:
        if not isinstance(node, SequenceNode):
            text = (
                f"is {_kind(node)}; must be a list, each item after a `- `, or [] if there is none"
            )
            self._fault(path, node, text)
            return
        for index, item in enumerate(node.value):
            at = f"{path}[{index}]"
            self.lines[at] = line_of(item)
            if found.message_type is not None:
                self._submessage(item, target.add(), at)
                continue
            try:
                target.append(_scalar(item, found))
            except _Wrong as wrong:
                self._fault(at, item, str(wrong))

    def _map(self, node: Node, target: Any, found: FieldDescriptor, path: str) -> None:
        """Fill a map of texts, or of messages."""
        kind = found.message_type
        assert kind is not None  # a map's entries are messages
        held = kind.fields_by_name["value"]
        for name, value, at in self._entries(node, path):
            if held.message_type is not None:
                self.message(value, target[name], at)
                continue
            try:
                target[name] = _scalar(value, held)
            except _Wrong as wrong:
                self._fault(at, value, str(wrong))

    def _entries(self, node: Node, path: str) -> Iterable[tuple[str, Node, str]]:
        """Yield name, value and path of each entry of a map or a Struct."""
        if not isinstance(node, MappingNode):
            self._fault(path, node, f"is {_kind(node)}; must be names with their values")
            return
        given: set[str] = set()
        for key, value in node.value:
            name = self._key(key, path)
            if name is None:
                continue
            at = f"{path}.{name}"
            self.lines[at] = line_of(value)
            if name in given:
                self._fault(at, key, "is given a second time")
            else:
                given.add(name)
                yield name, value, at

    def _struct(self, node: Node, target: Struct, path: str) -> None:
        target.SetInParent()
        for name, value, at in self._entries(node, path):
            self._value(value, target.fields[name], at)

    def _value(self, node: Node, target: Value, path: str) -> None:
        if isinstance(node, MappingNode):
            target.struct_value.SetInParent()
            self._struct(node, target.struct_value, path)
        elif isinstance(node, SequenceNode):
            target.list_value.SetInParent()
            for index, item in enumerate(node.value):
                self._value(item, target.list_value.values.add(), f"{path}[{index}]")
        else:
            try:
                _fill_value(node, target)
            except _Wrong as wrong:
                self._fault(path, node, str(wrong))


def _field(message: Message, name: str) -> Any:
    """Return the FieldDescriptor called *name* in the contract or in protobuf JSON, or None."""
    known = message.DESCRIPTOR.fields
    return next((one for one in known if name in (one.name, one.camelcase_name)), None)


def _unknown(name: str, message: Message) -> str:
    descriptor = message.DESCRIPTOR
    names = [known.name for known in descriptor.fields]
    if not names:
        return f"is no field of {descriptor.name}, which has none"
    return f"is no field of {descriptor.name}{_meant(name, names)}"


def _meant(name: str, names: Sequence[str]) -> str:
    """Return what was probably meant, or what there is."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _is_map(found: FieldDescriptor) -> bool:
    kind = found.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _kind(node: Node) -> str:
    """Return what stands there, in words."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    assert isinstance(node, ScalarNode)  # there are no others
    try:
        value = resolved(node)
    except ValueError:
        return "a number"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    return "a text" if isinstance(value, str) else "a number"


def _null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and _kind(node) == "empty"


def _scalar(node: Node, found: FieldDescriptor) -> object:
    """Return the value of a field that is no message. Raises _Wrong."""
    kind = found.cpp_type
    if not isinstance(node, ScalarNode) or _tagged(node):
        hint = ""
        if kind == FieldDescriptor.CPPTYPE_STRING and isinstance(node, MappingNode):
            hint = "; put it in quotes if it begins with {{"
        raise _Wrong(f"is {_kind(node)}; must be {_wanted(found)}{hint}")
    if found.enum_type is not None:
        return _enum(joined(node.value), found.enum_type)
    try:
        value = resolved(node)
    except ValueError as error:
        raise _Wrong(str(error)) from None
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _text(node, value)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if isinstance(value, bool):
            return value
        raise _Wrong(f"is {node.value!r}; must be true or false")
    return _number(value, found)


def _tagged(node: Node) -> bool:
    return not str(node.tag).startswith("tag:yaml.org,2002:")


def _wanted(found: FieldDescriptor) -> str:
    if found.enum_type is not None:
        return "one word"
    names: Mapping[int, str] = {
        FieldDescriptor.CPPTYPE_STRING: "a text",
        FieldDescriptor.CPPTYPE_BOOL: "true or false",
    }
    return names.get(found.cpp_type, "a number")


def _text(node: ScalarNode, value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"is {_kind(node)}, {node.value}; write it in quotes if it is a text")
    try:
        value.encode()
    except UnicodeError:
        raise _Wrong("has half of a surrogate pair, which is no character") from None
    return value


def _enum(text: str, kind: EnumDescriptor) -> int:
    found = kind.values_by_name.get(text)
    if found is not None:
        return int(found.number)
    if re.fullmatch("[0-9]{1,9}", text) and int(text) in kind.values_by_number:
        return int(text)
    names = [value.name for value in kind.values if value.number]
    # CHANNEL_EMAIL is what `email` meant.
    whole = next((name for name in names if name.endswith(f"_{text.upper()}")), None)
    meant = f"; did you mean {whole}?" if whole else _meant(text, names)
    raise _Wrong(f"{text!r} is no {kind.name}{meant}")


def _number(value: object, found: FieldDescriptor) -> float:
    """Return a number; protobuf JSON writes 64 bits in quotes."""
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            if found.cpp_type in _FLOATS:
                return float(value)
            low, high = _RANGES[found.cpp_type]
            number = int(value)
            if number == float(value) and low <= number <= high:
                return number
    except (ValueError, OverflowError):
        pass
    raise _Wrong(f"is {value!r}; must be {'a' if found.cpp_type in _FLOATS else 'a whole'} number")


def _fill_time(node: Node, target: Any, name: str) -> None:
    """Fill a Duration or a Timestamp. Raises _Wrong."""
    form = durations.FORM if name == _DURATION else "write it as 2026-07-01T12:00:00Z"
    text = joined(node.value) if isinstance(node, ScalarNode) else ""
    if not text or (name == _DURATION and text.isdigit()):
        said = f"{text} has no unit" if text else f"is {_kind(node)}"
        raise _Wrong(f"{said}; {form}")
    try:
        if name == _DURATION:
            target.CopyFrom(durations.parse(text))
        else:
            moment = Timestamp()
            moment.FromJsonString(text)
            target.CopyFrom(moment)
    except ValueError as error:
        own = str(error) if name == _DURATION else f"{text!r} is no time; {form}"
        raise _Wrong(own) from None


def _fill_value(node: Node, target: Value) -> None:
    """Fill a scalar of open data. Raises _Wrong."""
    if _tagged(node) or not isinstance(node, ScalarNode):
        raise _Wrong(f"tags such as {node.tag} are not supported")
    try:
        value = resolved(node)
    except ValueError as error:
        raise _Wrong(str(error)) from None
    if isinstance(value, str):
        target.string_value = _text(node, value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif value is None:
        target.null_value = NULL_VALUE
    elif not -_LARGEST <= value <= _LARGEST or int(float(value)) != int(value):
        raise _Wrong(f"{node.value} cannot be told exactly; write it in quotes")
    else:
        target.number_value = value
