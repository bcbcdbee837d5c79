"""Every kind of step: how it is entered, and how it goes on with whatever comes."""

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
    from upshotd.domain.fetching import FetchResult
    from upshotd.domain.journey import Journey
    from upshotd.domain.message import Message
    from upshotd.domain.outcome import Engagement
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


def due(step: Step, journey: Journey) -> Move:
    """Go on from *step*, whose timer has come."""
    match step.kind:
        case Send():
            return send.enter(step, step.kind, journey)
        case Delay():
            return delay.resume(journey)
        case Wait():
            return wait.timed_out(step, step.kind, journey)
        case Throttle():
            return throttle.enter(step, step.kind, journey)
        case Digest():
            return digest.due(step, step.kind, journey)
        case FetchStep() | Generate():
            return fetch.enter(step, step.kind, journey)
        case Approve():
            return Approving(step, step.kind, journey).due()
        case Branch() | UpdateProfile() | Experiment() | Emit() | Enroll() | Suppress() | Exit():
            raise AssertionError(f"a {type(step.kind).__name__} has no timer")
        case _:
            assert_never(step.kind)


def moved(step: Step, journey: Journey) -> Move | None:
    """Go on at *step* of another version of the workflow; None where that cannot be."""
    match step.kind:
        case Send():
            return send.moved(step, step.kind, journey)
        case Delay():
            return delay.moved(step.kind, journey)
        case Wait():
            return wait.moved(step, step.kind, journey)
        case Approve():
            return Approving(step, step.kind, journey).moved()
        case Throttle() | Digest() | FetchStep() | Generate():
            return None
        case Branch() | UpdateProfile() | Experiment() | Emit() | Enroll() | Suppress() | Exit():
            raise AssertionError(f"no run stands at a {type(step.kind).__name__}")
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


def engaged(
    step: Step, journey: Journey, message: Message, engagement: Engagement, *, answers: bool
) -> Move | None:
    """Return where something that came about a message takes the run; None: nowhere.

    Only what *answers* what was sent meets a wait.
    """
    match step.kind:
        case Wait() if answers:
            kind, machine = engagement.kind, engagement.machine
            return wait.engaged(step, step.kind, journey, message, kind, machine)
        case Approve() if step.step_id == message.step_id:
            return Approving(step, step.kind, journey).engaged(message, engagement)
        case _:
            return None


def fetched(step: Step, journey: Journey, attempt: int, result: FetchResult) -> Move | None:
    """Go on with the answer to an *attempt* of *step*; None where it waits for another one."""
    if attempt != fetch.attempts(journey, step.step_id):
        return None
    match step.kind:
        case FetchStep() | Generate():
            return fetch.settled(step, step.kind, journey, result)
        case Approve():
            return Approving(step, step.kind, journey).fetched(result)
        case _:
            raise AssertionError(f"a {type(step.kind).__name__} asks nothing")
