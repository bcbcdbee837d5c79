"""A circuit breaker: whether a provider is asked, by what its last answers were."""

from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """Whether a provider is asked; the contract's numbers."""

    CLOSED = 1
    OPEN = 2
    #: By one alone, whose answer decides.
    HALF_OPEN = 3


class Rules(NamedTuple):
    """When a breaker opens, and for how long."""

    #: Failures in a row that open it; 0 never does.
    failures: int = 5
    #: The first pause, in microseconds; it doubles with each probe that fails.
    pause_us: int = 5_000_000
    #: The longest. Where the provider says when to come again, that counts instead.
    pause_max_us: int = 300_000_000
    #: What a probe may take, in microseconds; after it another one has its turn.
    probe_us: int = 25_000_000
    #: Between two that wait, in microseconds: they come back one after the other.
    spread_us: int = 2_000


class Breaker(NamedTuple):
    """What is known of a provider by its last answers."""

    #: Failures in a row.
    failures: int = 0
    #: How often a pause of ours was begun since the provider last answered.
    pauses: int = 0
    #: When it opened first, in microseconds; None while it is closed.
    since_us: int | None = None
    #: Until when nobody but a probe asks; without meaning while it is closed.
    until_us: int = 0
    #: Whether somebody is asking on trial.
    probing: bool = False
    #: How many were told to wait since it opened.
    waiting: int = 0
    #: What the last failure was.
    detail: str = ""


#: Of a provider that answers.
CLOSED = Breaker()


def state(breaker: Breaker, now_us: int) -> State:
    """Return whether the provider is asked."""
    if breaker.since_us is None:
        return State.CLOSED
    return State.HALF_OPEN if breaker.probing or now_us >= breaker.until_us else State.OPEN


def asked(breaker: Breaker, now_us: int, rules: Rules) -> tuple[Breaker, int]:
    """Return the breaker once somebody wants to ask, and how long they must wait, in microseconds.

    With 0 they ask at once; when that was the end of a pause, as the one probe.
    """
    if breaker.since_us is None:
        return breaker, 0
    if now_us >= breaker.until_us:
        return breaker._replace(probing=True, until_us=now_us + rules.probe_us), 0
    wait_us = breaker.until_us - now_us
    if breaker.probing:  # it is answered long before its time is up, as a rule
        wait_us = min(wait_us, rules.pause_us)
    wait_us += breaker.waiting * rules.spread_us
    return breaker._replace(waiting=breaker.waiting + 1), wait_us


def failed(
    breaker: Breaker, now_us: int, retry_after_us: int, detail: str, rules: Rules
) -> Breaker:
    """Return the breaker after a failure, with what the provider asked us to wait."""
    breaker = breaker._replace(failures=breaker.failures + 1, detail=detail)
    closed = breaker.since_us is None
    if closed and not 0 < rules.failures <= breaker.failures:
        return breaker
    if not (closed or breaker.probing):  # asked before it opened
        return breaker._replace(until_us=max(breaker.until_us, now_us + retry_after_us))
    pause_us = min(rules.pause_us << min(breaker.pauses, 20), rules.pause_max_us)
    return breaker._replace(
        # A provider that says when it is there again makes ours no longer.
        pauses=breaker.pauses + (retry_after_us == 0),
        since_us=now_us if closed else breaker.since_us,
        until_us=now_us + (retry_after_us or pause_us),
        probing=False,
        waiting=0,
    )


def undecided(breaker: Breaker, now_us: int) -> Breaker:
    """Return the breaker after an attempt that says nothing: another probe may go at once."""
    return breaker._replace(probing=False, until_us=now_us) if breaker.probing else breaker
