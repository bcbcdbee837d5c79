"""Enrolment: one workflow starts another, within bounds."""

from tests.flows import DAY, delay, sms, track
from tests.sim import Sim
from upshotd.domain.message import Channel
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Trigger, Workflow


def bodies(sim: Sim) -> list[str]:
    return [m.content.body for m in sim.state.messages.values() if m.channel is Channel.SMS]


def person(sim: Sim, user_id: str = "u") -> None:
    sim.identify(user_id, first_name="U", email="u@example.com", phone="+15550000", plan="pro")


def enroller(*targets: str, workflow_id: str = "first") -> Workflow:
    steps = tuple(Step(f"to_{t.replace('-', '_')}", Enroll(t)) for t in targets)
    return track("Go", *steps, workflow_id=workflow_id)


def test_enroll_starts_the_other_workflow_with_the_same_event():
    other = Workflow("other", Trigger(None), (sms("say", "{{ event.properties.x }}"),))
    sim = Sim([enroller("other"), other])
    person(sim)
    sim.track("u", "Go", properties={"x": "hello"})
    assert bodies(sim) == ["hello"]
    assert sim.state.runs[sim.run(0).steps["to_other"]["run_id"]].depth == 1


def test_enrolling_later_still_knows_the_event():
    other = Workflow("other", Trigger(None), (sms("say", "{{ event.properties.x }}"),))
    sim = Sim([track("Go", delay(), Step("go", Enroll("other"))), other])
    person(sim)
    sim.track("u", "Go", properties={"x": "hello"})
    sim.advance(DAY)
    assert bodies(sim) == ["hello"]


def test_enroll_says_why_it_did_not():
    bars = Workflow("bars", Trigger(None, condition="false"), (delay(),))
    sim = Sim([enroller("nobody", "bars"), bars])
    sim.track("u", "Go")
    details = [e.detail for e in sim.run().timeline if e.what == "not_enrolled"]
    assert details == ["there is no workflow nobody", "bars: CONDITION_FALSE: false"]


def test_enrolling_without_the_event_says_so():
    other = Workflow("other", Trigger(None), (delay(),))
    sim = Sim([track("Go", delay(), Step("go", Enroll("other"))), other])
    sim.track("u", "Go")
    sim.state.events.clear()
    sim.advance(DAY)
    assert sim.run().timeline[-2].detail == "other: the trigger event is no longer kept"


def test_workflows_that_enroll_each_other_stop_at_a_depth():
    always = Reentry(ReentryMode.ALWAYS)
    ping = track("Go", Step("go", Enroll("pong")), workflow_id="ping", reentry=always)
    pong = Workflow("pong", Trigger(None), (Step("back", Enroll("ping")),), reentry=always)
    sim = Sim([ping, pong])
    sim.track("u", "Go")
    assert len(sim.state.runs) == 9
    assert max(run.depth for run in sim.state.runs.values()) == 8
    assert all(not run.active for run in sim.state.runs.values())


def test_workflows_that_enroll_themselves_many_times_stop_at_a_number():
    always = Reentry(ReentryMode.ALWAYS)
    steps = tuple(Step(f"again{n}", Enroll("flow")) for n in range(10))
    sim = Sim([track("Go", *steps, reentry=always)])
    sim.track("u", "Go")
    assert len(sim.state.runs) == 200
    details = [e.detail for run in sim.state.runs.values() for e in run.timeline]
    assert "too many runs were started at once" in details
