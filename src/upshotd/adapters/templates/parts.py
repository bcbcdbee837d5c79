"""Templates that only put values into text, rendered without Jinja2.

They are most templates. A part answers only for the plain case: whatever is unusual (a missing
value, an item of something that is no dict, an error) is left to Jinja2, so that there is one
meaning and one set of errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from jinja2 import nodes
from markupsafe import escape

from upshotd.adapters.templates.syntax import path_of
from upshotd.adapters.templates.tools import TEXT_CHARS, shown
from upshotd.domain.errors import TemplateError
from upshotd.domain.language import Names

_Change: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

#: What a part answers that leaves the rendering to Jinja2.
UNUSUAL: Final = None


@dataclass(frozen=True, slots=True)
class _Value:
    root: str
    #: Keys below the root.
    keys: tuple[str, ...]
    #: Filters with their constant arguments.
    changes: tuple[_Change, ...]
    #: True where the first filter is `default`: a missing value is usual.
    optional: bool


Parts: TypeAlias = tuple[str | _Value, ...]


def as_parts(tree: nodes.Template, filters: dict[str, Callable[..., Any]]) -> Parts | None:
    """Return the parts of a checked template, None where it takes more than parts."""
    parts: list[str | _Value] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for child in output.nodes:
            part = child.data if isinstance(child, nodes.TemplateData) else _value(child, filters)
            if part is None:
                return None
            parts.append(part)
    return tuple(parts)


def render_parts(parts: Parts, names: Names, *, html: bool) -> str | None:
    """Return the text, or UNUSUAL; TemplateError when it is too long."""
    texts: list[str] = []
    size = 0
    try:
        for part in parts:
            if isinstance(part, str):
                text = part
            else:
                found = _found(part, names)
                if found is UNUSUAL:
                    return UNUSUAL
                text = escape(found) if html else found
            size += len(text)
            if size > TEXT_CHARS:
                break
            texts.append(text)
    except Exception:  # Jinja2 meets it again, and says what it is
        return UNUSUAL
    if size > TEXT_CHARS:
        # Told here: compiling so large a template only to hear the same would take its time.
        raise TemplateError(f"makes a text longer than {TEXT_CHARS} characters")
    return "".join(texts)


def _found(part: _Value, names: Names) -> str | None:
    try:
        value: Any = names[part.root]
        for key in part.keys:
            value = value[key]
    except KeyError:
        if not part.optional:
            return UNUSUAL
        value = None
    if value is None and not part.optional:
        return UNUSUAL
    for change, arguments, named in part.changes:
        value = change(value, *arguments, **named)
    return value if value.__class__ is str else shown(value)


def _value(node: nodes.Node, filters: dict[str, Callable[..., Any]]) -> _Value | None:
    changes: list[_Change] = []
    optional = False
    while isinstance(node, nodes.Filter) and node.node is not None:
        arguments = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
        named = {
            str(pair.key): pair.value.value
            for pair in node.kwargs
            if isinstance(pair.value, nodes.Const)
        }
        if len(arguments) != len(node.args) or len(named) != len(node.kwargs):
            return None
        changes.insert(0, (filters[node.name], tuple(arguments), named))
        optional = node.name in ("default", "d")
        node = node.node
    path = path_of(node)
    # `range` is the one name that is not the caller's.
    if path is None or path[0] == "range":
        return None
    return _Value(path[0], path[1:], tuple(changes), optional)
