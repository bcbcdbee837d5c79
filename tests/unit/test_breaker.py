"""The circuit breaker of a provider, as a value."""

from tests.sim import HOUR, MINUTE, SECOND, START
from upshotd.domain.breaker import CLOSED, Breaker, Rules, asked, failed, undecided

RULES = Rules(failures=3, pause_us=5 * SECOND, pause_max_us=MINUTE, probe_us=30 * SECOND)


def after_failures(
    number: int, breaker: Breaker = CLOSED, *, now: int = START, retry_after: int = 0
) -> Breaker:
    for _ in range(number):
        breaker = failed(breaker, now, retry_after, "HTTP 503", RULES)
    return breaker


def test_a_provider_that_fails_now_and_then_is_asked():
    breaker = after_failures(2)
    assert asked(breaker, START, RULES) == (breaker, 0)


def test_failures_in_a_row_open_it():
    breaker = after_failures(3)
    assert (breaker.since_us, breaker.until_us) == (START, START + 5 * SECOND)
    assert asked(breaker, START + SECOND, RULES)[1] == 4 * SECOND


def test_after_the_pause_one_asks_and_the_others_wait():
    breaker, wait = asked(after_failures(3), START + 5 * SECOND, RULES)
    assert (breaker.probing, wait) == (True, 0)
    again, wait = asked(breaker, START + 6 * SECOND, RULES)
    assert (again.probing, wait) == (True, 5 * SECOND), "a probe is answered soon"


def test_those_who_wait_come_back_one_after_the_other():
    breaker, waits = after_failures(3), []
    for _ in range(3):
        breaker, wait = asked(breaker, START, RULES)
        waits.append(wait)
    assert waits == [5_000_000, 5_002_000, 5_004_000]
    breaker, _ = asked(breaker, START + 5 * SECOND, RULES)
    breaker = after_failures(1, breaker, now=START + 5 * SECOND)
    assert asked(breaker, START + 5 * SECOND, RULES)[1] == 10 * SECOND, "anew with each pause"


def test_a_probe_that_never_ends_gives_way_to_another():
    breaker, _ = asked(after_failures(3), START + 5 * SECOND, RULES)
    assert asked(breaker, START + 34 * SECOND, RULES)[1] == SECOND
    _, wait = asked(breaker, START + 35 * SECOND, RULES)
    assert wait == 0


def test_the_pause_doubles_with_each_probe_that_fails_up_to_the_longest():
    breaker, now, pauses = after_failures(3), START, []
    for _ in range(6):
        pauses.append(breaker.until_us - now)
        now = breaker.until_us
        breaker, _ = asked(breaker, now, RULES)
        breaker = after_failures(1, breaker, now=now)
    assert [pause // SECOND for pause in pauses] == [5, 10, 20, 40, 60, 60]
    assert breaker.since_us == START


def test_it_stays_open_for_as_long_as_the_provider_asks():
    assert after_failures(3, retry_after=10 * MINUTE).until_us == START + 10 * MINUTE
    assert after_failures(3, retry_after=SECOND).until_us == START + SECOND, "and no longer"


def test_what_the_provider_asks_for_does_not_make_our_own_pauses_longer():
    breaker, now = after_failures(3, retry_after=10 * MINUTE), START
    for _ in range(5):
        now = breaker.until_us
        breaker, _ = asked(breaker, now, RULES)
        breaker = after_failures(1, breaker, now=now, retry_after=10 * MINUTE)
    breaker, _ = asked(breaker, breaker.until_us, RULES)
    breaker = after_failures(1, breaker, now=now + HOUR)
    assert breaker.until_us == now + HOUR + 5 * SECOND


def test_those_that_were_asked_before_it_opened_do_not_make_the_pause_longer():
    breaker = after_failures(3)
    late = after_failures(60, breaker, now=START + SECOND)
    assert (late.pauses, late.until_us) == (1, breaker.until_us)
    late = after_failures(1, breaker, now=START + SECOND, retry_after=MINUTE)
    assert late.until_us == START + SECOND + MINUTE, "unless they bring a wish of the provider"


def test_a_probe_that_says_nothing_leaves_the_turn_to_another():
    breaker, _ = asked(after_failures(3), START + 5 * SECOND, RULES)
    _, wait = asked(undecided(breaker, START + 6 * SECOND), START + 6 * SECOND, RULES)
    assert wait == 0
    assert undecided(CLOSED, START) == CLOSED


def test_with_no_number_of_failures_it_never_opens():
    never, breaker = Rules(failures=0), CLOSED
    for _ in range(1000):
        breaker = failed(breaker, START, 0, "HTTP 503", never)
    assert asked(breaker, START, never)[1] == 0
