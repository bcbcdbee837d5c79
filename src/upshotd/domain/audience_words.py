"""Why somebody is in an audience or not, for people."""

from collections.abc import Callable
from typing import Final, assert_never

from upshotd.domain.audience import (
    IGNORED,
    AllOf,
    AnyOf,
    Did,
    Engaged,
    Facts,
    Happening,
    Holds,
    InGroup,
    Not,
    Often,
    Rule,
    key_of,
    truth,
)
from upshotd.domain.names import instant

#: Characters of a reason.
REASON_MAX: Final = 1_000
_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000))

#: Returns a condition with the values that it was evaluated on.
Shown = Callable[[str], str]


def why(rule: Rule, facts: Facts, at_us: int, shown: Shown) -> str:
    """Return what makes *rule* met, or not, seen from *at_us*."""
    return _why(rule, facts, at_us, shown)[:REASON_MAX]


def _why(rule: Rule, facts: Facts, at_us: int, shown: Shown) -> str:
    match rule:
        case AllOf(rules) | AnyOf(rules):
            # Of all that must hold, those that do not say why it fails; of any, the first that does
            # says why it is met. Otherwise each of them has a part in it.
            met = isinstance(rule, AnyOf)
            telling = [inner for inner in rules if truth(inner, facts, at_us) is met]
            told = (telling[:1] if met else telling) or rules
            return " and ".join(_why(inner, facts, at_us, shown) for inner in told)
        case Not(inner):
            return _why(inner, facts, at_us, shown)
        case Holds(condition):
            word = "" if facts.holds(condition) else "not "
            return f"{word}{shown(condition)}"
        case InGroup(group_id):
            inside = group_id in facts.profile.group_ids
            return f"is {'' if inside else 'not '}in the group {group_id}"
        case Did() | Engaged():
            known = facts.happened.get(key_of(rule), ())
            done, undone = _verbs(rule)
            met = rule.often.met(known, at_us)
            said = f"{done if met else undone} {_when(rule.often, known, met=met)}".rstrip()
            several = not met and rule.often.at_least > 1
            return f"{said} ({rule.often.count(known, at_us)} so far)" if several else said
        case _:
            assert_never(rule)


def _verbs(rule: Did | Engaged) -> tuple[str, str]:
    if isinstance(rule, Did):
        which = f'"{rule.event}"' + (f" with {rule.condition}" if rule.condition else "")
        return f"did {which}", f"did not do {which}"
    words = [kind.name.lower() for kind in rule.kinds] + ([IGNORED] if rule.ignored else [])
    what = f"messages of {rule.workflow_id}" if rule.workflow_id else "messages"
    return f"{' or '.join(words)} {what}", f"not {' or '.join(words)} {what}"


def _when(often: Often, known: tuple[Happening, ...], *, met: bool) -> str:
    count = f"{often.at_least} times" if often.at_least > 1 else ""
    span = ""
    if often.within_us:
        span = f"within {span_words(often.within_us)}"
    elif often.ago_us:
        span = f"{span_words(often.ago_us)} ago"
    moment = ""
    if known and (met or often.at_least == 1):
        moment = f"({_which(often, met=met)} {_moment(known[-1])})"
    return " ".join(part for part in (count, span, moment) if part)


def _which(often: Often, *, met: bool) -> str:
    """Return which moment the newest one of those is that are remembered."""
    if often.at_least == 1 and met:
        return "at"
    if not often.ago_us:
        return "last"
    # Of these the oldest are remembered: it may have happened again since.
    return "by" if met else "first"


def _moment(happening: Happening) -> str:
    return instant(happening[0]).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def span_words(span_us: int) -> str:
    """Return a span as people write it: `3 d`, `90 min`."""
    for word, unit_us in _UNITS:
        if span_us % unit_us == 0:
            return f"{span_us // unit_us} {word}"
    return f"{span_us / 1_000_000:g} s"
