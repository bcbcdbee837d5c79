"""The audiences in force, made ready: which of them care about what happens."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from upshotd.domain.audience import (
    Audience,
    Behaviour,
    Did,
    Engaged,
    Facts,
    Happening,
    Holds,
    InGroup,
    key_of,
    leaves,
)
from upshotd.domain.event import Event, EventType
from upshotd.domain.language import Conditions
from upshotd.domain.message import Message
from upshotd.domain.names import event_names, profile_names
from upshotd.domain.profile import Profile

#: Parts of an event that conditions of audiences read.
_PARTS: Final = frozenset({"properties", "context", "time", "traits"})


@dataclass(frozen=True, slots=True)
class AudiencePlan:
    """An audience made ready."""

    audience: Audience
    #: Whether everybody has been looked at since this version was defined: who has no row then has
    #: nothing to remember.
    filled: bool
    did: tuple[Did, ...]
    engaged: tuple[Engaged, ...]
    #: Whether it depends on traits, contacts or groups.
    reads_profile: bool
    #: What it remembers, by the keys of rules.
    keys: frozenset[str]

    @classmethod
    def of(cls, audience: Audience, *, filled: bool) -> "AudiencePlan":
        """Return the plan of *audience*."""
        every = tuple(leaves(audience.rule))
        did = tuple(leaf for leaf in every if isinstance(leaf, Did))
        engaged = tuple(leaf for leaf in every if isinstance(leaf, Engaged))
        reads = any(isinstance(leaf, Holds | InGroup) for leaf in every)
        behaviour: tuple[Behaviour, ...] = (*did, *engaged)
        keys = frozenset(key_of(rule) for rule in behaviour)
        return cls(audience, filled, did, engaged, reads, keys)

    @property
    def audience_id(self) -> str:
        """Its id."""
        return self.audience.audience_id

    @property
    def behaviour(self) -> tuple[Behaviour, ...]:
        """The rules that remember something."""
        return (*self.did, *self.engaged)

    def done(self, event: Event, conditions: Conditions) -> dict[str, tuple[Happening, ...]]:
        """Return what *event* counts as, by the keys of rules."""
        if event.type is not EventType.TRACK or event.own:
            return {}
        one: Happening = (event.event_us, event.event_id)
        return {
            key_of(rule): (one,)
            for rule in self.did
            if rule.event == event.name and _meets(rule, event, conditions)
        }

    def told(self, message: Message, words: Collection[str]) -> dict[str, tuple[Happening, ...]]:
        """Return what facts of *message*, by their *words*, count as, by the keys of rules.

        What asks for a decision is no message of the person's own.
        """
        found: dict[str, tuple[Happening, ...]] = {}
        for rule in self.engaged if message.ask is None else ():
            facts = [word for word in words if word in rule.facts]
            if facts and rule.workflow_id in ("", message.workflow_id):
                found[key_of(rule)] = tuple(
                    [(message.facts[word], f"{message.message_id}:{word}") for word in facts]
                )
        return found


def facts_of(
    conditions: Conditions, profile: Profile, happened: Mapping[str, tuple[Happening, ...]]
) -> Facts:
    """Return what an audience judges a person by."""
    known = {"traits": profile.traits, "profile": profile_names(profile)}
    return Facts(profile, lambda source: conditions.holds(source, known).holds, happened)


def _meets(rule: Did, event: Event, conditions: Conditions) -> bool:
    if not rule.condition:
        return True
    return conditions.holds(rule.condition, {"event": event_names(event, _PARTS)}).holds


@dataclass(frozen=True, slots=True)
class Audiences:
    """Those of one workspace, by their ids and by what they care about."""

    plans: Mapping[str, AudiencePlan] = field(default_factory=dict)
    #: Those that count a track event, by its name.
    by_event: Mapping[str, tuple[AudiencePlan, ...]] = field(default_factory=dict)
    #: Those that count engagement with messages.
    engaged: tuple[AudiencePlan, ...] = ()
    #: Those that depend on the profile.
    reading: tuple[AudiencePlan, ...] = ()

    @classmethod
    def of(cls, plans: Iterable[AudiencePlan]) -> "Audiences":
        """Return *plans*, in order of their ids."""
        known = {plan.audience_id: plan for plan in sorted(plans, key=lambda p: p.audience_id)}
        by_event: dict[str, tuple[AudiencePlan, ...]] = {}
        for plan in known.values():
            for name in dict.fromkeys(rule.event for rule in plan.did):
                by_event[name] = (*by_event.get(name, ()), plan)
        return cls(
            known,
            by_event,
            tuple(plan for plan in known.values() if plan.engaged),
            tuple(plan for plan in known.values() if plan.reads_profile),
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.plans)
