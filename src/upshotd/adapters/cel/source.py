"""What can be told from the text of a CEL expression before it runs: limits, and what it reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

#: Longest expression, in UTF-8 bytes.
SOURCE_BYTES: Final = 2048
#: Deepest nesting of brackets; below the runtime's own limit of 32.
NESTING: Final = 24
#: Deepest nesting of exists(), all() and exists_one().
LOOPS: Final = 2
#: Most operations in the bodies of loops: each is done once per round.
LOOP_OPERATIONS: Final = 24

#: Macros that build lists or maps: what they build has no limit.
BUILDERS: Final = frozenset({"map", "filter", "transformList", "transformMap", "transformMapEntry"})
LOOP_MACROS: Final = frozenset({"exists", "all", "exists_one", "existsOne"})

#: The names an expression reads, by first part, second part ...; None where it reads all below.
PathTree: TypeAlias = "dict[str, PathTree | None]"

_TOKEN = re.compile(
    r"""
    (?P<skip>\s+|//[^\n]*)
  | (?P<text>
        [bB]?[rR][bB]?(?:\"\"\".*?\"\"\"|\'\'\'.*?\'\'\'|"[^"\n]*"|'[^'\n]*')
      | [bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|\'\'\'(?:\\.|[^\\])*?\'\'\'
               |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9][A-Za-z0-9_]*)
  | (?P<sign>==|!=|<=|>=|&&|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPERATIONS: Final = frozenset({"(", "[", "{", "==", "!=", "in", "<", ">", "<=", ">="})
_PLACE = re.compile(r"<input>:(\d+):(\d+): (.*)")
_UNKNOWN = re.compile(r"undeclared reference to '([\w.]+)'")
#: What other languages write, in CEL.
_IN_CEL: Final = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "is": "=="}
_STATUS = re.compile(r"^[A-Z_]+: (?:ERROR: )?|\s*\[[A-Z_]+\]$")


class SourceFault(ValueError):
    """The expression breaks a limit; the text says which."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an expression reads, and how it loops."""

    #: Every path it may read; never too few, at times too many.
    paths: PathTree
    #: Deepest nesting of loops; 0 without any.
    loops: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def read_source(source: str, roots: tuple[str, ...]) -> Reading:
    """Return what *source* reads below *roots*; SourceFault when it breaks a limit."""
    if not source.strip():
        raise SourceFault("is empty")
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        raise SourceFault("is not valid text: it holds a lone surrogate") from None
    if size > SOURCE_BYTES:
        raise SourceFault(f"is {size} bytes long; {SOURCE_BYTES} are allowed")
    tokens = tuple(_tokens(source))
    return Reading(_paths(tokens, roots), _loops(tokens))


def first_fault(text: str) -> str:
    """Return the first fault the runtime names, in one line."""
    place = _PLACE.search(text)
    if place is not None and not place[1].startswith("-"):
        line, column, what = place.groups()
        what = _STATUS.sub("", what).replace(" (in container '')", "")
        return f"line {line}, column {column}: {what.partition(' expecting {')[0]}"[:300]
    line = text.strip().partition("\n")[0]
    return _STATUS.sub("", _STATUS.sub("", line)).replace("<input>:-1:-1: ", "")[:300]


def hinted(fault: str, source: str, roots: tuple[str, ...]) -> str:
    """Return a *fault* of *source* with what was probably meant; it may name *roots*."""
    if (unknown := _UNKNOWN.search(fault)) is not None:
        if re.search(rf"\b{re.escape(unknown[1])}\s*\(", source):
            return f"{fault}, which is no function"
        return f"{fault}; there are {', '.join(sorted(roots))}, and texts stand in quotes"
    if "Syntax error" in fault:
        for token in _tokens(source):
            if token.text in _IN_CEL:
                return f"{fault}; {token.text} is written {_IN_CEL[token.text]}"
    return fault


def _tokens(source: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(source):
        kind = match.lastgroup
        if kind is not None and kind != "skip":
            yield _Token(kind, match[0])


def _loops(tokens: tuple[_Token, ...]) -> int:
    """Return the deepest nesting of loops; SourceFault for what may not be in one, or anywhere."""
    brackets: list[bool] = []  # per open bracket: is it a loop's?
    deepest = operations = 0
    for before, token in pairwise((_Token("sign", ""), *tokens)):
        if token.kind in {"text", "number"}:
            continue
        if token.text in ("(", "[", "{"):
            if token.text == "(" and before.text in BUILDERS:
                raise SourceFault(f"{before.text}() is not offered: conditions build no lists")
            brackets.append(token.text == "(" and before.text in LOOP_MACROS)
            deepest = max(deepest, sum(brackets))
        elif token.text in (")", "]", "}") and brackets:
            brackets.pop()
        elif token.text == "+" and any(brackets):
            raise SourceFault("+ is not offered inside exists(), all() and exists_one()")
        operations += any(brackets) and token.text in _OPERATIONS
        if len(brackets) > NESTING:
            raise SourceFault(f"is nested deeper than {NESTING} brackets")
    if deepest > LOOPS:
        raise SourceFault(f"nests exists(), all() or exists_one() deeper than {LOOPS}")
    if operations > LOOP_OPERATIONS:
        raise SourceFault(f"does more than {LOOP_OPERATIONS} operations in its loops")
    return deepest


def _paths(tokens: tuple[_Token, ...], roots: tuple[str, ...]) -> PathTree:
    tree: PathTree = {}
    for index, token in enumerate(tokens):
        if token.kind == "name" and token.text in roots:
            _add(tree, _path_at(tokens, index))
    return tree


def _path_at(tokens: tuple[_Token, ...], index: int) -> list[str]:
    """Return the names of a chain `a.b.c`, without a last one that is called."""
    path = [tokens[index].text]
    index += 1
    while (
        index + 1 < len(tokens) and tokens[index].text == "." and tokens[index + 1].kind == "name"
    ):
        path.append(tokens[index + 1].text)
        index += 2
    if index < len(tokens) and tokens[index].text == "(" and len(path) > 1:
        path.pop()
    return path


def _add(tree: PathTree, path: list[str]) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if below is None:
            return
        tree = below
    tree[path[-1]] = None
