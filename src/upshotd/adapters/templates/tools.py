"""What templates may do with values: print them, filter them, call a few methods; all bounded.

A value is plain: text, number, truth value, moment, list, dict. None counts as missing everywhere,
because "None" is never what a person should read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from json import dumps
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Undefined
from markupsafe import Markup, escape

#: Longest text that may be kept or made inside a template, and most text of one rendering.
TEXT_CHARS: Final = 256 * 1024
KEPT_CHARS: Final = 64 * 1024
#: Most values in a list or dict that `set` keeps or `tojson` writes, counted through all levels.
KEPT_VALUES: Final = 20_000
#: Work of one rendering: syntax nodes run in loops, and sixteenths of text read by filters.
WORK: Final = 400_000
RANGE: Final = 10_000
#: Integers stay within 64 bits, in both directions.
INTEGER: Final = 2**63

_MOMENT_FORMAT = re.compile(r"(?:[^%]|%-?[aAbBdHIjmMpSyYzZ%])*")


class Bound(Exception):
    """A template asks for more than is allowed, or for something that has no meaning."""


class Missing(Exception):
    """A value is not there. The only argument is its name, as precise as it is known."""


class Budget:
    """The work that the rendering now going on may still do."""

    def __init__(self) -> None:
        self.left = WORK

    def spend(self, work: int) -> None:
        """Take *work* off; Bound when nothing is left."""
        self.left -= work
        if self.left < 0:
            raise Bound("does too much work: its loops are too long")


def shown(value: Any, name: str = "") -> str:
    """Return the text of a printed value; Missing for none, Bound for what has no text."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Undefined):
        raise Missing(name or _name_of(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(_within_64_bits(value))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise Bound(f"{name or 'a value'} is a {_kind(value)} and cannot be printed as it is")


def needed(value: Any, name: str) -> Any:
    """Return *value*; Missing when there is none."""
    if value is None or isinstance(value, Undefined):
        raise Missing(name)
    return value


def plain(value: Any, name: str = "") -> Any:
    """Return *value* if it may be compared: nothing that holds other values."""
    if isinstance(value, Undefined):
        raise Missing(name or _name_of(value))
    if value is None or isinstance(value, str | int | float | datetime):
        return value
    raise Bound(f"{name or 'a value'} is a {_kind(value)} and cannot be compared")


def default(value: Any, otherwise: Any = "", boolean: bool = False) -> Any:
    """Return *value*, or *otherwise* where it is missing (with *boolean*: or empty)."""
    if value is None or isinstance(value, Undefined) or (boolean and not value):
        return otherwise
    return value


def is_defined(value: Any) -> bool:
    """Tell whether there is a value."""
    return value is not None and not isinstance(value, Undefined)


def integers(*bounds: int) -> range:
    """Return `range(*bounds)` of at most RANGE numbers."""
    if not all(type(bound) is int and abs(bound) < INTEGER for bound in bounds):
        raise Bound("range() takes whole numbers")
    made = range(*bounds)
    if len(made) > RANGE:
        raise Bound(f"range() is longer than {RANGE}")
    return made


def number(value: Any) -> int | float:
    """Return *value* if it is a number."""
    if isinstance(value, Undefined):
        raise Missing(_name_of(value))
    if isinstance(value, int | float):
        return value
    raise Bound(f"arithmetic needs numbers, not a {_kind(value)}")


def count_values(value: Any, most: int = KEPT_VALUES) -> int:
    """Return how many values *value* holds through all levels; Bound above *most*."""
    seen, chars, pending = 0, 0, [value]
    while pending:
        item = pending.pop()
        seen += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, Mapping):
            seen += len(item)
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        if seen + len(pending) > most or chars > KEPT_CHARS:
            raise Bound("keeps too large a value")
    return seen + chars // 16


class Tools:
    """The filters, methods and operators, on one budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        one_to_one: dict[str, Callable[[str], str]] = {
            "upper": str.upper, "lower": str.lower, "title": str.title,
            "capitalize": str.capitalize, "trim": str.strip, "strip": str.strip,
            "lstrip": str.lstrip, "rstrip": str.rstrip,
        }  # fmt: skip
        of_text = {name: self._of_text(change) for name, change in one_to_one.items()}
        #: Filters that templates may name.
        self.filters: dict[str, Callable[..., Any]] = {
            **{name: of_text[name] for name in ("upper", "lower", "title", "capitalize", "trim")},
            "default": default, "d": default, "length": self.length, "count": self.length,
            "first": self.first, "last": self.last, "join": self.join, "replace": self.replace,
            "truncate": self.truncate, "round": self.round, "fixed": self.fixed, "int": self.int,
            "float": self.float, "abs": self.abs, "escape": self.escape, "e": self.escape,
            "tojson": self.tojson, "urlencode": self.urlencode, "date": self.date,
            "slack": self.slack,
        }  # fmt: skip
        #: Filters that the compiler puts in; no template can name them.
        self.guards: dict[str, Callable[..., Any]] = {
            "_shown": shown, "_needed": needed, "_plain": plain, "_within": self.within,
            "_looped": self.looped, "_kept": self.kept, "_measured": self.measured,
            "_joined": self.joined,
        }  # fmt: skip
        #: Methods of text.
        self.methods: dict[str, Callable[..., Any]] = {
            **{name: of_text[name] for name in one_to_one if name != "trim"},
            "replace": self.replace, "split": self.split, "startswith": self.startswith,
            "endswith": self.endswith,
        }  # fmt: skip

    # -- guards --------------------------------------------------------------------------------

    def within(self, value: Any, name: str = "") -> Any:
        """Return *value* if something may be looked for in it."""
        return self.measured(needed(value, name))

    def looped(self, value: Any, cost: int, name: str) -> Any:
        """Return *value* if a loop may go over it, with the whole loop's work paid."""
        if not hasattr(needed(value, name), "__len__"):
            raise Bound(f"{name or 'a value'} is a {_kind(value)}, nothing to loop over")
        self.budget.spend(len(value) * cost)
        return value

    def kept(self, value: Any) -> Any:
        """Return *value* if `set` may keep it."""
        self.budget.spend(count_values(value))
        return value

    def measured(self, value: Any) -> Any:
        """Return *value* with the work of reading it once paid."""
        if isinstance(value, str):
            self.budget.spend(1 + len(value) // 16)
        elif hasattr(value, "__len__") and not isinstance(value, Undefined):
            self.budget.spend(1 + len(value))
        return value

    def joined(self, values: Sequence[Any]) -> str:
        """Return the values of `a ~ b` as one text, escaped where one of them is markup."""
        texts = [shown(value) for value in values]
        self.budget.spend(sum(map(len, texts)) // 16)
        marked = any(isinstance(text, Markup) for text in texts)
        return _short(Markup("").join(texts) if marked else "".join(texts))

    # -- filters and methods -------------------------------------------------------------------

    def _of_text(self, change: Callable[[str], str]) -> Callable[[Any], str]:
        def changed(value: Any) -> str:
            return _short(change(self._text(value)))

        return changed

    def _text(self, value: Any) -> str:
        text = shown(value)
        self.budget.spend(1 + len(text) // 16)
        # The methods of Markup answer with Markup, those of str with str: both are called unbound.
        return str(text)

    def length(self, value: Any) -> int:
        """Return how many items or characters there are."""
        if not hasattr(value, "__len__"):
            raise Bound(f"a {_kind(value)} has no length")
        return len(value)

    def first(self, value: Any) -> Any:
        """Return the first item, None where there is none."""
        return self._items(value)[0] if len(self._items(value)) else None

    def last(self, value: Any) -> Any:
        """Return the last item, None where there is none."""
        return self._items(value)[-1] if len(self._items(value)) else None

    def _items(self, value: Any) -> Any:
        if isinstance(value, str | list | tuple | range):
            return value
        raise Bound(f"needs a list, not a {_kind(value)}")

    def join(self, value: Any, between: Any = "") -> str:
        """Return the items of a list as one text."""
        items, between = self._items(value), shown(between)
        self.budget.spend(len(items) * (1 + len(between) // 16))
        if len(items) * len(between) > TEXT_CHARS:
            raise Bound(f"makes a text longer than {TEXT_CHARS} characters")
        total, texts = 0, []
        for item in items:
            texts.append(self._text(item))
            total += len(texts[-1]) + len(between)
            if total > TEXT_CHARS:
                raise Bound(f"makes a text longer than {TEXT_CHARS} characters")
        return str(between).join(texts)

    def replace(self, value: Any, old: Any, new: Any, most: int = -1) -> str:
        """Return the text with *old* replaced by *new*."""
        text, old, new = self._text(value), self._text(old), self._text(new)
        found = text.count(old)
        if len(text) + found * (len(new) - len(old)) > TEXT_CHARS:
            raise Bound(f"makes a text longer than {TEXT_CHARS} characters")
        return text.replace(old, new, number(most).__int__())

    def truncate(self, value: Any, length: int = 255, end: str = "...") -> str:
        """Return the text cut to *length* characters, *end* included."""
        text, end, length = self._text(value), self._text(end), int(number(length))
        return text if len(text) <= length else text[: max(0, length - len(end))] + end

    def split(self, value: Any, between: str | None = None) -> list[str]:
        """Return the pieces of a text, at most RANGE."""
        text = self._text(value)
        return text.split(between if between is None else shown(between), RANGE)

    def startswith(self, value: Any, start: Any) -> bool:
        """Tell whether the text begins so."""
        return self._text(value).startswith(self._text(start))

    def endswith(self, value: Any, end: Any) -> bool:
        """Tell whether the text ends so."""
        return self._text(value).endswith(self._text(end))

    def round(self, value: Any, digits: int = 0) -> float:
        """Return the number rounded half to even at *digits* behind the point."""
        return round(float(number(value)), _digits(digits))

    def fixed(self, value: Any, digits: int = 2) -> str:
        """Return the number with exactly *digits* behind the point."""
        return f"{float(number(value)):.{_digits(digits)}f}"

    def int(self, value: Any, otherwise: int = 0) -> Any:
        """Return the whole number a value stands for, or *otherwise*."""
        found = self.float(value, None)
        return otherwise if found is None else int(found)

    def float(self, value: Any, otherwise: Any = 0.0) -> Any:
        """Return the number a value stands for, or *otherwise*."""
        if isinstance(value, int | float):
            return _within_64_bits(value)
        try:
            found = float(value) if isinstance(value, str) and len(value) <= 64 else None
        except ValueError:
            return otherwise
        return otherwise if found is None or abs(found) >= INTEGER or found != found else found

    def abs(self, value: Any) -> Any:
        """Return the number without its sign."""
        return abs(number(value))

    def slack(self, value: Any) -> str:
        """Return the text as Slack shows it, without anything that Slack acts on: a link under
        other words, a mention of everybody."""
        text = self._text(value).replace("&", "&amp;")
        return _short(text.replace("<", "&lt;").replace(">", "&gt;"))

    def escape(self, value: Any) -> Markup:
        """Return the text escaped for HTML."""
        text = shown(value)
        self.budget.spend(1 + len(text) // 16)
        return escape(text)

    def tojson(self, value: Any) -> Markup:
        """Return the value as JSON that is safe inside HTML too."""
        self.budget.spend(count_values(value))
        text = dumps(value, default=shown, allow_nan=False)
        for sign in "<>&'":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        return Markup(text)  # no sign is left that HTML reads

    def urlencode(self, value: Any) -> str:
        """Return the text as one part of a URL."""
        return quote(self._text(value), safe="")

    def date(self, value: Any, layout: str = "%Y-%m-%d") -> str:
        """Return a moment (or its ISO text) in *layout*, of the plain directives of strftime."""
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise Bound(f"date needs a moment, not a {_kind(value)}")
        if len(layout) > 100 or not _MOMENT_FORMAT.fullmatch(layout):
            raise Bound("date knows %a %A %b %B %d %H %I %j %m %M %p %S %y %Y %z %Z only")
        return moment.strftime(layout)

    # -- operators -----------------------------------------------------------------------------

    def add(self, left: Any, right: Any) -> Any:
        """Return the sum of two numbers, or two texts as one."""
        if isinstance(left, str) and isinstance(right, str):
            self.budget.spend((len(left) + len(right)) // 16)
            return _short(left + right)
        return _within_64_bits(number(left) + number(right))

    def calculate(self, operator: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        """Return the result of an operator on two numbers."""
        return _within_64_bits(operator(number(left), number(right)))


def _short(text: str) -> str:
    if len(text) > TEXT_CHARS:
        raise Bound(f"makes a text longer than {TEXT_CHARS} characters")
    return text


def _within_64_bits(value: Any) -> Any:
    if isinstance(value, int) and not -INTEGER <= value < INTEGER:
        raise Bound("makes a whole number of more than 64 bits")
    return value


def _digits(value: Any) -> int:
    return max(0, min(12, int(number(value))))


def _name_of(value: Any) -> str:
    return str(value._undefined_name) if isinstance(value, Undefined) else "a value"


def _kind(value: Any) -> str:
    return {"dict": "map", "NoneType": "missing value"}.get(
        type(value).__name__, type(value).__name__
    )
