"""send: a message, on one channel or on those of a route."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from upshotd.domain import outgoing
from upshotd.domain.message import Content
from upshotd.domain.outgoing import Addressee
from upshotd.domain.routing import Routing
from upshotd.domain.steps.move import Into, Move

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.workflow import Step


class OnUnknown(IntEnum):
    """What to do where nobody tells whether the provider took it; the contract's numbers."""

    RESEND = 1
    GIVE_UP = 2


@dataclass(frozen=True, slots=True)
class Send:
    """Sends one message on each channel that its route takes."""

    routing: Routing
    #: One for each channel; their texts are templates, rendered at intent.
    contents: tuple[Content, ...]
    #: Microseconds after its time at which a message is of no use any more; None: never.
    max_lateness_us: int | None = None
    #: When no message of it reached a provider.
    on_failure: tuple[Step, ...] = ()
    #: None: by the purpose of the workflow.
    on_unknown: OnUnknown | None = None
    #: In place of the contents: the template that has them.
    template_id: str = ""


def enter(step: Step, send: Send, journey: Journey) -> Move:
    """Make the messages and their intents; in quiet hours hold until their end."""
    to = Addressee(journey, step.step_id)
    expire_us = _expire_us(step, send, journey)
    until_us = outgoing.until_us(to, expire_us)
    if until_us > journey.now_us:
        return outgoing.put_off(to, until_us)
    return _go_on(to, send, expire_us)


def moved(step: Step, send: Send, journey: Journey) -> Move | None:
    """Go on where it waits for the end of quiet hours; None while a message is with a provider."""
    return None if outgoing.made(journey, step.step_id) else enter(step, send, journey)


def settled(step: Step, send: Send, journey: Journey) -> Move:
    """Go on from a send step one of whose messages was accepted or has failed."""
    return _go_on(Addressee(journey, step.step_id), send, _expire_us(step, send, journey))


def _go_on(to: Addressee, send: Send, expire_us: int | None) -> Move:
    move = outgoing.go_on(to, send, expire_us)
    if isinstance(move, Into):
        to.journey.leave(to.step_id, undeliverable=True)
    return move


def _expire_us(step: Step, send: Send, journey: Journey) -> int | None:
    """Return when the messages of the step are of no use any more; None: never."""
    if send.max_lateness_us is None:
        return None
    # Its time is when the run was due to come here, however late it came, and whatever holds it.
    planned_us = journey.steps.get(step.step_id, {}).get("planned_us")
    if not isinstance(planned_us, int):
        planned_us = journey.planned_us
        journey.leave(step.step_id, planned_us=planned_us)
    return planned_us + send.max_lateness_us
