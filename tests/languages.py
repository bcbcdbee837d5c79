"""Both languages of a workflow as validation takes them, without their compilers."""

import re

from upshotd.domain.language import Names, Scalar, Verdict

#: Compiles in neither language.
BAD = "!!"


class Languages:
    """Both languages: what holds BAD does not compile; what holds `text` is no condition."""

    def fault(self, source: str, *, yields: str = "", html: bool = False) -> str | None:
        if BAD in source:
            return "html does not compile" if html else "does not compile"
        return "is no condition" if yields == "truth" and "text" in source else None

    def names(self, source: str, *, html: bool = False) -> frozenset[str]:
        return frozenset(re.findall(r"\w+", source))

    def steps(self, source: str, *, html: bool = False) -> frozenset[str]:
        return frozenset(re.findall(r"steps\.(\w+)", source))

    def holds(self, source: str, names: Names) -> Verdict:
        raise AssertionError("validation evaluates nothing")

    def value(self, source: str, names: Names) -> Scalar:
        raise AssertionError("validation evaluates nothing")

    def render(self, source: str, names: Names, *, html: bool = False) -> str:
        raise AssertionError("validation renders nothing")
