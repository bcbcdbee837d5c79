"""YAML and JSON as trees of nodes that know their lines; and messages back as YAML.

Nodes, not values: YAML 1.1 makes `on` a boolean, 0049 a 39 and 1:30 a 90. What a text means is
decided where it is known what is wanted (see messages.py); `resolved` is YAML 1.2's core schema.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, TypeAlias

import yaml
from google.protobuf.message import Message
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from upshotd.cli import output

#: Largest file, in characters; a definition is at most 512 KiB.
TEXT_MAX: Final = 2 * 1024 * 1024
#: Most values in a document once its aliases are unfolded: a short file can be a very large one.
VALUES_MAX: Final = 50_000
#: Deepest nesting; protobuf reads no more.
DEPTH_MAX: Final = 100

Scalar: TypeAlias = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_QUOTED = re.compile(r"""\"[^"]*"|'[^']*'""")
#: What YAML takes for line breaks beside the usual ones, or does not take at all.
_ODD = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WORDS: Final = {"null": None, "~": None, "": None, "true": True, "false": False}


class Unreadable(Exception):
    """A text that is no YAML."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        #: Counted from 1; 0 where none can be said.
        self.line = line


def line_of(node: Node) -> int:
    """Return the line of a node, counted from 1."""
    return int(node.start_mark.line) + 1


def documents(text: str) -> list[Node]:
    """Return the documents of a YAML or JSON text; empty ones are left out. Raises Unreadable."""
    if len(text) > TEXT_MAX:
        raise Unreadable(f"is longer than {TEXT_MAX} characters", 0)
    try:
        found: list[Node | None] = list(yaml.compose_all(_of_json(text), Loader=yaml.SafeLoader))
        for node in found:
            _check_size(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = text.splitlines()[mark.line : mark.line + 1] if mark else []
        problem = _problem(error, templated="{{" in _QUOTED.sub("", "".join(place)))
        raise Unreadable(problem, mark.line + 1 if mark else 0) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(
            f"has a character that YAML does not allow: {error.reason}", line
        ) from None
    except RecursionError:
        raise Unreadable(f"is nested deeper than {DEPTH_MAX}", 0) from None
    return [node for node in found if node is not None and not _empty(node)]


def replaced(text: str, document: Node, by: str) -> str:
    """Return a file's *text* with the YAML *by* in place of one of its documents.

    Comments before and behind it stay, as does every other document.
    """
    start, end = document.start_mark.index, document.end_mark.index
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip():
        by = f"\n{by}"  # behind its `---`
    else:
        start = line
    # A document goes to the next one: what is no more than comments there is none of it.
    lines = text[start:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].startswith("#")):
        end -= len(lines.pop())
    return text[:start] + by + text[end:]


def _of_json(text: str) -> str:
    """Return JSON as YAML that says the same: YAML refuses tabs and folds strange line breaks.

    In JSON tabs stand between values only, and the others in texts only, where they can be escaped.
    """
    if text.lstrip().startswith(("{", "[")):
        with suppress(ValueError, RecursionError):
            json.loads(text)
            text = text.replace("\t", " ")
            return _ODD.sub(lambda odd: f"\\u{ord(odd[0]):04x}", text)
    return text


def _problem(error: yaml.MarkedYAMLError, *, templated: bool) -> str:
    """Return what is wrong; *templated* where the line has a template that is in no quotes."""
    problem = error.problem or "cannot be read"
    if "\\t" in problem:
        return "is indented by a tab; YAML is indented by spaces"
    if templated:
        problem += "; a text with {{ in it must stand in quotes here"
    return f"is no YAML: {error.context + ': ' if error.context else ''}{problem}"


def _empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and not node.value


def _check_size(document: Node | None) -> None:
    """Walk as a reader would, each alias as often as it is used."""
    left = VALUES_MAX
    waiting = [] if document is None else [(document, 1)]
    while waiting:
        node, depth = waiting.pop()
        left -= 1
        if left < 0:
            text = f"has more than {VALUES_MAX} values when its aliases (*) are unfolded"
            raise Unreadable(text, line_of(node))
        if depth > DEPTH_MAX:
            raise Unreadable(f"is nested deeper than {DEPTH_MAX}", line_of(node))
        waiting += [(child, depth + 1) for child in _children(node)]


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def resolved(node: ScalarNode) -> Scalar:
    """Return what a scalar says by YAML 1.2: what is quoted is a text, `on` and `no` are too.

    Raises ValueError for a number with a leading zero: readers disagree about what it is.
    """
    text: str = node.value
    if node.style is not None:
        return joined(text)
    if text.lower() in _WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits.startswith("0"):
            raise ValueError(f"{text} begins with a zero: write it in quotes if it is a text")
        # Longer than any number that can be told exactly; int() would refuse thousands of digits.
        return int(text) if len(digits) < 400 else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def joined(text: str) -> str:
    """Return *text* with the halves of surrogate pairs put together, as JSON writes them."""
    with suppress(UnicodeError):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    return text


class _Dumper(yaml.SafeDumper):
    """Writes what every reader of YAML understands the same way."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def text(self, value: str) -> ScalarNode:
        """Return the node of a text: many lines as a block, in quotes what is no plain word."""
        if not value.replace("\n", "").isprintable():
            return self.represent_scalar("tag:yaml.org,2002:str", value, style='"')
        if "\n" in value:
            return self.represent_scalar("tag:yaml.org,2002:str", value, style="|")
        ambiguous = value.strip(" ") != value or not value or value[0] in "0123456789.+-"
        style = '"' if ambiguous else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)


def dump(message: Message) -> str:
    """Return a message as YAML, in the contract's names; reads back as the same message."""
    return yaml.dump(
        output.plain(message), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
