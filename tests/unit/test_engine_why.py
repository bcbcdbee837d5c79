"""Why a workflow started on an event, or did not; why a run took the way it took."""

import pytest

from tests.flows import delay, email, track
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.explanation import Explanation, with_values
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Trigger

ALWAYS = Reentry(ReentryMode.ALWAYS)


def found(sim: Sim, **fields: object) -> list[tuple[str, str]]:
    result = sim.track("u", "Go", **fields)
    return [(e.reason, e.detail) for e in result.explanations]


def only(sim: Sim, **fields: object) -> tuple[str, str]:
    (explanation,) = found(sim, **fields)
    return explanation


def go(**fields: object) -> Sim:
    condition = str(fields.pop("condition", ""))
    trigger = Trigger(track("Go").trigger.type, "Go", condition)
    return Sim([track("Go", delay(), trigger=trigger, **fields)])


def test_a_start_names_its_run():
    sim = go()
    (explanation,) = sim.track("u", "Go").explanations
    assert explanation == Explanation("flow", 1, "STARTED", run_id=sim.run().run_id)


def test_nothing_listens():
    assert go().track("u", "Come").explanations == ()


def test_a_condition_that_is_false_says_with_which_values():
    sim = go(condition='traits.plan == "pro" && event.properties.seats > 3')
    sim.identify("u", plan="free")
    assert only(sim, properties={"seats": 5}) == (
        "CONDITION_FALSE",
        'traits.plan == "pro" && event.properties.seats > 3, '
        'where traits.plan is "free" and event.properties.seats is 5',
    )


def test_a_condition_that_has_no_value_says_what_is_missing():
    sim = go(condition='traits.plan == "pro"')
    assert only(sim) == ("CONDITION_FAILED", 'traits.plan == "pro": traits.plan is missing')


def test_reentry_says_what_is_in_the_way():
    sim = go()
    sim.track("u", "Go")
    assert only(sim) == ("ACTIVE", f"run {sim.run(0).run_id}")
    sim = go(reentry=Reentry(ReentryMode.ONCE_EVER))
    sim.track("u", "Go")
    sim.advance(2 * DAY)
    assert only(sim) == ("RAN_BEFORE", "at 2026-01-01T00:00:00+00:00")
    sim = go(reentry=Reentry(ReentryMode.ALWAYS, cooldown_us=HOUR))
    sim.track("u", "Go")
    assert only(sim) == ("COOLDOWN", "until 2026-01-01T01:00:00+00:00")


def test_a_key_without_a_value():
    sim = go(reentry=Reentry(ReentryMode.ALWAYS, key="event.properties.order"))
    assert only(sim) == ("NO_KEY", "event.properties.order is missing")


def test_an_event_that_is_too_old():
    sim = go()
    assert only(sim, event_us=sim.now - 2 * DAY) == (
        "TOO_OLD",
        "it happened at 2025-12-30T00:00:00+00:00",
    )


def test_an_outcome_of_our_own():
    sim = go()
    assert only(sim, event_id="upshot-x")[0] == ("OWN_OUTCOME")


def test_each_workflow_says_its_own():
    barred = Trigger(track("Go").trigger.type, "Go", "false")
    flows = [
        track("Go", delay(), workflow_id="a"),
        track("Go", delay(), workflow_id="b", trigger=barred),
    ]
    sim = Sim(flows)
    result = sim.track("u", "Go")
    assert [(e.workflow_id, e.reason) for e in result.explanations] == [
        ("a", "STARTED"),
        ("b", "CONDITION_FALSE"),
    ]
    accepted = sim.changes.events[result.event_id]
    assert [e.workflow_id for e in accepted.refused] == ["b"]


def test_a_run_says_with_which_values_it_was_decided():
    cases = (Case('traits.plan == "pro"', (email("a"),)), Case("event.properties.n > 3"))
    steps = (
        Step("skip", delay().kind, "event.properties.n > 9"),
        Step("choose", Branch(cases)),
        Step("other", Branch((Case('traits.plan == "x"'),))),
    )
    sim = Sim([track("Go", *steps)])
    sim.identify("u", plan="free")
    sim.track("u", "Go", properties={"n": 5})
    details = {e.step_id: e.detail for e in sim.run().timeline}
    assert details["skip"] == "event.properties.n > 9, where event.properties.n is 5"
    assert details["choose"] == "event.properties.n > 3, where event.properties.n is 5"
    assert details["other"] == 'otherwise: not traits.plan == "x", where traits.plan is "free"'


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "true"),
        ({"a": None, "b": 1.5}, "true, where a is null and b is 1.5"),
        ({"a": {"b": [1]}}, 'true, where a is {"b": [1]}'),
        ({"a": "x" * 500}, f'true, where a is "{"x" * 79}...'),
    ],
)
def test_values_are_shown_as_json_and_not_at_length(values: dict[str, object], text: str):
    assert with_values("true", values) == text
