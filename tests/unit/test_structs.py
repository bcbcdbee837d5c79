"""Open data and times: plain values on this side, protobuf's own messages on the other."""

import math

import pytest
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import instants, plains
from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.grpc import (
    structs,
    times,
)
from upshotd.adapters.grpc.structs import LazyStruct
from upshotd.domain.values import plain

#: A loaded machine makes an example slow, not wrong.
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@UNHURRIED
@given(plains)
def test_plain_values_survive_a_struct(values: dict[str, object]) -> None:
    wire = structs.struct(values).SerializeToString()
    back = structs.plain(Struct.FromString(wire))
    assert back == values
    assert repr(back.keys() - values.keys()) == "set()"
    assert structs.fault(Struct.FromString(wire)) is None


def test_integral_doubles_become_integers_as_far_as_doubles_count_exactly() -> None:
    struct = Struct()
    struct.update({"a": 3.0, "b": 2.0**53, "c": 2.0**53 + 2, "d": -0.0, "e": 0.5, "f": ""})
    values = structs.plain(struct)
    assert [type(v) for v in values.values()].count(int) == 3
    assert values == {"a": 3, "b": 2**53, "c": 2.0**53 + 2, "d": 0, "e": 0.5, "f": ""}


def test_a_value_without_a_kind_is_null() -> None:
    assert structs.plain(Struct(fields={"a": Value()})) == {"a": None}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**400])
def test_what_is_no_json_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="numbers"):
        structs.struct({"a": [number]})


def test_what_is_no_json_value_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes is no JSON value"):
        structs.struct({"a": b""})


def test_numbers_that_are_none_are_seen_in_a_struct_and_read_as_words() -> None:
    struct = Struct()
    struct["a"] = [math.nan, math.inf, -math.inf]
    assert structs.fault(struct) is not None
    assert structs.plain(struct) == {"a": ["NaN", "Infinity", "-Infinity"]}


@pytest.mark.parametrize("wrap", [lambda v: {"a": v}, lambda v: [v]])
def test_what_can_be_written_can_be_read_from_the_wire(wrap: object) -> None:
    value: object = 1
    for _ in range(structs.DEPTH_MAX):
        value = wrap(value)  # type: ignore[operator]
    struct = structs.struct({"a": value})
    assert structs.fault(struct) is None
    body = outcome_pb2.Outcome(properties=struct).SerializeToString()
    page = service_pb2.StreamOutcomesResponse(
        outcomes=[outcome_pb2.Outcome.FromString(body)]
    ).SerializeToString()
    assert service_pb2.StreamOutcomesResponse.FromString(page).outcomes[0].HasField("properties")
    deeper = wrap(value)  # type: ignore[operator]
    with pytest.raises(ValueError, match="deeper"):
        structs.struct({"a": deeper})
    struct["a"] = deeper
    assert "deeper" in (structs.fault(struct) or "")


def test_a_struct_is_decoded_by_who_reads_it() -> None:
    struct = structs.struct({"a": {"b": 1}, "c": 0})
    lazy = LazyStruct(struct)
    assert lazy["a"] == {"b": 1}
    assert lazy.get("z") is None
    with pytest.raises(KeyError):
        lazy["z"]
    assert "z" not in struct.fields, "a look at a key must not add it"
    assert "a" in lazy
    number: object = 1
    assert number not in lazy
    assert len(lazy) == 2
    assert lazy == {"a": {"b": 1}, "c": 0}
    assert {**lazy} == plain(lazy) == lazy.plain()
    assert lazy["c"] == 0
    assert lazy.plain() is lazy.plain()
    assert repr(lazy) == repr(lazy.plain())


@UNHURRIED
@given(instants, st.integers(-(2**60), 2**60).filter(lambda us: abs(us) < 315_576_000_000 * 10**6))
def test_times_survive(instant_us: int, span_us: int) -> None:
    assert times.instant_us(times.timestamp(instant_us)) == instant_us
    assert times.timestamp_fault(times.timestamp(instant_us)) is None
    assert times.span_us(times.duration(span_us)) == span_us
    assert times.duration_fault(times.duration(span_us)) is None
