"""The names that conditions and templates see."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from upshotd.domain.event import Event
from upshotd.domain.profile import Group, Profile
from upshotd.domain.run import Run
from upshotd.domain.values import plain

#: Everything that conditions and templates may name.
ROOTS = frozenset({"event", "traits", "profile", "group", "steps", "run", "now"})
#: Messages of an approve step may also name who gets them and what is asked.
REVIEWER_ROOTS = frozenset({"reviewer", "approval"})
#: Those links of a message that lead to a decision; only messages of an approve step have them.
DECIDING_LINKS = frozenset({"approve", "deny", "ask", "review"})
#: Templates of messages may also name the links of the message.
MESSAGE_ROOTS = ROOTS | REVIEWER_ROOTS | {"links"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(time_us: int) -> datetime:
    """Return microseconds since 1970 as an aware datetime."""
    return _EPOCH + timedelta(microseconds=time_us)


def microseconds(moment: datetime) -> int:
    """Return an aware datetime as microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def event_names(event: Event | None, parts: frozenset[str]) -> dict[str, object]:
    """Return `event` as conditions and templates see it; of its *parts* only those are decoded."""
    if event is None:
        return {}
    return {
        "id": event.event_id,
        "type": event.type.value,
        "name": event.name,
        "properties": plain(event.properties) if "properties" in parts else {},
        "traits": plain(event.traits) if "traits" in parts else {},
        "context": plain(event.context) if "context" in parts else {},
        "time": instant(event.event_us) if "time" in parts else None,
    }


def profile_names(profile: Profile, audiences: Sequence[str] = ()) -> dict[str, object]:
    """Return `profile` as conditions and templates see it: contact fields, ids, groups, and the
    *audiences* they are in."""
    return {
        **profile.contact,
        "id": profile.profile_id,
        "user_id": profile.user_id,
        "anonymous_id": profile.anonymous_ids[0] if profile.anonymous_ids else "",
        "groups": list(profile.group_ids),
        "audiences": list(audiences),
    }


def names(
    event: Event | None,
    parts: frozenset[str],
    profile: Profile,
    group: Group | None,
    now_us: int,
    run: Run | None = None,
    steps: Mapping[str, Mapping[str, object]] | None = None,
    audiences: Sequence[str] = (),
) -> dict[str, object]:
    """Return everything that conditions and templates may name; of *parts* only those are made."""
    return {
        "event": event_names(event, parts),
        "traits": profile.traits,
        "profile": profile_names(profile, audiences),
        "group": group.traits if group is not None else {},
        "steps": steps if steps is not None else {},
        "run": run_names(run, parts),
        "now": instant(now_us) if "now" in parts else None,
    }


def run_names(run: Run | None, parts: frozenset[str]) -> dict[str, object]:
    """Return `run` as conditions and templates see it."""
    if run is None:
        return {}
    return {
        "id": run.run_id,
        "workflow_id": run.workflow_id,
        "version": run.workflow_version,
        "start_time": instant(run.start_us) if "start_time" in parts else None,
        # So that a wait or an exit can tell whose event came: that of this order, this project.
        "key": run.reentry_key,
    }
