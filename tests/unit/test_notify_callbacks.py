"""Twilio Notify's delivery callbacks as engagements."""

import json

import pytest

from upshot.v1 import engagement_pb2 as pb
from upshotd.adapters.http.facts import Fact
from upshotd.adapters.http.twilio_notify import facts
from upshotd.domain.devices import GONE, digest

SENT = {"sid": "projects/p/messages/1", "type": "fcm", "address": "phone", "status": "SENT"}
FAILED = {"type": "fcm", "address": "tablet", "status": "FAILED", "ErrorCode": "52110"}
UNREGISTERED = {"type": "fcm", "address": "watch", "status": "FAILED", "error_code": 52119}


def told(*states: object, **changes: str) -> list[Fact]:
    form = {
        "NotificationSid": "NT1",
        "AccountSid": "AC1",
        "ServiceSid": "IS1",
        "Count": str(len(states)),
        "SequenceId": "0",
        "IsFinal": "true",
        **changes,
    }
    pairs = [(name, value) for name, value in form.items() if value]
    return list(facts("t", [*pairs, *(("DeliveryState", json.dumps(state)) for state in states)]))


def only(found: list[Fact]) -> pb.Engagement:
    (fact,) = found
    assert fact.token == "t"
    return fact.engagement


def test_one_device_that_took_it_is_enough() -> None:
    engagement = only(told(FAILED, SENT))
    assert engagement.kind == pb.ENGAGEMENT_KIND_ACCEPTED
    assert engagement.engagement_id == "twilio_notify:NT1:accepted"
    assert not engagement.data


def test_a_device_that_is_gone_is_named_by_its_digest_alone() -> None:
    engagement = only(told(SENT, UNREGISTERED, FAILED))
    assert engagement.kind == pb.ENGAGEMENT_KIND_ACCEPTED
    assert list(engagement.data[GONE]) == [digest("watch")]
    assert "watch" not in str(engagement)


def test_where_none_took_it_the_first_error_is_told() -> None:
    engagement = only(told(FAILED, UNREGISTERED))
    assert engagement.kind == pb.ENGAGEMENT_KIND_UNDELIVERED
    assert (engagement.reason, engagement.data["error_code"]) == ("Twilio error 52110", 52110)
    assert list(engagement.data[GONE]) == [digest("watch")]


def test_where_all_are_gone_it_has_bounced() -> None:
    engagement = only(told(UNREGISTERED))
    assert engagement.kind == pb.ENGAGEMENT_KIND_BOUNCED
    assert engagement.engagement_id == "twilio_notify:NT1:bounced"


def test_a_notification_to_nobody_did_not_arrive() -> None:
    engagement = only(told())
    assert engagement.kind == pb.ENGAGEMENT_KIND_UNDELIVERED
    assert engagement.reason == "Notify had no binding for it"


@pytest.mark.parametrize("changes", [{"IsFinal": "false"}, {"IsFinal": ""}, {"SequenceId": "1"}])
def test_another_part_may_say_that_one_took_it(changes: dict[str, str]) -> None:
    assert told(FAILED, **changes) == []
    assert only(told(SENT, **changes)).kind == pb.ENGAGEMENT_KIND_ACCEPTED


def test_several_may_stand_in_one_list() -> None:
    assert only(told([FAILED, SENT])).kind == pb.ENGAGEMENT_KIND_ACCEPTED


@pytest.mark.parametrize("sid", ["", "N" * 101])
def test_what_has_no_id_is_nothing(sid: str) -> None:
    assert told(SENT, NotificationSid=sid) == []


@pytest.mark.parametrize(
    "state", ["[7, null]", "7", "{", "{}", '{"status": null, "ErrorCode": "x"}']
)
def test_a_state_of_no_sense_is_no_success(state: str) -> None:
    form = [("NotificationSid", "NT1"), ("IsFinal", "True"), ("DeliveryState", state)]
    engagement = only(list(facts("t", form)))
    assert engagement.kind == pb.ENGAGEMENT_KIND_UNDELIVERED
    assert "error_code" not in engagement.data
