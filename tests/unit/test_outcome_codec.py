"""Outcomes: encoded once, and put into responses as bytes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import instants, plains, texts
from upshot.v1 import outcome_pb2, service_pb2
from upshotd.adapters.grpc import (
    outcome_codec,
    structs,
    times,
)
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.ports import Codec
from upshotd.domain.message import Channel
from upshotd.domain.outcome import Outcome, OutcomeKind

#: A loaded machine makes an example slow, not wrong.
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CODEC: Codec = ContractCodec()


outcomes = st.builds(
    Outcome,
    outcome_id=texts,
    kind=st.sampled_from(OutcomeKind),
    event=texts,
    occur_us=instants,
    record_us=instants,
    profile_id=texts,
    user_id=texts,
    anonymous_id=texts,
    workflow_id=texts,
    workflow_version=st.integers(0, 2**62),
    run_id=texts,
    step_id=texts,
    message_id=texts,
    channel=st.sampled_from(Channel),
    provider=texts,
    reason=texts,
    link_url=st.sampled_from(["", "x" * 300, "x" * 20_000]),
    machine=st.booleans(),
    possible_duplicate=st.booleans(),
    properties=plains,
    recipient=texts,
    event_id=texts,
    provider_message_id=texts,
)


@UNHURRIED
@given(outcomes)
def test_every_field_of_an_outcome_is_encoded(outcome: Outcome) -> None:
    message = outcome_pb2.Outcome.FromString(CODEC.encode_outcome(outcome))
    assert structs.plain(message.properties) == outcome.properties
    assert times.instant_us(message.occur_time) == outcome.occur_us
    assert times.instant_us(message.record_time) == outcome.record_us
    assert (message.partition, message.position) == (0, 0)
    told = {field.name for field in message.DESCRIPTOR.fields} - {
        "properties", "occur_time", "record_time", "partition", "position",
    }  # fmt: skip
    assert all(getattr(message, name) == getattr(outcome, name) for name in told)


positions = st.integers(0, 2**63 - 1) | st.sampled_from([0, 127, 128, 16_383, 16_384, 2**28])


@UNHURRIED
@given(
    st.lists(st.tuples(positions, outcomes), max_size=4),
    st.sampled_from([0, 1, 15, 300]),
    texts,
    st.sampled_from([0, 1, 16, 1000]),
)
def test_a_response_made_of_stored_bytes_is_the_real_one(
    placed: list[tuple[int, Outcome]], partition: int, cursor: str, partition_count: int
) -> None:
    placed.sort(key=lambda place: place[0])
    rows = [(position, outcome_codec.encode_outcome(outcome)) for position, outcome in placed]
    expected = service_pb2.StreamOutcomesResponse(cursor=cursor, partition_count=partition_count)
    for position, body in rows:
        outcome = expected.outcomes.add()
        outcome.ParseFromString(body)
        outcome.partition, outcome.position = partition, position
    page = outcome_codec.response_bytes(rows, partition, cursor, partition_count)
    assert service_pb2.StreamOutcomesResponse.FromString(page) == expected


@pytest.mark.parametrize("first", [1, 16_380, 16_384, 20_000, 2**21 - 3, 2**28 - 3, 2**40])
@pytest.mark.parametrize("partition", [0, 1, 300])
@pytest.mark.parametrize("length", [10, 20_000])
def test_a_page_of_neighbours_is_the_real_one(first: int, partition: int, length: int) -> None:
    outcome = Outcome("x" * length, OutcomeKind.CUSTOM, "e", 1, 1, "p")
    body = outcome_codec.encode_outcome(outcome)
    page = outcome_codec.response_bytes([(first + n, body) for n in range(5)], partition, "c", 1)
    found = service_pb2.StreamOutcomesResponse.FromString(page)
    assert [(o.partition, o.position) for o in found.outcomes] == [
        (partition, first + n) for n in range(5)
    ]
    assert all(len(o.outcome_id) == length for o in found.outcomes)
