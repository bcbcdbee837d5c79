"""What validation has found so far, and how it looks at what many parts of a workflow have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from upshotd.domain.errors import Violation
from upshotd.domain.event import EVENT_NAME_MAX
from upshotd.domain.language import Conditions, Kind, Templates, Zones
from upshotd.domain.names import DECIDING_LINKS
from upshotd.domain.outcome import ABOUT_APPROVALS, EngagementKind
from upshotd.domain.workflow import DAY_US

#: Longest span where none is given by meaning, in microseconds: a hundred years.
SPAN_MAX_US: Final = 36_500 * DAY_US
#: A link that leads to a decision, as a template names it.
_LINK = re.compile(rf"\blinks\.(?:{'|'.join(sorted(DECIDING_LINKS))})\b")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME_FORM = "1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"


@dataclass(slots=True)
class Findings:
    """The faults and warnings found so far, and what they are found with."""

    conditions: Conditions
    templates: Templates
    zones: Zones
    #: Id of the workflow that is looked at.
    workflow_id: str
    #: Names of events that end a run unconditionally.
    exit_events: frozenset[str]
    #: Names of templates that are at hand elsewhere, not here.
    elsewhere: frozenset[str] = frozenset()
    #: Ids of the steps that there are; None where nobody knows of which workflow it is a part.
    steps: frozenset[str] | None = None
    violations: list[Violation] = field(default_factory=list)
    warnings: list[Violation] = field(default_factory=list)

    def fault(self, path: str, text: str) -> None:
        """Note what makes the workflow unusable."""
        self.violations.append(Violation(path, text))

    def warn(self, path: str, text: str) -> None:
        """Note what is legal and probably not meant."""
        self.warnings.append(Violation(path, text))

    def expression(
        self, path: str, source: str, *, yields: Kind = "truth", running: bool = True
    ) -> None:
        """Compile a CEL expression; an empty one is none. Unless it is about a *running* run, no
        steps are at hand."""
        text = self.conditions.fault(source, yields=yields) if source else None
        if text is not None:
            self.fault(path, text)
        elif source and running:
            self._steps(path, self.conditions.steps(source))
        elif source and self.conditions.steps(source):
            self.warn(path, "names steps, which are not at hand here: it cannot be evaluated")

    def template(self, path: str, source: str, *, html: bool = False) -> None:
        """Compile a template; an empty one is none."""
        text = self.templates.fault(source, html=html) if source else None
        if text is not None:
            self.fault(path, text)
        elif source and self.elsewhere:
            named = self.templates.names(source, html=html)
            links = _LINK.findall(source) if "links" in named else ()
            for name in sorted((self.elsewhere & named).union(links)):
                self.fault(path, f"names {name!r}; only what an approve step sends has it")
        if source and text is None:
            self._steps(path, self.templates.steps(source, html=html))

    def _steps(self, path: str, named: frozenset[str]) -> None:
        for name in sorted(named - self.steps) if self.steps is not None else ():
            self.warn(path, f"names steps.{name}, and there is no step {name!r}")

    def event_name(self, path: str, name: str) -> None:
        """Look at the exact name of a track event, which is required."""
        if not name:
            self.fault(path, "the event's name is required")
        elif len(name) > EVENT_NAME_MAX:
            self.fault(path, f"{len(name)} characters; at most {EVENT_NAME_MAX} are taken")

    def name(self, path: str, name: str) -> None:
        """Look at the id of a workflow or topic, which is required."""
        if not name:
            self.fault(path, f"is missing; must be {_NAME_FORM}")
        elif not _NAME.fullmatch(name):
            self.fault(path, f"{name!r} is not {_NAME_FORM}")

    def count(self, path: str, count: int, most: int) -> None:
        """Look at a number from 1 to *most*."""
        if not 1 <= count <= most:
            self.fault(path, f"is {count}; must be 1 to {most}")

    def engagement_kinds(self, path: str, kinds: Sequence[EngagementKind]) -> None:
        """Look at which engagement counts: at least one kind, each of them once."""
        if not kinds:
            self.fault(path, "at least one is required")
        for index, kind in enumerate(kinds):
            at = f"{path}[{index}]"
            if kind is EngagementKind.UNSPECIFIED:
                self.fault(at, "must be one of the kinds")
            elif kind is EngagementKind.ACCEPTED:
                text = "is no fact of its own: the run goes on from a send when the provider has it"
                self.fault(at, text)
            elif kind in ABOUT_APPROVALS:
                text = "comes about an approve step, which goes on with it itself"
                self.fault(at, f"{kind.name} {text}")
            elif kind in kinds[:index]:
                self.fault(at, f"{kind.name} is named twice")

    def time_zone(self, path: str, name: str) -> None:
        """Look at the name of a time zone; an empty one is none."""
        if name and self.zones(name) is None:
            self.fault(path, f"{name!r} is no name of the IANA time zone database")

    def span(self, path: str, span_us: int, *, most_us: int = SPAN_MAX_US) -> None:
        """Look at a span that must be above 0."""
        if not 0 < span_us <= most_us:
            said = "must be" if span_us else "is missing or 0; must be"
            self.fault(path, f"{said} above 0 and at most {most_us // DAY_US} days")
