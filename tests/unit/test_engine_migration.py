"""Runs in flight that go on with a newer version of their workflow."""

from datetime import time

import pytest

from tests.flows import DAY, delay, email, track, wait_engagement, wait_event
from tests.sim import HOUR, MINUTE, START, Sim
from upshotd.domain.definitions import Policy, listening
from upshotd.domain.message import Purpose
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.plan import Plan
from upshotd.domain.run import RunState
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.stimulus import MigrateRequested, MigrateResult
from upshotd.domain.values import replace
from upshotd.domain.window import Window
from upshotd.domain.workflow import Reentry, ReentryMode, Step

MOVED = MigrateResult(older=True, moved=True)
PINNED = MigrateResult(older=True, moved=False)


def started(*steps: Step, **fields: object) -> Sim:
    sim = Sim([track("Go", *steps, **fields)], policy=Policy())
    sim.identify("u", email="u@example.com", first_name="U")
    sim.track("u", "Go")
    return sim


def redefine(sim: Sim, *steps: Step, **fields: object) -> None:
    """Define version 2."""
    plan = Plan.of(replace(track("Go", *steps, **fields), version=2))
    plans = {**sim.definitions.plans, ("flow", 2): plan}
    current = {"flow": plan}
    sim.definitions = replace(
        sim.definitions, plans=plans, current=current, listening=listening(current)
    )


def migrate(sim: Sim, index: int = -1) -> object:
    return sim.do(MigrateRequested(sim.run(index).run_id, 2))


def test_a_delay_is_counted_from_when_the_run_came_to_it():
    sim = started(delay(duration=DAY), email())
    redefine(sim, delay(duration=3 * HOUR), email(subject="New"))
    sim.advance(HOUR)
    assert migrate(sim) == MOVED
    assert sim.run().workflow_version == 2
    assert sim.run().due_us == START + 3 * HOUR
    assert ("migrated", "v1 -> v2") in [(e.what, e.detail) for e in sim.run().timeline]
    sim.advance(2 * HOUR)
    assert [m.content and m.content[0] for m in sim.sent] == ["New"]


def test_what_is_past_by_the_new_version_is_due_now():
    sim = started(delay(duration=DAY), email())
    redefine(sim, delay(duration=HOUR), email())
    sim.advance(2 * HOUR)
    assert migrate(sim) == MOVED
    assert len(sim.sent) == 1


def test_a_window_of_the_new_version_counts_from_then_too():
    sim = started(delay(duration=DAY))
    redefine(sim, Step("pause", Delay(window=Window(time(9)))), email())
    sim.advance(MINUTE)
    migrate(sim)
    assert sim.run().due_us == START + 9 * HOUR


def test_a_wait_waits_for_what_the_new_version_waits_for():
    sim = started(wait_event(event="Paid", timeout=DAY), email())
    redefine(sim, wait_event(event="Canceled", timeout=2 * DAY), email())
    sim.advance(HOUR)
    assert migrate(sim) == MOVED
    assert sim.run().due_us == START + 2 * DAY
    sim.track("u", "Paid")
    assert not sim.sent
    sim.track("u", "Canceled")
    assert len(sim.sent) == 1


def test_a_wait_for_what_has_come_already_is_resolved_at_once():
    opened = wait_engagement(kinds=(EngagementKind.CLICKED,))
    sim = started(email(), opened, delay("end"))
    message = sim.answer()
    sim.engage(message.message_id, EngagementKind.OPENED)
    redefine(sim, email(), wait_engagement(kinds=(EngagementKind.OPENED,)), delay("end"))
    assert migrate(sim) == MOVED
    assert sim.run().step_id == "end"


def test_a_wait_whose_timeout_is_past_by_the_new_version_times_out():
    sim = started(wait_event(timeout=DAY), email())
    redefine(sim, wait_event(timeout=HOUR), email())
    sim.advance(2 * HOUR)
    migrate(sim)
    sim.advance(0)
    assert sim.run().steps["paid"]["timed_out"] is True
    assert len(sim.sent) == 1


@pytest.mark.parametrize(
    "other", [(delay("elsewhere"),), (wait_event("pause"),), (email("pause"),)]
)
def test_a_run_whose_step_is_not_there_or_of_another_kind_stays(other: tuple[Step, ...]):
    sim = started(delay())
    redefine(sim, *other)
    assert migrate(sim) == PINNED
    assert sim.run().workflow_version == 1
    sim.advance(DAY)
    assert sim.run().state is RunState.COMPLETED


def test_a_run_at_a_message_that_is_with_a_provider_stays():
    sim = started(email(), delay())
    redefine(sim, email(subject="New"), delay())
    assert migrate(sim) == PINNED
    sim.answer()
    assert migrate(sim) == MOVED


def test_a_run_that_waits_for_the_end_of_quiet_hours_sends_what_is_said_now():
    hours = {Purpose.PRODUCT: Window(time(8), time(20))}
    quiet = Sim([track("Go", email(), delay())], policy=Policy(hours=hours))
    quiet.identify("u", email="u@example.com", first_name="U")
    quiet.track("u", "Go")
    redefine(quiet, email(subject="New"), delay())
    assert migrate(quiet) == MOVED
    quiet.advance(8 * HOUR)
    assert [m.content and m.content[0] for m in quiet.sent] == ["New"]


def test_a_digest_stays_together():
    gather = Step("gather", Digest(max_window_us=DAY))
    always = Reentry(ReentryMode.ALWAYS)
    sim = started(gather, email(), reentry=always)
    sim.track("u", "Go")
    redefine(sim, gather, email(subject="New"), reentry=always)
    assert [migrate(sim, 0), migrate(sim, 1)] == [PINNED, PINNED]
    sim.advance(DAY)
    assert len(sim.sent) == 1


def test_what_has_ended_or_is_as_new_is_left_alone():
    sim = started(delay())
    redefine(sim, delay())
    migrate(sim)
    assert migrate(sim) == MigrateResult(older=False)
    sim.cancel(run_id=sim.run().run_id)
    assert migrate(sim) == MigrateResult(older=False)
    assert sim.do(MigrateRequested("nobody", 2)) == MigrateResult(older=False)


def test_a_version_that_is_not_known_moves_nobody():
    sim = started(delay())
    assert migrate(sim) == PINNED
