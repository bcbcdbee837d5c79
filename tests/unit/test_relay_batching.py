"""Every call is in exactly one request, and every request is one that Segment takes."""

from itertools import pairwise

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from upshotd.adapters.relay.batching import (
    BATCH_BYTES_MAX,
    BATCH_CALLS_MAX,
    Batch,
    Call,
    CallPage,
    batches,
    request_body,
)

SIZES = st.one_of(st.integers(2, 900), st.integers(20_000, 32_000))
PAGES = st.lists(st.lists(SIZES, max_size=100), max_size=9)


def call(name: str, size: int = 9) -> Call:
    return Call(name, b'"' + b"x" * (size - 2) + b'"')


def pages_of(sizes: list[list[int]]) -> list[CallPage]:
    return [
        CallPage(tuple(call(f"{p}.{n}", size) for n, size in enumerate(page)), f"cursor-{p}")
        for p, page in enumerate(sizes)
    ]


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_every_call_is_in_one_batch_in_order_within_the_limits(sizes: list[list[int]]) -> None:
    pages = pages_of(sizes)
    packed = batches(pages)

    assert [c for batch in packed for c in batch.calls] == [c for p in pages for c in p.calls]
    for batch in packed:
        assert len(request_body(batch.calls)) <= BATCH_BYTES_MAX
        assert len(batch.calls) <= BATCH_CALLS_MAX


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_a_cursor_never_comes_before_a_call_it_covers(sizes: list[list[int]]) -> None:
    pages = pages_of(sizes)
    posted: set[str] = set()
    committed = [""]
    for batch in batches(pages):
        posted |= {c.outcome_id for c in batch.calls}
        if batch.cursor:
            committed.append(batch.cursor)
            upto = int(batch.cursor.removeprefix("cursor-"))
            assert posted >= {c.outcome_id for page in pages[: upto + 1] for c in page.calls}

    assert committed[-1] == (pages[-1].cursor if pages else "")
    assert committed == sorted(committed)


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_no_batch_is_closed_before_it_is_full(sizes: list[list[int]]) -> None:
    packed = batches(pages_of(sizes))

    for batch, following in pairwise(packed):
        assert len(request_body((*batch.calls, following.calls[0]))) > BATCH_BYTES_MAX


def test_more_calls_than_a_request_takes_are_two_requests() -> None:
    page = CallPage(tuple(call(str(n)) for n in range(BATCH_CALLS_MAX + 1)), "c")

    assert [(len(b.calls), b.cursor) for b in batches([page])] == [(2_500, ""), (1, "c")]


def test_checkpoints_alone_only_move_the_cursor() -> None:
    assert batches([CallPage((), "a"), CallPage((), "b")]) == [Batch((), "b")]
    assert batches([]) == []


def test_the_body_is_json_as_segment_wants_it() -> None:
    body = request_body([Call("1", b'{"a":1}'), Call("2", b'{"b":2}')])

    assert orjson.loads(body) == {"batch": [{"a": 1}, {"b": 2}]}
