"""Outcomes by the names of Segment's own spec, where it has one."""

import pytest

from tests.relay_outcomes import outcome
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.relay.envelope import CallRules
from upshotd.adapters.relay.track import track_call
from upshotd.domain.message import Channel
from upshotd.domain.outcome import OutcomeKind, event_name

RULES = CallRules(version="1", semantic=True, names={})
E, P, S = Channel.EMAIL, Channel.PUSH, Channel.SMS


def call(made: pb.Outcome, rules: CallRules = RULES) -> dict[str, object]:
    found = track_call(made, rules)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("channel", "kind", "reason", "name"),
    [
        (E, OutcomeKind.MESSAGE_DELIVERED, "", "Email Delivered"),
        (E, OutcomeKind.MESSAGE_OPENED, "", "Email Opened"),
        (E, OutcomeKind.MESSAGE_CLICKED, "", "Email Link Clicked"),
        (E, OutcomeKind.MESSAGE_UNDELIVERABLE, "BOUNCED", "Email Bounced"),
        (E, OutcomeKind.MESSAGE_UNDELIVERABLE, "UNDELIVERED", "Email Bounced"),
        (E, OutcomeKind.MESSAGE_COMPLAINED, "", "Email Marked as Spam"),
        (E, OutcomeKind.MESSAGE_UNSUBSCRIBED, "", "Unsubscribed"),
        (P, OutcomeKind.MESSAGE_DELIVERED, "", "Push Notification Received"),
        (P, OutcomeKind.MESSAGE_OPENED, "", "Push Notification Tapped"),
        (P, OutcomeKind.MESSAGE_CLICKED, "", "Push Notification Tapped"),
        (P, OutcomeKind.MESSAGE_UNDELIVERABLE, "BOUNCED", "Push Notification Bounced"),
        # The mail server never saw it.
        (E, OutcomeKind.MESSAGE_UNDELIVERABLE, "TEMPLATE_ERROR", "Message Undeliverable"),
        (P, OutcomeKind.MESSAGE_UNDELIVERABLE, "UNKNOWN", "Message Undeliverable"),
        # The spec has no word for it.
        (E, OutcomeKind.MESSAGE_SENT, "", "Message Sent"),
        (E, OutcomeKind.MESSAGE_REPLIED, "", "Message Replied"),
        (P, OutcomeKind.MESSAGE_UNSUBSCRIBED, "", "Message Unsubscribed"),
        (S, OutcomeKind.MESSAGE_DELIVERED, "", "Message Delivered"),
        (S, OutcomeKind.MESSAGE_UNDELIVERABLE, "BOUNCED", "Message Undeliverable"),
        # Whoever counts `Email Opened` counts what was opened.
        (E, OutcomeKind.MESSAGE_IGNORED, "", "Message Ignored"),
        (S, OutcomeKind.MESSAGE_IGNORED, "", "Message Ignored"),
    ],
)
def test_events_have_the_names_of_the_spec(
    channel: Channel, kind: OutcomeKind, reason: str, name: str
) -> None:
    assert call(outcome(kind, channel=int(channel), reason=reason))["event"] == name


@pytest.mark.parametrize("kind", [k for k in OutcomeKind if k.name.startswith("MESSAGE_")])
@pytest.mark.parametrize("channel", [c for c in Channel if c not in (E, P)])
def test_other_channels_keep_the_names_of_the_log(kind: OutcomeKind, channel: Channel) -> None:
    found = call(outcome(kind, channel=int(channel), reason="BOUNCED"))

    assert found["event"] == event_name(kind)
    assert not {"email_id", "campaign_id", "campaign"} & set(found["properties"])  # type: ignore[call-overload]


def test_an_e_mail_event_has_the_properties_of_the_spec_beside_ours() -> None:
    made = outcome(
        OutcomeKind.MESSAGE_CLICKED,
        channel=int(E),
        message_id="msg-1",
        workflow_id="welcome",
        link_url="https://shop.example/",
    )

    assert call(made)["properties"] == {
        "email_id": "msg-1",
        "campaign_id": "welcome",
        "campaign_name": "welcome",
        "link_url": "https://shop.example/",
        "message_id": "msg-1",
        "workflow_id": "welcome",
        "channel": "email",
        "outcome_id": made.outcome_id,
    }


def test_a_push_event_has_the_campaign_of_the_spec() -> None:
    fields = {"channel": int(P), "workflow_id": "welcome", "provider": "fcm"}
    found = call(outcome(OutcomeKind.MESSAGE_OPENED, **fields))["properties"]

    assert isinstance(found, dict)
    assert found["campaign"] == {"name": "welcome", "medium": "Push", "source": "fcm"}
    assert "email_id" not in found


def test_names_in_the_settings_go_over_those_of_the_spec() -> None:
    rules = CallRules(
        version="1", semantic=True, names={OutcomeKind.MESSAGE_OPENED: "Newsletter Opened"}
    )

    assert call(outcome(OutcomeKind.MESSAGE_OPENED, channel=int(E)), rules)["event"] == (
        "Newsletter Opened"
    )


def test_an_emit_step_is_called_as_it_says() -> None:
    made = outcome(OutcomeKind.CUSTOM, event="Trial Nudged", channel=int(E))

    assert call(made)["event"] == "Trial Nudged"
