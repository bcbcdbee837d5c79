"""Workflows at random, and the templates that they share."""

import random

from tests.simulation import audiences
from tests.simulation.generators import ROUTES, Scope, a_digest, content_on, steps
from tests.simulation.vocabulary import CONDITIONS, FAULTY, STARTS, TEXTS, TOPICS
from upshotd.domain.audience import Change, Transition
from upshotd.domain.event import EventType
from upshotd.domain.message import Channel, Email, Purpose, Webhook
from upshotd.domain.schedule import Schedule
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.template import CONTENT, Template
from upshotd.domain.values import replace
from upshotd.domain.workflow import (
    ExitRule,
    Reentry,
    ReentryMode,
    Step,
    Trigger,
    Workflow,
    nested,
)


def workflow(chance: random.Random, workflow_id: str, unit_us: int) -> Workflow:
    """Return a workflow; its trigger and re-entry follow from its name, its steps are random."""
    scope = Scope(chance, unit_us, workflow_id)
    mail = Email(TEXTS[0], "", TEXTS[0])
    first = Step("first", Send(Channel.EMAIL, (mail,)))
    if workflow_id in ("ever", "listed"):
        # One after the other, and not for long: where most goes wrong.
        late_us = chance.choice((None, 20_000_000))
        first = Step("first", Send(ROUTES[2], (mail, Webhook(TEXTS[0])), late_us))
    trigger = TRIGGERS[workflow_id]
    if trigger.type is EventType.SCHEDULED:
        # In the first minutes of the year, where histories begin, and never again: they must end.
        times = Schedule(chance.choice(("8 0 1 1 *", "8,20 0 1 1 *", "20 0 1 1 *")))
        timed = replace(trigger, schedule=times, condition=chance.choice(("", CONDITIONS[0])))
        trigger = chance.choice((timed, Trigger(None)))
    if trigger.type is EventType.AUDIENCE:
        which, transition = chance.choice(("active", "away")), chance.choice(list(Transition))
        trigger = replace(trigger, event=which, transition=transition)
    begin = (*_crowded(scope), first) if workflow_id == "gathered" else (first,)
    return Workflow(
        workflow_id,
        trigger,
        begin + steps(replace(scope, sends=("first",)), 1, 2 if workflow_id == "timed" else 5),
        reentry=REENTRIES.get(workflow_id, Reentry(ReentryMode.ONCE_ACTIVE)),
        exits=_exits(chance),
        topic=chance.choice(TOPICS),
        purpose=chance.choice(list(Purpose)),
        cancellation_key="event.name" if chance.random() < 0.5 else "",
    )


def _exits(chance: random.Random) -> tuple[ExitRule, ...]:
    """By an event, by an audience, or never."""
    change = Change(chance.choice(audiences.NAMES), chance.choice(list(Transition)))
    return chance.choice(((), (), (ExitRule("Used"),), (ExitRule(audience=change),)))


def templates(chance: random.Random) -> list[Template]:
    """Return what sends may say: in two languages, in a layout; now and then it fails."""
    said = {
        locale: tuple(
            content_on(channel, FAULTY if chance.random() < 0.02 else chance.choice(TEXTS))
            for channel in (Channel.EMAIL, Channel.SMS, Channel.PUSH, Channel.WEBHOOK)
        )
        for locale in ("", "de")
    }
    frame = Email(TEXTS[0], f"<main>{CONTENT}</main>")
    layout_id = "frame" if chance.random() < 0.5 else ""
    return [Template("frame", {"": (frame,)}), Template("letter", said, layout_id=layout_id)]


def _crowded(scope: Scope) -> tuple[Step, ...]:
    """Return steps at which many runs of one person meet."""
    long_us = 20 * scope.unit_us
    digest = Step("gather", replace(a_digest(scope), max_window_us=long_us, window_us=None))
    if scope.chance.random() < 0.5:
        return (digest,)
    told = Step("told", Send(Channel.EMAIL, (Email(TEXTS[0], "", "{{ steps.gather.count }}"),)))
    limit = Throttle(scope.chance.randint(1, 3), long_us, on_throttled=(digest, told))
    return (Step("limit", limit),)


TRIGGERS = {
    "always": Trigger(EventType.TRACK, STARTS[0]),
    "once": Trigger(EventType.TRACK, STARTS[1], CONDITIONS[2]),
    "ever": Trigger(EventType.TRACK, STARTS[2]),
    "listed": Trigger(EventType.IDENTIFY, condition=CONDITIONS[0]),
    "grouped": Trigger(EventType.GROUP),
    "gathered": Trigger(EventType.TRACK, STARTS[0]),
    "timed": Trigger(EventType.SCHEDULED),
    "moved": Trigger(EventType.AUDIENCE, "active", transition=Transition.ENTER),
    "enrolled": Trigger(None),
}
REENTRIES = {
    "always": Reentry(ReentryMode.ALWAYS),
    "gathered": Reentry(ReentryMode.ALWAYS),
    "timed": Reentry(ReentryMode.ALWAYS),
    "ever": Reentry(ReentryMode.ONCE_EVER),
    "grouped": Reentry(ReentryMode.ONCE_ACTIVE, key="event.name", cooldown_us=1_000_000),
}


def kinds_in(found: tuple[Step, ...]) -> set[type]:
    """Return every kind of step in a list, at any depth."""
    kinds: set[type] = set()
    for step in found:
        kinds.add(type(step.kind))
        for _, inner in nested(step):
            kinds |= kinds_in(inner)
    return kinds
