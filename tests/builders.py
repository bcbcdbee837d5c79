"""Values for tests: everything has a default, every field can be said."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from upshotd.domain.event import Event, EventType, RejectedEvent
from upshotd.domain.message import Channel, Message, MessageState
from upshotd.domain.outcome import Engagement, EngagementKind, Outcome, OutcomeKind, event_name
from upshotd.domain.profile import Group, Merge, Profile, Suppression
from upshotd.domain.run import Run
from upshotd.domain.state import AcceptedEvent, Changes, Identity, IdKind, StartedRun

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: A whole hour of a summer's day: 2026-07-01 12:00 UTC.
NOON = 1_782_907_200 * SECOND

_numbers = count(1)


def an_id(prefix: str) -> str:
    """Return an id that no other test has, in order of making."""
    return f"{prefix}-{next(_numbers):08d}"


def an_event(**fields: Any) -> Event:
    """Return a track event that came at noon."""
    event_id = fields.setdefault("event_id", an_id("event"))
    fields.setdefault("type", EventType.TRACK)
    fields.setdefault("user_id", "ana")
    if fields["type"] is EventType.TRACK:
        fields.setdefault("name", "Signed Up")
    fields.setdefault("receive_us", NOON)
    fields.setdefault("event_us", fields["receive_us"])
    fields.setdefault("payload", f"payload of {event_id}".encode())
    return Event(**fields)


def accepted(event: Event, profile_id: str = "profile-ana", *runs: Run) -> AcceptedEvent:
    """Return *event* as accepted; it has started *runs*."""
    started = tuple(StartedRun(run.workflow_id, run.workflow_version, run.run_id) for run in runs)
    return AcceptedEvent(event, profile_id, started)


def a_profile(**fields: Any) -> Profile:
    """Return a person; the id follows the user id: ana is `profile-ana`."""
    user_id = fields.setdefault("user_id", "ana")
    fields.setdefault("profile_id", f"profile-{user_id}" if user_id else an_id("profile"))
    fields.setdefault("create_us", NOON)
    return Profile(**fields)


def a_run(**fields: Any) -> Run:
    """Return a run of ana's that is active, and holds nothing back."""
    fields.setdefault("run_id", an_id("run"))
    fields.setdefault("workflow_id", "welcome")
    fields.setdefault("workflow_version", 1)
    fields.setdefault("profile_id", "profile-ana")
    fields.setdefault("event_id", f"event-of-{fields['run_id']}")
    fields.setdefault("start_key", fields["event_id"])
    fields.setdefault("start_us", NOON)
    fields.setdefault("enter_us", fields["start_us"])
    return Run(**fields)


def a_message(**fields: Any) -> Message:
    """Return an e-mail of ana's that the provider took."""
    fields.setdefault("message_id", an_id("message"))
    fields.setdefault("run_id", "run")
    fields.setdefault("step_id", "mail")
    fields.setdefault("profile_id", "profile-ana")
    fields.setdefault("workflow_id", "welcome")
    fields.setdefault("workflow_version", 1)
    fields.setdefault("channel", Channel.EMAIL)
    fields.setdefault("state", MessageState.ACCEPTED)
    fields.setdefault("provider", "smtp")
    fields.setdefault("attempt", 1)
    fields.setdefault("create_us", NOON)
    return Message(**fields)


def an_outcome(**fields: Any) -> Outcome:
    """Return the outcome that ana was sent an e-mail."""
    kind = fields.setdefault("kind", OutcomeKind.MESSAGE_SENT)
    fields.setdefault("outcome_id", an_id("outcome"))
    fields.setdefault("event", event_name(kind))
    fields.setdefault("record_us", NOON)
    fields.setdefault("occur_us", fields["record_us"])
    fields.setdefault("profile_id", "profile-ana")
    fields.setdefault("user_id", "ana")
    fields.setdefault("workflow_id", "welcome")
    fields.setdefault("workflow_version", 1)
    fields.setdefault("step_id", "mail")
    fields.setdefault("channel", Channel.EMAIL)
    return Outcome(**fields)


def an_engagement(**fields: Any) -> Engagement:
    """Return the fact that a message was opened; without `message_id`, by smtp's id `m-1`."""
    fields.setdefault("engagement_id", an_id("engagement"))
    fields.setdefault("kind", EngagementKind.OPENED)
    fields.setdefault("occur_us", NOON)
    if "message_id" not in fields:
        fields.setdefault("provider", "smtp")
        fields.setdefault("provider_message_id", "m-1")
    return Engagement(**fields)


def a_rejection(**fields: Any) -> RejectedEvent:
    """Return a refused event."""
    fields.setdefault("rejection_id", an_id("rejection"))
    fields.setdefault("event_id", "")
    fields.setdefault("receive_us", NOON)
    fields.setdefault("reason", "MISSING_USER_ID")
    fields.setdefault("violations", ())
    fields.setdefault("payload", "{}")
    return RejectedEvent(**fields)


def identities_of(profile: Profile) -> dict[Identity, str]:
    """Return the identities that lead to *profile*."""
    found: dict[Identity, str] = {
        (IdKind.ANONYMOUS, anonymous_id): profile.profile_id
        for anonymous_id in profile.anonymous_ids
    }
    if profile.user_id:
        found[IdKind.USER, profile.user_id] = profile.profile_id
    return found


def changes(
    *things: object,
    workspace_id: str = "default",
    recorded: Mapping[str, Engagement] | None = None,
    suppressions: Mapping[tuple[str, str], Suppression | None] | None = None,
    **fields: Any,
) -> Changes:
    """Return changes that write *things*, each where it belongs.

    A profile brings its identities; a bare event is ana's and starts nothing; a bare engagement
    is pending, *recorded* ones are given by message_id.
    """
    made = Changes(workspace_id, **fields)
    for thing in things:
        _put(made, thing)
    for message_id, engagement in (recorded or {}).items():
        made.engagements[engagement.engagement_id] = (engagement, message_id)
    made.suppressions.update(suppressions or {})
    return made


def _put(made: Changes, thing: object) -> None:
    match thing:
        case AcceptedEvent():
            made.events[thing.event.event_id] = thing
        case Event():
            made.events[thing.event_id] = accepted(thing)
        case Profile():
            made.profiles[thing.profile_id] = thing
            made.identities.update(identities_of(thing))
        case Group():
            made.groups[thing.group_id] = thing
        case Run():
            made.runs[thing.run_id] = thing
        case Message():
            made.messages[thing.message_id] = thing
        case Engagement():
            made.pending[thing.engagement_id] = thing
        case _:
            _append(made, thing)


def _append(made: Changes, thing: object) -> None:
    match thing:
        case RejectedEvent():
            made.rejected.append(thing)
        case Merge():
            made.merges.append(thing)
        case Outcome():
            made.outcomes.append(thing)
        case _:
            raise TypeError(f"no place for a {type(thing).__name__}")
