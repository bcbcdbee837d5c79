"""Workflows: read whole with every fault of form, stored as canonical bytes."""

import math
from collections.abc import Mapping
from datetime import time

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import instants, plains, texts
from upshot.v1 import outcome_pb2, workflow_pb2
from upshotd.adapters.grpc import (
    workflow_codec,
)
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.codec import Codec
from upshotd.domain.errors import FailedPrecondition
from upshotd.domain.event import EventType
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.message import (
    CHANNELS,
    Attachment,
    Channel,
    Chat,
    Content,
    Email,
    Inbox,
    Purpose,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.schedule import Schedule
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest, Keep
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Optimize,
    Variant,
)
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import EngagementWait, EventWait, Wait
from upshotd.domain.values import replace
from upshotd.domain.window import Window
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger, Workflow

#: A loaded machine makes an example slow, not wrong.
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CODEC: Codec = ContractCodec()
DAY_US = 86_400_000_000
words = st.text("abc_", min_size=1, max_size=8)
spans = st.integers(0, 400 * DAY_US)


pairs = st.dictionaries(texts, texts, max_size=3)
contents: st.SearchStrategy[Content] = (
    st.builds(
        Email,
        texts,
        texts,
        texts,
        st.just(""),
        reply_to=texts,
        headers=pairs,
        mjml=texts,
        utm=pairs,
        attachments=st.tuples(st.builds(Attachment, texts, texts)) | st.just(()),
    )
    | st.builds(Sms, texts)
    | st.builds(Push, texts, texts, pairs)
    | st.builds(Webhook, texts)
    | st.builds(Chat, texts)
    | st.builds(Inbox, texts, texts, texts)
)


def in_order(contents: list[Content]) -> tuple[Content, ...]:
    return tuple(sorted(contents, key=lambda content: CHANNELS[type(content)]))


flat = st.lists(st.sampled_from(Channel), max_size=3).map(tuple)
flat_routes = st.builds(Route, st.sampled_from(Method), flat)
routes = flat_routes | st.builds(
    Route,
    st.sampled_from(Method),
    st.tuples(flat, st.lists(flat_routes, max_size=2)).map(lambda both: (*both[0], *both[1])),
)
engagement_waits = st.builds(
    EngagementWait,
    words,
    st.lists(st.sampled_from(EngagementKind), max_size=3).map(tuple),
    st.booleans(),
)
event_waits = st.builds(EventWait, texts, texts, st.booleans())
shares = st.floats(0, 1)
engaged = st.lists(st.sampled_from(EngagementKind), max_size=3).map(tuple)
goals = st.builds(EngagementGoal, engaged, st.booleans()) | st.builds(EventGoal, texts, texts)
optimizes = st.builds(Optimize, st.none() | goals, spans, shares, st.booleans())
times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
days = st.sets(st.integers(0, 6), min_size=1).map(frozenset)
windows = st.builds(Window, times, st.none() | times, days)
fetches = st.builds(
    FetchStep,
    texts,
    st.sampled_from(HttpMethod),
    st.dictionaries(texts, texts, max_size=3),
    texts,
    spans,
    st.integers(1, 10),
)
questions = st.builds(
    Generate, texts, plains, texts, texts, st.integers(1, 8000), spans, st.integers(1, 10)
)
plain_steps = st.builds(
    Step,
    words,
    st.builds(
        Send,
        st.sampled_from(Channel) | routes,
        st.lists(contents, max_size=6, unique_by=type).map(in_order),
        st.none() | spans,
        on_unknown=st.none() | st.sampled_from(OnUnknown),
    )
    | st.builds(Delay, duration_us=spans)
    | st.builds(Delay, spread_us=spans)
    | st.builds(Delay, until_us=instants)
    | st.builds(Delay, until=words)
    | st.builds(Delay, window=windows, time_zone=st.sampled_from(("", "Europe/Berlin")))
    | st.builds(
        Digest,
        window_us=st.none() | spans,
        max_window_us=st.none() | spans,
        key=texts,
        max_items=st.integers(1, 500),
        keep=st.sampled_from(Keep),
        keep_count=st.integers(1, 100),
        by=texts,
        schedule=st.none() | windows,
    )
    | fetches
    | questions
    | st.builds(UpdateProfile, st.dictionaries(texts, texts, max_size=3))
    | st.builds(Emit, texts, plains)
    | st.builds(Enroll, texts)
    | st.builds(Suppress, channel=st.sampled_from(Channel), duration_us=st.none() | spans)
    | st.builds(Suppress, topic=words)
    | st.builds(Exit, words),
    texts,
)


def _around(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    lists = st.lists(steps, max_size=2).map(tuple)
    lone = st.tuples(engagement_waits | event_waits)
    several = st.lists(engagement_waits | event_waits, max_size=3).map(tuple)
    waits = st.builds(Wait, lone, spans, lists, lists, lists) | st.builds(
        Wait, several, spans, lists, any_of=st.just(True)
    )
    cases = st.lists(st.builds(Case, texts, lists), max_size=2).map(tuple)
    throttles = st.builds(
        Throttle, st.integers(1, 1000), spans, texts, lists, st.sampled_from(ThrottleScope)
    )
    sends = st.builds(Send, st.just(Channel.SMS), st.just((Sms("x"),)), on_failure=lists)
    asked = st.builds(FetchStep, texts, on_failure=lists)
    asked |= st.builds(Generate, texts, st.just({}), on_failure=lists)
    variants = st.lists(st.builds(Variant, words, lists, st.integers(1, 9)), max_size=2).map(tuple)
    experiments = st.builds(Experiment, variants, shares, texts, st.none() | optimizes)
    kinds = waits | throttles | sends | asked | experiments | st.builds(Branch, cases, lists)
    return st.builds(Step, words, kinds, texts)


workflows = st.builds(
    Workflow,
    workflow_id=texts,
    trigger=st.builds(
        Trigger,
        type=st.just(EventType.TRACK),
        event=texts,
        condition=texts,
        max_age_us=spans,
        include_own_outcomes=st.booleans(),
    )
    | st.builds(
        Trigger,
        type=st.sampled_from([EventType.IDENTIFY, EventType.GROUP, None]),
        condition=texts,
    )
    | st.builds(
        Trigger,
        type=st.just(EventType.SCHEDULED),
        schedule=st.builds(Schedule, cron=texts, time_zone=texts),
    )
    | st.builds(Trigger, type=st.sampled_from([EventType.PAGE, EventType.SCREEN]), event=texts),
    steps=st.lists(st.recursive(plain_steps, _around, max_leaves=4), max_size=3).map(tuple),
    display_name=texts,
    reentry=st.builds(Reentry, st.sampled_from(ReentryMode), texts, spans),
    exits=st.lists(st.builds(ExitRule, texts, texts), max_size=2).map(tuple),
    topic=texts,
    purpose=st.sampled_from(Purpose),
    cancellation_key=texts,
    labels=st.dictionaries(texts, texts, max_size=3),
)


@UNHURRIED
@given(workflows)
def test_a_workflow_survives_being_stored(workflow: Workflow) -> None:
    stored = CODEC.encode_workflow(replace(workflow, version=4))
    assert CODEC.decode_workflow(stored, 7) == replace(workflow, version=7)
    assert CODEC.encode_workflow(CODEC.decode_workflow(stored, 7)) == stored


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
