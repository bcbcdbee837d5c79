"""The pure engine on a state in memory: no store, no loop, no clock but a number.

A `Sim` holds one workspace. Each call decides one stimulus and absorbs its changes, as the loop
does within a batch; `sent` are the intents nobody has answered yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from upshotd.adapters.cel import CelConditions
from upshotd.adapters.letters import MailLetters
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.domain.audience import Audience
from upshotd.domain.audiences import AudiencePlan, Audiences
from upshotd.domain.definitions import Carrier, Definitions, Policy, listening
from upshotd.domain.engine import decide
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Accepted, Channel, Email, Message, MessageState, SendResult
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import Engagement, EngagementKind, Outcome
from upshotd.domain.plan import Plan
from upshotd.domain.profile import ContactRules, Profile
from upshotd.domain.run import Run
from upshotd.domain.state import Changes, IdKind, State, StoredEvent
from upshotd.domain.stimulus import (
    Answer,
    AudienceDue,
    CancelRequested,
    CancelResult,
    EngagementArrived,
    EngagementResult,
    EventArrived,
    IngestResult,
    MessageDue,
    RunDue,
    SendSettled,
    Stimulus,
)
from upshotd.domain.values import replace
from upshotd.domain.workflow import Workflow

WORKSPACE = "default"
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: 2026-01-01T00:00:00Z
START = 1_767_225_600 * SECOND

_LANGUAGES = (CelConditions(), SandboxTemplates(MESSAGE_ROOTS))


class PlainLinks:
    """Leaves e-mails as they are."""

    def decorate(self, email: Email, workspace_id: str, message_id: str) -> Email:
        return email

    def named(self, workspace_id: str, message_id: str) -> dict[str, object]:
        words = ("unsubscribe", "preferences", "approve", "deny", "ask", "review")
        return {word: f"https://{word}/{message_id}" for word in words}


class CountingIds:
    """Readable ids: id-00001, id-00002 ... and no jitter."""

    def __init__(self) -> None:
        self.made = 0

    def next(self) -> str:
        self.made += 1
        return f"id-{self.made:05d}"

    def fraction(self) -> float:
        return 0.0


def phone(value: str) -> str | None:
    digits = value.replace(" ", "")
    return digits if digits.startswith("+") and digits[1:].isdigit() else None


def email(value: str) -> str | None:
    return value if "@" in value else None


@dataclass
class Sim:
    """One workspace and its time."""

    workflows: list[Workflow]
    now: int = START
    carriers: Mapping[Channel, tuple[Carrier, ...]] = field(
        default_factory=lambda: {
            Channel.EMAIL: (Carrier("smtp", idempotent=False),),
            Channel.SMS: (Carrier("sms", idempotent=True),),
        }
    )

    policy: Policy = field(default_factory=Policy)
    audiences: Sequence[Audience] = ()

    def __post_init__(self) -> None:
        conditions, templates = _LANGUAGES
        self.events: dict[str, Event] = {}
        self.state = State()
        self.outcomes: list[Outcome] = []
        #: What the last decision wrote.
        self.changes = Changes(WORKSPACE)
        self.ids = CountingIds()
        self.counter = 0
        plans = {
            w.workflow_id: Plan.of(w if w.version else replace(w, version=1))
            for w in self.workflows
        }
        self.definitions = Definitions(
            conditions=conditions,
            templates=templates,
            links=PlainLinks(),
            contact=ContactRules(email, phone),
            decode_event=self._decode,
            letters=MailLetters(),
            carriers=self.carriers,
            plans={(p.workflow.workflow_id, p.workflow.version): p for p in plans.values()},
            current=plans,
            listening=listening(plans),
            policy=self.policy,
            zones=zone,
            audiences=audiences_of(*self.audiences),
            owner="me",
        )

    def _decode(self, stored: StoredEvent) -> Event:
        return self.events[stored.event_id]

    def do(self, stimulus: Stimulus) -> Answer:
        """Decide one stimulus and absorb what follows."""
        decision = decide(WORKSPACE, self.definitions, self.state, stimulus, self.now, self.ids)
        self.state.absorb(decision.changes)
        for accepted in decision.changes.events.values():
            self.events.setdefault(accepted.event.event_id, accepted.event)
        self.changes = decision.changes
        self.outcomes += decision.changes.outcomes
        return decision.answer

    # what comes from outside

    def event(self, event: Event) -> IngestResult:
        event = replace(
            event, receive_us=event.receive_us or self.now, event_us=event.event_us or self.now
        )
        self.events.setdefault(event.event_id, event)
        answer = self.do(EventArrived(event))
        assert isinstance(answer, IngestResult)
        return answer

    def _event_id(self) -> str:
        self.counter += 1
        return f"e{self.counter}"

    def track(self, user_id: str, name: str, **fields: object) -> IngestResult:
        event_id = str(fields.pop("event_id", "") or self._event_id())
        event = Event(event_id, EventType.TRACK, user_id, name=name)
        return self.event(replace(event, **fields))  # type: ignore[arg-type]

    def identify(self, user_id: str, **traits: object) -> IngestResult:
        event = Event(self._event_id(), EventType.IDENTIFY, user_id, traits=traits)
        return self.event(event)

    def answer(self, result: SendResult | None = None, channel: Channel | None = None) -> Message:
        """Let the provider answer the oldest open intent (of a channel)."""
        message = next(m for m in self.sent if channel is None or m.channel is channel)
        self.settle(message, result or Accepted(f"p-{message.message_id}"))
        return self.state.messages[message.message_id]

    def settle(self, message: Message, result: SendResult) -> None:
        idempotent = self.definitions.idempotent(message.provider)
        self.do(
            SendSettled(message.message_id, message.attempt, result, message.provider, idempotent)
        )

    def engage(self, message_id: str, kind: EngagementKind, **fields: object) -> EngagementResult:
        engagement_id = str(fields.pop("engagement_id", "") or self._event_id())
        engagement = Engagement(engagement_id, kind, self.now, message_id)
        answer = self.do(EngagementArrived(replace(engagement, **fields)))  # type: ignore[arg-type]
        assert isinstance(answer, EngagementResult)
        return answer

    def cancel(self, run_id: str = "", cancellation_key: str = "") -> CancelResult:
        keys = self.state.by_cancellation_key
        keys.clear()
        for run in self.state.runs.values():
            if run.active and run.cancellation_key:
                keys.setdefault(run.cancellation_key, []).append(run.run_id)
        answer = self.do(CancelRequested(run_id, cancellation_key))
        assert isinstance(answer, CancelResult)
        return answer

    def advance(self, duration: int) -> None:
        """Let time pass, from timer to timer."""
        target = self.now + duration
        while True:
            runs = [(r.due_us, 0, r.run_id) for r in self.state.runs.values() if r.due_us]
            messages = [
                (m.due_us, 1, m.message_id) for m in self.state.messages.values() if m.due_us
            ]
            memberships = [
                (m.due_us, 2, f"{m.audience_id} {m.profile_id}")
                for rows in self.state.memberships.values()
                for m in rows.values()
                if m.due_us
            ]
            due = sorted(d for d in runs + messages + memberships if d[0] <= target)
            if not due:
                break
            due_us, kind, which = due[0]
            self.now = max(self.now, due_us)
            self.do((RunDue, MessageDue, _audience_due)[kind](which))
        self.now = target

    # what can be seen

    def members(self, audience_id: str) -> set[str]:
        """The user ids of those in an audience."""
        rows = self.state.memberships
        inside = (p for p, of in rows.items() if audience_id in of and of[audience_id].member)
        return {self.state.profiles[profile_id].user_id for profile_id in inside}

    @property
    def sent(self) -> list[Message]:
        """Intents that no provider has answered."""
        messages = self.state.messages.values()
        return [m for m in messages if m.state is MessageState.SENDING]

    @property
    def kinds(self) -> list[str]:
        """The outcomes so far, as words: MESSAGE_SENT, RUN_STARTED ..."""
        return [o.kind.name for o in self.outcomes]

    def messages_kinds(self) -> list[str]:
        """The outcomes about messages, with their channel."""
        return [
            f"{o.kind.name.removeprefix('MESSAGE_')} {o.channel.name}"
            for o in self.outcomes
            if o.message_id
        ]

    def profile(self, user_id: str = "", anonymous_id: str = "") -> Profile:
        key = (IdKind.USER, user_id) if user_id else (IdKind.ANONYMOUS, anonymous_id)
        return self.state.profiles[self.state.identities[key]]

    def run(self, index: int = -1) -> Run:
        """The newest run, or the one at *index* in order of start."""
        return list(self.state.runs.values())[index]

    def whats(self, index: int = -1) -> list[str]:
        """What the run's timeline says."""
        return [entry.what for entry in self.run(index).timeline]


def _audience_due(name: str) -> AudienceDue:
    return AudienceDue(*name.split(" "))


def audiences_of(*audiences: Audience, filled: bool = True) -> Audiences:
    """Audiences in force, of version 1 where they have none."""
    first = (replace(audience, version=audience.version or 1) for audience in audiences)
    return Audiences.of(AudiencePlan.of(audience, filled=filled) for audience in first)
