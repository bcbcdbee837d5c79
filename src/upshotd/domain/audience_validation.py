"""Whether an audience can be kept: all of its faults at once."""

from typing import Final, assert_never

from upshotd.domain.audience import (
    AllOf,
    AnyOf,
    Audience,
    Did,
    Engaged,
    Holds,
    InGroup,
    Not,
    Often,
    Rule,
    leaves,
)
from upshotd.domain.errors import Violation
from upshotd.domain.event import USER_ID_MAX
from upshotd.domain.findings import Findings
from upshotd.domain.language import Conditions, Templates, Zones
from upshotd.domain.names import ROOTS
from upshotd.domain.validation import LABEL_MAX

#: Most rules that hold no others.
RULES_MAX: Final = 20
#: Rules inside of rules; that of the audience itself is the first.
NESTING_MAX: Final = 5
#: Most times of one rule: as many are remembered of each person.
TIMES_MAX: Final = 100
_OF_PERSON: Final = frozenset({"traits", "profile"})
_OF_EVENT: Final = frozenset({"event"})


def validate(
    audience: Audience, conditions: Conditions, templates: Templates, zones: Zones
) -> tuple[Violation, ...]:
    """Return every fault of *audience* by path, as `audience.rule.not.event.event`."""
    findings = Findings(conditions, templates, zones, "", frozenset())
    findings.name("audience.audience_id", audience.audience_id)
    if len(audience.display_name) > LABEL_MAX:
        text = f"{len(audience.display_name)} characters; at most {LABEL_MAX} are taken"
        findings.fault("audience.display_name", text)
    count = sum(1 for _ in leaves(audience.rule))
    if count > RULES_MAX:
        findings.fault("audience.rule", f"{count} rules; at most {RULES_MAX} are taken")
    else:
        _rule(audience.rule, "audience.rule", 1, findings)
    return tuple(findings.violations)


def _rule(rule: Rule, path: str, level: int, findings: Findings) -> None:
    if level > NESTING_MAX:
        findings.fault(path, f"rules nest at most {NESTING_MAX} deep")
        return
    match rule:
        case AllOf(rules):
            _rules(rules, f"{path}.all_of.rules", level, findings)
        case AnyOf(rules):
            _rules(rules, f"{path}.any_of.rules", level, findings)
        case Not(inner):
            _rule(inner, f"{path}.not", level + 1, findings)
        case Holds() | InGroup() | Did() | Engaged():
            _leaf(rule, path, findings)
        case _:
            assert_never(rule)


def _rules(rules: tuple[Rule, ...], path: str, level: int, findings: Findings) -> None:
    if not rules:
        findings.fault(path, "at least one is required")
    for index, inner in enumerate(rules):
        _rule(inner, f"{path}[{index}]", level + 1, findings)


def _leaf(rule: Holds | InGroup | Did | Engaged, path: str, findings: Findings) -> None:
    match rule:
        case Holds(condition):
            if not condition:
                findings.fault(f"{path}.condition", "is empty")
            _expression(f"{path}.condition", condition, _OF_PERSON, findings)
        case InGroup(group_id):
            if not 0 < len(group_id) <= USER_ID_MAX:
                text = f"{len(group_id)} characters; 1 to {USER_ID_MAX} are taken"
                findings.fault(f"{path}.group.group_id", text)
        case Did(event, condition, often):
            findings.event_name(f"{path}.event.event", event)
            _expression(f"{path}.event.condition", condition, _OF_EVENT, findings)
            _often(often, f"{path}.event", findings)
        case Engaged():
            _engaged(rule, f"{path}.message", findings)
        case _:
            assert_never(rule)


def _expression(path: str, source: str, roots: frozenset[str], findings: Findings) -> None:
    """Compile a condition that may name *roots* alone: nothing looks again when others change."""
    findings.expression(path, source)
    others: dict[str, object] = dict.fromkeys(ROOTS - roots, True)
    others |= {"profile": {"audiences": True}} if "profile" in roots else {}
    for name in sorted(findings.conditions.values(source, others)) if source else ():
        findings.fault(path, f"names {name!r}; here only {' and '.join(sorted(roots))} can be")


def _engaged(rule: Engaged, path: str, findings: Findings) -> None:
    if rule.kinds:
        findings.engagement_kinds(f"{path}.kinds", rule.kinds)
    elif not rule.ignored:
        findings.fault(f"{path}.kinds", "at least one is required, or ignored")
    if rule.workflow_id:
        findings.name(f"{path}.workflow_id", rule.workflow_id)
    _often(rule.often, path, findings)


def _often(often: Often, path: str, findings: Findings) -> None:
    findings.count(f"{path}.at_least", often.at_least, TIMES_MAX)
    if often.within_us:
        findings.span(f"{path}.within", often.within_us)
    if often.ago_us:
        findings.span(f"{path}.ago", often.ago_us)
    if often.within_us and often.ago_us:
        findings.fault(f"{path}.ago", "give either within or ago")
