"""Workflows: read whole with every fault of form, stored as canonical bytes."""

import math
from collections.abc import Mapping

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings

from tests.workflow_strategies import workflows
from upshot.v1 import outcome_pb2, workflow_pb2
from upshotd.adapters.grpc import workflow_codec
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.codec import Codec
from upshotd.domain.errors import FailedPrecondition
from upshotd.domain.event import EventType
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.message import Channel, Sms
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.wait import Wait
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, Trigger, Workflow

#: A loaded machine makes an example slow, not wrong.
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CODEC: Codec = ContractCodec()


@UNHURRIED
@given(workflows)
def test_a_workflow_survives_being_stored(workflow: Workflow) -> None:
    stored = CODEC.encode_workflow(replace(workflow, version=4))
    assert CODEC.decode_workflow(stored, 7) == replace(workflow, version=7)
    assert CODEC.encode_workflow(CODEC.decode_workflow(stored, 7)) == stored


def test_an_approval_that_says_everything_survives_being_stored() -> None:
    text = Send(Channel.SMS, (Sms("{{ links.review }}"),))
    inner = tuple((Step(name, Exit()),) for name in ("paid", "denied", "late"))
    levels = (
        ReviewerLevel(audience_id="finance", escalate_us=5),
        ReviewerLevel(group_id="{{ traits.team }}", escalate_us=0),
        ReviewerLevel(user_ids=("ana", "")),
    )
    fetch = FetchStep("https://a.example", HttpMethod.POST, {"x": "y"}, "{}", 7, 2)
    whole = Approve(
        levels, text, "Pay?", 9, fetch, (1, 2), text, text, ApprovalDecision.DENIED, *inner
    )
    assert all(getattr(whole, name) for name in Approve.__slots__), "each field says something"
    workflow = Workflow("w", Trigger(None), (Step("ask", whole),))
    assert CODEC.decode_workflow(CODEC.encode_workflow(workflow), 0) == workflow


def test_equal_definitions_are_equal_bytes_whatever_their_maps_order() -> None:
    def encoded(labels: Mapping[str, str]) -> bytes:
        step = Step("a", Emit("E", dict(labels)))
        return CODEC.encode_workflow(Workflow("w", Trigger(None), (step,), labels=labels))

    pairs = {str(n): str(n) for n in range(50)}
    assert encoded(pairs) == encoded(dict(reversed(pairs.items())))


def test_defaults_are_written_out() -> None:
    short = workflow_pb2.Workflow(workflow_id="w")
    short.trigger.track.event = "T"
    short.steps.add(step_id="a").exit.SetInParent()
    workflow, violations = workflow_codec.workflow(short)
    assert not violations
    assert workflow == Workflow("w", Trigger(EventType.TRACK, "T"), (Step("a", Exit()),))
    long = workflow_codec.message(workflow)
    assert long.purpose == workflow_pb2.PURPOSE_PRODUCT
    assert long.reentry.mode == workflow_pb2.REENTRY_MODE_ONCE_ACTIVE
    assert long.trigger.max_age.seconds == 86_400
    assert long.steps[0].exit.reason == "EXITED"
    assert CODEC.encode_workflow(workflow_codec.workflow(long)[0]) == CODEC.encode_workflow(
        workflow
    )


def _faulty() -> workflow_pb2.Workflow:
    """Return a workflow with every fault of form at once."""
    bad = Duration(seconds=1, nanos=-1)
    message = workflow_pb2.Workflow(purpose=9, reentry={"mode": 9, "cooldown": bad})  # type: ignore[arg-type]
    message.trigger.max_age.CopyFrom(bad)
    add = message.steps.add
    add()
    add().send.channel = 9  # type: ignore[assignment]
    send = add().send
    send.channel = outcome_pb2.CHANNEL_SMS
    send.route.routes.add().channels.append(9)  # type: ignore[arg-type]
    send.on_unknown = 9  # type: ignore[assignment]
    send.max_lateness.CopyFrom(bad)
    add().send.on_failure.add()
    add().delay.until.time.seconds = 2**60
    wait = add().wait
    wait.timeout.nanos = 2**31 - 1
    wait.any_of.conditions.add()
    wait.any_of.conditions.add().event.since = 9  # type: ignore[assignment]
    wait.any_of.conditions.add().engagement.kinds.append(99)  # type: ignore[arg-type]
    wait.on_timeout.add()
    add().branch.cases.add().steps.add()
    add().emit.properties["a"] = math.nan
    suppress = add().suppress
    suppress.channel = 9  # type: ignore[assignment]
    suppress.duration.seconds = 2**60
    approve = add().approve
    approve.levels.add().escalate_after.CopyFrom(bad)
    approve.context.method = 9  # type: ignore[assignment]
    approve.context.on_failure.add()
    approve.reminders.add().CopyFrom(bad)
    approve.answer.channel = 9  # type: ignore[assignment]
    approve.answer.on_failure.add()
    approve.notice.on_failure.add()
    approve.timeout.CopyFrom(bad)
    approve.default_decision = 9  # type: ignore[assignment]
    for steps in (approve.on_approved, approve.on_denied, approve.on_timeout):
        steps.add()
    return message


def test_every_fault_of_form_is_told_by_its_path() -> None:
    _, violations = workflow_codec.workflow(_faulty())
    steps = "workflow.steps"
    assert sorted(violation.field for violation in violations) == sorted(
        [
            "workflow.purpose",
            "workflow.reentry.mode",
            "workflow.reentry.cooldown",
            "workflow.trigger.source",
            "workflow.trigger.max_age",
            f"{steps}[0].kind",
            f"{steps}[1].send.channel",
            f"{steps}[2].send.route",
            f"{steps}[2].send.route.method",
            f"{steps}[2].send.route.routes[0].method",
            f"{steps}[2].send.route.routes[0].channels[0]",
            f"{steps}[2].send.on_unknown",
            f"{steps}[2].send.max_lateness",
            f"{steps}[3].send.on_failure[0].kind",
            f"{steps}[4].delay.until.time",
            f"{steps}[5].wait.timeout",
            f"{steps}[5].wait.any_of.conditions[0].condition",
            f"{steps}[5].wait.any_of.conditions[1].event.since",
            f"{steps}[5].wait.any_of.conditions[2].engagement.kinds[0]",
            f"{steps}[5].wait.on_timeout[0].kind",
            f"{steps}[6].branch.cases[0].steps[0].kind",
            f"{steps}[7].emit.properties",
            f"{steps}[8].suppress.channel",
            f"{steps}[8].suppress.duration",
            f"{steps}[9].approve.levels[0].escalate_after",
            f"{steps}[9].approve.request",
            f"{steps}[9].approve.context.method",
            f"{steps}[9].approve.context.on_failure",
            f"{steps}[9].approve.reminders[0]",
            f"{steps}[9].approve.answer.channel",
            f"{steps}[9].approve.answer.on_failure",
            f"{steps}[9].approve.notice.on_failure",
            f"{steps}[9].approve.timeout",
            f"{steps}[9].approve.default_decision",
            f"{steps}[9].approve.on_approved[0].kind",
            f"{steps}[9].approve.on_denied[0].kind",
            f"{steps}[9].approve.on_timeout[0].kind",
        ]
    )


#: Field 77, a varint 1: what no server of this version knows.
UNKNOWN = b"\xe8\x04\x01"


def test_what_this_server_does_not_know_is_a_fault_by_its_path() -> None:
    """A step of a newer kind must not become a step that does nothing."""
    message = workflow_pb2.Workflow(workflow_id="w", labels={"a": "b"})
    message.trigger.MergeFromString(UNKNOWN)
    message.steps.add(step_id="a").MergeFromString(UNKNOWN)
    message.steps.add(step_id="b").wait.engagement.MergeFromString(UNKNOWN + UNKNOWN)
    wire = message.SerializeToString()
    _, violations = workflow_codec.workflow(workflow_pb2.Workflow.FromString(wire))
    assert [violation.field for violation in violations] == [
        "workflow.trigger",
        "workflow.steps[0]",
        "workflow.steps[1].wait.engagement",
    ]
    assert "field 77" in violations[0].description
    with pytest.raises(FailedPrecondition, match=r"'w', version 3.*workflow\.trigger"):
        CODEC.decode_workflow(wire, 3)


def test_waits_and_delays_without_a_condition_are_left_to_the_domain() -> None:
    message = workflow_pb2.Workflow(workflow_id="w", trigger={"invoke": {}})  # type: ignore[arg-type]
    message.steps.add(step_id="a").wait.SetInParent()
    message.steps.add(step_id="b").delay.until.SetInParent()
    workflow, violations = workflow_codec.workflow(message)
    assert not violations
    assert [step.kind for step in workflow.steps] == [Wait((), 0), Delay()]


def test_a_huge_definition_is_refused_without_being_read() -> None:
    message = workflow_pb2.Workflow(workflow_id="w", display_name="x" * 600_000)
    workflow, violations = workflow_codec.workflow(message)
    assert [violation.field for violation in violations] == ["workflow"]
    assert not workflow.display_name
    assert len(workflow.steps) == 1, "that there are none would be told as another fault"


def test_a_trigger_that_the_contract_cannot_say_is_not_stored() -> None:
    with pytest.raises(ValueError, match="alias starts nothing"):
        CODEC.encode_workflow(Workflow("w", Trigger(EventType.ALIAS), ()))
