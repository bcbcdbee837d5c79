"""Random histories of a small workspace, and what must hold after every step of one."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.flows import delay, email, feature_not_used, sms, track, wait_event, win_back
from tests.sim import DAY, HOUR, MINUTE, WORKSPACE, Sim
from upshotd.domain.engine import decide
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import (
    OPEN,
    Accepted,
    Deferred,
    MessageState,
    Purpose,
    Refused,
    Unknown,
)
from upshotd.domain.outcome import CHOICES, HUMAN, EngagementKind, OutcomeKind
from upshotd.domain.state import Changes, State
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.wait import Wait
from upshotd.domain.stimulus import Answer, SendSettled, Stimulus
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Workflow

ENDS = {OutcomeKind.RUN_COMPLETED, OutcomeKind.RUN_CANCELED, OutcomeKind.RUN_FAILED}


def workflows() -> list[Workflow]:
    """One of each kind of re-entry, wait, exit and purpose."""
    return [
        replace(feature_not_used(), version=1),
        replace(win_back(), version=1),
        track(
            "Go",
            sms("text"),
            wait_event("paid", "Paid", timeout=HOUR, on_match=(Step("also", Enroll("once")),)),
            delay("rest", DAY),
            wait_event("again", "Paid", since_run_started=True),
            workflow_id="orders",
            reentry=Reentry(ReentryMode.ALWAYS),
            purpose=Purpose.TRANSACTIONAL,
            cancellation_key="event.name",
            version=1,
        ),
        track(
            "Paid",
            wait_event("paid", "Paid", timeout=DAY),
            email("thanks", "Thanks"),
            workflow_id="once",
            reentry=Reentry(ReentryMode.ONCE_EVER),
            exits=(ExitRule("Feature Used"),),
            version=1,
        ),
    ]


@dataclass(frozen=True)
class Told:
    """An event; `back` is how long ago it happened."""

    type: EventType
    user_id: str = ""
    anonymous_id: str = ""
    previous_id: str = ""
    name: str = ""
    traits: dict[str, object] = field(default_factory=dict)
    back: int = 0


@dataclass(frozen=True)
class Repeated:
    """An id that came before, with other content."""

    which: int


@dataclass(frozen=True)
class Answered:
    """The provider answers the send at this place; a late answer comes to one it had lost."""

    which: int
    result: object


@dataclass(frozen=True)
class Engaged:
    """Somebody does something with the message at this place."""

    which: int
    kind: EngagementKind
    machine: bool = False


@dataclass(frozen=True)
class Waited:
    """Time passes."""

    duration: int


@dataclass(frozen=True)
class Canceled:
    """Somebody cancels the run at this place, or by key."""

    which: int


USERS = st.sampled_from(["", "u1", "u2"])
ANONYMOUS = st.sampled_from(["", "a1", "a2"])
NAMES = st.sampled_from(["Feature Not Used", "Feature Used", "Go", "Paid"])
PLACES = st.integers(0, 5)
CONTACTS = {"email": "x@example.com", "phone": "+15550000"}
TRAITS = st.sampled_from([{**CONTACTS, "first_name": "X"}, {"phone": None}, {"email": None}])
TRACKS = st.builds(Told, st.just(EventType.TRACK), USERS, ANONYMOUS, name=NAMES)
IDENTIFIES = st.builds(
    Told,
    st.just(EventType.IDENTIFY),
    USERS,
    ANONYMOUS,
    traits=TRAITS,
    back=st.sampled_from([0, HOUR]),
)
ALIASES = st.builds(Told, st.just(EventType.ALIAS), USERS, ANONYMOUS, ANONYMOUS)
EVENTS = st.one_of(TRACKS, TRACKS, IDENTIFIES, ALIASES)
TAKEN = st.just(Accepted("p"))
RESULTS = st.sampled_from([Accepted(), Refused("BOUNCED"), Deferred(), Unknown()])
ENGAGEMENTS = st.builds(Engaged, PLACES, st.sampled_from(list(EngagementKind)[1:]), st.booleans())
WAITS = st.builds(Waited, st.sampled_from([0, MINUTE, 2 * MINUTE, HOUR, DAY - HOUR, DAY]))
STEPS = st.one_of(
    EVENTS,
    EVENTS,
    EVENTS,
    st.builds(Repeated, PLACES),
    st.builds(Answered, st.integers(0, 1), TAKEN),
    st.builds(Answered, st.integers(0, 1), TAKEN),
    st.builds(Answered, PLACES, RESULTS),
    ENGAGEMENTS,
    WAITS,
    st.builds(Canceled, PLACES),
)
#: People who can be reached; not every history would find that out by itself.
REACHABLE = [
    Told(EventType.IDENTIFY, user_id, anonymous_id, traits={**CONTACTS, "first_name": "X"})
    for user_id, anonymous_id in (("u1", ""), ("", "a1"), ("", "a2"))
]
HISTORIES = st.lists(STEPS, min_size=8, max_size=40).map(lambda steps: [*REACHABLE, *steps])


class WatchedSim(Sim):
    """A Sim that looks at every decision, and plays histories."""

    def __init__(self) -> None:
        super().__init__(workflows())
        #: Attempts in order of their beginning: (message_id, attempt).
        self.attempts: list[tuple[str, int]] = []

    def do(self, stimulus: Stimulus) -> Answer:
        before = copy.deepcopy((self.state, stimulus))
        decision = decide(WORKSPACE, self.definitions, self.state, stimulus, self.now, self.ids)
        assert (self.state, stimulus) == before, "a decision changes nothing it was given"
        self._look_at_sends(before[0], decision.changes)
        self.state.absorb(decision.changes)
        self._look_at_starts(before[0], decision.changes)
        self.outcomes += decision.changes.outcomes
        return decision.answer

    def play(self, history: Sequence[object]) -> None:
        for step in history:
            self.step(step)
            check(self)

    def step(self, step: object) -> None:
        messages = list(self.state.messages)
        match step:
            case Told():
                self.event(told(step, self._event_id(), self.now))
            case Repeated(which) if self.counter:
                event = Event(f"e{which % self.counter + 1}", EventType.TRACK, "u1", name="Go")
                self.event(event)
            case Answered(which, result) if self.attempts:
                self._answer(*self.attempts[-1 - which % len(self.attempts)], result)
            case Engaged(which, kind, machine) if messages:
                self.engage(messages[-1 - which % len(messages)], kind, machine=machine)
            case Waited(duration):
                if duration > HOUR:  # no provider hangs for so long
                    for message in self.sent:
                        self._answer(message.message_id, message.attempt, Accepted("p"))
                self.advance(duration)
            case Canceled(0):
                self.cancel(cancellation_key="Go")
            case Canceled(which) if self.state.runs:
                self.cancel(list(self.state.runs)[-1 - which % len(self.state.runs)])

    def _answer(self, message_id: str, attempt: int, result: object) -> None:
        message = self.state.messages[message_id]
        idempotent = self.definitions.idempotent(message.provider)
        if isinstance(result, Accepted) and result.provider_message_id:
            result = Accepted(f"p-{message_id}")
        self.do(SendSettled(message_id, attempt, result, message.provider, idempotent))  # type: ignore[arg-type]

    def _look_at_sends(self, before: State, changes: Changes) -> None:
        merged = {merge.into_profile_id: merge.from_profile_id for merge in changes.merges}
        for message in changes.messages.values():
            known = before.messages.get(message.message_id)
            if message.state is not MessageState.SENDING or (
                known is not None and known.attempt == message.attempt
            ):
                continue
            self.attempts.append((message.message_id, message.attempt))
            run = changes.runs.get(message.run_id) or before.runs[message.run_id]
            topic = self.definitions.plans[run.workflow_id, 1].workflow.topic
            for profile_id in (run.profile_id, merged.get(run.profile_id, "")):
                for held in before.suppressions.get(profile_id, {}).values():
                    about = held.channel is message.channel or (topic and held.topic == topic)
                    assert not (about and held.holds(self.now)), "sent after an opt-out"

    def _look_at_starts(self, before: State, changes: Changes) -> None:
        for run in changes.runs.values():
            if run.holds_ever and run.run_id not in before.runs:
                others = [
                    other
                    for other in self.state.runs.values()
                    if (other.workflow_id, other.profile_id) == (run.workflow_id, run.profile_id)
                ]
                assert others == [self.state.runs[run.run_id]], "it ran before, and runs once ever"


def told(step: Told, event_id: str, now_us: int) -> Event:
    """Return the event of *step*."""
    return Event(
        event_id,
        step.type,
        step.user_id,
        step.anonymous_id,
        name=step.name,
        traits=step.traits,
        previous_id=step.previous_id,
        receive_us=now_us,
        event_us=now_us - step.back,
    )


def check(sim: Sim) -> None:
    """Assert what holds at any time."""
    _check_runs(sim)
    _check_messages(sim)
    _check_log(sim)
    named = set(sim.state.identities.values())
    assert named <= sim.state.profiles.keys()


def _check_runs(sim: Sim) -> None:
    holding: Counter[tuple[str, ...]] = Counter()
    for run in sim.state.runs.values():
        assert run.profile_id in sim.state.profiles
        assert (run.run_id in sim.state.active.get(run.profile_id, {})) == run.active
        plan = sim.definitions.plans[run.workflow_id, 1]
        resolved = Counter(
            entry.step_id
            for entry in run.timeline
            if entry.what in ("matched", "timed_out", "undeliverable")
            and isinstance(plan.steps[entry.step_id].kind, Wait)
        )
        assert all(count == 1 for count in resolved.values()), "a wait resolves once"
        if not run.active:
            assert run.due_us is None
            assert not run.holds_active
            continue
        if isinstance(plan.steps[run.step_id].kind, Send):
            message_id = run.steps[run.step_id]["message_id"]
            message = sim.state.messages[str(message_id)]
            stands = message.state in OPEN and message.due_us is not None
            assert stands, "it stands still for ever"
        else:
            stands = run.due_us is not None and run.due_us > sim.now
            assert stands, "it stands still for ever"
        if run.holds_active:
            holding[run.workflow_id, run.profile_id, run.reentry_key] += 1
    assert all(count == 1 for count in holding.values()), "two active runs under one key"


def _check_messages(sim: Sim) -> None:
    kinds = Counter((o.message_id, o.kind) for o in sim.outcomes)
    for message in sim.state.messages.values():
        assert message.profile_id in sim.state.profiles
        sent = kinds[message.message_id, OutcomeKind.MESSAGE_SENT]
        assert sent <= 1
        if message.state is MessageState.ACCEPTED:
            assert sent == 1
        assert kinds[message.message_id, OutcomeKind.MESSAGE_IGNORED] <= 1
        assert (message.due_us is not None) == (message.state in OPEN)


def _check_log(sim: Sim) -> None:
    ends = Counter(o.run_id for o in sim.outcomes if o.kind in ENDS)
    runs = sim.state.runs.values()
    assert ends == Counter(run.run_id for run in runs if not run.active), "a run ends once"
    assert len({o.outcome_id for o in sim.outcomes}) == len(sim.outcomes)
    sent: set[str] = set()
    touched: set[str] = set()
    human = {f"MESSAGE_{kind.name}" for kind in HUMAN | CHOICES}
    for outcome in sim.outcomes:
        if outcome.kind is OutcomeKind.MESSAGE_SENT:
            sent.add(outcome.message_id)
        elif outcome.kind.name in human | {"MESSAGE_DELIVERED"}:
            assert outcome.message_id in sent, "it came, and so was sent before"
            if not outcome.machine and outcome.kind.name in human:
                touched.add(outcome.message_id)
        elif outcome.kind is OutcomeKind.MESSAGE_IGNORED:
            assert outcome.message_id in sent - touched, "nobody ignored it"
