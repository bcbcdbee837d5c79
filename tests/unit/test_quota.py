"""The quota of a key, as a bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim import SECOND, START
from upshotd.domain.quota import RATE_MAX, Bucket, given_back, rate_of, take


def test_a_second_lets_through_what_the_rate_says():
    bucket, passed = None, 0
    for _ in range(150):
        bucket, wait = take(bucket, START, 1, 100)
        passed += wait == 0
    assert passed == 100
    assert wait == 10_000, "one of a hundred is there again in a hundredth"
    _, wait = take(bucket, START + 10_000, 1, 100)
    assert wait == 0


def test_rest_saves_up_no_more_than_a_second():
    bucket, _ = take(None, START, 1, 10)
    passed = 0
    for _ in range(50):
        bucket, wait = take(bucket, START + 3600 * SECOND, 1, 10)
        passed += wait == 0
    assert passed == 10


def test_what_is_larger_than_the_bucket_passes_and_is_owed():
    bucket, wait = take(None, START, 1_000, 100)
    assert wait == 0
    bucket, wait = take(bucket, START, 1, 100)
    assert wait == 9_010_000
    _, wait = take(bucket, START + wait, 1_000, 100)
    assert wait == 0


def test_what_was_taken_for_nothing_comes_back_but_never_more_than_a_second():
    bucket, _ = take(None, START, 80, 100)
    assert given_back(bucket, 30, 100).left == 50_000_000
    assert given_back(bucket, 10_000, 100).left == 100_000_000


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 500)), max_size=60))
def test_in_the_long_run_no_more_than_the_rate_passes(calls: list[tuple[int, int]]):
    bucket: Bucket | None = None
    now, passed, last = START, 0, 0
    for pause, amount in calls:
        now += pause
        bucket, wait = take(bucket, now, amount, 50)
        if wait == 0:
            passed, last = passed + amount, amount
        else:
            assert take(bucket, now + wait, amount, 50)[1] == 0, (
                "when it was told to come it passes"
            )
    # A full second to begin with, and the last one may owe.
    assert passed <= 50 + (now - START) * 50 / SECOND + last


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100), ("1/s", 1), (" 5 /s", 5)])
def test_a_rate_is_so_many_a_second(text: str, rate: int):
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "0/s", "100", "100/m", "-1/s", "1.5/s", f"{RATE_MAX + 1}/s"])
def test_anything_else_is_none(text: str):
    with pytest.raises(ValueError, match="as 100/s"):
        rate_of(text)
