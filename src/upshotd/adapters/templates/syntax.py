"""What templates may be made of, and the guards that are put into them before they are compiled."""
# ruff: noqa: N802 - Jinja2 names its visitors after its nodes

import re
from typing import Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from upshotd.adapters.templates.tools import Bound

#: Deepest syntax tree, and most nodes in one.
DEPTH: Final = 48
NODES: Final = 6_000

_ALLOWED: Final[tuple[type[nodes.Node], ...]] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign,
    nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test,
    nodes.Call, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand,
    nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos,
    nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword,
)  # fmt: skip
#: What an escape in a text can make that nothing can store or send: JSON writes emojis as two.
_HALF: Final = re.compile("[\ud800-\udfff]")
#: Tests that cost nothing and reach nothing.
TESTS: Final = frozenset(
    {"defined", "undefined", "none", "number", "string", "boolean", "mapping", "odd", "even"}
)
#: What may be called: `range(...)`, and these on a value.
CALLS: Final = frozenset(
    {"upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "replace", "split",
     "startswith", "endswith", "items", "keys", "values", "get", "isoformat", "cycle"}
)  # fmt: skip


def check(tree: nodes.Template, filters: frozenset[str]) -> None:
    """Refuse, by Bound, everything that is not known to be harmless."""
    count = 0
    pending: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        count += 1
        if depth > DEPTH:
            raise Bound("is nested too deeply")
        if count > NODES:
            raise Bound("is too complex")
        if type(node) not in _ALLOWED:
            raise Bound(f"line {node.lineno}: {type(node).__name__.lower()} is not offered")
        if isinstance(node, nodes.Const) and _HALF.search(str(node.value)):
            raise Bound(f"line {node.lineno}: half of a surrogate pair is no character")
        _check_node(node, filters)
        pending.extend((child, depth + 1) for child in node.iter_child_nodes())


def _check_node(node: nodes.Node, filters: frozenset[str]) -> None:
    fault = None
    match node:
        case nodes.Name(name=name) | nodes.Getattr(attr=name) if name.startswith("_"):
            fault = f"the name {name!r}"
        case nodes.Getitem(arg=nodes.Const(value=str() as name)) if name.startswith("__"):
            fault = f"the name {name!r}"
        case nodes.Filter() if node.name not in filters or node.node is None:
            fault = f"the filter {node.name!r}"
        case nodes.Filter() | nodes.Call() if node.dyn_args or node.dyn_kwargs:
            fault = "* and ** in calls"
        case nodes.Call() if not _may_be_called(node.node):
            fault = "this call"
        case nodes.Test() if node.name not in TESTS:
            fault = f"the test {node.name!r}"
        case nodes.For(recursive=True):
            fault = "recursive"
        case nodes.Assign() if not isinstance(node.target, nodes.Name):
            fault = "set of more than one name"
    if fault is not None:
        raise Bound(f"line {node.lineno}: {fault} is not offered")


def _may_be_called(called: nodes.Expr) -> bool:
    match called:
        case nodes.Name(name="range"):
            return True
        case nodes.Getattr(attr=name):
            return name in CALLS
    return False


def path_of(node: nodes.Node) -> tuple[str, ...] | None:
    """Return the parts of `a.b['c']`, None for any other expression."""
    match node:
        case nodes.Name(name=name):
            return (name,)
        case nodes.Getattr(node=inner, attr=name):
            pass
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str() as name)):
            pass
        case _:
            return None
    before = path_of(inner)
    return None if before is None else (*before, name)


def label_of(node: nodes.Node) -> str:
    """Return the name of the value an expression shows, empty where it has none."""
    while isinstance(node, nodes.Filter) and node.node is not None:
        node = node.node
    return ".".join(path_of(node) or ())


class Guards(NodeTransformer):
    """Puts a guard around everything that prints, compares, keeps, joins or repeats."""

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        node.nodes = [
            child
            if isinstance(child, nodes.TemplateData)
            else _guard("_shown", self.visit(child), nodes.Const(label_of(child)))
            for child in node.nodes
        ]
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:
        label = "" if node.node is None or path_of(node.node) is None else label_of(node.node)
        self.generic_visit(node)
        if label and node.node is not None and node.name not in ("default", "d"):
            node.node = _guard("_needed", node.node, nodes.Const(label))
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:
        cost = nodes.Const(1 + sum(1 for _ in node.find_all(nodes.Node)))
        label = nodes.Const(label_of(node.iter))
        self.generic_visit(node)
        node.iter = _guard("_looped", node.iter, cost, label)
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:
        self.generic_visit(node)
        node.node = _guard("_kept", node.node)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        label = nodes.Const(label_of(node.expr))
        node.expr = _guard("_plain", self.visit(node.expr), label)
        for operand in node.ops:
            guard = "_within" if operand.op in ("in", "notin") else "_plain"
            label = nodes.Const(label_of(operand.expr))
            operand.expr = _guard(guard, self.visit(operand.expr), label)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _guard("_joined", nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _guard("_measured", node.node)
        return node


def _guard(name: str, value: nodes.Node, *arguments: nodes.Expr) -> nodes.Filter:
    assert isinstance(value, nodes.Expr)
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=value.lineno)
