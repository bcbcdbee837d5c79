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
from upshotd.application.codec import Codec
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
    template_id=texts,
    variant=texts,
)


def _decoded(element: bytes) -> outcome_pb2.Outcome:
    (found,) = service_pb2.StreamOutcomesResponse.FromString(element).outcomes
    return found


@UNHURRIED
@given(outcomes)
def test_every_field_of_an_outcome_is_encoded(outcome: Outcome) -> None:
    message = _decoded(CODEC.encode_outcome(outcome, 3, 77))
    assert (message.partition, message.position) == (3, 77)
    assert structs.plain(message.properties) == outcome.properties
    assert times.instant_us(message.occur_time) == outcome.occur_us
    assert times.instant_us(message.record_time) == outcome.record_us
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
    encoded = [outcome_codec.encode_outcome(o, partition, position) for position, o in placed]
    expected = service_pb2.StreamOutcomesResponse(cursor=cursor, partition_count=partition_count)
    for (position, _), element in zip(placed, encoded, strict=True):
        expected.outcomes.append(_decoded(element))
        last = expected.outcomes[-1]
        assert (last.partition, last.position) == (partition, position)
    page = outcome_codec.response_bytes(b"".join(encoded), cursor, partition_count)
    assert service_pb2.StreamOutcomesResponse.FromString(page) == expected


@pytest.mark.parametrize("position", [1, 127, 128, 16_383, 16_384, 2**28, 2**40])
@pytest.mark.parametrize("partition", [0, 1, 300])
@pytest.mark.parametrize("length", [10, 200, 20_000])
def test_an_outcome_of_any_length_knows_its_place(
    position: int, partition: int, length: int
) -> None:
    outcome = Outcome("x" * length, OutcomeKind.CUSTOM, "e", 1, 1, "p")
    found = _decoded(outcome_codec.encode_outcome(outcome, partition, position))
    assert (found.partition, found.position) == (partition, position)
    assert len(found.outcome_id) == length


def test_an_erased_outcome_says_what_happened_at_its_place_and_nothing_of_the_person():
    outcome = Outcome(
        "o1",
        OutcomeKind.MESSAGE_CLICKED,
        "Message Clicked",
        occur_us=100,
        record_us=100,
        profile_id="p",
        user_id="ana",
        anonymous_id="a1",
        run_id="r1",
        recipient="ana@example.com",
        link_url="https://example.com/ana",
        properties={"ip": "192.0.2.1"},
    )
    body = CODEC.encode_outcome(outcome, 3, 7)
    cleared = CODEC.erased_outcome(body, {"ana": 100}, {})
    assert cleared is not None
    (read,) = service_pb2.StreamOutcomesResponse.FromString(cleared).outcomes
    assert (read.outcome_id, read.user_id, read.run_id) == ("o1", "ana", "r1")
    assert (read.partition, read.position) == (3, 7)
    assert (read.recipient, read.link_url, len(read.properties.fields)) == ("", "", 0)
    assert CODEC.erased_outcome(cleared, {"ana": 100}, {}) is None, "there is nothing more to do"


@pytest.mark.parametrize(
    ("users", "anonymous", "theirs"),
    [
        ({"ana": 100}, {}, True),
        ({"ana": 99}, {}, False),
        ({"ben": 100}, {}, False),
        ({}, {"a1": 100}, True),
        ({}, {"a2": 100}, False),
        ({}, {}, False),
    ],
)
def test_outcomes_of_others_and_of_later_are_left_alone(
    users: dict[str, int], anonymous: dict[str, int], theirs: bool
) -> None:
    outcome = Outcome(
        *("o1", OutcomeKind.MESSAGE_SENT, "Message Sent", 100, 100, "p", "ana", "a1"),
        recipient="ana@example.com",
    )
    body = CODEC.encode_outcome(outcome, 0, 1)
    assert (CODEC.erased_outcome(body, users, anonymous) is not None) is theirs
