"""Steps at random, nested, of every kind. A new kind joins with one generator."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import time

from tests.simulation import audiences
from tests.simulation.vocabulary import (
    CONDITIONS,
    FAULTY,
    GROUPS,
    MIDDLES,
    NAMES,
    STARTS,
    TEXTS,
    TOPICS,
    USERS,
)
from upshotd.domain.audience import Change, Transition
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.message import Channel, Content, Email, Push, Sms, Webhook
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route, Routing, channels
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Goal,
    Optimize,
    Variant,
)
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import AudienceWait, EngagementWait, EventWait, Wait, WaitCondition
from upshotd.domain.values import replace
from upshotd.domain.window import Window
from upshotd.domain.workflow import (
    Step,
    StepKind,
)

DEPTH = 2


@dataclass
class Scope:
    """Where the generator is inside a workflow."""

    chance: random.Random
    #: What durations are multiples of, in microseconds.
    unit_us: int
    workflow_id: str
    depth: int = 0
    #: Whether it is in a variant of an experiment.
    tried: bool = False
    #: Send steps that precede this place on every way to it.
    sends: tuple[str, ...] = ()
    #: Step ids given so far, in the whole workflow.
    made: list[str] = field(default_factory=list)

    def inner(self) -> "Scope":
        """Return the scope of a list inside a step here."""
        return replace(self, depth=self.depth + 1)

    def duration(self) -> int:
        """Return a duration, now and then a very short one."""
        return self.chance.choice((1_000_000, self.unit_us // 10, *range_of(self.unit_us)))


def range_of(unit_us: int) -> tuple[int, ...]:
    """Return one to five units."""
    return tuple(n * unit_us for n in range(1, 6))


def a_send(scope: Scope) -> StepKind:
    """On a channel or a route; now and then with a template that fails, or with limits."""
    limited = scope.chance.random() < 0.2
    return replace(
        _saying(scope),
        max_lateness_us=scope.duration() if limited else None,
        on_failure=steps(scope.inner(), 0, 1) if scope.depth < DEPTH and limited else (),
    )


def _saying(scope: Scope) -> Send:
    routing = scope.chance.choice(_CHANNELS)
    if scope.chance.random() < 0.3:
        routing = scope.chance.choice(ROUTES)
    contents = tuple(content_on(channel, _text(scope)) for channel in sorted(channels(routing)))
    reused = scope.chance.random() < 0.2
    return Send(
        routing,
        () if reused else contents,
        on_unknown=scope.chance.choice((None, None, *OnUnknown)),
        template_id="letter" if reused else "",
    )


_CHANNELS: tuple[Routing, ...] = (Channel.EMAIL, Channel.SMS, Channel.WEBHOOK, Channel.PUSH)
ROUTES = (
    Route(Method.SINGLE, (Channel.PUSH, Channel.EMAIL, Channel.SMS)),
    Route(Method.SINGLE, (Channel.PUSH, Route(Method.ALL, (Channel.EMAIL, Channel.SMS)))),
    Route(Method.SINGLE, (Channel.EMAIL, Channel.WEBHOOK)),
    Route(Method.ALL, (Channel.EMAIL, Channel.WEBHOOK)),
)


def _text(scope: Scope) -> str:
    return FAULTY if scope.chance.random() < 0.05 else scope.chance.choice(TEXTS)


def content_on(channel: Channel, text: str) -> Content:
    match channel:
        case Channel.EMAIL:
            return Email(text, f"<p>{text}</p>", text)
        case Channel.SMS:
            return Sms(text)
        case Channel.PUSH:
            return Push(text, text, {"home": text})
        case _:
            return Webhook(text)


def a_delay(scope: Scope) -> StepKind:
    """By a duration, or until a moment of the event."""
    if scope.chance.random() < 0.1:
        # Histories begin at midnight, and from these minutes on it is open.
        return Delay(window=Window(time(0, scope.chance.randint(1, 12)), time(0)))
    if scope.chance.random() < 0.1:
        return Delay(spread_us=scope.duration())
    if scope.chance.random() < 0.2:
        return Delay(until=f'event.time + duration("{scope.duration() // 1_000_000}s")')
    return Delay(scope.duration())


def a_wait(scope: Scope) -> StepKind:
    """For engagement, for events, or for both."""
    conditions: list[WaitCondition] = []
    if scope.sends and scope.chance.random() < 0.8:
        kinds = scope.chance.choice(
            (
                (EngagementKind.OPENED, EngagementKind.CLICKED),
                (EngagementKind.CLICKED, EngagementKind.REPLIED),
                (EngagementKind.DELIVERED,),
            )
        )
        machine = scope.chance.random() < 0.2
        conditions.append(EngagementWait(scope.chance.choice(scope.sends), kinds, machine))
    if not conditions or scope.chance.random() < 0.4:
        condition = scope.chance.choice(("", "event.properties.n > 3"))
        since = scope.chance.random() < 0.3
        conditions.append(EventWait(scope.chance.choice(MIDDLES), condition, since))
    if scope.chance.random() < 0.2:
        which = scope.chance.choice(audiences.NAMES)
        conditions.append(AudienceWait(Change(which, scope.chance.choice(list(Transition)))))
    return Wait(
        tuple(conditions),
        scope.duration(),
        on_match=steps(scope.inner(), 0, 2),
        on_timeout=steps(scope.inner(), 0, 2),
        on_undeliverable=steps(scope.inner(), 0, 1),
        any_of=len(conditions) > 1,
    )


def a_branch(scope: Scope) -> StepKind:
    """By a trait or the event."""
    conditions = scope.chance.sample(CONDITIONS, scope.chance.randint(1, 2))
    cases = tuple(Case(condition, steps(scope.inner(), 0, 2)) for condition in conditions)
    return Branch(cases, steps(scope.inner(), 0, 2))


def a_throttle(scope: Scope) -> StepKind:
    """A few in a time; the others end, or take steps of their own."""
    everybody = scope.chance.random() < 0.4
    return Throttle(
        scope.chance.randint(1, 8 if everybody else 3),
        scope.duration(),
        on_throttled=steps(scope.inner(), 0, 2),
        scope=ThrottleScope.WORKSPACE if everybody else ThrottleScope.USER,
    )


def a_digest(scope: Scope) -> StepKind:
    """By one of its limits or several."""
    window_us = scope.duration() if scope.chance.random() < 0.6 else None
    most_us = scope.duration() if window_us is None or scope.chance.random() < 0.5 else None
    key = scope.chance.choice(("", "event.name"))
    return Digest(window_us, most_us, key, max_items=scope.chance.choice((2, 3, 100)))


def a_fetch(scope: Scope) -> StepKind:
    """From an address that may be busy or silent; now and then it cannot be made."""
    return FetchStep(
        f"https://shop.example/{_text(scope).replace(' ', '')}",
        scope.chance.choice((HttpMethod.GET, HttpMethod.POST)),
        attempts=scope.chance.randint(1, 3),
        on_failure=steps(scope.inner(), 0, 1) if scope.depth < DEPTH else (),
    )


def a_question(scope: Scope) -> StepKind:
    """To a model that may be busy or silent."""
    inner = steps(scope.inner(), 0, 1) if scope.depth < DEPTH else ()
    schema = {"type": "object"}
    return Generate(_text(scope), schema, attempts=scope.chance.randint(1, 2), on_failure=inner)


def an_experiment(scope: Scope) -> StepKind:
    """Of two or three variants, with any kind of goal or none."""
    inner = replace(scope.inner(), tried=True)
    names = scope.chance.choice((("a", "b"), ("b", "c"), ("a", "b", "c")))
    variants = tuple(Variant(one, steps(inner, 0, 2), scope.chance.randint(1, 3)) for one in names)
    condition = scope.chance.choice(("", "event.properties.n > 3"))
    goals: tuple[Goal, ...] = (
        EventGoal(scope.chance.choice((*MIDDLES, STARTS[0])), condition),
        EngagementGoal((EngagementKind.OPENED, EngagementKind.CLICKED)),
    )
    optimize = None
    if scope.chance.random() < 0.8:
        measured = scope.chance.random() < 0.3
        window_us = scope.chance.choice((scope.duration(), 20 * scope.unit_us))
        optimize = Optimize(scope.chance.choice(goals), window_us, measure_only=measured)
    key = scope.chance.choice(("", "", "traits.plan"))
    return Experiment(variants, scope.chance.choice((0.0, 0.3)), key, optimize)


def an_approval(scope: Scope) -> StepKind:
    """By one to three levels of people; most of it may be there or not."""
    chance, inner = scope.chance, scope.inner()
    levels = [_level(scope) for _ in range(chance.randint(1, 3))]
    default = chance.choice((None, None, *ApprovalDecision))
    spans = {scope.duration() for _ in range(chance.randint(0, 3))}
    context = FetchStep("https://shop.example/balance", attempts=chance.randint(1, 2))
    return Approve(
        (*levels[:-1], replace(levels[-1], escalate_us=None)),
        _saying(scope),
        _text(scope),
        chance.choice((scope.duration(), 10 * scope.unit_us)),
        context=context if chance.random() < 0.4 else None,
        reminders_us=tuple(sorted(spans)),
        answer=_saying(scope) if chance.random() < 0.3 else None,
        notice=_saying(scope) if chance.random() < 0.6 else None,
        default=default,
        on_approved=steps(inner, 0, 2),
        on_denied=steps(inner, 0, 1),
        on_timeout=steps(inner, 0, 1) if default is None else (),
    )


def _level(scope: Scope) -> ReviewerLevel:
    chance, escalate_us = scope.chance, scope.duration()
    match chance.choice(("users", "users", "group", "audience")):
        case "users":
            users = chance.sample((*USERS, "nobody"), chance.randint(1, 3))
            return ReviewerLevel(user_ids=tuple(users), escalate_us=escalate_us)
        case "group":
            return ReviewerLevel(group_id=chance.choice(GROUPS), escalate_us=escalate_us)
        case _:
            which = chance.choice((*audiences.NAMES, "unknown"))
            return ReviewerLevel(audience_id=which, escalate_us=escalate_us)


def an_update(scope: Scope) -> StepKind:
    """A trait that conditions look at, and one that now and then has no value."""
    plan = scope.chance.choice(('"pro"', '"x"'))
    return UpdateProfile({"plan": plan, "n": "event.properties.n"})


def an_emit(scope: Scope) -> StepKind:
    """An outcome of our own."""
    return Emit(
        "Something Happened", {"home": "{{ traits.home }}", "n": scope.chance.randint(1, 9)}
    )


def an_enroll(scope: Scope) -> StepKind:
    """Into another workflow; now and then into one that is not there."""
    others = [name for name in NAMES if name != scope.workflow_id]
    return Enroll(scope.chance.choice([*others, "nowhere"]))


def a_suppress(scope: Scope) -> StepKind:
    """A channel or a topic, for a time."""
    if scope.chance.random() < 0.5:
        return Suppress(topic=scope.chance.choice(TOPICS[1:]), duration_us=scope.duration())
    return Suppress(Channel.SMS, duration_us=scope.duration())


def an_exit(scope: Scope) -> StepKind:
    """The end."""
    return Exit(scope.chance.choice(("EXITED", "DONE_HERE")))


#: Every kind of step, how it is made, and how often.
GENERATORS: dict[type, tuple[Callable[[Scope], StepKind], int]] = {
    Send: (a_send, 10),
    Delay: (a_delay, 4),
    Wait: (a_wait, 8),
    Branch: (a_branch, 3),
    Throttle: (a_throttle, 2),
    Digest: (a_digest, 3),
    FetchStep: (a_fetch, 2),
    Generate: (a_question, 1),
    Experiment: (an_experiment, 2),
    Approve: (an_approval, 3),
    UpdateProfile: (an_update, 1),
    Emit: (an_emit, 2),
    Enroll: (an_enroll, 2),
    Suppress: (a_suppress, 1),
    Exit: (an_exit, 1),
}
_NESTING = (Wait, Branch, Throttle, Experiment, Approve)


def steps(scope: Scope, least: int, most: int) -> tuple[Step, ...]:
    """Return a list of steps; nothing follows an exit."""
    kinds = [kind for kind in GENERATORS if scope.depth < DEPTH or kind not in _NESTING]
    if scope.tried:  # experiments do not nest
        kinds = [kind for kind in kinds if kind is not Experiment]
    weights = [GENERATORS[kind][1] for kind in kinds]
    made: list[Step] = []
    for _ in range(scope.chance.randint(least, most)):
        (kind,) = scope.chance.choices(kinds, weights)
        step_id = f"s{len(scope.made)}"
        scope.made.append(step_id)
        condition = scope.chance.choice(CONDITIONS) if scope.chance.random() < 0.1 else ""
        made.append(Step(step_id, GENERATORS[kind][0](scope), condition))
        if kind is Send:
            scope = replace(scope, sends=(*scope.sends, step_id))
        if kind is Exit:
            break
    return tuple(made)
