"""The Jinja2 environment: what attributes, items, operators and calls mean in a template."""

import operator
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from jinja2 import StrictUndefined
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from upshotd.adapters.templates.tools import (
    Bound,
    Budget,
    Missing,
    Tools,
    integers,
    is_defined,
    number,
)

_MOMENT: Final = frozenset({"year", "month", "day", "hour", "minute", "second", "isoformat"})
_LOOP: Final = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "cycle",
     "previtem", "nextitem"}
)  # fmt: skip
_DICT: Final = frozenset({"items", "keys", "values", "get"})
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod,
}  # fmt: skip


class Absent(StrictUndefined):
    """A value that is not there; its error's text is its name."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 for plain values only."""

    intercepted_binops = frozenset({"+", *_OPERATORS})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self, *, html: bool, budget: Budget) -> None:
        super().__init__(autoescape=html, undefined=Absent, cache_size=0)
        self.tools = Tools(budget)
        self.filters = {**self.tools.filters, **self.tools.guards}
        self.tests["defined"] = is_defined
        self.tests["undefined"] = lambda value: not is_defined(value)
        self.globals = {"range": integers}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return `obj.attribute`: of a dict its item, before any method."""
        match obj:
            case dict():
                if attribute in obj:
                    return obj[attribute]
                if attribute in _DICT:
                    return partial(getattr(obj, attribute))
            case str() if attribute in self.tools.methods:
                return partial(self.tools.methods[attribute], obj)
            case datetime() if attribute in _MOMENT:
                found = getattr(obj, attribute)
                return partial(found) if callable(found) else found
            case LoopContext() if attribute in _LOOP:
                found = getattr(obj, attribute)
                return partial(found) if callable(found) else found
            case Undefined():
                return Absent(name=f"{obj._undefined_name}.{attribute}")
        return Absent(name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return `obj[argument]`: an item of a dict, list or text, never an attribute."""
        if isinstance(obj, Undefined):
            return Absent(name=f"{obj._undefined_name}.{argument}")
        if isinstance(obj, dict):
            known = isinstance(argument, str | int | float) and argument in obj
            return obj[argument] if known else Absent(name=str(argument))
        if isinstance(obj, list | tuple | str | range) and isinstance(argument, int):
            inside = -len(obj) <= argument < len(obj)
            return obj[argument] if inside else Absent(name=str(argument))
        return Absent(name=str(argument)[:100])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operator, within bounds."""
        if operator == "+":
            return self.tools.add(left, right)
        return self.tools.calculate(_OPERATORS[operator], left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        """Return a number with its sign kept or turned."""
        return -number(arg) if operator == "-" else number(arg)

    def call(*args: Any, **kwargs: Any) -> Any:
        """Call what `getattr` above handed out, or range()."""
        called = args[2]
        if isinstance(called, Absent):
            owner, _, method = str(called._undefined_name).rpartition(".")
            raise Missing(owner) if owner else Bound(f"{method}() is not offered on this value")
        if not (isinstance(called, partial) or called is integers):
            raise Bound("this cannot be called")
        # Compiled loops and blocks tell calls of their variables; nothing here asks for them.
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        return called(*args[3:], **kwargs)
