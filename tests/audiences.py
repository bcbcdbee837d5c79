"""Workspaces with one audience, `them`, for tests."""

from tests.sim import Sim
from upshotd.domain.audience import Audience, Rule, Transition
from upshotd.domain.event import EventType
from upshotd.domain.workflow import Step, Trigger, Workflow


def sim_of(rule: Rule, *workflows: Workflow) -> Sim:
    """A workspace in which whoever meets *rule* is in the audience."""
    return Sim(list(workflows), audiences=[Audience("them", rule)])


def by_audience(
    *steps: Step, transition: Transition = Transition.ENTER, **fields: object
) -> Workflow:
    """A workflow that starts when somebody comes into the audience, or leaves it."""
    trigger = Trigger(EventType.AUDIENCE, "them", transition=transition)
    return Workflow("flow", trigger, steps, **fields)  # type: ignore[arg-type]
