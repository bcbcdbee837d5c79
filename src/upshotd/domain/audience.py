"""Audiences: who belongs to them by what is known of a person, and by what the person did. Pure.

Of behaviour an audience remembers no more than the times that can decide it: the newest n of an
event that must have happened n times in a span, the oldest n where it must be so long ago. Such a
set is the same in whatever order, and however often, it is told what happened: what comes late, and
what is told twice, changes nothing that is not so.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache, lru_cache
from typing import Final, NamedTuple, TypeAlias, assert_never

from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Profile

#: A time at which something happened, in microseconds, and the id of what it was.
Happening: TypeAlias = tuple[int, str]

#: The fact of a message that nobody engaged with.
IGNORED: Final = "ignored"


class Transition(IntEnum):
    """How a membership changes; the contract's numbers."""

    ENTER = 1
    LEAVE = 2


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody comes into an audience, or leaves it."""

    audience_id: str
    transition: Transition


@dataclass(frozen=True, slots=True)
class Often:
    """How often something must have happened, and when."""

    #: Times.
    at_least: int = 1
    #: Only what happened within this time until now counts, in microseconds; 0: ever.
    within_us: int = 0
    #: Only what happened at least so long ago counts, in microseconds; 0: all. One of the two.
    ago_us: int = 0

    def added(
        self, known: tuple[Happening, ...], happened: Iterable[Happening]
    ) -> tuple[Happening, ...]:
        """Return what is to be remembered of *known* and *happened*, oldest first."""
        both = sorted({*known, *happened})
        kept = both[: self.at_least] if self.ago_us else both[-self.at_least :]
        return tuple(kept)

    def met(self, known: tuple[Happening, ...], at_us: int) -> bool:
        """Return whether it has happened often enough, seen from *at_us*."""
        if len(known) < self.at_least:
            return False
        if self.ago_us:
            return known[-1][0] <= at_us - self.ago_us
        return not self.within_us or known[0][0] > at_us - self.within_us

    def count(self, known: tuple[Happening, ...], at_us: int) -> int:
        """Return how many of what is *known* count, seen from *at_us*."""
        since_us = at_us - self.within_us if self.within_us else None
        times = [time_us for time_us, _ in known if time_us <= at_us - self.ago_us]
        return sum(since_us is None or time_us > since_us for time_us in times)

    def turns(self, known: tuple[Happening, ...]) -> int | None:
        """Return the moment at which `met` changes by itself, past or to come; None: never."""
        if len(known) < self.at_least or not (self.within_us or self.ago_us):
            return None
        return known[-1][0] + self.ago_us if self.ago_us else known[0][0] + self.within_us


@dataclass(frozen=True, slots=True)
class Holds:
    """A condition over the person: traits and profile."""

    #: CEL.
    condition: str


@dataclass(frozen=True, slots=True)
class InGroup:
    """The person is a member of a group."""

    group_id: str


@dataclass(frozen=True, slots=True)
class Did:
    """The person did something: a track event."""

    event: str
    #: CEL over that event alone; empty holds.
    condition: str = ""
    often: Often = field(default_factory=Often)


@dataclass(frozen=True, slots=True)
class Engaged:
    """The person engaged with messages, or ignored them.

    Of a message each kind counts once; what software did does not count.
    """

    kinds: tuple[EngagementKind, ...] = ()
    ignored: bool = False
    #: Messages of this workflow only; empty: of all.
    workflow_id: str = ""
    often: Often = field(default_factory=Often)

    @property
    def facts(self) -> frozenset[str]:
        """The facts of a message that count."""
        words = {kind.name.lower() for kind in self.kinds}
        return frozenset(words | {IGNORED}) if self.ignored else frozenset(words)


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary of a rule."""

    rule: "Rule"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of some rules."""

    rules: tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of some rules."""

    rules: tuple["Rule", ...]


Rule: TypeAlias = AllOf | AnyOf | Not | Holds | InGroup | Did | Engaged
#: What is remembered for.
Behaviour: TypeAlias = Did | Engaged


@dataclass(frozen=True, slots=True)
class Audience:
    """One immutable version of a definition. `version` is 0 until it is stored."""

    audience_id: str
    rule: Rule
    display_name: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """What an audience knows of one person."""

    audience_id: str
    profile_id: str
    #: The version of the definition that this is for.
    version: int = 0
    member: bool = False
    #: When they came in, or left, in microseconds; 0: they never were in it.
    since_us: int = 0
    #: Why, for people.
    reason: str = ""
    #: What they did, by the key of the rule that remembers it.
    happened: Mapping[str, tuple[Happening, ...]] = field(default_factory=dict)
    #: When time alone changes the answer, in microseconds.
    due_us: int | None = None
    #: Whether everything that happened before the definition is in it.
    ready: bool = True

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remember."""
        return self.ready and not (self.member or self.since_us or self.happened or self.due_us)


class Facts(NamedTuple):
    """What a rule is evaluated on."""

    profile: Profile
    #: Whether a condition holds for the person.
    holds: Callable[[str], bool]
    happened: Mapping[str, tuple[Happening, ...]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audience says of one person at one moment."""

    member: bool
    #: The next moment at which time alone changes it, in microseconds; None: never.
    due_us: int | None


@lru_cache(maxsize=4096)
def key_of(rule: Behaviour) -> str:
    """Return under which name it is kept what *rule* remembers: the same for equal memories."""
    side = "first" if rule.often.ago_us else "last"
    match rule:
        case Did():
            what = ("did", rule.event, rule.condition)
        case Engaged():
            what = ("engaged", " ".join(sorted(rule.facts)), rule.workflow_id)
        case _:
            assert_never(rule)
    text = "\0".join((*what, side, str(rule.often.at_least)))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def leaves(rule: Rule) -> Iterator[Holds | InGroup | Did | Engaged]:
    """Yield the rules inside *rule* that hold no others, in order."""
    match rule:
        case AllOf(rules) | AnyOf(rules):
            for inner in rules:
                yield from leaves(inner)
        case Not(inner):
            yield from leaves(inner)
        case _:
            yield rule


def truth(rule: Rule, facts: Facts, at_us: int) -> bool:
    """Return whether *rule* is met, seen from *at_us*."""
    match rule:
        case AllOf(rules):
            return all(truth(inner, facts, at_us) for inner in rules)
        case AnyOf(rules):
            return any(truth(inner, facts, at_us) for inner in rules)
        case Not(inner):
            return not truth(inner, facts, at_us)
        case Holds(condition):
            return facts.holds(condition)
        case InGroup(group_id):
            return group_id in facts.profile.group_ids
        case Did() | Engaged():
            return rule.often.met(facts.happened.get(key_of(rule), ()), at_us)
        case _:
            assert_never(rule)


def evaluate(rule: Rule, facts: Facts, now_us: int) -> Verdict:
    """Return what *rule* says now, and when time alone will make it say something else."""
    facts = facts._replace(holds=cache(facts.holds))
    member = truth(rule, facts, now_us)
    turning = {
        moment
        for leaf in leaves(rule)
        if isinstance(leaf, Did | Engaged)
        and (moment := leaf.often.turns(facts.happened.get(key_of(leaf), ()))) is not None
        and moment > now_us
    }
    changes = (at_us for at_us in sorted(turning) if truth(rule, facts, at_us) is not member)
    return Verdict(member, next(changes, None))
