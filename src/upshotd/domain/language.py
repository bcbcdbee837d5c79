"""The two languages of a workflow as the domain sees them: conditions (CEL) and templates (Jinja2).

Both read the same names: `event`, `traits`, `profile`, `group`, `steps`, `run`, `now`; templates of
messages also `links`, and of those that an approve step sends `reviewer` and `approval`.
`names` are plain values only: dict, list, str, int, float, bool, None and aware datetimes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal, Protocol, TypeAlias

from upshotd.domain.message import Email

Names: TypeAlias = Mapping[str, object]
#: What an expression is for: a condition, a moment, a key, any single value.
Kind: TypeAlias = Literal["truth", "moment", "key", "value"]
Scalar: TypeAlias = str | int | float | bool | datetime | None
#: Returns the time zone of a name, or None.
Zones: TypeAlias = Callable[[str], tzinfo | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition said."""

    #: Whether it holds. A condition that cannot be evaluated does not hold.
    holds: bool
    #: Why it could not be evaluated (missing field, wrong type, budget); empty when it could.
    note: str = ""


class Conditions(Protocol):
    """Compiles and evaluates CEL; compiled forms are cached by source."""

    def fault(self, source: str, *, yields: Kind = "truth") -> str | None:
        """Return what is wrong with *source*, or None; it must be able to yield that kind."""

    def steps(self, source: str) -> frozenset[str]:
        """Return the ids of steps that a sound *source* names: `steps.ID`."""

    def holds(self, source: str, names: Names) -> Verdict:
        """Return whether *source* holds for *names*. Never raises: an error is a note."""

    def values(self, source: str, names: Names) -> Mapping[str, object]:
        """Return what *source* reads of *names*, by its path; what is missing is not there."""

    def value(self, source: str, names: Names) -> Scalar:
        """Return the scalar value of *source* (keys, moments).

        Raises ConditionError when it has none.
        """


class Templates(Protocol):
    """Compiles and renders sandboxed Jinja2; compiled forms are cached by source."""

    def fault(self, source: str, *, html: bool = False) -> str | None:
        """Return what is wrong with *source*, or None."""

    def names(self, source: str, *, html: bool = False) -> frozenset[str]:
        """Return what a sound *source* takes from its caller: `traits`, `links`."""

    def steps(self, source: str, *, html: bool = False) -> frozenset[str]:
        """Return the ids of steps that a sound *source* names: `steps.ID`."""

    def render(self, source: str, names: Names, *, html: bool = False) -> str:
        """Return the text; values are escaped when *html*.

        Raises TemplateError, with the variable's name when one is missing.
        """


class Letters(Protocol):
    """Makes an e-mail whose templates are filled ready for mail programs."""

    def finish(self, email: Email) -> Email:
        """Return *email* with its MJML as HTML, its styles in the elements, UTM parameters on its
        links, and a plain part made from the HTML where it has none.

        Raises ValueError for MJML that is none.
        """


class Links(Protocol):
    """Makes the signed links of our own e-mails."""

    def decorate(self, email: Email, workspace_id: str, message_id: str) -> Email:
        """Return *email* with tracked links, an open pixel and an unsubscribe address."""

    def named(self, workspace_id: str, message_id: str) -> dict[str, object]:
        """Return `links` as templates see it, each a page: `unsubscribe` and `preferences`; of an
        approval `approve`, `deny`, `ask`, and `review` for any of the three."""


#: What a signed link is for: opening, clicking, unsubscribing, choosing; approving, denying, asking
#: a question, any of these three; a provider's callback.
LinkKind: TypeAlias = Literal["o", "c", "u", "p", "a", "d", "q", "r", "k"]


@dataclass(frozen=True, slots=True)
class Link:
    """What a link that we signed says."""

    kind: LinkKind
    workspace_id: str
    message_id: str
    #: Where a click goes, an http or https URL; empty for the other kinds.
    target: str = ""
