"""JSON Schemas: whether one can be used, and whether a value meets it.

What is checked says a model, whom anybody may have talked into it, and nothing else runs meanwhile.
So patterns are matched in linear time (by RE2), and the whole takes WORK_S at most.
"""

from collections.abc import Callable, Iterator, Mapping
from time import thread_time
from typing import Any, Final

import jsonschema
from cel_expr_python import cel
from referencing import Registry
from referencing.jsonschema import DRAFT202012

#: Longest that checking a value may take, in seconds of work.
WORK_S: Final = 0.5

_PLAIN = jsonschema.Draft202012Validator
#: The library's own check of patterns is by Python's rules, which are not those they follow here.
_NO_FORMATS = jsonschema.FormatChecker(formats=())
_MATCHES = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING}).compile(
    "text.matches(pattern)"
)


def fault(schema: Mapping[str, object]) -> str | None:
    """Return what is wrong with a schema, or None."""
    try:
        _PLAIN.check_schema(dict(schema), format_checker=_NO_FORMATS)
    except jsonschema.SchemaError as error:
        return f"is no JSON Schema: {error.message[:200]}"
    for part in _parts(dict(schema)):
        if "patternProperties" in part:
            return "patternProperties are not taken: name the properties"
        try:
            _matches(part.get("pattern", ""), "")
        except ValueError as error:
            return str(error)
    return None


def unmet(schema: Mapping[str, object], value: Mapping[str, object]) -> str | None:
    """Return where *value* does not meet *schema*, without the value itself, or None.

    Raises ValueError for a schema that refers to what is not in it, or takes too much work.
    """
    if any("patternProperties" in part for part in _parts(dict(schema))):
        raise ValueError("the schema has patternProperties")
    # An empty registry: by default the library asks the web for what a schema refers to.
    validator = _bounded()(dict(schema), registry=Registry())
    try:
        error = next(iter(validator.iter_errors(dict(value))), None)
    except Exception as broken:  # the library's own errors have no common kind
        raise ValueError("the schema cannot be used") from broken
    if error is None:
        return None
    where = "/".join(map(str, error.absolute_path)) or "the answer"
    return f"{where} does not meet {error.validator}"


def _parts(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield *schema* and the schemas inside of it."""
    if isinstance(schema, dict):
        yield schema
        for inside in DRAFT202012.subresources_of(schema):
            yield from _parts(inside)


def _bounded() -> Any:
    """Return a validator of one value, which gives up when its time is over."""
    until_s = thread_time() + WORK_S

    def bounded(check: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*given: Any) -> Any:
            if thread_time() > until_s:
                raise TimeoutError
            return check(*given)

        return checked

    checks = {**_PLAIN.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique_items}
    named = {name: bounded(check) for name, check in checks.items()}
    return jsonschema.validators.extend(_PLAIN, named)


def _pattern(validator: Any, pattern: str, value: object, _: object) -> Iterator[Any]:
    if validator.is_type(value, "string") and not _matches(pattern, str(value)):
        yield jsonschema.ValidationError("does not match")


def _unique_items(validator: Any, wanted: bool, value: Any, _: object) -> Iterator[Any]:
    """Look at each item once; the library compares every one with every other."""
    if wanted and validator.is_type(value, "array") and len(set(map(_key, value))) < len(value):
        yield jsonschema.ValidationError("has equal items")


def _key(value: object) -> object:
    """Return what is equal for equal JSON values: 1 is 1.0, and is not true."""
    match value:
        case bool():
            return bool, value
        case dict():
            return dict, frozenset((name, _key(item)) for name, item in value.items())
        case list():
            return list, tuple(map(_key, value))
        case _:
            return value


def _matches(pattern: str, text: str) -> bool:
    """Return whether there is *pattern* in *text*; ValueError for one that RE2 does not take."""
    found = _MATCHES.eval(data={"text": text, "pattern": pattern})
    if found.type() == cel.Type.ERROR:
        why = str(found.value()).rpartition("regular expression: ")[2]
        raise ValueError(f"has a pattern that RE2 does not take: {why[:200]}")
    return found.value() is True
