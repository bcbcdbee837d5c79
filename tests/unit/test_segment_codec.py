"""Segment's calls as JSON, and what they become."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.v1 import event_pb2, service_pb2
from upshotd.adapters.http import segment_codec as codec
from upshotd.adapters.http.moments import moment_us

SECOND = 1_000_000
#: 2026-01-01T00:00:00Z
NEW_YEAR_US = 1_767_225_600 * SECOND


def event_of(call: dict[str, Any], kind: str = "track") -> event_pb2.Event:
    body = codec.parse(json.dumps(call).encode())
    return codec.single(body, kind).events[0]


def plain(event: event_pb2.Event) -> dict[str, Any]:
    return MessageToDict(event, preserving_proto_field_name=True)


def events_of(body: dict[str, Any]) -> list[event_pb2.Event]:
    requests = codec.batch(codec.parse(json.dumps(body).encode()))
    return [event for request in requests for event in request.events]


def fault_of(event: event_pb2.Event) -> str:
    """Return why a call could not be read; the event that stands for it has no call."""
    assert event.WhichOneof("call") is None
    return event.context.fields[codec.FAULT_KEY].string_value


def test_a_track_call_keeps_everything_it_says() -> None:
    event = event_of(
        {
            "messageId": "m-1",
            "userId": "ana",
            "anonymousId": None,
            "event": "Trial Started",
            "properties": {"plan": "pro", "seats": 3, "price": 9.5, "old": None, "on": False},
            "context": {"library": {"name": "analytics-python"}, "tags": ["a", 1, {}, []]},
            "integrations": {"All": True},
            "timestamp": "2026-01-01T00:00:00.123Z",
            "sentAt": "2026-01-01T00:00:01+00:00",
        }
    )
    assert plain(event) == {
        "event_id": "m-1",
        "user_id": "ana",
        "event_time": "2026-01-01T00:00:00.123Z",
        "sent_time": "2026-01-01T00:00:01Z",
        "context": {"library": {"name": "analytics-python"}, "tags": ["a", 1, {}, []]},
        "integrations": {"All": True},
        "track": {
            "event": "Trial Started",
            "properties": {"plan": "pro", "seats": 3, "price": 9.5, "old": None, "on": False},
        },
    }


@pytest.mark.parametrize(
    ("kind", "call", "expected"),
    [
        ("identify", {"traits": {"email": "a@b.example"}}, {"traits": {"email": "a@b.example"}}),
        ("identify", {}, {}),
        (
            "group",
            {"groupId": 7, "traits": {"plan": "x"}},
            {"group_id": "7", "traits": {"plan": "x"}},
        ),
        ("alias", {"previousId": "anon-1"}, {"previous_id": "anon-1"}),
        ("page", {"name": "Home", "category": "Docs"}, {"name": "Home", "category": "Docs"}),
        (
            "page",
            {"properties": {"name": "Home", "category": "Docs"}},
            {
                "name": "Home",
                "category": "Docs",
                "properties": {"name": "Home", "category": "Docs"},
            },
        ),
        (
            "screen",
            {"name": "Start", "properties": {"a": 1}},
            {"name": "Start", "properties": {"a": 1}},
        ),
        ("screen", {}, {}),
        ("track", {"event": None, "properties": None}, {}),
    ],
)
def test_each_kind_of_call(kind: str, call: dict[str, Any], expected: dict[str, Any]) -> None:
    event = event_of({"userId": "ana", **call}, kind)
    assert event.WhichOneof("call") == kind
    assert plain(event)[kind] == expected


def test_a_call_of_its_own_path_is_of_that_kind_whatever_it_says() -> None:
    assert event_of({"type": "alias", "event": "x"}, "track").WhichOneof("call") == "track"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(42, "42"), (42.0, "42"), (1.5, "1.5"), (None, ""), ("", ""), ("ü", "ü"),
     (2**53 + 1, "9007199254740993"), (10**30 + 1, str(10**30 + 1))],
)  # fmt: skip
def test_ids_become_text_digit_by_digit(given: object, expected: str) -> None:
    event = event_of({"userId": given, "anonymousId": given, "messageId": given})
    assert (event.user_id, event.anonymous_id, event.event_id) == (expected,) * 3


@pytest.mark.parametrize("given", [True, [], {}, ["ana"], {"id": "ana"}])
def test_an_id_of_another_form_is_a_fault_and_no_anonymous_event(given: object) -> None:
    event = event_of({"userId": given, "anonymousId": "a-1", "event": "x"})
    assert fault_of(event) == "`userId` is neither a text nor a number"


def test_numbers_that_no_double_counts_keep_their_digits() -> None:
    properties = {"a": 2**53, "b": 2**53 + 1, "c": -(2**63), "d": 10**25, "e": 1e300}
    event = event_of({"event": "x", "properties": properties})
    assert plain(event)["track"]["properties"] == {
        "a": 2**53, "b": str(2**53 + 1), "c": str(-(2**63)), "d": str(10**25), "e": 1e300,
    }  # fmt: skip


def test_of_a_repeated_key_the_last_value_counts() -> None:
    body = codec.parse(b'{"userId":"a","userId":"b"}')
    assert codec.single(body, "identify").events[0].user_id == "b"


def test_half_of_an_emoji_spoils_a_character_and_not_the_batch() -> None:
    body = codec.parse(b'{"batch":[{"type":"track","event":"cut \\ud83d"},{"type":"track"}]}')
    (request,) = codec.batch(body)
    assert request.events[0].track.event == "cut ?"
    assert len(request.events) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nothing", b"[]", b'"x"', b"NaN", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e999}',
     b"\xff\xfe", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":' * 5_000, b'{"a":1}{"b":2}'],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.parse(body)


def nested(levels: int, *, lists: bool) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value] if lists else {"a": value}
    return value


@pytest.mark.parametrize("lists", [True, False])
def test_what_the_server_can_parse_is_taken_and_what_is_deeper_is_that_calls_fault(
    lists: bool,
) -> None:
    good, bad, other = events_of(
        {
            "batch": [
                {"type": "track", "properties": {"deep": nested(30, lists=lists)}},
                {"type": "track", "messageId": "m", "context": {"deep": nested(31, lists=lists)}},
                {"type": "track", "event": "x"},
            ]
        }
    )
    request = service_pb2.IngestRequest(events=[good])
    assert service_pb2.IngestRequest.FromString(request.SerializeToString()) == request
    assert fault_of(bad) == "`context` is nested deeper than 30"
    assert bad.event_id == "m"
    assert other.track.event == "x"


@pytest.mark.parametrize("name", ["properties", "context", "integrations"])
@pytest.mark.parametrize("value", ["text", 1, [], True])
def test_what_must_be_an_object_and_is_none_is_a_fault(name: str, value: object) -> None:
    event = event_of({"event": "x", name: value})
    assert fault_of(event) == f"`{name}` is not an object"


@pytest.mark.parametrize("call", [None, 1, "track", ["track"]])
def test_a_call_that_is_no_object_spoils_nothing_else(call: object) -> None:
    bad, good = events_of({"batch": [call, {"type": "track", "event": "x"}]})
    assert fault_of(bad) == "the call is not an object"
    assert good.track.event == "x"


def test_a_delete_is_the_wish_that_somebody_be_erased():
    (event,) = events_of({"batch": [{"type": "delete", "messageId": "m", "userId": "ana"}]})
    assert event.WhichOneof("call") == "delete"


@pytest.mark.parametrize("kind", [None, "", "erase", "Track", 7, ["track"]])
def test_a_type_that_nobody_knows_has_no_call_but_keeps_its_ids(kind: object) -> None:
    (event,) = events_of({"batch": [{"type": kind, "messageId": "m", "userId": "ana"}]})
    assert event.WhichOneof("call") is None
    assert (event.event_id, event.user_id) == ("m", "ana")


def test_what_a_batch_says_goes_into_every_call_and_the_calls_own_words_win() -> None:
    first, second = events_of(
        {
            "context": {"app": {"name": "shop", "build": "7"}, "locale": "de"},
            "integrations": {"All": False},
            "sentAt": "2026-01-01T00:00:02Z",
            "batch": [
                {"type": "track", "context": {"app": {"name": "own"}, "ip": "::1"},
                 "sentAt": "2026-01-01T00:00:01Z"},
                {"type": "track", "integrations": {"All": True}},
            ],
        }
    )  # fmt: skip
    assert plain(first)["context"] == {"app": {"name": "own"}, "locale": "de", "ip": "::1"}
    assert plain(first)["integrations"] == {"All": False}
    assert plain(first)["sent_time"] == "2026-01-01T00:00:01Z"
    assert plain(second)["context"] == {"app": {"name": "shop", "build": "7"}, "locale": "de"}
    assert plain(second)["integrations"] == {"All": True}
    assert plain(second)["sent_time"] == "2026-01-01T00:00:02Z"


def test_a_batch_of_any_allowed_length_is_split_in_order() -> None:
    calls = [{"type": "track", "messageId": f"m-{n}"} for n in range(2_500)]
    requests = list(codec.batch({"batch": calls}))
    assert [len(request.events) for request in requests] == [1_000, 1_000, 500]
    ids = [event.event_id for request in requests for event in request.events]
    assert ids == [f"m-{n}" for n in range(2_500)]


def test_a_request_never_outgrows_a_grpc_message() -> None:
    # Zeros are what grows most: 2 bytes of JSON, 11 of a Struct.
    small = {"type": "track", "properties": {"zeros": [0] * 1_000}}
    huge = {"type": "track", "properties": {"zeros": [0] * 250_000}}
    sizes = [r.ByteSize() for r in codec.batch({"batch": [small] * 40 + [huge] + [small] * 40})]
    assert len(sizes) > 1
    assert max(sizes) < 4 * 1024 * 1024


def test_an_empty_batch_asks_for_nothing() -> None:
    assert list(codec.batch({"batch": []})) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"batch": None},
        {"batch": {"type": "track"}},
        {"batch": [{}] * 2_501},
        {"batch": [], "context": "x"},
        {"batch": [], "context": {"deep": nested(31, lists=False)}},
        {"batch": [{}], "context": {"large": "x" * 33_000}},
    ],
)
def test_a_batch_that_is_none_is_refused_before_anything_of_it_is_sent(
    body: dict[str, Any],
) -> None:
    with pytest.raises(codec.Malformed):
        codec.batch(body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-01T00:00:00Z", NEW_YEAR_US),
        ("2026-01-01T00:00:00.5Z", NEW_YEAR_US + 500_000),
        ("2026-01-01T00:00:00,123456789Z", NEW_YEAR_US + 123_456),
        ("2026-01-01T02:00:00+02:00", NEW_YEAR_US),
        ("2026-01-01T02:00:00+0200", NEW_YEAR_US),
        ("2025-12-31 19:00:00-05:00", NEW_YEAR_US),
        ("2026-01-01T00:00", NEW_YEAR_US),
        ("2026-01-01", NEW_YEAR_US),
        ("20260101", NEW_YEAR_US),
        (" 2026-01-01t00:00:00z ", NEW_YEAR_US),
        (1_767_225_600, NEW_YEAR_US),
        (1_767_225_600.25, NEW_YEAR_US + 250_000),
        (1_767_225_600_000, NEW_YEAR_US),
        (1_767_225_600_000_000, NEW_YEAR_US),
        (1_767_225_600_000_000_000, NEW_YEAR_US),
        ("1767225600", NEW_YEAR_US),
        ("1767225600000", NEW_YEAR_US),
        ("1767225600.5", NEW_YEAR_US + 500_000),
        (0, 0),
        ("1969-12-31T23:59:59.5Z", -500_000),
        ("yesterday", None),
        ("", None),
        ("Thu, 01 Jan 2026 00:00:00 GMT", None),
        ("2026-13-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        (10**25, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_times_in_all_their_forms(value: object, expected: int | None) -> None:
    assert moment_us(value) == expected


def test_a_time_that_says_nothing_is_left_out() -> None:
    event = event_of({"event": "x", "timestamp": "soon", "sentAt": {}})
    assert not event.HasField("event_time")
    assert not event.HasField("sent_time")


def test_the_original_time_goes_with_the_senders_clock() -> None:
    event = event_of(
        {"originalTimestamp": "2026-01-01T00:00:00Z", "timestamp": "2026-01-02T00:00:00Z"}
    )
    assert plain(event)["event_time"] == "2026-01-01T00:00:00Z"


def test_a_time_that_segment_has_corrected_is_not_corrected_again() -> None:
    event = event_of(
        {
            "originalTimestamp": "2026-01-01T05:00:00Z",
            "sentAt": "2026-01-01T05:00:01Z",
            "receivedAt": "2026-01-01T00:00:01Z",
            "timestamp": "2026-01-01T00:00:00Z",
        }
    )
    assert plain(event)["event_time"] == "2026-01-01T00:00:00Z"
    assert not event.HasField("sent_time")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = ("type", "messageId", "userId", "event", "name", "properties", "traits", "context",
         "integrations", "timestamp", "originalTimestamp", "receivedAt", "sentAt", "groupId",
         "previousId", "category")  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON) | JSON, max_size=4))
def test_any_json_becomes_one_event_per_call(calls: list[object]) -> None:
    try:
        body = codec.parse(json.dumps({"batch": calls}).encode())
    except codec.Malformed:
        assert any(word in json.dumps(calls) for word in ("Infinity",))
        return
    events = [event for request in codec.batch(body) for event in request.events]
    assert len(events) == len(calls)
    for event in events:
        event.SerializeToString()
