"""Whatever happens in whatever order: what holds after every step of a random history."""

from hypothesis import HealthCheck, given, settings

from tests.histories import HISTORIES, WatchedSim

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(HISTORIES)
def test_no_history_breaks_a_promise(history):
    WatchedSim().play(history)


@settings(QUICK, max_examples=30)
@given(HISTORIES)
def test_the_same_history_ends_the_same(history):
    first, second = WatchedSim(), WatchedSim()
    first.play(history)
    second.play(history)
    assert first.outcomes == second.outcomes
    assert first.state == second.state
