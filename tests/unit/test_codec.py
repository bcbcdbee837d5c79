"""The contract's bytes: nothing is lost between a message, a value and what is stored."""

import math

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from tests.sim import phone
from upshot.v1 import engagement_pb2, event_pb2, outcome_pb2
from upshotd.adapters.grpc import (
    engagement_codec,
    event_codec,
    structs,
    times,
)
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.adapters.grpc.engagement_codec import RefusedEngagement
from upshotd.application.codec import Codec
from upshotd.domain.event import Event, EventType, faults
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.state import IdKind, StoredEvent

CODEC: Codec = ContractCodec()
NOW_US = 1_764_000_000_000_000

# -- events ------------------------------------------------------------------------------------


def read(message: event_pb2.Event) -> Event:
    """Return the event as it comes, which must equal the event as it is stored."""
    event = event_codec.event(message, NOW_US)
    stored = StoredEvent(event.event_id, event.payload, event.receive_us, event.event_us)
    assert CODEC.decode_event(stored) == event
    assert event.size == len(event.payload) == message.ByteSize()
    return event


def track(**fields: object) -> event_pb2.Event:
    return event_pb2.Event(event_id="e", user_id="u", track={"event": "T"}, **fields)  # type: ignore[arg-type]


def test_every_call_of_the_spec_is_read() -> None:
    properties = {"properties": structs.struct({"a": 1})}
    traits = {"traits": structs.struct({"a": 1})}

    def of(**call: object) -> Event:
        return read(event_pb2.Event(event_id="e", anonymous_id="x", **call))  # type: ignore[arg-type]

    tracked = of(track={"event": "T", **properties})
    assert (tracked.type, tracked.name, tracked.properties) == (EventType.TRACK, "T", {"a": 1})
    assert (tracked.event_id, tracked.user_id, tracked.anonymous_id) == ("e", "", "x")
    assert (of(identify=traits).type, of(identify=traits).traits) == (EventType.IDENTIFY, {"a": 1})
    group = of(group={"group_id": "g", **traits})
    assert (group.type, group.group_id, group.traits) == (EventType.GROUP, "g", {"a": 1})
    page = of(page={"name": "P", **properties})
    assert (page.type, page.name, page.properties) == (EventType.PAGE, "P", {"a": 1})
    screen = of(screen={"name": "S", **properties})
    assert (screen.type, screen.name, screen.properties) == (EventType.SCREEN, "S", {"a": 1})
    alias = of(alias={"previous_id": "p"})
    assert (alias.type, alias.previous_id) == (EventType.ALIAS, "p")
    empty = of(track={"event": "T"}, context=Struct())
    assert (empty.properties, empty.traits, empty.context) == ({}, {}, {})


def test_an_event_without_a_call_is_read_and_refused_by_the_domain() -> None:
    event = read(event_pb2.Event(event_id="e", user_id="u"))
    assert event.type is EventType.UNSPECIFIED
    assert faults(event)[0] == "MISSING_CALL"
    scheduled = event_pb2.Event(event_id="e", user_id="u", scheduled={"workflow_id": "w"})
    outside = event_codec.event(scheduled, NOW_US)
    assert outside.type is EventType.UNSPECIFIED, "only the server makes these"


def test_the_event_of_a_schedule_is_stored_as_it_is_made() -> None:
    for identity in ((IdKind.USER, "u"), (IdKind.ANONYMOUS, "a")):
        event = CODEC.scheduled_event("e", identity, "weekly", NOW_US - 5, NOW_US)
        assert (event.type, event.name, event.event_us) == (
            EventType.SCHEDULED,
            "weekly",
            NOW_US - 5,
        )
        assert (event.user_id or event.anonymous_id) == identity[1]
        assert faults(event)[0] == ""
        stored = StoredEvent("e", event.payload, event.receive_us, event.event_us)
        assert CODEC.decode_event(stored) == event


def test_our_own_events_and_groups_are_known_by_their_context() -> None:
    context = structs.struct({"library": {"name": "upshot"}, "groupId": "g"})
    event = read(track(context=context))
    assert event.own
    assert event.group_of == "g"


def test_an_event_has_the_time_of_a_right_clock() -> None:
    hour = 3_600_000_000
    wrong = NOW_US + 5 * hour
    event = track(event_time=times.timestamp(wrong - hour), sent_time=times.timestamp(wrong))
    assert read(event).event_us == NOW_US - hour
    assert read(track()).event_us == NOW_US
    assert read(track(event_time=times.timestamp(wrong))).event_us == NOW_US


@pytest.mark.parametrize("seconds", [-(2**63), 2**63 - 1])
@pytest.mark.parametrize("sent", [-(2**63), 0, 2**63 - 1])
def test_no_time_is_too_strange_to_be_taken(seconds: int, sent: int) -> None:
    odd = track(
        event_time=Timestamp(seconds=seconds, nanos=-(2**31)), sent_time=Timestamp(seconds=sent)
    )
    event = read(odd)
    assert times.TIMESTAMP_MIN_US <= event.event_us <= NOW_US
    assert CODEC.event_json(event.payload)


def test_an_event_is_shown_as_json_cut_to_64_kib() -> None:
    event = read(track(context=structs.struct({"a": "é" * 40_000})))
    text = CODEC.event_json(event.payload)
    assert len(text.encode()) in (65_535, 65_536)
    small = read(track())
    expected = '{"event_id": "e", "user_id": "u", "track": {"event": "T"}}'
    assert CODEC.event_json(small.payload) == expected
    assert CODEC.event_json(b"\xff") == ""


def test_an_event_with_nan_is_shown_although_json_has_none() -> None:
    context = Struct()
    context["a"] = math.nan
    assert "nan" in CODEC.event_json(read(track(context=context)).payload)


# -- engagements -------------------------------------------------------------------------------


def opened(**fields: object) -> engagement_pb2.Engagement:
    base = {"message_id": "m", "kind": engagement_pb2.ENGAGEMENT_KIND_OPENED}
    return engagement_pb2.Engagement(**(base | fields))  # type: ignore[arg-type]


def engagement(message: engagement_pb2.Engagement) -> Engagement:
    read = engagement_codec.engagement(message, NOW_US, phone)
    assert isinstance(read, Engagement)
    return read


def test_an_engagement_is_read() -> None:
    message = engagement_pb2.Engagement(
        engagement_id="x",
        provider_message={"provider": "p", "provider_message_id": "1"},  # type: ignore[arg-type]
        kind=engagement_pb2.ENGAGEMENT_KIND_CLICKED,
        occur_time=times.timestamp(NOW_US - 5),
        link_url="https://a.example/",
        reason="r" * 600,
        machine=True,
        data=structs.struct({"a": 1}),
    )
    assert engagement(message) == Engagement(
        "x", EngagementKind.CLICKED, NOW_US - 5, "", "p", "1", "", "https://a.example/", "r" * 500,
        True, {"a": 1},
    )  # fmt: skip
    assert engagement(opened()).occur_us == NOW_US
    assert engagement(opened(occur_time=times.timestamp(NOW_US + 5))).occur_us == NOW_US


def test_the_same_fact_without_an_id_is_recognised_and_another_is_not() -> None:
    future = times.timestamp(NOW_US + 5)
    facts = [
        opened(),
        opened(occur_time=future),
        opened(occur_time=times.timestamp(NOW_US)),
        opened(machine=True),
        opened(link_url="x"),
        opened(message_id="m2"),
        opened(kind=engagement_pb2.ENGAGEMENT_KIND_CLICKED),
        opened(provider_message={"provider": "p", "provider_message_id": "m"}),
    ]
    ids = [engagement(fact).engagement_id for fact in facts]
    assert len(set(ids)) == len(facts)
    assert all(id.startswith("derived-") and len(id) <= 200 for id in ids)
    later = [engagement_codec.engagement(fact, NOW_US + 9, phone) for fact in facts]
    assert [one.engagement_id for one in later if isinstance(one, Engagement)] == ids


def answered(**fields: object) -> engagement_pb2.Engagement:
    base = {
        "engagement_id": "a",
        "recipient": {"channel": outcome_pb2.CHANNEL_SMS, "address": "+1 555 0001"},
        "kind": engagement_pb2.ENGAGEMENT_KIND_REPLIED,
    }
    return engagement_pb2.Engagement(**(base | fields))  # type: ignore[arg-type]


def test_an_answer_names_the_number_as_messages_go_to_it() -> None:
    read = engagement(answered())
    assert (read.recipient, read.message_id, read.provider) == ("sms:+15550001", "", "")
    assert engagement(opened()).recipient == ""


def decided(**data: object) -> engagement_pb2.Engagement:
    return opened(kind=engagement_pb2.ENGAGEMENT_KIND_DENIED, data=structs.struct(data))


def said(kind: str, message_id: str = "m", **data: object) -> engagement_pb2.Engagement:
    number = engagement_pb2.EngagementKind.Value(f"ENGAGEMENT_KIND_{kind}")
    return opened(kind=number, message_id=message_id, data=structs.struct(data))


def test_a_decision_comes_with_a_comment_or_without() -> None:
    assert engagement(decided()).data == {}
    assert engagement(decided(comment="")).data == {"comment": ""}
    whole = engagement(decided(comment="x" * 2000, ticket=7))
    assert (whole.kind, whole.data["ticket"]) == (EngagementKind.DENIED, 7)
    assert engagement(said("ASKED", body="é" * 2000)).kind is EngagementKind.ASKED


def test_a_decision_without_an_id_is_one_fact_and_two_questions_are_two() -> None:
    assert engagement(decided(comment="a")).engagement_id == engagement(decided()).engagement_id
    facts = [
        said("ASKED", body="Why?"),
        said("ASKED", body="Who?"),
        said("ASKED", "m2", body="Why?"),
        said("ANSWERED", body="Why?"),
        said("ANSWERED", body="Ana"),
        said("ANSWERED", body="Ana", question_id="q"),
        said("ANSWERED", body="An", question_id="aq"),
    ]
    ids = [engagement(fact).engagement_id for fact in facts]
    assert len(set(ids)) == len(facts)
    assert [engagement(fact).engagement_id for fact in facts] == ids


NAN = Struct()
NAN["a"] = math.nan


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        (opened(engagement_id="x" * 201), "INVALID_ENGAGEMENT_ID", "engagement_id"),
        (opened(engagement_id="a\nb"), "INVALID_ENGAGEMENT_ID", "engagement_id"),
        (opened(message_id=""), "MISSING_TARGET", "target"),
        (engagement_pb2.Engagement(kind=1), "MISSING_TARGET", "target"),  # type: ignore[arg-type]
        (opened(provider_message={"provider": "p"}), "MISSING_TARGET", "provider_message"),
        (
            opened(provider_message={"provider": "p", "provider_message_id": "x" * 501}),
            "INVALID_TARGET",
            "provider_message.provider_message_id",
        ),
        (
            opened(provider_message={"provider": "p\0", "provider_message_id": "x"}),
            "INVALID_TARGET",
            "provider_message.provider",
        ),
        (
            answered(recipient={"channel": outcome_pb2.CHANNEL_EMAIL, "address": "a@b.example"}),
            "INVALID_TARGET",
            "recipient.channel",
        ),
        (answered(recipient={"address": "+15550001"}), "INVALID_TARGET", "recipient.channel"),
        (
            answered(recipient={"channel": outcome_pb2.CHANNEL_SMS, "address": "Bank"}),
            "INVALID_TARGET",
            "recipient.address",
        ),
        (
            answered(recipient={"channel": outcome_pb2.CHANNEL_SMS}),
            "INVALID_TARGET",
            "recipient.address",
        ),
        (answered(kind=engagement_pb2.ENGAGEMENT_KIND_OPENED), "INVALID_KIND", "kind"),
        (answered(engagement_id=""), "INVALID_ENGAGEMENT_ID", "engagement_id"),
        (opened(kind=0), "MISSING_KIND", "kind"),
        (opened(kind=77), "INVALID_KIND", "kind"),
        (opened(link_url="x" * 2049), "INVALID_LINK_URL", "link_url"),
        (opened(data=NAN), "INVALID_DATA", "data"),
        (opened(data=structs.struct({"a": "x" * 40_000})), "INVALID_DATA", "data"),
        (decided(comment="x" * 2001), "INVALID_DATA", "data.comment"),
        (decided(comment=7), "INVALID_DATA", "data.comment"),
        (said("ASKED"), "INVALID_DATA", "data.body"),
        (said("ASKED", body=" "), "INVALID_DATA", "data.body"),
        (said("ASKED", body=["Why?"]), "INVALID_DATA", "data.body"),
        (said("ASKED", body="x" * 2001), "INVALID_DATA", "data.body"),
        (said("ANSWERED"), "INVALID_DATA", "data.body"),
        (said("ANSWERED", body="No", question_id=1), "INVALID_DATA", "data.question_id"),
        (answered(kind=engagement_pb2.ENGAGEMENT_KIND_APPROVED), "INVALID_KIND", "kind"),
        (
            opened(kind=engagement_pb2.ENGAGEMENT_KIND_APPROVED, machine=True),
            "INVALID_KIND",
            "machine",
        ),
    ],
)
def test_an_engagement_that_cannot_be_taken(
    message: engagement_pb2.Engagement, reason: str, field: str
) -> None:
    refused = engagement_codec.engagement(message, NOW_US, phone)
    assert isinstance(refused, RefusedEngagement)
    assert refused.reason == reason
    assert [violation.field for violation in refused.violations] == [f"engagement.{field}"]
