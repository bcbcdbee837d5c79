"""Every kind of step, how it is entered, and how it goes on when a message of it is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from upshotd.domain.approving import Approving
from upshotd.domain.steps import (
    approve,
    branch,
    delay,
    digest,
    emit,
    enroll,
    exit,
    experiment,
    fetch,
    send,
    suppress,
    throttle,
    update_profile,
    wait,
)
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import Experiment
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.move import Move
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import Wait

if TYPE_CHECKING:
    from upshotd.domain.journey import Journey
    from upshotd.domain.message import Message
    from upshotd.domain.workflow import Step


def enter(step: Step, journey: Journey) -> Move:  # noqa: C901, PLR0911, PLR0912
    """Enter *step*."""
    match step.kind:
        case Send():
            return send.enter(step, step.kind, journey)
        case Delay():
            return delay.enter(step.kind, journey)
        case Wait():
            return wait.enter(step, step.kind, journey)
        case Branch():
            return branch.enter(step.kind, journey)
        case Throttle():
            return throttle.enter(step, step.kind, journey)
        case Digest():
            return digest.enter(step, step.kind, journey)
        case FetchStep() | Generate():
            return fetch.enter(step, step.kind, journey)
        case UpdateProfile():
            return update_profile.enter(step.kind, journey)
        case Experiment():
            return experiment.enter(step, step.kind, journey)
        case Approve():
            return Approving(step, step.kind, journey).begin()
        case Emit():
            return emit.enter(step, step.kind, journey)
        case Enroll():
            return enroll.enter(step, step.kind, journey)
        case Suppress():
            return suppress.enter(step.kind, journey)
        case Exit():
            return exit.enter(step.kind, journey)
        case _:
            assert_never(step.kind)


def settled(step: Step, journey: Journey, message: Message) -> Move:
    """Go on from *step*, where *message* of it was accepted or has failed."""
    match step.kind:
        case Send():
            return send.settled(step, step.kind, journey)
        case Approve():
            return Approving(step, step.kind, journey).settled(message)
        case _:
            raise AssertionError(f"a {type(step.kind).__name__} sends nothing")


def sent_by(step: Step, message: Message) -> Send | None:
    """Return by which definition *message* was sent from *step*; None for another version's."""
    match step.kind:
        case Send():
            return step.kind
        case Approve():
            return approve.sent_by(step.kind, message.ask)
        case _:
            return None
