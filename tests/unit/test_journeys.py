"""Who judges the journeys is not blind: each rule finds what it is there for."""

from collections import Counter

import pytest

from tests.far_end import Request
from tests.journeys import Journeys, Told, audit
from upshotd.domain.values import replace

SENT = Told(1, (), possible_duplicate=False)
UNKNOWN = Told(0, ("UNKNOWN",), possible_duplicate=False)


def line(by: str, key: str, known_by: str = "", *, taken: bool = True) -> Request:
    return Request(by, key, known_by, "fine", taken)


def found(**changed: object) -> Journeys:
    """Two journeys as they should be."""
    told = {
        "receipt/first/o": SENT,
        "receipt/text/o": replace(SENT, possible_duplicate=True),
        "tip/first/o": UNKNOWN,
        "tip/text/o": SENT,
    }
    ledger = [
        line("hooks", "receipt/first/o", "m1"),
        line("hooks", "receipt/first/o", "m1", taken=False),
        line("texts", "receipt/text/o"),
        line("texts", "receipt/text/o"),
        line("spare", "tip/text/o"),
    ]
    kinds = Counter(RUN_STARTED=2, RUN_COMPLETED=2)
    plain = Journeys(2, ledger, told, kinds)
    for name, value in changed.items():
        setattr(plain, name, value)
    return plain


def told(key: str, what: Told) -> Journeys:
    one = found()
    one.told[key] = what
    return one


def with_line(*lines: Request) -> Journeys:
    one = found()
    one.ledger += lines
    return one


def test_what_is_as_it_should_be_has_no_findings():
    assert audit(found()) == []
    assert audit(told("tip/text/o", UNKNOWN)) == [], "taken, and said to be unknown"
    mended = Told(1, ("UNKNOWN",), possible_duplicate=False)
    assert audit(told("tip/text/o", mended)) == [], "given up, and then a callback came"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (found(kinds=Counter(RUN_STARTED=2, RUN_COMPLETED=1)), "1 RUN_COMPLETED of 2"),
        (found(stuck=1), "stuck"),
        (told("tip/text/o", Told(2, (), False)), "sent 2 times"),
        (told("tip/text/o", Told(0, (), False)), "sent 0 times"),
        (told("tip/text/o", Told(1, ("PROVIDER_ERROR",), False)), "failed"),
        (told("tip/first/o", SENT), "knows nothing of it"),
        (told("tip/text/o", Told(0, ("PROVIDER_ERROR",), False)), "the far end has it"),
        (told("receipt/text/o", SENT), "taken 2 times, and not marked"),
        (told("receipt/first/o", UNKNOWN), "could be asked again"),
        (with_line(line("spare", "tip/text/o")), "taken 2 times"),
        (with_line(line("mail", "tip/text/another")), "nothing is told"),
        (with_line(line("hooks", "receipt/first/o", "m2")), "several ids"),
    ],
)
def test_what_is_not_is_found(wrong: Journeys, words: str):
    assert any(words in finding for finding in audit(wrong))
