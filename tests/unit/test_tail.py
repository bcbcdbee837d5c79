"""The end of the log in memory: it says what the log has, or that it does not know."""

from hypothesis import given
from hypothesis import strategies as st

from tests.stores import found
from upshotd.adapters.storage.tail import Appended, Tail
from upshotd.application.outcome_page import OutcomeRead


def appended(after: int, count: int, workspace_id: str = "default", partition: int = 0) -> Appended:
    bodies = [f"{partition} {at} o{at}\n".encode() for at in range(after + 1, after + count + 1)]
    return Appended(workspace_id, partition, after, bodies)


def positions(read: OutcomeRead | None) -> list[int] | None:
    return None if read is None else [at for at, _ in found(read)]


def read(tail: Tail, after: int, limit: int = 1_000, batch: int = 100) -> OutcomeRead | None:
    return tail.read(("default", 0, after), limit, batch)


def test_what_was_appended_is_read_in_pages() -> None:
    tail = Tail()
    tail.append([appended(10, 5)])
    seen = read(tail, 11, limit=3, batch=2)
    assert seen is not None
    assert (seen.after, seen.through) == (11, 14)
    assert [page.through for page in seen.pages] == [13, 14]
    assert positions(seen) == [12, 13, 14]


def test_at_the_head_there_is_nothing_and_before_the_tail_nobody_knows() -> None:
    tail = Tail()
    assert read(tail, 0) is None
    tail.append([appended(10, 5)])
    assert positions(read(tail, 15)) == []
    assert positions(read(tail, 10)) == [11, 12, 13, 14, 15]
    assert read(tail, 9) is None
    assert read(tail, 16) is None  # a cursor ahead of the log is for the log to refuse


def test_partitions_and_workspaces_are_apart() -> None:
    tail = Tail()
    tail.append([appended(0, 2), appended(0, 3, partition=1), appended(7, 1, "other")])
    assert positions(read(tail, 0)) == [1, 2]
    assert positions(tail.read(("default", 1, 0), 10, 10)) == [1, 2, 3]
    assert positions(tail.read(("other", 0, 7), 10, 10)) == [8]
    assert tail.read(("nobody's", 0, 0), 10, 10) is None


def test_a_gap_begins_it_anew() -> None:
    """A commit whose answer was lost is in the log, and not here."""
    tail = Tail()
    tail.append([appended(0, 2)])
    tail.append([appended(5, 2)])
    assert read(tail, 1) is None
    assert positions(read(tail, 5)) == [6, 7]


def test_the_oldest_goes_when_there_is_no_room() -> None:
    size = sum(map(len, appended(0, 2).bodies))
    tail = Tail(2 * size)
    tail.append([appended(0, 2)])
    tail.append([appended(2, 2)])
    assert positions(read(tail, 0)) == [1, 2, 3, 4]
    tail.append([appended(4, 2)])
    assert read(tail, 0) is None
    assert positions(read(tail, 2)) == [3, 4, 5, 6]


def test_it_forgets_when_the_log_is_pruned() -> None:
    tail = Tail()
    tail.append([appended(0, 2)])
    tail.clear()
    assert read(tail, 1) is None
    tail.append([appended(2, 1)])
    assert positions(read(tail, 2)) == [3]


def test_one_that_keeps_nothing_still_knows_the_head() -> None:
    tail = Tail(0)
    tail.append([appended(0, 2)])
    assert read(tail, 1) is None
    assert positions(read(tail, 2)) == []


@given(
    commits=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.booleans()), max_size=30),
    room=st.integers(0, 200),
    limit=st.integers(1, 20),
    batch=st.integers(1, 7),
)
def test_it_never_says_anything_but_what_is_in_the_log(
    commits: list[tuple[int, int, bool]], room: int, limit: int, batch: int
) -> None:
    tail, heads = Tail(room), {0: 0, 1: 0, 2: 0}
    for partition, count, heard in commits:
        if heard:
            tail.append([appended(heads[partition], count, partition=partition)])
        else:
            tail.clear()
        heads[partition] += count
        for at, head in heads.items():
            for after in range(head + 1):
                seen = tail.read(("default", at, after), limit, batch)
                if seen is not None:
                    assert seen.through == min(head, after + limit)
                    assert positions(seen) == list(range(after + 1, seen.through + 1))
                    assert all(len(found(OutcomeRead([p], 0, 0))) <= batch for p in seen.pages)
