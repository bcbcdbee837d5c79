"""Values that property tests are given: texts, instants, and whatever JSON can hold."""

from hypothesis import strategies as st

from upshotd.adapters.grpc import times

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
instants = st.integers(times.TIMESTAMP_MIN_US, times.TIMESTAMP_MAX_US)
scalars = (
    st.none()
    | st.booleans()
    | texts
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda n: not n.is_integer())
)
plains = st.dictionaries(
    texts,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
