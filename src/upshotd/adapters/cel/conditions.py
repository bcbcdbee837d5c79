"""Conditions in CEL, evaluated by Google's C++ runtime.

What the runtime leaves open is closed here. Its memory has no limit, so nothing in a condition may
build lists or repeat a concatenation; its iteration budget counts rounds and not their cost, so a
loop over much data is not begun; and it copies what it is given, so it is given only the paths
that the expression reads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cel_expr_python import cel
from google.protobuf.timestamp_pb2 import Timestamp

from upshotd.adapters.cel.source import (
    PathTree,
    Reading,
    SourceFault,
    first_fault,
    hinted,
    read_source,
)
from upshotd.domain.errors import ConditionError
from upshotd.domain.language import Kind, Names, Scalar, Verdict

#: Most different sources kept compiled.
CACHED_SOURCES: Final = 4096
#: Most rounds times data (values and eighths of text) that a loop may have before it.
LOOP_WORK: Final = 2_000_000
#: What the runtime itself stops at, over all loops of an expression together.
ROUNDS: Final = 10_000

#: Static types of which no value is null.
_NEVER_NULL: Final = frozenset({"BOOL", "STRING", "INT", "UINT", "DOUBLE", "TIMESTAMP"})
_SINGLE: Final = ("STRING", "INT", "UINT", "DOUBLE", "BOOL", "DYN")
#: What each kind of expression may yield by its static type, and how that is called.
YIELDS: Final[Mapping[Kind, tuple[tuple[str, ...], str]]] = {
    "truth": (("BOOL", "DYN"), "true or false"),
    "moment": (("TIMESTAMP", "DYN"), "a timestamp"),
    "key": (_SINGLE, "a single value"),
    "value": ((*_SINGLE, "TIMESTAMP", "NULL"), "a single value"),
}
MAPS: Final = ("event", "traits", "profile", "group", "steps", "run")
_ROOTS: Final = (*MAPS, "now")
HOLDS: Final = Verdict(True)
DOES_NOT_HOLD: Final = Verdict(False)

_ENVIRONMENT = "stdlib:\n  exclude_macros: [map, filter]\n"
_MISSING_KEY = 'Key not found in map : "'
_EMPTY: Final[Mapping[str, object]] = {}


@dataclass(frozen=True, slots=True)
class _Compiled:
    #: The runtime's compiled expression.
    program: Any
    reading: Reading
    #: The reading's paths as pairs, the form in which `_pick` walks them.
    paths: "_Paths"
    #: Name of the static type, as `BOOL` or `DYN`.
    type_name: str


_Paths: TypeAlias = "tuple[tuple[str, _Paths | None], ...]"


class CelConditions:
    """Compiles and evaluates conditions; see the `Conditions` port for the meaning."""

    def __init__(self) -> None:
        text_map = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
        variables = dict.fromkeys(MAPS, text_map) | {"now": cel.Type.TIMESTAMP}
        self._environment = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_ENVIRONMENT), variables=variables
        )
        self._error_type, self._null_type = cel.Type.ERROR, cel.Type.NULL
        self._compiled = lru_cache(maxsize=CACHED_SOURCES)(self._compile)

    def fault(self, source: str, *, yields: Kind = "truth") -> str | None:
        """Return what is wrong with *source* in one line, or None."""
        compiled = self._compiled(source)
        if isinstance(compiled, str):
            return compiled
        types, words = YIELDS[yields]
        if compiled.type_name not in types:
            return f"yields {_readable(compiled.type_name)}, not {words}"
        return None

    def steps(self, source: str) -> frozenset[str]:
        """Return the ids of steps that *source* names; none where it does not compile."""
        compiled = self._compiled(source)
        named = None if isinstance(compiled, str) else compiled.reading.paths.get("steps")
        return frozenset(named or ())

    def holds(self, source: str, names: Names) -> Verdict:
        """Return whether *source* holds; what cannot be evaluated does not hold, and says why."""
        compiled = self._compiled(source)
        if isinstance(compiled, str):
            return Verdict(False, compiled)
        try:
            result = _run(compiled, names)
            value = self._value(compiled, result)
            if value is True:
                return HOLDS
            if value is False:
                return DOES_NOT_HOLD
            kind = result.type()
        except Exception as error:  # the runtime raises what it cannot even begin
            return Verdict(False, first_fault(str(error)))
        if kind == self._error_type:
            return Verdict(False, _note(compiled, names, value))
        return Verdict(False, f"yields {_readable(kind.name())}, not true or false")

    def values(self, source: str, names: Names) -> Mapping[str, object]:
        """Return what *source* reads of *names*, by its path; what is missing is not there."""
        compiled = self._compiled(source)
        if isinstance(compiled, str):
            return {}
        return dict(_values(compiled.reading.paths, names, ""))

    def value(self, source: str, names: Names) -> Scalar:
        """Return the scalar value of *source*; ConditionError says why there is none."""
        compiled = self._compiled(source)
        if isinstance(compiled, str):
            raise ConditionError(compiled)
        try:
            result = _run(compiled, names)
            value, kind = self._value(compiled, result), result.type()
        except Exception as error:
            raise ConditionError(first_fault(str(error))) from error
        if kind == self._error_type:
            raise ConditionError(_note(compiled, names, value))
        if value is None or isinstance(value, str | int | float | bool | datetime):
            return value
        raise ConditionError(f"yields {_readable(kind.name())}, not a single value")

    def _value(self, compiled: _Compiled, result: Any) -> Any:
        """Return the value of *result*; a null is known by its type.

        The runtime returns a None that it does not own. With each of them Python has one less, and
        before 3.12 it aborts when it has none: a sender of nulls could end the process.
        """
        if compiled.type_name not in _NEVER_NULL and result.type() == self._null_type:
            return None
        return result.value()

    def _compile(self, source: str) -> "_Compiled | str":
        try:
            reading = read_source(source, roots=_ROOTS)
            program = self._environment.compile(source)
        except SourceFault as error:
            return str(error)
        except Exception as error:  # the runtime has one error class for every fault
            return hinted(first_fault(str(error)), source, _ROOTS)
        return _Compiled(
            program, reading, _as_pairs(reading.paths), str(program.return_type().name())
        )


def _run(compiled: _Compiled, names: Names) -> Any:
    data: dict[str, object] = {}
    for root, inside in compiled.paths:
        found = names.get(root)
        if found is None:
            # Nothing is known of it: its fields are missing, and has() may ask for them.
            if root != "now":
                data[root] = _EMPTY
            continue
        if isinstance(found, Mapping):
            found = _whole(found) if inside is None else _pick(found, inside)
        data[root] = found
    if compiled.reading.loops and _work(data, compiled.reading.loops) > LOOP_WORK:
        raise ValueError("too much data to loop over")
    return compiled.program.eval(data=data)


def _values(
    tree: PathTree, names: Mapping[str, object], prefix: str
) -> Iterator[tuple[str, object]]:
    for name, inside in tree.items():
        if name not in names:
            continue
        found = names[name]
        if inside is not None and isinstance(found, Mapping):
            yield from _values(inside, found, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", dict(found) if isinstance(found, Mapping) else found


def _pick(value: Mapping[str, object], paths: _Paths) -> dict[str, object]:
    picked: dict[str, object] = {}
    for key, inside in paths:
        if key in value:
            found = value[key]
            if inside is not None and isinstance(found, dict):
                found = _pick(found, inside)
            picked[key] = _known(found)
    return picked


def _whole(value: Mapping[str, object]) -> dict[str, object]:
    return {key: _known(found) for key, found in value.items()}


def _known(value: object) -> object:
    """Inside of maps the runtime knows moments as protobuf has them, and no datetime."""
    if not isinstance(value, datetime):
        return value
    moment = Timestamp()
    moment.FromDatetime(value)
    return moment


def _as_pairs(tree: PathTree) -> _Paths:
    return tuple(
        (key, None if inside is None else _as_pairs(inside)) for key, inside in tree.items()
    )


def _work(data: Mapping[str, object], loops: int) -> int:
    """Return the most rounds of *loops* nested loops times what each round can touch."""
    size, longest = 0, 1
    pending: list[object] = list(data.values())
    while pending:
        item = pending.pop()
        size += 1
        if isinstance(item, str):
            size += len(item) // 8
        elif isinstance(item, dict):
            longest = max(longest, len(item))
            pending.extend(item.values())
        elif isinstance(item, list):
            longest = max(longest, len(item))
            pending.extend(item)
    return int(min(longest**loops, ROUNDS)) * size


def _note(compiled: _Compiled, names: Names, error: object) -> str:
    text = str(error)
    if _MISSING_KEY in text:
        key = text.partition(_MISSING_KEY)[2].rstrip('"')
        return f"{_missing_path(compiled.reading.paths, names, key)} is missing"
    if text.startswith("UNKNOWN: No value with name"):
        return f"{text.split(chr(34))[1]} is missing"
    if "Non-CEL value type" in text or text.startswith("INVALID_ARGUMENT: Integer value"):
        # The runtime quotes the value, which may be personal.
        return "a value it reads is of no kind that CEL knows, or too large"
    return first_fault(text)


def _missing_path(tree: PathTree, names: object, key: str, prefix: str = "") -> str:
    """Return the path that *tree* reads, that ends in *key* and that *names* do not have."""
    for name, inside in tree.items():
        path = f"{prefix}{name}"
        below = names.get(name) if isinstance(names, Mapping) else None
        if below is None and name == key:
            return path
        if inside is not None:
            found = _missing_path(inside, below, key, f"{path}.")
            if found != key:
                return found
    return key


def _readable(type_name: str) -> str:
    return type_name.lower().partition("<")[0]
