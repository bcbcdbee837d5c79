"""Packed bodies: what they hold, and no work for what is too large."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshotd.adapters.http.inflating import TooLarge, inflated


def raw(body: bytes) -> bytes:
    return zlib.compress(body)[2:-4]


@given(st.binary(max_size=2_000))
def test_what_was_packed_comes_out(body: bytes):
    assert inflated(body, "", 9) == body
    assert inflated(body, "identity", 9) == body
    for coding, packed in (
        ("gzip", gzip.compress(body)),
        (" GZIP", gzip.compress(body)),
        ("x-gzip", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
        ("deflate", raw(body)),
    ):
        assert inflated(packed, coding, len(body)) == body


def test_a_gzip_may_have_parts():
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    assert inflated(packed, "gzip", 7) == b"one two"
    with pytest.raises(TooLarge):
        inflated(packed, "gzip", 6)
    with pytest.raises(ValueError, match="parts"):
        inflated(gzip.compress(b"") * 1_000, "gzip", 1)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"plain", "gzip"),
        (b"", "gzip"),
        (b"", "deflate"),
        (gzip.compress(b"cut")[:-1], "gzip"),
        (gzip.compress(b"x") + b"garbage", "gzip"),
        (zlib.compress(b"x") + b"garbage", "deflate"),
        (b"x", "br"),
        (b"x", "nonsense"),
        (gzip.compress(b"x"), "gzip, gzip"),
    ],
)
def test_what_is_not_packed_as_it_says_is_refused(body: bytes, coding: str):
    with pytest.raises(ValueError):
        inflated(body, coding, 100)


@pytest.mark.parametrize(("pack", "coding"), [(gzip.compress, "gzip"), (zlib.compress, "deflate")])
def test_a_bomb_is_inflated_as_far_as_is_wanted(pack: object, coding: str):
    assert callable(pack)
    bomb = pack(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflated(bomb, coding, 10_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
