"""throttle: so many in a time; the others take other steps, and end."""

from tests.flows import delay, email, sms, track
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Accepted
from upshotd.domain.profile import Profile
from upshotd.domain.run import Run, RunState
from upshotd.domain.steps.throttle import COUNTS_MAX, Throttle, ThrottleScope, shared
from upshotd.domain.workflow import Reentry, ReentryMode, Step

ALWAYS = Reentry(ReentryMode.ALWAYS)


def limited(most: int = 2, *on_throttled: Step, key: str = "", period_us: int = DAY) -> Sim:
    step = Step("limit", Throttle(most, period_us, key, on_throttled))
    sim = Sim([track("Go", step, email(), reentry=ALWAYS)])
    sim.identify("u", first_name="U", email="u@example.com", phone="+15550000")
    return sim


def went(sim: Sim, **properties: object) -> Run:
    """Start another run, and return where it stands after that."""
    answer = sim.track("u", "Go", properties=properties)
    return sim.state.runs[answer.started[0].run_id]


def said(run: Run, step_id: str = "limit") -> list[str]:
    return [entry.what for entry in run.timeline if entry.step_id == step_id]


def test_so_many_pass_and_the_next_ones_end_there():
    sim = limited(2)
    runs = [went(sim) for _ in range(4)]
    assert [run.step_id for run in runs] == ["welcome", "welcome", "", ""]
    assert [run.reason for run in runs] == ["", "", "THROTTLED", "THROTTLED"]
    assert [said(run) for run in runs] == [["passed"], ["passed"], ["throttled"], ["throttled"]]
    assert runs[2].state is RunState.COMPLETED
    assert runs[2].steps["limit"] == {"throttled": True}
    assert sim.messages_kinds() == []  # nobody was sent what did not pass
    assert len(sim.state.messages) == 2


def test_a_place_is_free_again_when_the_period_is_over_and_not_before():
    sim = limited(1)
    assert went(sim).step_id == "welcome"
    sim.advance(HOUR)
    assert went(sim).reason == "THROTTLED"
    sim.now += DAY - HOUR - 1
    assert went(sim).reason == "THROTTLED"
    sim.now += 1
    assert went(sim).step_id == "welcome"


def test_the_window_slides():
    """Two at the end of one day and two at the beginning of the next would be four in an hour."""
    sim = limited(2)
    assert went(sim).reason == ""
    sim.now += 23 * HOUR
    assert went(sim).reason == ""
    sim.now += HOUR
    assert [went(sim).reason for _ in range(2)] == ["", "THROTTLED"]


def test_what_does_not_pass_takes_its_own_steps_and_nothing_else():
    sim = limited(1, sms("instead", "Too much"))
    went(sim)
    run = went(sim)
    assert run.step_id == "instead"
    sim.settle(sim.state.messages[str(run.steps["instead"]["message_id"])], Accepted("p"))
    run = sim.state.runs[run.run_id]
    assert (run.state, run.reason, run.step_id) == (RunState.COMPLETED, "", "")
    assert "welcome" not in run.steps


def test_keys_are_counted_apart():
    sim = limited(1, key="event.properties.project")
    assert [went(sim, project=p).reason for p in ("a", "b", "a")] == ["", "", "THROTTLED"]


def test_people_and_workflows_are_counted_apart():
    step = Step("limit", Throttle(1, DAY))
    sim = Sim([track("Go", step, workflow_id=name, reentry=ALWAYS) for name in ("one", "two")])
    for user in ("u", "v"):
        sim.track(user, "Go")
    assert [run.reason for run in sim.state.runs.values()] == ["", "", "", ""]
    sim.track("u", "Go")
    assert [run.reason for run in sim.state.runs.values()][4:] == ["THROTTLED", "THROTTLED"]


def test_a_key_without_a_value_fails_the_run_and_says_which():
    sim = limited(1, key="event.properties.project")
    run = went(sim)
    assert (run.state, run.reason) == (RunState.FAILED, "NO_KEY")
    assert "project" in run.timeline[-1].detail


def test_a_person_has_a_bounded_number_of_counts():
    sim = limited(1, key="event.properties.n")
    assert {went(sim, n=number).reason for number in range(COUNTS_MAX)} == {""}
    run = went(sim, n=-1)
    assert (run.state, run.reason) == (RunState.FAILED, "TOO_MANY_KEYS")
    assert went(sim, n=1).reason == "THROTTLED"
    sim.now += DAY
    assert went(sim, n=-1).reason == ""
    assert len(sim.profile("u").passes) == 1, "what is over is forgotten"


def test_the_counts_of_two_who_become_one_are_added():
    sim = limited(3)
    for _ in range(2):
        sim.event(Event(sim._event_id(), EventType.TRACK, anonymous_id="a", name="Go"))
    went(sim)
    sim.event(Event(sim._event_id(), EventType.ALIAS, user_id="u", previous_id="a"))
    assert went(sim).reason == "THROTTLED"


def test_each_pass_is_counted_with_the_row_of_the_person():
    """Two replicas that count in the same moment write the same row: one of them counts again."""
    sim = limited(2)
    went(sim)
    assert sim.changes.profiles == {sim.profile("u").profile_id: sim.profile("u")}
    went(sim)
    went(sim)
    assert sim.changes.profiles == {}


def test_a_skipped_throttle_counts_nobody():
    step = Step("limit", Throttle(1, DAY), "event.properties.n > 1")
    sim = Sim([track("Go", step, reentry=ALWAYS)])
    sim.identify("u")
    assert [went(sim, n=n).reason for n in (0, 2, 0, 2)] == ["", "", "", "THROTTLED"]


# -- one count for everybody -------------------------------------------------------------------


def for_all(most: int, *on_throttled: Step, key: str = "") -> Sim:
    step = Step("limit", Throttle(most, DAY, key, on_throttled, ThrottleScope.WORKSPACE))
    sim = Sim([track("Go", step, delay(), reentry=ALWAYS)])
    for user in ("u", "v", "w"):
        sim.identify(user)
    return sim


def goes(sim: Sim, user: str, **properties: object) -> str:
    answer = sim.track(user, "Go", properties=properties)
    return sim.state.runs[answer.started[0].run_id].reason


def test_a_throttle_of_the_workspace_counts_everybody_together():
    sim = for_all(2)
    assert [goes(sim, user) for user in ("u", "v", "w", "u")] == ["", "", "THROTTLED", "THROTTLED"]
    assert sim.profile("u").passes == {}
    sim.advance(DAY)
    assert goes(sim, "w") == ""


def test_with_a_key_everybody_with_the_same_one_is_counted_together():
    sim = for_all(1, key="event.properties.project")
    assert goes(sim, "u", project="p") == ""
    assert goes(sim, "v", project="p") == "THROTTLED"
    assert goes(sim, "w", project="q") == ""


def test_the_row_of_the_count_is_written_with_its_version():
    sim = for_all(2)
    sim.state.profiles[shared("flow", "limit")] = Profile(shared("flow", "limit"), row_version=7)
    goes(sim, "u")
    assert sim.changes.profiles[shared("flow", "limit")].row_version == 7


def test_a_count_that_was_not_loaded_is_looked_up_before_anybody_passes():
    """A run on a version that this process has not had until now: its batch did not ask for it."""
    sim = for_all(1)
    goes(sim, "u")
    sim.state.counters = frozenset()
    goes(sim, "v")
    assert (sim.run().step_id, sim.run().due_us) == ("limit", sim.now)
    sim.state.counters = frozenset({shared("flow", "limit")})
    sim.advance(0)
    assert sim.run().reason == "THROTTLED"
    assert sim.whats() == ["started", "throttled", "ended"]
