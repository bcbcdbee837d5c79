"""A SQL store on a file, and people with journeys to put into it."""

from pathlib import Path

from tests.stores import encode
from upshotd.adapters.storage.store import SqlStore
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import Outcome, OutcomeKind
from upshotd.domain.profile import Profile
from upshotd.domain.run import Run
from upshotd.domain.state import AcceptedEvent, Changes, IdKind

WS = "default"
NOW = 1_760_000_000_000_000


def made(path: Path) -> SqlStore:
    return SqlStore(path, encode_outcome=encode)


def journey(name: str, outcomes: int = 2, payload: bytes = b"payload") -> Changes:
    """An event of a new person that starts a run and leaves outcomes."""
    changes = Changes(WS)
    event = Event(f"event-{name}", EventType.TRACK, user_id=name, receive_us=NOW, payload=payload)
    changes.events[event.event_id] = AcceptedEvent(event, f"profile-{name}")
    changes.profiles[f"profile-{name}"] = Profile(f"profile-{name}", user_id=name)
    changes.identities[IdKind.USER, name] = f"profile-{name}"
    run_id = f"run-{name}"
    changes.runs[run_id] = Run(
        run_id, "welcome", 1, f"profile-{name}", event.event_id, event.event_id, NOW
    )
    for number in range(outcomes):
        kind = OutcomeKind.RUN_STARTED
        outcome_id = f"outcome-{name}-{number}"
        changes.outcomes.append(
            Outcome(outcome_id, kind, "Run Started", NOW, NOW, f"profile-{name}", user_id=name)
        )
    return changes
