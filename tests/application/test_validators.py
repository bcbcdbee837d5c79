"""The judges are judged: each fault is put into a good history, and must be found."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.validators import Response, Seen, Stream, StreamValidator
from upshotd.application.cursor import Cursor, encode
from upshotd.application.outcomes import StreamPage
from upshotd.domain.values import replace


def at(**partitions: int) -> str:
    """Return a cursor: at(p0=3, p1=7)."""
    return encode(Cursor("epoch", "default", {int(p[1:]): n for p, n in partitions.items()}))


def seen(position: int, partition: int = 0) -> Seen:
    return Seen(partition, position, f"o-{partition}-{position}")


def even(one: Seen) -> bool:
    return one.position % 2 == 0


LOG = [seen(position) for position in range(1, 7)]


def good() -> Stream:
    """Resumed after 2; two outcomes, a checkpoint, one more."""
    return Stream(
        after_cursor=at(p0=2),
        responses=[
            Response((), at(p0=2), 1),
            Response((seen(3), seen(4)), at(p0=4)),
            Response((), at(p0=4)),
            Response((seen(5),), at(p0=5)),
        ],
    )


def with_filter() -> Stream:
    return Stream(
        passes=even,
        responses=[
            Response((), at(p0=0), 1),
            Response((seen(2),), at(p0=3)),
            Response((seen(4),), at(p0=4)),
            Response((), at(p0=5)),
        ],
    )


def judged(*streams: Stream) -> list[str]:
    validator = StreamValidator()
    validator.streams += streams
    return validator.findings(LOG)


def test_good_histories_pass() -> None:
    subset = Stream(partitions=(1,), responses=[Response((), at(p1=4), 2)])
    assert judged(good(), with_filter(), Stream(), subset) == []


def response(index: int, **fields: object) -> Callable[[Stream], None]:
    def change(stream: Stream) -> None:
        stream.responses[index] = replace(stream.responses[index], **fields)  # type: ignore[arg-type]

    return change


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (response(0, outcomes=(seen(3),), cursor=at(p0=3)), "is no checkpoint"),
        (response(0, partition_count=0), "does not tell the partitions"),
        (response(2, partition_count=1), "tells the partitions again"),
        (response(1, cursor=""), "response 1 has no cursor"),
        (response(1, cursor="garbage"), "response 1 has no cursor"),
        (response(3, outcomes=(seen(1, partition=1),)), "partition not asked for"),
        (lambda s: setattr(s, "partitions", (1,)), "a cursor of other partitions"),
        (lambda s: setattr(s, "max_batch", 1), "response 1 carries 2 outcomes"),
        (response(1, outcomes=(seen(4), seen(3))), "o-0-3 at 3 of partition 0 after 4"),
        (response(3, outcomes=(replace(seen(5), outcome_id="o-0-4"),)), "o-0-4 twice"),
        (response(1, outcomes=(seen(4),)), "where 3 was next"),
        (response(1, outcomes=(seen(4),)), "o-0-3 at 3 of partition 0 never came"),
        (response(3, outcomes=(seen(6),), cursor=at(p0=6)), "where 5 was next"),
        (lambda s: setattr(s, "after_cursor", at(p0=3)), "begins at 2 of partition 0, not at 3"),
        (lambda s: setattr(s, "after_cursor", at(p0=3)), "not after the cursor it resumed from"),
        (response(2, cursor=at(p0=3)), "takes the cursor of partition 0 back"),
        (response(1, cursor=at(p0=3)), "does not cover what it carries"),
        (response(2, cursor=at(p0=5)), "ahead of what was sent"),
        (response(2, cursor=at(p0=5)), "which a cursor had covered"),
    ],
)
def test_each_fault_is_found(fault: Callable[[Stream], None], finding: str) -> None:
    stream = good()
    fault(stream)
    assert [found for found in judged(stream) if finding in found]


def test_a_filtered_stream_is_held_to_its_filter() -> None:
    leaky, forgetful = with_filter(), with_filter()
    response(1, outcomes=(seen(1), seen(2)))(leaky)
    response(2, outcomes=())(forgetful)
    assert [f for f in judged(leaky) if "o-0-1 at 1 of partition 0 does not pass" in f]
    assert [f for f in judged(forgetful) if "o-0-4 at 4 of partition 0 never came" in f]


def test_readers_that_saw_different_logs_are_found() -> None:
    other_id, other_place = good(), with_filter()
    response(3, outcomes=(replace(seen(5), outcome_id="x"),))(other_id)
    response(2, outcomes=(replace(seen(4), outcome_id="o-0-3"),))(other_place)
    assert [f for f in judged(good(), other_id) if "another outcome at x at 5" in f]
    assert [f for f in judged(good(), other_place) if "o-0-3 at another place" in f]


def test_what_is_wrong_is_raised() -> None:
    validator = StreamValidator()
    stream = validator.opened(max_batch=1)
    stream.saw(StreamPage(b"", at(p0=0), 1))
    stream.saw(StreamPage(b"0 1 a\n", at(p0=1)))
    validator.check()
    stream.saw(StreamPage(b"0 3 c\n", at(p0=3)))
    with pytest.raises(AssertionError, match="c at 3 of partition 0 where 2 was next"):
        validator.check()


def test_responses_of_the_contract_are_recorded() -> None:
    outcome = SimpleNamespace(partition=0, position=1, outcome_id="a")
    stream = StreamValidator().opened()
    assert stream.cursor == ""
    stream.saw(SimpleNamespace(outcomes=[outcome], cursor=at(p0=1), partition_count=0))
    assert stream.outcomes[0].value is outcome
    assert (stream.ids, stream.cursor) == (["a"], at(p0=1))
