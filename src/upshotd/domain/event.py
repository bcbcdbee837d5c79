"""An event: one call of Segment's spec, after the edge gave it our names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from upshotd.domain.errors import Violation
from upshotd.domain.values import NOTHING, text_at

#: Largest serialized event, in bytes, as Segment's.
EVENT_BYTES_MAX = 32 * 1024
EVENT_ID_MAX = 100
USER_ID_MAX = 255
EVENT_NAME_MAX = 255

#: What the relay puts in front of the ids of its own track calls.
OWN_ID_PREFIX = "upshot-"
#: `context.library.name` of the relay's track calls.
OWN_LIBRARY = "upshot"

_JUNK_ID = re.compile(
    r"^(?:[0-]*|-1|null|none|nil|undefined|anonymous|nan|\[object object\])$", re.I
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class EventType(StrEnum):
    """Which call of the spec it is."""

    UNSPECIFIED = ""
    TRACK = "track"
    IDENTIFY = "identify"
    GROUP = "group"
    PAGE = "page"
    SCREEN = "screen"
    ALIAS = "alias"
    #: The person is to be erased.
    DELETE = "delete"
    #: A `delete` from somebody who may not erase.
    BARRED = "barred"
    #: Of ours: the schedule of a workflow has come.
    SCHEDULED = "scheduled"
    #: Of ours: somebody came into an audience, or left it.
    AUDIENCE = "audience"


class Event(NamedTuple):
    """One event as it was accepted, or is about to be."""

    event_id: str
    type: EventType
    user_id: str = ""
    anonymous_id: str = ""
    #: Track's event, page's or screen's name, the workflow of a schedule, the audience; else empty.
    name: str = ""
    #: Track's, page's and screen's properties.
    properties: Mapping[str, object] = NOTHING
    #: Identify's traits of the person, group's traits of the group.
    traits: Mapping[str, object] = NOTHING
    context: Mapping[str, object] = NOTHING
    #: Group's group.
    group_id: str = ""
    #: Alias's previous id.
    previous_id: str = ""
    #: When the server took it, in microseconds.
    receive_us: int = 0
    #: When it happened: corrected for the sender's clock and never after `receive_us`.
    event_us: int = 0
    #: Serialized size in bytes.
    size: int = 0
    #: The event as it came, encoded by the contract's codec; what the store keeps.
    payload: bytes = b""

    @property
    def own(self) -> bool:
        """Whether it is one of our outcomes, back from Segment."""
        if self.event_id.startswith(OWN_ID_PREFIX):
            return True
        return text_at(self.context, "library", "name") == OWN_LIBRARY

    @property
    def group_of(self) -> str:
        """The group the event speaks of: a group call's own, else `context.groupId`."""
        return self.group_id or text_at(self.context, "groupId")


def corrected_time(receive_us: int, sent_us: int | None, original_us: int | None) -> int:
    """Return when an event happened: received - (sent - original), never in the future.

    A part that is missing leaves nothing to correct by: the original time counts as it is.
    """
    if original_us is None:
        return receive_us
    if sent_us is None:
        return min(original_us, receive_us)
    return min(receive_us - (sent_us - original_us), receive_us)


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was refused, kept 7 days where people can see it."""

    #: Key of the record; the event's own id may be missing or repeated.
    rejection_id: str
    event_id: str
    receive_us: int
    reason: str
    violations: tuple[Violation, ...]
    #: The event as protobuf JSON, bounded.
    payload: str


def faults(event: Event) -> tuple[str, tuple[Violation, ...]]:
    """Return the reason word and every fault of *event*; an empty word when it can be taken."""
    found: list[tuple[str, Violation]] = []
    if event.size > EVENT_BYTES_MAX:
        text = f"{event.size} bytes serialized; at most {EVENT_BYTES_MAX} are taken"
        found.append(("EVENT_TOO_LARGE", Violation("event", text)))
    if len(event.event_id) > EVENT_ID_MAX:
        text = f"{len(event.event_id)} characters; at most {EVENT_ID_MAX} are taken"
        found.append(("INVALID_EVENT_ID", Violation("event.event_id", text)))
    found += _id_faults("user_id", event.user_id) + _id_faults("anonymous_id", event.anonymous_id)
    if not event.user_id and not event.anonymous_id:
        text = "user_id or anonymous_id is required"
        found.append(("MISSING_USER_ID", Violation("event.user_id", text)))
    found += _call_faults(event)
    return (found[0][0] if found else "", tuple(violation for _, violation in found))


def _id_faults(name: str, value: str) -> list[tuple[str, Violation]]:
    if not value:
        return []
    if len(value) > USER_ID_MAX:
        text = f"{len(value)} characters; at most {USER_ID_MAX} are taken"
    elif _JUNK_ID.match(value):
        text = f"{value!r} is a placeholder that many people would share"
    elif _CONTROL.search(value):
        text = "control characters are not taken"
    else:
        return []
    return [(f"INVALID_{name.upper()}", Violation(f"event.{name}", text))]


def _call_faults(event: Event) -> list[tuple[str, Violation]]:
    if event.type is EventType.UNSPECIFIED:
        text = "one of track, identify, group, page, screen, alias, delete is required"
        return [("MISSING_CALL", Violation("event.call", text))]
    if event.type is EventType.BARRED:
        text = "needs a key with the scope erase"
        return [("ERASE_NOT_ALLOWED", Violation("event.delete", text))]
    if event.type is EventType.TRACK and not event.name:
        return [("MISSING_EVENT", Violation("event.track.event", "the event's name is required"))]
    if len(event.name) > EVENT_NAME_MAX:
        text = f"{len(event.name)} characters; at most {EVENT_NAME_MAX} are taken"
        return [("INVALID_EVENT", Violation(f"event.{event.type}", text))]
    if event.type is EventType.GROUP:
        if not event.group_id:
            text = "the group's id is required"
            return [("MISSING_GROUP_ID", Violation("event.group.group_id", text))]
        return _id_faults("group_id", event.group_id)
    if event.type is EventType.ALIAS:
        if not event.previous_id:
            text = "the id until now is required"
            return [("MISSING_PREVIOUS_ID", Violation("event.alias.previous_id", text))]
        if not event.user_id:
            text = "an alias needs the known id"
            return [("MISSING_USER_ID", Violation("event.user_id", text))]
        return _id_faults("previous_id", event.previous_id)
    return []
