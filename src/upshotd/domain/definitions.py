"""What a decision reads that is not rows: the workflows in force, the two languages, the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, TypeAlias

from upshotd.domain.audiences import Audiences
from upshotd.domain.caps import Cap
from upshotd.domain.consent import Topic
from upshotd.domain.event import Event, EventType
from upshotd.domain.language import Conditions, Letters, Links, Templates, Zones
from upshotd.domain.message import Channel, Purpose
from upshotd.domain.profile import ContactRules, Profile
from upshotd.domain.state import StoredEvent
from upshotd.domain.template import Library
from upshotd.domain.window import Window

if TYPE_CHECKING:
    from upshotd.domain.plan import Plan

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US

#: What a trigger listens to: the type, and the exact name of a track event, page or screen; of its
#: own schedule, by the workflow's id; an audience, by its id.
Listening: TypeAlias = tuple[EventType, str]


@dataclass(frozen=True, slots=True)
class Carrier:
    """A provider that serves a channel."""

    provider: str
    #: Whether it never delivers one message twice.
    idempotent: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """Numbers that decisions use."""

    #: How long a process may hold a message it is sending, in microseconds.
    lease_us: int = 2 * MINUTE_US
    #: How long a callback may still tell what became of a send without an answer.
    reconcile_us: int = 2 * MINUTE_US
    #: First pause before another attempt; doubles with each one.
    backoff_us: int = 5_000_000
    #: Longest pause between attempts.
    backoff_max_us: int = 15 * MINUTE_US
    #: How long after its making a message is still attempted.
    attempts_window_us: int = 24 * HOUR_US
    #: Enrolments one above the other.
    depth_max: int = 8
    #: Runs that one decision may start or move; what enrolls beyond it does not.
    runs_max: int = 200
    #: How many messages a person gets.
    caps: tuple[Cap, ...] = ()
    #: When messages may go out, by purpose, in the person's time zone; at any time where none is.
    hours: Mapping[Purpose, Window] = field(default_factory=dict)
    #: Time zone of people whose own is not known.
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Definitions:
    """The workflows of one workspace and everything else that decisions need, immutable."""

    conditions: Conditions
    templates: Templates
    letters: Letters
    links: Links
    contact: ContactRules
    decode_event: Callable[[StoredEvent], Event]
    #: Who serves each channel, those that are asked first in front.
    carriers: Mapping[Channel, tuple[Carrier, ...]]
    #: Every version that a loaded run may be on: (workflow_id, version) -> plan.
    plans: Mapping[tuple[str, int], Plan] = field(default_factory=dict)
    #: Current versions by workflow_id.
    current: Mapping[str, Plan] = field(default_factory=dict)
    #: Current versions by what they listen to.
    listening: Mapping[Listening, tuple[Plan, ...]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    #: Current topics by their ids.
    topics: Mapping[str, Topic] = field(default_factory=dict)
    #: Current templates.
    library: Library = field(default_factory=Library)
    #: Current audiences.
    audiences: Audiences = field(default_factory=Audiences)
    zones: Zones = lambda _: None
    #: This process, as the owner of leases.
    owner: str = ""

    def listeners(self, event: Event) -> tuple[Plan, ...]:
        """Return the current plans that listen to *event*."""
        found = self.listening.get((event.type, event.name), ())
        if event.name and event.type is not EventType.TRACK:
            # A page or a screen of any name.
            found += self.listening.get((event.type, ""), ())
        return found

    def zone(self, profile: Profile, name: str = "") -> tzinfo:
        """Return the time zone *name*, else the person's, else that of the server."""
        for wanted in (name, profile.contact.get("timezone", "")):
            found = self.zones(wanted) if wanted else None
            if found is not None:
                return found
        return self.policy.zone

    def idempotent(self, provider: str) -> bool:
        """Return whether *provider* (by configured name) never delivers one message twice."""
        carriers = (carrier for some in self.carriers.values() for carrier in some)
        return any(c.provider == provider and c.idempotent for c in carriers)


def listening(plans: Mapping[str, Plan]) -> dict[Listening, tuple[Plan, ...]]:
    """Return *plans* (current versions) by what their triggers listen to."""
    found: dict[Listening, tuple[Plan, ...]] = {}
    for plan in plans.values():
        trigger = plan.workflow.trigger
        if trigger.type is not None:
            scheduled = trigger.type is EventType.SCHEDULED
            key = (trigger.type, plan.workflow.workflow_id if scheduled else trigger.event)
            found[key] = (*found.get(key, ()), plan)
    return found
