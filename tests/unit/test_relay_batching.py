"""Every call is in exactly one request, and every request is one that Segment takes."""

from itertools import pairwise

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay import webhook
from upshotd.adapters.relay.batching import Batch, ItemPage, batches
from upshotd.adapters.relay.far_end import Item
from upshotd.adapters.relay.segment import LIMITS, request_body

SIZES = st.one_of(st.integers(2, 900), st.integers(20_000, 32_000))
PAGES = st.lists(st.lists(SIZES, max_size=100), max_size=9)


def call(name: str, size: int = 9) -> Item:
    return Item(pb.Outcome(outcome_id=name), b'"' + b"x" * (size - 2) + b'"')


def pages_of(sizes: list[list[int]]) -> list[ItemPage]:
    return [
        ItemPage(tuple(call(f"{p}.{n}", size) for n, size in enumerate(page)), f"cursor-{p}")
        for p, page in enumerate(sizes)
    ]


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_every_call_is_in_one_batch_in_order_within_the_limits(sizes: list[list[int]]) -> None:
    pages = pages_of(sizes)
    packed = batches(pages, LIMITS)

    assert [c for batch in packed for c in batch.items] == [c for p in pages for c in p.items]
    for batch in packed:
        assert len(request_body(batch.items)) <= LIMITS.size
        assert len(batch.items) <= LIMITS.items


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_a_cursor_never_comes_before_a_call_it_covers(sizes: list[list[int]]) -> None:
    pages = pages_of(sizes)
    posted: set[str] = set()
    committed = [""]
    for batch in batches(pages, LIMITS):
        posted |= {c.outcome.outcome_id for c in batch.items}
        if batch.cursor:
            committed.append(batch.cursor)
            upto = int(batch.cursor.removeprefix("cursor-"))
            assert posted >= {
                c.outcome.outcome_id for page in pages[: upto + 1] for c in page.items
            }

    assert committed[-1] == (pages[-1].cursor if pages else "")
    assert committed == sorted(committed)


@given(PAGES)
@settings(max_examples=60, deadline=None)
def test_no_batch_is_closed_before_it_is_full(sizes: list[list[int]]) -> None:
    packed = batches(pages_of(sizes), LIMITS)

    for batch, following in pairwise(packed):
        assert len(request_body((*batch.items, following.items[0]))) > LIMITS.size


def test_more_calls_than_a_request_takes_are_two_requests() -> None:
    page = ItemPage(tuple(call(str(n)) for n in range(LIMITS.items + 1)), "c")

    assert [(len(b.items), b.cursor) for b in batches([page], LIMITS)] == [(2_500, ""), (1, "c")]


def test_checkpoints_alone_only_move_the_cursor() -> None:
    assert batches([ItemPage((), "a"), ItemPage((), "b")], LIMITS) == [Batch((), "b")]
    assert batches([], LIMITS) == []


def test_the_body_is_json_as_segment_wants_it() -> None:
    body = request_body([Item(pb.Outcome(), b'{"a":1}'), Item(pb.Outcome(), b'{"b":2}')])

    assert orjson.loads(body) == {"batch": [{"a": 1}, {"b": 2}]}


def test_a_far_end_that_takes_one_at_a_time_gets_the_cursor_with_the_last_of_a_page() -> None:
    pages = pages_of([[9, 9], [], [9]])

    packed = [(len(b.items), b.cursor) for b in batches(pages, webhook.LIMITS)]
    assert packed == [(1, ""), (1, "cursor-1"), (1, "cursor-2")]
