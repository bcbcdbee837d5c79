"""What a decision reads that is not rows: the workflows in force, the two languages, the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from upshotd.domain.event import Event, EventType
from upshotd.domain.language import Conditions, Links, Templates
from upshotd.domain.message import Channel
from upshotd.domain.profile import ContactRules
from upshotd.domain.state import StoredEvent

if TYPE_CHECKING:
    from upshotd.domain.plan import Plan

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US

#: What a trigger listens to: the type, and the exact name of a track event.
Listening: TypeAlias = tuple[EventType, str]


@dataclass(frozen=True, slots=True)
class Route:
    """The provider that serves a channel."""

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


@dataclass(frozen=True, slots=True)
class Definitions:
    """The workflows of one workspace and everything else that decisions need, immutable."""

    conditions: Conditions
    templates: Templates
    links: Links
    contact: ContactRules
    decode_event: Callable[[StoredEvent], Event]
    routes: Mapping[Channel, Route]
    #: Every version that a loaded run may be on: (workflow_id, version) -> plan.
    plans: Mapping[tuple[str, int], Plan] = field(default_factory=dict)
    #: Current versions by workflow_id.
    current: Mapping[str, Plan] = field(default_factory=dict)
    #: Current versions by what they listen to.
    listening: Mapping[Listening, tuple[Plan, ...]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    #: This process, as the owner of leases.
    owner: str = ""

    def listeners(self, event: Event) -> tuple[Plan, ...]:
        """Return the current plans that listen to *event*."""
        name = event.name if event.type is EventType.TRACK else ""
        return self.listening.get((event.type, name), ())

    def idempotent(self, provider: str) -> bool:
        """Return whether *provider* (by configured name) never delivers one message twice."""
        return any(r.provider == provider and r.idempotent for r in self.routes.values())


def listening(plans: Mapping[str, Plan]) -> dict[Listening, tuple[Plan, ...]]:
    """Return *plans* (current versions) by what their triggers listen to."""
    found: dict[Listening, tuple[Plan, ...]] = {}
    for plan in plans.values():
        trigger = plan.workflow.trigger
        if trigger.type is not None:
            key = (trigger.type, trigger.event)
            found[key] = (*found.get(key, ()), plan)
    return found
