"""What can happen to a workspace, and what is answered. `decide` takes one stimulus at a time."""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from upshotd.domain.audience import Happening
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event
from upshotd.domain.explanation import Explanation
from upshotd.domain.fetching import FetchResult
from upshotd.domain.message import Channel, SendResult
from upshotd.domain.outcome import Engagement
from upshotd.domain.profile import Suppression
from upshotd.domain.state import Identity, StartedRun


class EventArrived(NamedTuple):
    """Somebody did something."""

    event: Event


class EngagementArrived(NamedTuple):
    """A fact about a message came."""

    engagement: Engagement


class SendSettled(NamedTuple):
    """A provider answered, or did not."""

    message_id: str
    #: The attempt that was made; an answer to an older one is stale.
    attempt: int
    result: SendResult
    #: Configured name of the provider.
    provider: str
    #: Whether it never delivers one message twice.
    idempotent: bool


class FetchSettled(NamedTuple):
    """What a run asked was answered, or was not."""

    run_id: str
    step_id: str
    #: The attempt that was made; an answer to an older one is stale.
    attempt: int
    result: FetchResult


#: What came of something that this process did after a commit: never refused, never lost.
SETTLED = (SendSettled, FetchSettled)


class RunDue(NamedTuple):
    """A run's timer is due."""

    run_id: str


class MessageDue(NamedTuple):
    """A message's next attempt is due, its lease ran out, or nobody told what became of it."""

    message_id: str


class CancelRequested(NamedTuple):
    """Somebody wants runs to end; exactly one of the two is set."""

    run_id: str = ""
    cancellation_key: str = ""


class MigrateRequested(NamedTuple):
    """Somebody wants a run to go on with a newer version of its workflow."""

    run_id: str
    version: int


class PreferenceSet(NamedTuple):
    """A person chose, or somebody in their name. What is None is left as it is."""

    identity: Identity
    topic_id: str
    wanted: bool | None = None
    channels_off: frozenset[Channel] | None = None


class SuppressionSet(NamedTuple):
    """Somebody puts a person or an address on the suppression list, or takes them off it."""

    suppression: Suppression
    #: The person, or the address by its key in `addresses`.
    owner: Identity | str
    #: False takes it off; of the suppression only the scope counts then.
    held: bool = True


class EraseRequested(NamedTuple):
    """Somebody wants a person erased."""

    identity: Identity


class AudienceDue(NamedTuple):
    """Time alone may have brought a person into an audience, or out of it."""

    audience_id: str
    profile_id: str


class AudienceFill(NamedTuple):
    """What a person did before an audience was defined."""

    audience_id: str
    #: The version it was gathered for; for another one it is not enough.
    version: int
    profile_id: str
    #: By the keys of rules.
    happened: Mapping[str, tuple[Happening, ...]]
    #: People who have become this one.
    former_ids: tuple[str, ...] = ()
    #: Whether there is nothing more of it: the person is judged now.
    last: bool = False


class RunBroke(NamedTuple):
    """A decision about this run raised: it is set aside with its error."""

    run_id: str
    incident_id: str
    #: The message whose timer it was, given up with the run; empty when it was not one.
    message_id: str = ""


Stimulus: TypeAlias = (
    EventArrived
    | EngagementArrived
    | SendSettled
    | FetchSettled
    | RunDue
    | MessageDue
    | CancelRequested
    | MigrateRequested
    | PreferenceSet
    | SuppressionSet
    | EraseRequested
    | AudienceDue
    | AudienceFill
    | RunBroke
)


class IngestState(IntEnum):
    """What became of an event; the contract's numbers."""

    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3


class IngestResult(NamedTuple):
    """The answer to one event."""

    event_id: str
    state: IngestState
    #: Upper-case word for REJECTED.
    reason: str = ""
    #: Faults of a rejected event, warnings of an accepted one.
    violations: tuple[Violation, ...] = ()
    started: tuple[StartedRun, ...] = ()
    resumed: tuple[str, ...] = ()
    #: What every workflow that listens to it made of it.
    explanations: tuple[Explanation, ...] = ()


class EngagementState(IntEnum):
    """What became of an engagement; the contract's numbers."""

    RECORDED = 1
    DUPLICATE = 2
    PENDING = 3
    REJECTED = 4


class EngagementResult(NamedTuple):
    """The answer to one engagement."""

    state: EngagementState
    #: Upper-case word for REJECTED and PENDING.
    reason: str = ""
    message_id: str = ""
    resumed: tuple[str, ...] = ()


class CancelResult(NamedTuple):
    """The answer to a cancellation."""

    #: Runs that were canceled now.
    canceled: tuple[str, ...] = ()
    #: False when `run_id` names no run.
    known: bool = True


class MigrateResult(NamedTuple):
    """The answer to a migration of one run."""

    #: Whether it is active, and on an older version than that which is asked for.
    older: bool
    #: False where it stays on its version.
    moved: bool = False


class PreferenceResult(NamedTuple):
    """The answer to a choice."""

    #: Upper-case word: UNKNOWN_TOPIC, TOPIC_REQUIRED; empty where it was taken.
    reason: str = ""


class SuppressionResult(NamedTuple):
    """The answer to a change of the suppression list."""

    #: False where it was as asked for already.
    changed: bool


class EraseResult(NamedTuple):
    """The answer to an erasure."""

    #: When they were erased, in microseconds.
    erase_us: int


class FillResult(NamedTuple):
    """The answer to what a person did before."""

    #: Whether they came into the audience by it, or left it.
    moved: bool = False
    #: Whether it was for a version that is not current.
    stale: bool = False


Answer: TypeAlias = (
    IngestResult
    | EngagementResult
    | CancelResult
    | MigrateResult
    | PreferenceResult
    | SuppressionResult
    | EraseResult
    | FillResult
    | None
)
