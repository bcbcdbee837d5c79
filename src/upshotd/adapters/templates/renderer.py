"""The templates port: compile once, render often."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jinja2 import TemplateSyntaxError, UndefinedError, nodes
from jinja2.environment import Template
from jinja2.meta import find_undeclared_variables

from upshotd.adapters.templates.parts import Parts, as_parts, render_parts
from upshotd.adapters.templates.sandbox import Sandbox
from upshotd.adapters.templates.syntax import Guards, check, path_of
from upshotd.adapters.templates.tools import TEXT_CHARS, WORK, Bound, Budget, Missing
from upshotd.domain.errors import TemplateError
from upshotd.domain.language import Names

#: Longest template, in UTF-8 bytes.
SOURCE_BYTES: Final = 64 * 1024
#: Most tokens of one: what a template costs to parse.
TOKENS: Final = 12_000
#: Most text of templates kept compiled, in characters, of HTML and of text each. Compiled, a
#: template takes some fifty times its text.
CACHED_CHARS: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Compiled:
    #: The text itself where the template holds nothing to fill in.
    constant: str | None
    #: How to render without Jinja2, None where that takes more.
    parts: Parts | None
    #: Compiles on first use: a template of parts may never need it.
    template: Callable[[], Template]
    #: The paths the template reads, for naming a missing one.
    paths: tuple[tuple[str, ...], ...]
    #: The names the template takes from its caller.
    roots: frozenset[str]


class _Cache:
    """Compiled templates by source; the oldest go when all are too large together."""

    def __init__(self, compile_source: "Callable[[str], _Compiled | str]") -> None:
        self._compile = compile_source
        self._known: dict[str, _Compiled] = {}
        self._chars = 0

    def __call__(self, source: str) -> "_Compiled | str":
        found = self._known.get(source)
        if found is None:
            compiled = self._compile(source)
            if isinstance(compiled, str):  # a fault is told once, at definition
                return compiled
            self._known[source] = found = compiled
            self._chars += len(source)
            while self._chars > CACHED_CHARS:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._chars -= len(oldest)
        return found


class SandboxTemplates:
    """Compiles and renders templates; see the `Templates` port for the meaning.

    Rendering counts its work on the object, so one object belongs to one thread.
    """

    def __init__(self, roots: frozenset[str] | None = None) -> None:
        """Refuse templates that name anything else than *roots*; None takes every name."""
        self._roots = roots
        self._budget = Budget()
        self._sandboxes = {html: Sandbox(html=html, budget=self._budget) for html in (False, True)}
        self._compiled = {
            html: _Cache(self._compiler(sandbox)) for html, sandbox in self._sandboxes.items()
        }

    def fault(self, source: str, *, html: bool = False) -> str | None:
        """Return what is wrong with *source*, or None."""
        compiled = self._compiled[html](source)
        if isinstance(compiled, str):
            return compiled
        strange = sorted(compiled.roots - self._roots) if self._roots is not None else []
        if strange:
            return f"names {strange[0]!r}; there are {', '.join(sorted(self._roots or ()))}"
        try:
            compiled.template()
        except Exception as error:  # what Jinja2's or Python's compiler cannot take
            return _readable(error)
        return None

    def names(self, source: str, *, html: bool = False) -> frozenset[str]:
        """Return what *source* takes from its caller; nothing where it does not compile."""
        compiled = self._compiled[html](source)
        return frozenset() if isinstance(compiled, str) else compiled.roots

    def steps(self, source: str, *, html: bool = False) -> frozenset[str]:
        """Return the ids of steps that *source* names; none where it does not compile."""
        compiled = self._compiled[html](source)
        paths = () if isinstance(compiled, str) else compiled.paths
        return frozenset(path[1] for path in paths if path[0] == "steps" and len(path) > 1)

    def render(self, source: str, names: Names, *, html: bool = False) -> str:
        """Return the text; TemplateError names the variable where one is missing."""
        compiled = self._compiled[html](source)
        if isinstance(compiled, str):
            raise TemplateError(compiled)
        if compiled.constant is not None:
            return compiled.constant
        self._budget.left = WORK
        if compiled.parts is not None:
            text = render_parts(compiled.parts, names, html=html)
            if text is not None:
                return text
            self._budget.left = WORK
        return _render(compiled, names)

    def _compiler(self, sandbox: Sandbox) -> "Callable[[str], _Compiled | str]":
        def compile_source(source: str) -> "_Compiled | str":
            self._budget.left = WORK
            try:
                return _compile(sandbox, source)
            except Exception as error:  # a template is given by a caller: every fault is his
                return _readable(error)

        return compile_source


def _compile(sandbox: Sandbox, source: str) -> _Compiled:
    size = len(source.encode(errors="surrogatepass"))
    if size > SOURCE_BYTES:
        raise Bound(f"is {size} bytes long; {SOURCE_BYTES} are allowed")
    for count, _ in enumerate(sandbox.lexer.tokeniter(source, None)):
        if count > TOKENS:
            raise Bound("is too complex")
    tree = sandbox.parse(source)
    check(tree, frozenset(sandbox.tools.filters))
    parts = as_parts(tree, sandbox.tools.filters)
    constant = None
    if parts is not None and all(isinstance(part, str) for part in parts):
        constant = "".join(part for part in parts if isinstance(part, str))
    template = cache(lambda: _template(sandbox, tree))
    if parts is None:
        template()
    roots = frozenset(find_undeclared_variables(tree)) - {"range"}
    return _Compiled(constant, parts, template, _paths(tree), roots)


def _template(sandbox: Sandbox, tree: nodes.Template) -> Template:
    guarded = Guards().visit(tree)
    guarded.set_environment(sandbox)
    return Template.from_code(sandbox, sandbox.compile(guarded), sandbox.globals)


def _paths(tree: nodes.Template) -> tuple[tuple[str, ...], ...]:
    found = (path_of(node) for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)))
    return tuple(path for path in found if path is not None)


def _render(compiled: _Compiled, names: Names) -> str:
    try:
        template = compiled.template()
        context = template.new_context(dict(names))
        chunks: list[str] = []
        size = 0
        for chunk in template.root_render_func(context):
            size += len(chunk)
            if size > TEXT_CHARS:
                raise Bound(f"makes a text longer than {TEXT_CHARS} characters")
            chunks.append(chunk)
        return "".join(chunks)
    except (Missing, UndefinedError) as error:
        name = _full_name(str(error), compiled.paths, names)
        raise TemplateError(f"{name} is missing", variable=name) from error
    except Exception as error:  # values are a caller's too: what they break is one message
        raise TemplateError(_readable(error)) from error


def _full_name(name: str, paths: tuple[tuple[str, ...], ...], names: Names) -> str:
    """Return the whole path of the missing *name*, as the template writes it."""
    for path in paths:
        text = ".".join(path)
        if text == name:
            return name
        if text.endswith(f".{name}") and _is_missing(path, names):
            return text
    return name


def _is_missing(path: tuple[str, ...], names: Names) -> bool:
    value: Any = names
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value is None


def _readable(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        return f"line {error.lineno}: {error.message}"[:300]
    if isinstance(error, Bound | Missing):
        return str(error)[:300]
    if isinstance(error, RecursionError | MemoryError):
        return "is nested too deeply"
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]
