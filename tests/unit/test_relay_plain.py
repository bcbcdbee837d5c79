"""An outcome as protobuf JSON: what webhooks and files get, and dead letters come back from."""

import orjson
import pytest

from tests.relay_outcomes import ID, custom, outcome
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.plain import outcome_json, outcome_of


def written(made: pb.Outcome, **options: bool) -> dict[str, object]:
    found = orjson.loads(outcome_json(made, **({"include_recipient": False} | options)))
    assert isinstance(found, dict)
    return found


def test_it_is_the_canonical_json_of_the_contract() -> None:
    made = outcome(
        channel=pb.CHANNEL_EMAIL,
        workflow_version=3,
        position=12,
        possible_duplicate=True,
        message_id="msg-1",
    )

    assert written(made) == {
        "outcomeId": ID,
        "kind": "OUTCOME_KIND_MESSAGE_SENT",
        "event": "Message Sent",
        "occurTime": "2026-01-31T12:00:00.123456Z",
        "userId": "ana",
        "workflowVersion": "3",
        "messageId": "msg-1",
        "channel": "CHANNEL_EMAIL",
        "possibleDuplicate": True,
        "position": "12",
    }


def test_an_address_goes_out_only_when_asked_for() -> None:
    made = outcome(recipient="ana@example.com")

    assert "recipient" not in written(made)
    assert written(made, include_recipient=True)["recipient"] == "ana@example.com"
    assert made.recipient, "the outcome itself is as it was"


def test_it_can_be_read_back() -> None:
    made = custom({"plan": "pro", "deep": {"n": [1, 2.5, None]}}, recipient="ana@example.com")

    assert outcome_of(written(made, include_recipient=True)) == made


def test_the_same_outcome_is_always_the_same_text() -> None:
    made = custom({str(n): n for n in range(50)})
    again = pb.Outcome.FromString(made.SerializeToString())

    assert outcome_json(made, include_recipient=True) == outcome_json(again, include_recipient=True)


def test_nothing_in_it_can_stop_a_relay() -> None:
    made = custom({"nan": float("nan"), "whole": 3.0, "inf": float("-inf")})
    made.record_time.seconds = 10**15
    made.kind = 99  # type: ignore[assignment]  # of a newer server

    found = written(made)
    assert found["properties"] == {"nan": None, "whole": 3, "inf": None}
    assert found["kind"] == 99
    assert "recordTime" not in found


@pytest.mark.parametrize("given", [3, None, [], {"outcomeId": 3}, {"occurTime": "soon"}])
def test_what_is_no_outcome_is_told(given: object) -> None:
    with pytest.raises(ValueError, match="is no outcome"):
        outcome_of(given)
