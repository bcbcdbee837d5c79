"""What Segment is told of an outcome, and what it is not told."""

from datetime import UTC, datetime

import orjson
import pytest
from google.protobuf.struct_pb2 import Struct

from tests.relay_outcomes import ID, custom, outcome
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import KINDS_DEFAULT, CallRules
from upshotd.adapters.relay.far_end import NotExported
from upshotd.adapters.relay.track import CALL_BYTES_MAX, encoded, track_call
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind, event_name

RULES = CallRules(version="1.2.3")


def call(made: pb.Outcome, rules: CallRules = RULES) -> dict[str, object]:
    found = track_call(made, rules)
    assert isinstance(found, dict)
    return found


def properties(made: pb.Outcome) -> dict[str, object]:
    found = call(made)["properties"]
    assert isinstance(found, dict)
    return found


def test_a_message_sent_is_told_whole() -> None:
    made = outcome(
        workflow_id="welcome",
        workflow_version=3,
        run_id="run-1",
        step_id="mail",
        message_id="msg-1",
        channel=pb.CHANNEL_EMAIL,
        provider="smtp",
        event_id="evt-1",
        possible_duplicate=True,
        variant="nudge/video",
        recipient="ana@example.com",
        provider_message_id="<1@example.com>",
    )

    assert call(made) == {
        "type": "track",
        "messageId": f"upshot-{ID}",
        "event": "Message Sent",
        "userId": "ana",
        "timestamp": "2026-01-31T12:00:00.123Z",
        "properties": {
            "message_id": "msg-1",
            "workflow_id": "welcome",
            "workflow_version": 3,
            "run_id": "run-1",
            "step_id": "mail",
            "channel": "email",
            "provider": "smtp",
            "event_id": "evt-1",
            "outcome_id": ID,
            "possible_duplicate": True,
            "variant": "nudge/video",
        },
        "context": {
            "library": {"name": "upshot", "version": "1.2.3"},
            "upshot": {"outcome_id": ID},
        },
        "integrations": {"Upshot": False},
    }


def test_what_is_empty_is_left_out() -> None:
    assert properties(outcome()) == {"outcome_id": ID}


@pytest.mark.parametrize("kind", sorted(OutcomeKind))
def test_messages_and_custom_facts_go_out_and_runs_stay_unless_selected(kind: OutcomeKind) -> None:
    found = track_call(outcome(kind), RULES)

    about = ("MESSAGE_", "AUDIENCE_", "APPROVAL_")
    exported = kind.name.startswith(about) or kind is OutcomeKind.CUSTOM
    assert (found is not NotExported.NOT_SELECTED) is exported
    if kind is not OutcomeKind.UNSPECIFIED:
        chosen = CallRules(version="1", kinds=frozenset({kind}))
        assert isinstance(track_call(outcome(kind), chosen), dict)


@pytest.mark.parametrize(
    ("kind", "event", "facts"),
    [
        (OutcomeKind.APPROVAL_REQUESTED, "Approval Requested", {"level": 2, "reviewers": 3}),
        (OutcomeKind.APPROVAL_DECIDED, "Approval Decided", {"decision": "DENIED"}),
        (OutcomeKind.APPROVAL_ASKED, "Approval Asked", {"question_id": "q"}),
        (OutcomeKind.APPROVAL_ANSWERED, "Approval Answered", {"question_id": "q"}),
    ],
)
def test_an_approval_is_told_of_without_who_decides_and_what_they_wrote(
    kind: OutcomeKind, event: str, facts: dict[str, object]
) -> None:
    struct = Struct()
    of_people = ("summary", "comment", "decided_by", "asked_by", "question", "answer")
    struct.update({**dict.fromkeys(of_people, "Ana's flat"), **facts})
    made = outcome(kind, properties=struct, step_id="pay", reason="ESCALATED")
    told = call(made)
    assert told["event"] == event
    assert told["properties"] == {"outcome_id": ID, "step_id": "pay", "reason": "ESCALATED"} | facts


def test_every_name_is_that_of_the_log_but_one() -> None:
    names = {kind: call(outcome(kind))["event"] for kind in KINDS_DEFAULT}

    differing = {kind: name for kind, name in names.items() if name != event_name(kind)}
    assert differing == {OutcomeKind.MESSAGE_IGNORED: "Message Opened"}


def test_an_ignored_message_is_an_open_that_was_none() -> None:
    ignored = outcome(OutcomeKind.MESSAGE_IGNORED)
    opened = outcome(OutcomeKind.MESSAGE_OPENED)

    assert call(ignored)["event"] == call(opened)["event"] == "Message Opened"
    assert properties(ignored)["opened"] is False
    assert properties(opened)["opened"] is True
    assert "opened" not in properties(outcome(OutcomeKind.MESSAGE_CLICKED))


def test_an_open_by_software_says_so() -> None:
    found = properties(outcome(OutcomeKind.MESSAGE_OPENED, machine=True))

    assert found["machine"] is True


def test_names_in_the_settings_go_over_the_outcomes_own() -> None:
    rules = CallRules(version="1", names={OutcomeKind.MESSAGE_SENT: "Email Sent"})

    assert call(outcome(), rules)["event"] == "Email Sent"
    assert call(outcome(OutcomeKind.MESSAGE_CLICKED), rules)["event"] == "Message Clicked"


@pytest.mark.parametrize("channel", [c for c in Channel if c is not Channel.UNSPECIFIED])
def test_channels_are_lower_case_words(channel: Channel) -> None:
    assert properties(outcome(channel=int(channel)))["channel"] == channel.name.lower()


def test_a_person_not_yet_known_is_anonymous() -> None:
    found = call(outcome(user_id="", anonymous_id="anon-1"))

    assert found["anonymousId"] == "anon-1"
    assert "userId" not in found


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (outcome(user_id=""), NotExported.NO_PERSON),
        (outcome(OutcomeKind.CUSTOM, event=""), NotExported.NO_NAME),
        (outcome(outcome_id=""), NotExported.NO_ID),
        (outcome(outcome_id="x" * 94), NotExported.NO_ID),
        (pb.Outcome(kind=99, outcome_id=ID, user_id="ana"), NotExported.NOT_SELECTED),  # type: ignore[arg-type]
    ],
)
def test_what_segment_would_drop_in_silence_is_told_apart(
    made: pb.Outcome, reason: NotExported
) -> None:
    assert track_call(made, RULES) is reason


def test_the_longest_message_id_still_fits() -> None:
    assert len(str(call(outcome(outcome_id="x" * 93))["messageId"])) == 100


def test_addresses_stay_here_unless_asked_for() -> None:
    asked = CallRules(version="1", include_recipient=True)
    email = outcome(channel=pb.CHANNEL_EMAIL, recipient="ana@example.com")
    sms = outcome(channel=pb.CHANNEL_SMS, recipient="+41790000000")

    assert b"ana@" not in orjson.dumps(call(email))
    assert call(email, asked)["context"]["traits"] == {"email": "ana@example.com"}  # type: ignore[index]
    assert b"+4179" not in orjson.dumps(call(sms, asked))


def test_an_emit_step_says_what_it_likes() -> None:
    emitted = {
        "plan": "pro",
        "count": 3,
        "ratio": 0.5,
        "huge": 1e300,
        "gone": None,
        "ok": True,
        "list": [1, {"deep": "x"}],
        "workflow_id": "its own word",
        "nan": float("nan"),
    }
    found = properties(custom(emitted, workflow_id="welcome"))

    assert found == {**emitted, "nan": None, "outcome_id": ID}
    assert type(found["count"]) is int
    orjson.dumps(found)


def test_what_a_provider_said_of_the_person_is_not_passed_on() -> None:
    data = Struct()
    data.update({"ip": "192.0.2.1", "user_agent": "Mail/1.0"})

    found = properties(outcome(OutcomeKind.MESSAGE_OPENED, properties=data))
    assert found == {"opened": True, "outcome_id": ID}


def test_a_missing_time_is_that_of_the_record_and_a_broken_one_is_left_to_segment() -> None:
    made = outcome()
    made.ClearField("occur_time")
    assert "timestamp" not in call(made)

    made.record_time.FromDatetime(datetime(2026, 2, 1, tzinfo=UTC))
    assert call(made)["timestamp"] == "2026-02-01T00:00:00.000Z"

    made.occur_time.seconds = 10**15
    assert call(made)["timestamp"] == "2026-02-01T00:00:00.000Z"


def test_our_calls_are_known_as_ours_when_they_come_back() -> None:
    made = call(outcome())
    event_id, context = str(made["messageId"]), made["context"]
    assert isinstance(context, dict)

    assert Event(event_id, EventType.TRACK, context={}).own
    assert Event("another-id", EventType.TRACK, context=context).own


def test_a_call_of_the_usual_size_is_sent_as_it_is() -> None:
    made = call(outcome())

    body = encoded(made)
    assert isinstance(body, bytes)
    assert orjson.loads(body) == made


def test_a_call_that_is_too_large_loses_its_largest_properties_first() -> None:
    made = call(custom({"a": "x" * 20_000, "b": "é" * 8_000, "c": "kept"}, workflow_id="welcome"))

    body = encoded(made)
    assert isinstance(body, bytes)
    assert len(body) <= CALL_BYTES_MAX
    assert orjson.loads(body)["properties"] == {
        "b": "é" * 8_000,
        "c": "kept",
        "workflow_id": "welcome",
        "outcome_id": ID,
        "truncated": True,
    }


def test_what_says_which_message_it_was_goes_last() -> None:
    small = {f"p{n}": n for n in range(6_000)}
    body = encoded(call(custom(small, workflow_id="welcome", run_id="r" * 200)))

    assert isinstance(body, bytes)
    left = orjson.loads(body)["properties"]
    assert left["run_id"] == "r" * 200
    assert left["truncated"] is True
    # No more went than had to.
    assert len(body) > CALL_BYTES_MAX - 50


def test_a_call_that_is_too_large_without_properties_is_no_call() -> None:
    made = call(outcome(user_id="u" * 40_000))

    assert encoded(made) is NotExported.TOO_LARGE
