"""What a workflow reads: only that is made for its conditions and templates."""

import re
from collections.abc import Iterator
from typing import assert_never

from upshotd.domain.message import Chat, Content, Email, Inbox, Push, Sms, Webhook
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.experiment import EventGoal, Experiment
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import EventWait, Wait
from upshotd.domain.workflow import Step, Workflow, nested, sends_of

#: What costs something to make: parts of an event, and moments.
PARTS = frozenset({"properties", "traits", "context", "time", "start_time", "now"})

_WORD = re.compile(r"\w+")
#: `event` or `run` used as a whole, or by a computed name: anything of it may be read then.
_WHOLE = re.compile(r"\b(?:event|run)\b(?!\s*\.)")


def parts_read(workflow: Workflow) -> frozenset[str]:
    """Return the parts that any text of *workflow* may read."""
    sources = "\n".join(_sources(workflow))
    if _WHOLE.search(sources):
        return PARTS
    return PARTS.intersection(_WORD.findall(sources))


def _sources(workflow: Workflow) -> Iterator[str]:
    yield workflow.trigger.condition
    yield workflow.reentry.key
    yield workflow.cancellation_key
    for rule in workflow.exits:
        yield rule.condition
    yield from _of_steps(workflow.steps)


def _of_steps(steps: tuple[Step, ...]) -> Iterator[str]:
    for step in steps:
        yield step.condition
        yield from _of_kind(step)
        for _, inner in nested(step):
            yield from _of_steps(inner)


def _of_kind(step: Step) -> Iterator[str]:  # noqa: C901, PLR0912
    match step.kind:
        case Send():
            yield from _of_send(step.kind)
        case Delay(until=until):
            yield until
        case Wait(conditions=conditions):
            yield from (w.condition for w in conditions if isinstance(w, EventWait))
        case Branch(cases=cases):
            yield from (case.condition for case in cases)
        case Throttle(key=key):
            yield key
        case Digest(key=key, by=by):
            yield from (key, by)
        case Experiment(key=key, optimize=optimize):
            yield key
            if optimize is not None and isinstance(optimize.goal, EventGoal):
                yield optimize.goal.condition
        case UpdateProfile(traits=traits):
            yield from traits.values()
        case FetchStep():
            yield from _of_fetch(step.kind)
        case Generate(prompt=prompt, system=system):
            yield from (prompt, system)
        case Approve():
            yield from _of_approve(step.kind)
        case Emit(properties=properties):
            yield repr(properties)
        case _:
            return


def _of_approve(approve: Approve) -> Iterator[str]:
    yield approve.summary
    for level in approve.levels:
        yield from (level.group_id, *level.user_ids)
    if approve.context is not None:
        yield from _of_fetch(approve.context)
    for _, send in sends_of(approve):
        yield from _of_send(send)


def _of_fetch(fetch: FetchStep) -> Iterator[str]:
    yield from (fetch.url, fetch.body, *fetch.headers.values())


def _of_send(send: Send) -> Iterator[str]:
    if send.template_id:  # it may read anything
        yield "event"
    for content in send.contents:
        yield from texts(content)


def texts(content: Content) -> Iterator[str]:
    """Yield every template of *content*; one that is not given is empty."""
    match content:
        case Email():
            yield from (content.subject, content.html, content.text, content.mjml)
            yield from (content.reply_to, *content.headers.values(), *content.utm.values())
            for attachment in content.attachments:
                yield from attachment
        case Sms(body) | Webhook(body) | Chat(body):
            yield body
        case Push(title, body, data):
            yield from (title, body, *data.values())
        case Inbox(title, body, action_url):
            yield from (title, body, action_url)
        case _:
            assert_never(content)
