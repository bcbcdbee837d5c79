"""Plain values: what conditions, templates and the store can hold."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: The default of mappings: shared, and never written to.
NOTHING: Final[Mapping[str, Any]] = {}


def plain(value: Mapping[str, object]) -> dict[str, object]:
    """Return a lazily decoded mapping as a dict; a dict stays itself."""
    if isinstance(value, dict):
        return value
    decoded = getattr(value, "plain", None)
    return decoded() if decoded is not None else dict(value)


def text_at(value: object, *path: str) -> str:
    """Return the text at *path* in nested mappings; empty where there is none.

    A lazily decoded mapping looks it up without decoding the rest.
    """
    find = getattr(value, "text_at", None)
    if find is not None:
        found: str = find(path)
        return found
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def replace(value: T, **fields: Any) -> T:
    """Return *value* with other *fields*. The busiest values are tuples, the others dataclasses."""
    made = getattr(value, "_replace", None)
    if made is not None:
        changed: T = made(**fields)
        return changed
    return dataclasses.replace(value, **fields)  # type: ignore[type-var]
