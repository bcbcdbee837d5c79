"""Arrays of JSON in parts: the same values as of the whole, and no work for what is too large."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upshotd.adapters.http.json_array import VALUE_CHARS_MAX, is_array, values

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(plain, max_size=5), st.sampled_from([None, 0, 3]), st.sampled_from(["", " \n\t\r"]))
def test_the_values_are_those_of_the_whole(found: list[Any], indent: int | None, around: str):
    text = f"{around}{json.dumps(found, indent=indent)}{around}".encode()
    assert is_array(text)
    assert [json.loads(value) for value in values(text)] == found


@given(st.lists(plain, min_size=1, max_size=5))
def test_they_come_as_they_were_written(found: list[Any]):
    texts = [json.dumps(one, ensure_ascii=True) for one in found]
    assert list(values(f"[{','.join(texts)}]".encode())) == [text.encode() for text in texts]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[", b"]", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"[1]]", b"[1] 2", b"{}"),
        *(b"[nul]", b"[NaN]", b"[Infinity]", b"['a']", b'["a]', b"[\xff]", b"\xef\xbb\xbf[1]"),
        *(b"[" * 5_000, b"[[" + b"[]," * 50_000, b"[" + b"1" * VALUE_CHARS_MAX + b"]"),
    ],
)
def test_what_is_no_array_is_refused(body: bytes):
    with pytest.raises(ValueError):
        list(values(body))


@pytest.mark.parametrize("length", [8_190, 8_191, 8_192, 8_193, VALUE_CHARS_MAX - 3])
def test_a_value_may_be_long(length: int):
    (value,) = values(json.dumps(["x" * (length)]).encode())
    assert len(value) == length + 2


def test_a_value_that_is_too_long_is_refused_and_those_before_it_have_come():
    found = values(json.dumps([1, "x" * VALUE_CHARS_MAX]).encode())
    assert next(found) == b"1"
    with pytest.raises(ValueError, match="short enough"):
        next(found)


def test_numbers_at_the_cut_are_whole():
    body = ("[" + " " * 5 + "1" * 8_200 + ",2]").encode()
    assert [len(value) for value in values(body)] == [8_200, 1]
