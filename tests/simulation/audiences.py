"""Audiences at random, and what each must say at the end: counted by hand over all that is kept."""

import random
from collections.abc import Callable, Iterator

from upshot.v1 import event_pb2
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc import audience_codec
from upshotd.adapters.memory.tables import EventRow, Tables
from upshotd.application.filling import Stage, filling_of
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
)
from upshotd.domain.names import profile_names
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Profile

#: What workflows start by depends on nothing that their steps change: histories must end.
NAMES = ("active", "away", "engaged", "mixed")
_CONDITIONS = CelConditions()


def audience(chance: random.Random, name: str, unit_us: int) -> Audience:
    """Return an audience; what it is about follows from its name, its numbers are random."""

    def often(most: int = 3) -> Often:
        return Often(chance.randint(1, most), within_us=chance.choice((0, 2, 5)) * unit_us)

    active = Did("Used", chance.choice(("", "event.properties.n > 3")), often())
    away = AllOf(
        (
            Did("Start A", often=Often(chance.randint(1, 2), ago_us=3 * unit_us)),
            Not(Did("Used", often=often(1))),
        )
    )
    engaged = Engaged(
        (EngagementKind.OPENED, EngagementKind.CLICKED),
        chance.random() < 0.5,
        chance.choice(("", "always")),
        often(),
    )
    mixed = AnyOf(
        (
            AllOf((Holds('traits.plan == "pro"'), Not(Did("Paid", often=often())))),
            AllOf((InGroup("red"), Did("Seen", often=Often(ago_us=2 * unit_us)))),
        )
    )
    rules: dict[str, Rule] = {"active": active, "away": away, "engaged": engaged, "mixed": mixed}
    return Audience(name, rules[name])


def members(
    tables: Tables, settings: dict[str, str], where: str, now_us: int, *, jumped: bool
) -> Iterator[str]:
    """Yield who is in an audience, or is not, against all that they did; and so of groups.

    Where clocks have *jumped* it is not known what somebody did before they were erased.
    """
    yield from _groups(tables)
    for name, versions in tables.workflows.items():
        if not name.startswith("audience:"):
            continue
        known = audience_codec.decode_audience(versions[-1].definition, versions[-1].version)
        which = known.audience_id
        filling = filling_of(settings[f"audience/{where}/{which}/{known.version}"])
        if filling.stage is not Stage.DONE or filling.version != known.version:
            yield f"{which} v{known.version} was not filled: {filling}"
        for profile in tables.profiles.values():
            named = profile.user_id or profile.anonymous_ids
            if profile.erased or not named or (profile.erase_us and jumped):
                continue
            row = tables.memberships.get(profile.profile_id, {}).get(which)
            if row is not None and row.due_us is not None and row.due_us <= now_us:
                continue  # it is about to be looked at
            is_in, history = row is not None and row.member, _History(tables, profile)
            if is_in is not history.meets(known.rule, now_us):
                yield f"{which} v{known.version}: {profile.user_id} in it is {is_in}, by {row}"
        for profile_id, rows in tables.memberships.items():
            gone = profile_id not in tables.profiles or tables.profiles[profile_id].erased
            if which in rows and gone:
                yield f"{which} remembers {profile_id}, who is nobody"


def _groups(tables: Tables) -> Iterator[str]:
    """Yield groups that find others than those who say that they are members."""
    said: dict[str, set[str]] = {group_id: set() for group_id in tables.group_members}
    for profile in tables.profiles.values():
        for group_id in profile.group_ids:
            said.setdefault(group_id, set()).add(profile.profile_id)
    for group_id, members in said.items():
        found = tables.group_members.get(group_id, {}).keys()
        if found != members:
            yield f"the group {group_id} has {sorted(members)} and finds {sorted(found)}"


def overdue(tables: Tables, until_us: int) -> Iterator[str]:
    """Yield what should have been looked at by a moment."""
    for rows in tables.memberships.values():
        for row in rows.values():
            if row.due_us is not None and row.due_us < until_us:
                yield f"{row.audience_id} about {row.profile_id}"


class _History:
    """All that somebody did, as the rows have it."""

    def __init__(self, tables: Tables, profile: Profile) -> None:
        self._profile = profile
        ids = {profile.profile_id, *profile.former_ids}
        self._events = [
            (row.stored.event_us, event)
            for row in tables.events.values()
            if row.profile_id in ids and (event := _track(row)) is not None
        ]
        # What somebody decides about others says nothing of what they like themselves.
        self._messages = [
            m for m in tables.messages.values() if m.profile_id in ids and m.ask is None
        ]

    def meets(self, rule: Rule, at_us: int) -> bool:
        """Return whether a rule is met, counted anew."""
        match rule:
            case AllOf(rules):
                return all(self.meets(inner, at_us) for inner in rules)
            case AnyOf(rules):
                return any(self.meets(inner, at_us) for inner in rules)
            case Not(inner):
                return not self.meets(inner, at_us)
            case InGroup(group_id):
                return group_id in self._profile.group_ids
            case Holds(condition):
                named = {"traits": self._profile.traits, "profile": profile_names(self._profile)}
                return _CONDITIONS.holds(condition, named).holds
            case Did(event, condition, often):
                times = [t for t, one in self._events if _is(one, event, condition)]
            case Engaged():
                counts: Callable[[str], bool] = rule.facts.__contains__
                times = [
                    time_us
                    for message in self._messages
                    if rule.workflow_id in ("", message.workflow_id)
                    for word, time_us in message.facts.items()
                    if counts(word)
                ]
                often = rule.often
        after_us = at_us - often.within_us if often.within_us else -1
        return sum(after_us < t <= at_us - often.ago_us for t in times) >= often.at_least


def _track(row: EventRow) -> event_pb2.Event | None:
    event = event_pb2.Event.FromString(row.stored.payload)
    return event if event.WhichOneof("call") == "track" else None


def _is(event: event_pb2.Event, name: str, condition: str) -> bool:
    number = event.track.properties.fields["n"].number_value
    return event.track.event == name and (not condition or number > 3)
