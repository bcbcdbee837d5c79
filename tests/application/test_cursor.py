"""Cursors: what was written is read back; everything else is refused and breaks nothing."""

import base64
import json
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from upshotd.application.cursor import (
    FORMAT,
    LENGTH_MAX,
    POSITION_MAX,
    Cursor,
    CursorWriter,
    check_head,
    check_kept,
    decode,
    encode,
    parse,
)
from upshotd.application.ports import PartitionSpan
from upshotd.domain.errors import CursorExpired, InvalidArgument

PLACES = st.dictionaries(st.integers(0, 15), st.integers(0, POSITION_MAX), max_size=16)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def sealed(body: bytes, form: int = FORMAT) -> str:
    """Return *body* as a cursor with a right checksum."""
    whole = bytes((form,)) + body
    whole += zlib.crc32(whole).to_bytes(4, "big")
    return base64.urlsafe_b64encode(whole).decode().rstrip("=")


def refused(text: str, epoch: str = "e", workspace_id: str = "w", partitions: int = 4) -> str:
    with pytest.raises(InvalidArgument) as caught:
        decode(text, epoch, workspace_id, partitions, "after_cursor")
    assert caught.value.reason == "CURSOR_INVALID"
    (violation,) = caught.value.violations
    assert violation.field == "after_cursor"
    return violation.description


@given(NAMES, NAMES, PLACES)
def test_a_cursor_comes_back_as_it_was(
    epoch: str, workspace_id: str, positions: dict[int, int]
) -> None:
    text = encode(Cursor(epoch, workspace_id, positions))
    assert decode(text, epoch, workspace_id, 16, "cursor") == positions
    assert text == CursorWriter(epoch, workspace_id).text(dict(reversed(positions.items())))


def test_a_cursor_can_be_put_into_an_address_and_a_trailer() -> None:
    positions = dict.fromkeys(range(16), POSITION_MAX)
    text = encode(Cursor("0" * 36, "w" * 63, positions))
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(text) < 1_500


@given(st.text(max_size=200) | st.text("ABCab01-_=", max_size=200))
@example("")
@example("A" * (LENGTH_MAX + 1))
@example("=")
@example("é")
@example("AAAAA")
@example("\ud800")
def test_no_text_breaks_the_reader(text: str) -> None:
    assert "no cursor of this server" in refused(text)


@given(st.binary(max_size=200))
@example(b"[" * 2_900)
@example(b"9" * 2_900)
@example(b"\xff")
def test_a_right_checksum_makes_no_cursor(body: bytes) -> None:
    assert parse(sealed(body)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(max_examples=300)
@given(JSON | st.lists(JSON, max_size=3).map(lambda pairs: ["e", "w", pairs]))
@example(["e", "w", [[0, 1], [0, 2]]])
@example(["e", "w", [[0, True]]])
@example(["e", "w", [[0, 1.0]]])
@example(["e", "w", [[-1, 1]]])
@example(["e", "w", [[0, -1]]])
@example(["e", "w", [[0, POSITION_MAX + 1]]])
@example(["e", "w", [[0, 1, 2]]])
@example(["e", "w", [0]])
@example(["e", 1, []])
@example(["e", "w"])
def test_what_is_shaped_almost_like_a_cursor_is_none(value: object) -> None:
    cursor = parse(sealed(json.dumps(value).encode()))
    # Chance may make a whole one: then it must say what was written.
    if cursor is not None:
        pairs = [list(pair) for pair in cursor.positions.items()]
        assert [cursor.epoch, cursor.workspace_id, pairs] == value


@given(PLACES, st.data())
def test_a_cursor_that_was_mistyped_or_cut_is_refused(
    positions: dict[int, int], data: st.DataObject
) -> None:
    text = encode(Cursor("e", "w", positions))
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABcd01-_"))
    broken = data.draw(st.sampled_from([text[:at], text[:at] + letter + text[at + 1 :]]))
    cursor = parse(broken)
    assert cursor is None or cursor == parse(text)


def test_cursors_of_other_logs_are_foreign() -> None:
    text = encode(Cursor("e", "w", {3: 7}))
    assert decode(text, "e", "w", 4, "cursor") == {3: 7}
    assert "another log" in refused(text, epoch="restored")
    assert "another workspace" in refused(text, workspace_id="other")
    assert "the log has 3" in refused(text, partitions=3)
    assert "no cursor of this server" in refused(sealed(b'["e","w",[]]', form=2))


def test_a_place_beyond_the_head_is_ahead() -> None:
    spans = {0: PartitionSpan(1, 5), 1: PartitionSpan(4, 3)}
    check_head({0: 5, 1: 3}, spans, "cursor")
    with pytest.raises(InvalidArgument) as caught:
        check_head({0: 5, 1: 4}, spans, "cursor")
    assert caught.value.reason == "CURSOR_AHEAD"
    assert caught.value.violations[0].field == "cursor"


def test_a_place_before_what_is_kept_is_expired_and_says_where_to_go_on() -> None:
    writer = CursorWriter("e", "w")
    spans = {0: PartitionSpan(5, 9), 1: PartitionSpan(1, 9)}
    check_kept({0: 4, 1: 0}, spans, writer)
    with pytest.raises(CursorExpired) as caught:
        check_kept({0: 3, 1: 2}, spans, writer)
    earliest = decode(caught.value.metadata["earliest_cursor"], "e", "w", 2, "cursor")
    assert earliest == {0: 4, 1: 2}  # partition 1 has lost nothing and repeats nothing
