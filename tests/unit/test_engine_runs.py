"""Starts, re-entry, exits, cancellation, and the steps that are neither send nor wait."""

from datetime import UTC, datetime

import pytest

from tests.flows import DAY, delay, email, sms, track, wait_event
from tests.sim import HOUR, START, Sim
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.plan import Plan
from upshotd.domain.reading import PARTS
from upshotd.domain.run import RunState
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.stimulus import IngestState, RunBroke, RunDue
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger, Workflow


def bodies(sim: Sim) -> list[str]:
    return [m.content.body for m in sim.state.messages.values() if m.channel is Channel.SMS]


def person(sim: Sim, user_id: str = "u") -> None:
    sim.identify(user_id, first_name="U", email="u@example.com", phone="+15550000", plan="pro")


# starts


def test_one_event_starts_every_workflow_that_listens():
    sim = Sim([track("Go", delay(), workflow_id="a"), track("Go", delay(), workflow_id="b")])
    answer = sim.track("u", "Go")
    assert [r.workflow_id for r in answer.started] == ["a", "b"]
    assert sim.kinds == ["RUN_STARTED", "RUN_STARTED"]


def test_the_same_event_again_is_a_duplicate_and_names_what_it_started():
    sim = Sim([track("Go", delay())])
    first = sim.track("u", "Go", event_id="x")
    again = sim.track("u", "Go", event_id="x")
    assert again.state is IngestState.DUPLICATE
    assert again.started == first.started
    assert len(sim.state.runs) == 1


def test_identify_and_group_triggers_listen_to_their_type():
    sim = Sim([
        Workflow("i", Trigger(EventType.IDENTIFY), (delay(),)),
        Workflow("g", Trigger(EventType.GROUP, condition="group.plan == 'team'"), (delay(),)),
    ])  # fmt: skip
    assert sim.identify("u").started[0].workflow_id == "i"
    sim.state.active.clear()
    group = Event("g1", EventType.GROUP, "u", group_id="acme", traits={"plan": "team"})
    assert [r.workflow_id for r in sim.event(group).started] == ["g"]
    assert sim.profile("u").group_ids == ("acme",)


def test_a_trigger_condition_that_does_not_hold_starts_nothing():
    trigger = Trigger(EventType.TRACK, "Go", condition="traits.plan == 'pro'")
    sim = Sim([track("Go", delay(), trigger=trigger)])
    assert sim.track("stranger", "Go").started == ()
    person(sim)
    assert len(sim.track("u", "Go").started) == 1


def test_a_replayed_history_messages_nobody():
    sim = Sim([track("Go", delay())])
    assert sim.track("u", "Go", event_us=START - DAY - 1).started == ()
    assert len(sim.track("u", "Go", event_us=START - DAY).started) == 1


def test_our_own_outcomes_start_nothing_unless_asked_for():
    asks = Trigger(EventType.TRACK, "Message Opened", include_own_outcomes=True)
    sim = Sim([
        track("Message Opened", delay(), workflow_id="plain"),
        track("Message Opened", delay(), workflow_id="asking", trigger=asks),
    ])  # fmt: skip
    answer = sim.track("u", "Message Opened", event_id="upshot-1")
    assert [r.workflow_id for r in answer.started] == ["asking"]
    marked = {"context": {"library": {"name": "upshot"}}}
    assert sim.track("u2", "Message Opened", **marked).started[0].workflow_id == "asking"


def test_our_own_outcomes_end_and_wake_nothing():
    sim = Sim(
        [track("Go", wait_event(event="Message Opened"), exits=(ExitRule("Message Opened"),))]
    )
    sim.track("u", "Go")
    sim.track("u", "Message Opened", event_id="upshot-1")
    assert sim.run().active


# re-entry


def test_once_active_lets_nobody_in_twice_until_the_run_ends():
    sim = Sim([track("Go", delay())])
    assert len(sim.track("u", "Go").started) == 1
    assert sim.track("u", "Go").started == ()
    assert len(sim.track("other", "Go").started) == 1
    sim.advance(DAY)
    assert len(sim.track("u", "Go").started) == 1


def test_always_starts_on_every_event():
    sim = Sim([track("Go", delay(), reentry=Reentry(ReentryMode.ALWAYS))])
    assert len(sim.track("u", "Go").started) == 1
    assert len(sim.track("u", "Go").started) == 1


def test_once_ever_is_for_life():
    sim = Sim([track("Go", delay(), reentry=Reentry(ReentryMode.ONCE_EVER))])
    sim.track("u", "Go")
    sim.advance(400 * DAY)
    assert sim.run().holds_ever
    assert sim.track("u", "Go").started == ()


def test_a_key_gives_each_order_its_own_run():
    sim = Sim([track("Go", delay(), reentry=Reentry(key="event.properties.order"))])
    assert len(sim.track("u", "Go", properties={"order": 1}).started) == 1
    assert len(sim.track("u", "Go", properties={"order": 2}).started) == 1
    assert sim.track("u", "Go", properties={"order": 1}).started == ()


def test_a_key_without_a_value_starts_nothing_and_warns():
    sim = Sim([track("Go", delay(), reentry=Reentry(key="event.properties.order"))])
    answer = sim.track("u", "Go")
    assert answer.started == ()
    assert answer.state is IngestState.ACCEPTED
    assert "flow not started: a key has no value" in answer.violations[0].description


def test_a_cooldown_counts_from_the_last_start():
    reentry = Reentry(ReentryMode.ALWAYS, cooldown_us=HOUR)
    sim = Sim([track("Go", delay(), reentry=reentry)])
    sim.track("u", "Go")
    sim.advance(HOUR - 1)
    assert sim.track("u", "Go").started == ()
    sim.advance(1)
    assert len(sim.track("u", "Go").started) == 1


# ends


def test_an_exit_rule_looks_at_its_condition():
    rule = ExitRule("Bought", "event.properties.sku == 'x'")
    sim = Sim([track("Go", delay(), exits=(rule,))])
    sim.track("u", "Go")
    sim.track("u", "Bought", properties={"sku": "y"})
    sim.track("u", "Bought")
    assert sim.run().active
    assert sim.whats()[-1] == "condition_failed"
    sim.track("u", "Bought", properties={"sku": "x"})
    assert (sim.run().state, sim.run().reason) == (RunState.COMPLETED, "EXITED")
    assert sim.kinds == ["RUN_STARTED", "RUN_COMPLETED"]


def test_a_run_is_canceled_by_id_once():
    sim = Sim([track("Go", delay())])
    sim.track("u", "Go")
    run_id = sim.run().run_id
    assert sim.cancel(run_id).canceled == (run_id,)
    assert sim.cancel(run_id).canceled == ()
    assert sim.cancel("nobody").known is False
    assert sim.run().state is RunState.CANCELED
    sim.advance(2 * DAY)
    assert sim.kinds == ["RUN_STARTED", "RUN_CANCELED"]


def test_a_cancellation_key_cancels_all_that_carry_it():
    workflow = track(
        "Go", delay(), cancellation_key="event.properties.trip", reentry=Reentry(ReentryMode.ALWAYS)
    )
    sim = Sim([workflow])
    for user, trip in (("a", "t1"), ("b", "t1"), ("c", "t2")):
        sim.track(user, "Go", properties={"trip": trip})
    assert len(sim.cancel(cancellation_key="t1").canceled) == 2
    assert sim.cancel(cancellation_key="nothing").canceled == ()
    assert [r.state.name for r in sim.state.runs.values()] == ["CANCELED", "CANCELED", "ACTIVE"]


def test_a_broken_run_is_set_aside_with_its_incident():
    sim = Sim([track("Go", delay())])
    sim.track("u", "Go")
    sim.do(RunBroke(sim.run().run_id, "incident-1"))
    sim.do(RunBroke("nobody", "incident-2"))
    assert (sim.run().state, sim.run().reason) == (RunState.FAILED, "INTERNAL")
    assert "incident-1" in sim.run().timeline[-1].detail
    assert sim.kinds[-1] == "RUN_FAILED"


def test_a_timer_that_is_stale_or_early_does_nothing():
    sim = Sim([track("Go", delay())])
    sim.track("u", "Go")
    sim.do(RunDue(sim.run().run_id))
    sim.do(RunDue("nobody"))
    assert sim.run().active


# steps


def test_a_skipped_step_is_noted_and_passed():
    sim = Sim([track("Go", delay("never"), sms())])
    sim = Sim([track("Go", Step("never", Delay(DAY), "traits.plan == 'free'"), sms("next", "x"))])
    person(sim)
    sim.track("u", "Go")
    assert bodies(sim) == ["x"]
    assert sim.whats()[1] == "skipped"


def test_a_moment_in_the_past_continues_at_once_and_says_so():
    sim = Sim([track("Go", Step("until", Delay(until_us=START - 1)), sms("next", "x"))])
    person(sim)
    sim.track("u", "Go")
    assert bodies(sim) == ["x"]
    assert "is past: goes on at once" in sim.run().timeline[1].detail


def test_a_delay_until_an_expression():
    until = "timestamp(event.properties.starts_at) - duration('1h')"
    sim = Sim([track("Go", Step("until", Delay(until=until)))])
    sim.track("u", "Go", properties={"starts_at": "2026-01-02T00:00:00Z"})
    due = datetime.fromtimestamp(sim.run().due_us / 1e6, UTC)
    assert due == datetime(2026, 1, 1, 23, tzinfo=UTC)


@pytest.mark.parametrize("until", ["event.properties.starts_at", "'soon'"])
def test_a_delay_without_a_moment_fails_the_run_loudly(until: str):
    sim = Sim([track("Go", Step("until", Delay(until=until)))])
    sim.track("u", "Go")
    assert (sim.run().state, sim.run().reason) == (RunState.FAILED, "NO_MOMENT")
    assert sim.kinds[-1] == "RUN_FAILED"


def test_a_delay_beyond_400_days_fails_the_run_loudly():
    sim = Sim([track("Go", Step("until", Delay(until_us=START + 401 * DAY)))])
    sim.track("u", "Go")
    assert sim.run().reason == "NO_MOMENT"


def test_a_branch_takes_the_first_case_that_holds():
    branch = Branch(
        (
            Case("traits.plan == 'free'", (sms("free", "free"),)),
            Case("traits.plan == 'pro'", (sms("pro", "pro"),)),
            Case("true", (sms("any", "any"),)),
        ),
        (sms("else", "else"),),
    )
    sim = Sim([track("Go", Step("by_plan", branch), email("after"))])
    person(sim)
    sim.track("u", "Go")
    assert bodies(sim) == ["pro"]
    sim.answer()
    assert sim.run().step_id == "after"


def test_a_branch_without_a_case_that_holds_takes_otherwise():
    branch = Branch((Case("traits.plan == 'free'"),), (sms("else", "else"),))
    sim = Sim([track("Go", Step("by_plan", branch))])
    person(sim)
    sim.track("u", "Go")
    assert bodies(sim) == ["else"]


def test_emit_renders_its_properties_into_a_custom_outcome():
    emit = Emit("Plan Seen", {"plan": "{{ traits.plan }}", "n": 1, "in": [{"x": "{{ run.id }}"}]})
    sim = Sim([track("Go", Step("say", emit))])
    person(sim)
    sim.track("u", "Go")
    outcome = sim.outcomes[1]
    assert (outcome.kind, outcome.event, outcome.step_id) == (
        OutcomeKind.CUSTOM,
        "Plan Seen",
        "say",
    )
    assert outcome.properties == {"plan": "pro", "n": 1, "in": [{"x": sim.run().run_id}]}


def test_emit_with_a_missing_variable_is_noted_and_leaves_nothing():
    sim = Sim([track("Go", Step("say", Emit("X", {"a": "{{ traits.nobody }}"})))])
    sim.track("u", "Go")
    assert sim.kinds == ["RUN_STARTED", "RUN_COMPLETED"]
    assert sim.whats()[1] == "emit_failed"


def test_exit_ends_the_run_with_its_reason():
    sim = Sim([track("Go", Step("out", Exit("NOT_NEEDED")), sms())])
    person(sim)
    sim.track("u", "Go")
    assert (sim.run().state, sim.run().reason) == (RunState.COMPLETED, "NOT_NEEDED")
    assert sim.outcomes[-1].reason == "NOT_NEEDED"
    assert bodies(sim) == []


def test_suppress_holds_for_its_time_and_never_shortens():
    sim = Sim([
        track("Go", Step("mute", Suppress(Channel.EMAIL, duration_us=10 * DAY)), workflow_id="a"),
        track("Go", Step("mute", Suppress(Channel.EMAIL, duration_us=DAY)), workflow_id="b"),
        track("Go", Step("mute", Suppress(topic="news")), workflow_id="c"),
        track("Go", Step("mute", Suppress(topic="news", duration_us=DAY)), workflow_id="d"),
    ])  # fmt: skip
    sim.track("u", "Go")
    held = sim.state.suppressions[sim.profile("u").profile_id]
    assert held["channel:1"].until_us == START + 10 * DAY
    assert held["topic:news"].until_us is None


def test_suppress_lengthens():
    sim = Sim([
        track("Go", Step("mute", Suppress(topic="n", duration_us=DAY)), workflow_id="a"),
        track("Go", Step("mute", Suppress(topic="n", duration_us=2 * DAY)), workflow_id="b"),
        track("Go", Step("mute", Suppress(topic="n")), workflow_id="c"),
    ])  # fmt: skip
    sim.track("u", "Go")
    assert sim.state.suppressions[sim.profile("u").profile_id]["topic:n"].until_us is None


def test_only_the_parts_of_an_event_that_are_read_are_decoded():
    def parts(*steps: Step, **fields: object) -> frozenset[str]:
        return Plan.of(track("Go", *steps, **fields)).parts

    assert parts(delay()) == frozenset()
    assert parts(sms("say", "{{ event.properties.x }}")) == {"properties"}
    assert parts(delay(), cancellation_key="event.context.groupId") == {"context"}
    assert parts(wait_event(condition="event.properties.x == 1")) == {"properties"}
    assert parts(Step("e", Emit("X", {"a": [{"b": "{{ event.traits.x }}"}]}))) == {"traits"}
    assert parts(Step("d", Delay(until="timestamp(event.properties.at)"))) == {"properties"}
    branch = Branch((Case("event.context.ip == ''", (email(subject="x"),)),))
    assert parts(Step("b", branch)) == {"context"}
    assert parts(sms("say", "{% for k in event %}{{ k }}{% endfor %}")) == PARTS
    assert parts(sms("say", "{{ event['properties'].x }}")) == PARTS
