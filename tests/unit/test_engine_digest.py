"""digest: many runs of one person become one; each item is in it once, whatever comes between."""

import pytest

from tests.flows import delay, email, track
from tests.sim import DAY, HOUR, MINUTE, SECOND, Sim
from upshotd.domain.definitions import listening
from upshotd.domain.event import Event, EventType
from upshotd.domain.plan import Plan
from upshotd.domain.run import Run, RunState
from upshotd.domain.steps.digest import Digest, Keep
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.wait import EventWait, Wait
from upshotd.domain.stimulus import CancelRequested, RunDue
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step

ALWAYS = Reentry(ReentryMode.ALWAYS)
SUBJECT = (
    "{{ steps.digest.count }}: "
    "{% for item in steps.digest.items %}{{ item.properties.n }} {% endfor %}"
)


def collecting(*before: Step, exits: tuple[ExitRule, ...] = (), **fields: object) -> Sim:
    """A workflow that sends what its digest has collected."""
    fields = fields or {"max_window_us": HOUR}
    steps = (*before, Step("digest", Digest(**fields)), email("mail", SUBJECT))
    sim = Sim([track("Go", *steps, reentry=ALWAYS, exits=exits)])
    sim.identify("u", email="u@example.com")
    return sim


def came(sim: Sim, n: object, user: str = "u", **properties: object) -> str:
    """Let an event come; return its run."""
    answer = sim.track(user, "Go", properties={"n": n, **properties})
    return answer.started[0].run_id


def run(sim: Sim, run_id: str) -> Run:
    return sim.state.runs[run_id]


def mails(sim: Sim) -> list[str]:
    """Return the subjects of everything that was made, in order."""
    return [message.content.subject for message in sim.state.messages.values()]


def timers(sim: Sim) -> list[str]:
    return [r.run_id for r in sim.state.runs.values() if r.active and r.due_us is not None]


def test_the_first_goes_on_with_all_items_and_the_others_end():
    sim = collecting()
    runs = [came(sim, n) for n in (1, 2, 3)]
    assert mails(sim) == []
    sim.advance(HOUR)
    assert mails(sim) == ["3: 1 2 3"]
    first, *others = (run(sim, run_id) for run_id in runs)
    assert first.step_id == "mail"
    assert [(o.state, o.reason) for o in others] == [(RunState.COMPLETED, "DIGESTED")] * 2
    assert runs[0] in others[0].timeline[-1].detail
    items = first.steps["digest"]["items"]
    assert [item["id"] for item in items] == [run(sim, r).event_id for r in runs]
    assert items[0] == {
        "id": first.event_id, "name": "Go", "properties": {"n": 1},
        "time": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


def test_one_alone_is_a_digest_of_one():
    sim = collecting()
    came(sim, 7)
    sim.advance(HOUR - SECOND)
    assert mails(sim) == []
    sim.advance(SECOND)
    assert mails(sim) == ["1: 7"]


def test_it_closes_at_once_when_it_is_full_and_another_one_opens():
    sim = collecting(max_window_us=HOUR, max_items=3)
    runs = [came(sim, n) for n in range(4)]
    assert mails(sim) == ["3: 0 1 2"]
    assert [run(sim, r).reason for r in runs] == ["", "DIGESTED", "DIGESTED", ""]
    sim.advance(HOUR)
    assert mails(sim) == ["3: 0 1 2", "1: 3"]


def test_the_quiet_window_begins_anew_with_each_one():
    sim = collecting(window_us=10 * MINUTE)
    for n in range(4):
        came(sim, n)
        sim.advance(9 * MINUTE)
    assert mails(sim) == []
    sim.advance(MINUTE - 1)
    assert mails(sim) == []
    sim.advance(1)
    assert mails(sim) == ["4: 0 1 2 3"]


def test_the_longest_window_ends_it_however_many_still_come():
    sim = collecting(window_us=10 * MINUTE, max_window_us=25 * MINUTE)
    for n in range(6):
        came(sim, n)
        sim.advance(5 * MINUTE)
    assert mails(sim) == ["5: 0 1 2 3 4"]
    sim.advance(HOUR)
    assert mails(sim) == ["5: 0 1 2 3 4", "1: 5"]


def test_only_the_last_one_has_a_timer():
    sim = collecting(window_us=MINUTE)
    runs = [came(sim, n) for n in range(5)]
    assert timers(sim) == [runs[-1]]


def test_keys_are_collected_apart():
    sim = collecting(max_window_us=HOUR, key="event.properties.project")
    for n, project in enumerate("abab"):
        came(sim, n, project=project)
    sim.advance(HOUR)
    assert sorted(mails(sim)) == ["2: 0 2", "2: 1 3"]


def test_people_are_collected_apart():
    sim = collecting()
    sim.identify("v", email="v@example.com")
    for n, user in enumerate("uvu"):
        came(sim, n, user=user)
    sim.advance(HOUR)
    assert sorted(mails(sim)) == ["1: 1", "2: 0 2"]


def test_a_key_without_a_value_fails_the_run():
    sim = collecting(max_window_us=HOUR, key="event.properties.project")
    failed = run(sim, came(sim, 1))
    assert (failed.state, failed.reason) == (RunState.FAILED, "NO_KEY")


@pytest.mark.parametrize(
    ("keep", "by", "kept"),
    [
        (Keep.FIRST, "", "3 9"),
        (Keep.LAST, "", "1 7"),
        (Keep.HIGHEST, "event.properties.n", "9 7"),
        (Keep.LOWEST, "event.properties.n", "1 3"),
    ],
)
def test_what_is_kept_is_chosen_and_all_are_counted(keep: Keep, by: str, kept: str):
    sim = collecting(max_window_us=HOUR, keep=keep, keep_count=2, by=by)
    for n in (3, 9, 1, 7):
        came(sim, n)
    sim.advance(HOUR)
    assert mails(sim) == [f"4: {kept}"]


def test_what_has_no_value_to_rank_by_comes_last():
    fields = {"keep": Keep.HIGHEST, "by": "event.properties.rank"}
    sim = collecting(max_window_us=HOUR, **fields)
    for n, rank in enumerate((None, 1, "b", 2, "c")):
        came(sim, n, **({} if rank is None else {"rank": rank}))
    sim.advance(HOUR)
    assert mails(sim) == ["5: 3 1 4 2 0"]


# -- leaving it ----------------------------------------------------------------------------------


def test_a_canceled_one_takes_its_item_along():
    sim = collecting()
    runs = [came(sim, n) for n in range(3)]
    sim.cancel(runs[1])
    sim.advance(HOUR)
    assert mails(sim) == ["2: 0 2"]


def test_when_the_first_is_canceled_the_oldest_that_remains_goes_on():
    sim = collecting()
    runs = [came(sim, n) for n in range(3)]
    sim.cancel(runs[0])
    sim.advance(HOUR)
    assert mails(sim) == ["2: 1 2"]
    assert run(sim, runs[1]).step_id == "mail"


def test_when_the_one_with_the_timer_is_canceled_another_one_has_it():
    sim = collecting(window_us=MINUTE)
    runs = [came(sim, n) for n in range(3)]
    sim.cancel(runs[2])
    assert timers(sim) == [runs[0]]
    sim.advance(MINUTE)
    assert mails(sim) == ["2: 0 1"]
    assert timers(sim) == []


def test_when_several_are_canceled_at_once_the_timer_stays_with_one_that_is_not():
    steps = (Step("digest", Digest(max_window_us=HOUR)), email("mail", SUBJECT))
    sim = Sim([track("Go", *steps, reentry=ALWAYS, cancellation_key="event.properties.k")])
    sim.identify("u", email="u@example.com")
    first, second, third, last = (
        came(sim, n, k=k) for n, k in ((1, "a"), (2, "a"), (3, "b"), (4, "c"))
    )
    sim.do(CancelRequested(run_id=last))
    assert timers(sim) == [first]
    sim.do(CancelRequested(cancellation_key="a"))
    assert not run(sim, second).active
    assert timers(sim) == [third]
    sim.advance(HOUR)
    assert mails(sim) == ["1: 3"]


def test_one_that_an_event_brings_into_the_digest_has_the_timer_alone():
    """Whoever stands there already remembers the same event, for a wait that is still to come."""
    ping = EventWait("Ping")
    steps = (
        Step("w", Wait((ping,), HOUR), condition="event.properties.n == 1"),
        Step("digest", Digest(max_window_us=HOUR)),
        Step("later", Wait((replace(ping, since_run_started=True),), HOUR)),
    )
    sim = Sim([track("Go", *steps, reentry=ALWAYS)])
    waiting, there = came(sim, 1), came(sim, 2)
    assert timers(sim) == [waiting, there]
    sim.track("u", "Ping")
    assert run(sim, there).steps["later"] == {"seen": ["Ping"]}
    assert timers(sim) == [waiting]


def test_when_all_are_canceled_nothing_is_left():
    sim = collecting()
    for run_id in [came(sim, n) for n in range(3)]:
        sim.cancel(run_id)
    sim.advance(DAY)
    assert mails(sim) == []
    assert timers(sim) == []


def test_an_exit_ends_those_that_it_is_about():
    rule = ExitRule("Read", "event.properties.n > 1")
    sim = collecting(exits=(rule,))
    came(sim, 0)
    came(sim, 2)
    sim.track("u", "Read", properties={"n": 1})
    sim.advance(MINUTE)
    assert len(timers(sim)) == 1
    sim.track("u", "Read", properties={"n": 2})
    sim.advance(HOUR)
    assert mails(sim) == []


# -- what went wrong elsewhere -------------------------------------------------------------------


def test_two_events_in_one_instant_are_one_digest():
    """Two of one second opened two digests elsewhere: the look and the opening were two steps."""
    sim = collecting()
    for n in range(2):
        came(sim, n)
    assert len({r.start_us for r in sim.state.runs.values()}) == 1
    sim.advance(HOUR)
    assert mails(sim) == ["2: 0 1"]


def test_a_delay_before_the_digest_lets_each_one_come_in_its_time():
    """A delay in front of a digest merged runs by when they began, or lost them, elsewhere."""
    sim = collecting(delay("pause", HOUR), max_window_us=30 * MINUTE)
    came(sim, 0)
    sim.advance(20 * MINUTE)
    came(sim, 1)
    sim.advance(20 * MINUTE)
    came(sim, 2)
    sim.advance(DAY)
    assert mails(sim) == ["2: 0 1", "1: 2"]


def test_a_digest_whose_timer_comes_twice_is_closed_once():
    """A retry after a crash sent a digest again elsewhere."""
    sim = collecting()
    runs = [came(sim, n) for n in range(2)]
    sim.now += HOUR
    for run_id in (runs[1], runs[1], runs[0]):
        sim.do(RunDue(run_id))
    assert mails(sim) == ["2: 0 1"]


def test_the_overflow_of_a_throttle_rolls_into_one_digest():
    overflow = (Step("digest", Digest(max_window_us=DAY)), email("later", SUBJECT))
    steps = (
        Step("limit", Throttle(2, DAY, "", overflow)),
        email("now", "{{ event.properties.n }}"),
    )
    sim = Sim([track("Go", *steps, reentry=ALWAYS)])
    sim.identify("u", email="u@example.com")
    for n in range(5):
        came(sim, n)
    assert mails(sim) == ["0", "1"]
    sim.advance(DAY)
    assert mails(sim) == ["0", "1", "3: 2 3 4"]


def test_people_who_become_one_close_what_both_have_collected_together():
    sim = collecting()
    came(sim, 0)
    sim.advance(MINUTE)
    sim.event(
        Event(sim._event_id(), EventType.TRACK, anonymous_id="a", name="Go", properties={"n": 1})
    )
    sim.event(Event(sim._event_id(), EventType.ALIAS, user_id="u", previous_id="a"))
    came(sim, 2)
    sim.advance(DAY)
    assert mails(sim) == ["3: 0 1 2"]


def test_another_version_collects_for_itself():
    sim = collecting()
    came(sim, 0)
    newer = Plan.of(replace(sim.workflows[0], version=2))
    known = sim.definitions
    sim.definitions = replace(
        known,
        plans={**known.plans, ("flow", 2): newer},
        current={"flow": newer},
        listening=listening({"flow": newer}),
    )
    came(sim, 1)
    sim.advance(HOUR)
    assert mails(sim) == ["1: 0", "1: 1"]


def test_a_run_that_comes_again_from_the_digests_own_way_on_opens_the_next():
    """The simulation found it (seed 4616): the item of the second one was lost."""
    steps = (Step("digest", Digest(max_window_us=HOUR)), Step("again", Enroll("flow")))
    sim = Sim([track("Go", *steps, reentry=ALWAYS)])
    first = sim.track("u", "Go").started[0].run_id
    sim.advance(HOUR)
    (second,) = [r for r in sim.state.runs.values() if r.run_id != first and r.active]
    assert run(sim, first).steps["digest"]["count"] == 1
    assert (second.step_id, timers(sim)) == ("digest", [second.run_id])
