"""Approvals on the pure engine: Pia wants to pay, Ann and Ben of finance are asked, then Cem.

Whoever is looked for is found, and every provider takes what it gets, in the same instant, unless
a test says otherwise.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.flows import track
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.approval import Approval
from upshotd.domain.fetching import Fetch, FetchResult, Found, ReviewersRequest
from upshotd.domain.message import Accepted, Ask, Channel, Email, Message, SendResult, Sms
from upshotd.domain.message import MessageState as State
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import Approve, ReviewerLevel
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import Answer, EngagementResult, FetchSettled, Stimulus
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, Workflow

PEOPLE = ("pia", "ann", "ben", "cem")
MAIL = Email("{{ approval.kind }}: {{ approval.summary }}", text="{{ approval.answer }} -")
REQUEST = Send(Channel.EMAIL, (MAIL,))
#: By e-mail; where that cannot reach somebody, as a text.
ROUTED = Send(Route(Method.SINGLE, (Channel.EMAIL, Channel.SMS)), (MAIL, Sms("Pay?")))
FINANCE = ReviewerLevel(group_id="finance", escalate_us=4 * HOUR)
BOSS = ReviewerLevel(user_ids=("cem",))


def emitting(event: str) -> tuple[Step, ...]:
    return (Step(event.lower(), Emit(event)),)


PAY = Approve(
    (FINANCE, BOSS),
    REQUEST,
    "Pay {{ event.properties.amount }}?",
    2 * DAY,
    on_approved=emitting("Paid"),
    on_denied=emitting("Refused"),
    on_timeout=emitting("Forgotten"),
)


def paying(kind: Approve = PAY, *after: Step, **fields: object) -> Workflow:
    return track("Pay", Step("ok", kind), *after, **fields)


@dataclass
class Room(Sim):
    """A workspace with people who decide."""

    #: Who is in each group.
    groups: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"finance": ("ann", "ben")})
    #: What a provider says to an address, where it does not take everything; None: nothing.
    says: dict[str, SendResult | None] = field(default_factory=dict)
    #: What comes of looking for reviewers in place of who they are; None: nothing.
    finds: deque[FetchResult | None] = field(default_factory=deque)
    #: Everything that was asked of anything outside.
    fetches: list[Fetch] = field(default_factory=list)
    #: What went to providers: `REQUEST ann`.
    got: list[str] = field(default_factory=list)

    def do(self, stimulus: Stimulus) -> Answer:
        """Decide, and let others answer what they were asked by it."""
        answer = super().do(stimulus)
        changes = self.changes
        self.fetches += changes.fetches
        for message in changes.messages.values():
            if message.state is State.SENDING:
                self._given(message)
        for fetch in changes.fetches:
            if isinstance(fetch.request, ReviewersRequest):
                found = self.finds.popleft() if self.finds else self._found(fetch.request)
                if found is not None:
                    self.fetched(found, fetch)
        return answer

    def _given(self, message: Message) -> None:
        person = self.state.profiles[message.profile_id]
        word = message.ask.value if message.ask else "MESSAGE"
        by = " by text" if message.channel is Channel.SMS else ""
        self.got.append(f"{word} {person.user_id}{by}")
        result = self.says.get(message.recipient, Accepted(f"p-{message.message_id}"))
        if result is not None:
            self.settle(message, result)

    def _found(self, request: ReviewersRequest) -> Found:
        names: Iterable[str] = request.user_ids or self.groups.get(request.group_id, ())
        if request.audience_id:
            names = sorted(self.members(request.audience_id))
        keys = ((IdKind.USER, name) for name in names)
        ids = [self.state.identities[key] for key in keys if key in self.state.identities]
        known = {key[1] for key in self.state.identities}
        unknown = tuple(name for name in request.user_ids if name not in known)
        return Found(tuple(ids[: request.most]), more=len(ids) > request.most, unknown=unknown)

    # what comes from outside

    def fetched(self, result: FetchResult, fetch: Fetch | None = None) -> None:
        """Answer what was asked, the last of it unless it is given."""
        of = fetch or self.fetches[-1]
        self.do(FetchSettled(of.run_id, of.step_id, of.attempt, result))

    def tell(self, name: str, kind: EngagementKind, **data: str) -> EngagementResult:
        """Let something come about the last message to somebody."""
        return self.engage(self.last(name).message_id, kind, data=data)

    def approve(self, name: str) -> EngagementResult:
        return self.tell(name, EngagementKind.APPROVED)

    # what can be seen

    @property
    def approval(self) -> Approval:
        return Approval.of(self.run().steps["ok"])

    @property
    def ends(self) -> list[str]:
        """How approvals have ended: the decision, with why where nobody made it."""
        found = (o for o in self.outcomes if o.kind is OutcomeKind.APPROVAL_DECIDED)
        return [f"{o.properties['decision']} {o.reason}".strip() for o in found]

    @property
    def emitted(self) -> list[str]:
        return [o.event for o in self.outcomes if o.kind is OutcomeKind.CUSTOM]

    def of(self, name: str) -> list[Message]:
        """The messages to somebody, in order."""
        who = self.profile(name).profile_id
        return [m for m in self.state.messages.values() if m.profile_id == who]

    def last(self, name: str) -> Message:
        return self.of(name)[-1]

    def states(self, name: str) -> list[str]:
        """What became of the messages to somebody: `ACCEPTED`, `SUPPRESSED CAPPED`."""
        return [f"{m.state.name} {m.reason}".strip() for m in self.of(name)]

    def kinds_of(self, name: str) -> list[Ask | None]:
        return [message.ask for message in self.of(name)]


def room(*workflows: Workflow, **options: object) -> Room:
    """Return a workspace where everybody has an e-mail address and a telephone."""
    made = Room(list(workflows) or [paying()], **options)  # type: ignore[arg-type]
    for number, name in enumerate(PEOPLE):
        made.identify(name, email=f"{name}@example.com", phone=f"+1555000{number}")
    return made


def proposed(kind: Approve = PAY, **options: object) -> Room:
    """Return a workspace where Pia wants to pay 900."""
    made = room(paying(kind), **options)
    propose(made)
    return made


def propose(made: Room) -> None:
    made.track("pia", "Pay", properties={"amount": 900})


def asking(request: Send, **fields: object) -> Approve:
    """Return the approval with another request."""
    return replace(PAY, request=request, **fields)
