"""What AdminService shows of values."""

import pytest

from upshot.v1 import outcome_pb2
from upshotd.adapters.grpc import (
    admin_codec,
    structs,
    times,
)
from upshotd.application.admin import ProfileView, RunView
from upshotd.application.ports import OutcomeCount
from upshotd.application.workflows import DefinedWorkflow
from upshotd.domain.errors import Violation
from upshotd.domain.event import RejectedEvent
from upshotd.domain.message import Ask, Channel, Content, Email, Message, MessageState, Sms
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.profile import Profile, Suppression
from upshotd.domain.run import Run, RunState, TimelineEntry
from upshotd.domain.workflow import Trigger, Workflow

NOW_US = 1_764_000_000_000_000


def test_a_run_is_shown_with_its_timeline_only_when_asked() -> None:
    run = Run(
        "r", "w", 3, "p", "e", "k", NOW_US, RunState.FAILED, "BROKE", due_us=NOW_US + 1,
        steps={"mail": {"opened": True}}, timeline=(TimelineEntry(NOW_US, "mail", "sent", "x"),),
    )  # fmt: skip
    known = Profile("p", user_id="u", anonymous_ids=("a",))
    brief = admin_codec.run(RunView(run, known), full=False)
    assert (brief.user_id, brief.anonymous_id, brief.workflow_version) == ("u", "", 3)
    assert times.instant_us(brief.due_time) == NOW_US + 1
    assert not brief.HasField("end_time")
    assert not brief.timeline
    assert not brief.HasField("steps")
    whole = admin_codec.run(RunView(run, Profile("p", anonymous_ids=("a", "b"))), full=True)
    assert (whole.user_id, whole.anonymous_id) == ("", "a")
    assert whole.timeline[0].what == "sent"
    assert structs.plain(whole.steps) == {"mail": {"opened": True}}
    assert not admin_codec.run(RunView(run, None), full=False).user_id


@pytest.mark.parametrize("depth", [28, 45, 500])
def test_what_is_nested_too_deeply_to_be_sent_is_left_out(depth: int) -> None:
    inside: object = "in it"
    for _ in range(depth):
        inside = [inside]
    traits = {"plan": "free", "odd": inside, "odder": {"in": inside}}
    run = Run("r", "w", 1, "p", "e", "k", NOW_US, steps={"today": {"items": [traits]}})
    seen = admin_codec.run(RunView(run, None), full=True)
    profile = admin_codec.profile(ProfileView(Profile("p", traits=traits), ()))
    for message in (seen, profile):
        assert type(message).FromString(message.SerializeToString()) == message
    assert structs.plain(profile.traits)["plan"] == "free"
    assert ("in it" in str(profile.traits["odd"])) is (depth == 28)
    assert ("..." in str(seen.steps)) is True


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (Email("S", html="<p>"), {"subject": "S", "html": "<p>"}),
        (Sms("B"), {"body": "B"}),
        (None, {}),
    ],
)
def test_a_message_is_shown(content: Content | None, shown: dict[str, object]) -> None:
    message = Message(
        "m", "r", "s", "p", "w", 1, Channel.EMAIL, MessageState.ACCEPTED, content=content,
        facts={"sent": NOW_US},
    )  # fmt: skip
    brief = admin_codec.message(message, full=False)
    assert not brief.HasField("content")
    assert times.instant_us(brief.facts["sent"]) == NOW_US
    assert structs.plain(admin_codec.message(message, full=True).content) == shown
    assert brief.ask == ""
    assert admin_codec.message(message._replace(ask=Ask.REMINDER), full=False).ask == "REMINDER"


def test_a_profile_is_shown_with_what_is_held_back() -> None:
    profile = Profile("p", "u", ("a",), {"n": 1}, {"email": "a@b.example"}, ("g",), 0, NOW_US)
    held = [Suppression(Channel.SMS, until_us=NOW_US), Suppression(topic="t", reason="COMPLAINED")]
    shown = admin_codec.profile(ProfileView(profile, held))
    assert structs.plain(shown.traits) == {"n": 1}
    assert dict(shown.contact) == {"email": "a@b.example"}
    sms, topic = shown.suppressions
    assert (sms.channel, times.instant_us(sms.until_time)) == (outcome_pb2.CHANNEL_SMS, NOW_US)
    assert (topic.topic, topic.reason) == ("t", "COMPLAINED")
    assert not topic.HasField("until_time")


def test_the_rest_is_shown() -> None:
    rejected = RejectedEvent("i", "e", NOW_US, "WHY", (Violation("f", "d"),), "{}")
    event = admin_codec.rejected_event(rejected)
    assert (event.event_id, event.reason, event.violations[0].field) == ("e", "WHY", "f")
    count = admin_codec.outcome_count(
        OutcomeCount("w", "s", Channel.SMS, OutcomeKind.MESSAGE_SENT, 5)
    )
    assert (count.kind, count.count) == (outcome_pb2.OUTCOME_KIND_MESSAGE_SENT, 5)
    version = admin_codec.workflow_version(
        DefinedWorkflow(Workflow("w", Trigger(None), (), version=2), NOW_US)
    )
    assert (version.version, version.workflow.workflow_id) == (2, "w")
