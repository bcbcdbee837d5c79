"""DefineWorkflow over the wire: faults by path, versions, and what a definition sends."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.wire import (
    Watch,
    Wire,
    identify,
    kinds,
    mail,
    opened,
    pause,
    refused,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, engagement_pb2, workflow_pb2
from upshot.v1 import service_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def versions(wire: Wire, workflow_id: str) -> list[int]:
    request = admin_pb2.ListWorkflowVersionsRequest(workflow_id=workflow_id)
    found = await wire.admin.ListWorkflowVersions(request)
    return [version.version for version in found.workflow_versions]


async def test_five_faults_are_all_named_by_path(wire: Wire) -> None:
    faulty = workflow(
        "five-faults",
        {"track": {"event": ""}},
        mail("mail", subject="Hello {{ traits.name "),
        opened("nobody", seconds=-5),
        {"step_id": "choose", "branch": {"cases": [{"condition": "traits.plan ==", "steps": []}]}},
        sms("mail"),
    )
    code, info, faults = await refused(wire.define(faulty))
    assert (code, info.reason) == (INVALID, "INVALID_ARGUMENT")
    for path in (
        "workflow.trigger.track.event",
        "workflow.steps[0].send.email.subject",
        "workflow.steps[1].wait.timeout",
        "workflow.steps[1].wait.engagement.step_id",
        "workflow.steps[2].branch.cases[0].condition",
        "workflow.steps[3].step_id",
    ):
        assert path in faults, faults
        assert faults[path], path
    listed = await wire.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
    assert not listed.workflow_versions


async def test_faults_of_nested_steps_are_named_at_their_depth(wire: Wire) -> None:
    nested = {"step_id": "inner", "delay": {"until": {"expression": "timestamp("}}}
    otherwise = {"step_id": "Inner!", "delay": {"duration": "1s"}}
    branch = {"cases": [{"condition": "true", "steps": [nested]}], "otherwise": [otherwise]}
    waiting = opened(on_timeout=[{"step_id": "choose", "branch": branch}])
    code, _, faults = await refused(
        wire.define(workflow("nested", "Signed Up", mail(), waiting), validate_only=True)
    )
    assert code is INVALID
    base = "workflow.steps[1].wait.on_timeout[0].branch"
    assert f"{base}.cases[0].steps[0].delay.until.expression" in faults
    assert f"{base}.otherwise[0].step_id" in faults


async def test_versions_are_immutable_and_the_same_definition_is_unchanged(wire: Wire) -> None:
    first = await wire.define(workflow("welcome", "Signed Up", mail()))
    again = await wire.define(workflow("welcome", "Signed Up", mail()))
    second = await wire.define(workflow("welcome", "Signed Up", mail(), pause()))
    assert [(d.version, d.unchanged) for d in (first, again, second)] == [
        (1, False),
        (1, True),
        (2, False),
    ]
    assert await versions(wire, "welcome") == [2, 1]
    asked = admin_pb2.GetWorkflowRequest(workflow_id="welcome", version=1)
    kept = (await wire.admin.GetWorkflow(asked)).workflow_version
    assert [step.step_id for step in kept.workflow.steps] == ["mail"]
    asked = admin_pb2.GetWorkflowRequest(workflow_id="welcome", version=3)
    code, _, _ = await refused(wire.admin.GetWorkflow(asked))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_runs_in_flight_stay_on_their_version(wire: Wire, watched_stream: Watch) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause(), mail(subject="First")))
    results = await wire.ingest(identify("i1"), track("e1"))
    await wire.define(workflow("welcome", "Signed Up", pause(), mail(subject="Second")))
    results += await wire.ingest(identify("i2", "ben"), track("e2", user_id="ben"))
    assert [r.started_runs[0].version for r in results if r.started_runs] == [1, 2]
    await wire.advance(7_200)
    subjects = {}
    for message in await wire.messages():
        asked = admin_pb2.GetMessageRequest(message_id=message.message_id)
        shown = (await wire.admin.GetMessage(asked)).message
        subjects[shown.workflow_version] = shown.content["subject"]
    assert subjects == {1: "First", 2: "Second"}
    assert {o.workflow_version for o in await watched_stream.all(wire)} == {1, 2}


async def test_an_unexpected_version_is_aborted(wire: Wire) -> None:
    one, two = (workflow("welcome", "Signed Up", mail(subject=s)) for s in ("One", "Two"))
    assert (await wire.define(one, expected_version=0)).version == 1
    for expected in (0, 2):
        code, info, _ = await refused(wire.define(two, expected_version=expected))
        assert (code, info.reason) == (grpc.StatusCode.ABORTED, "VERSION_MISMATCH")
        assert "1" in info.metadata["current_version"]
        checked = wire.define(two, expected_version=expected, validate_only=True)
        code, _, _ = await refused(checked)
        assert code is grpc.StatusCode.ABORTED
    assert (await wire.define(two, expected_version=1)).version == 2
    assert await versions(wire, "welcome") == [2, 1]


async def test_validate_only_checks_and_stores_nothing(wire: Wire) -> None:
    checked = await wire.define(workflow("welcome", "Signed Up", mail()), validate_only=True)
    assert (checked.version, checked.unchanged) == (1, False)
    (result,) = await wire.ingest(track("e1"))
    assert not result.started_runs
    code, _, _ = await refused(versions(wire, "welcome"))
    assert code is grpc.StatusCode.NOT_FOUND


#: An empty message in field 999, as the client of a later contract would send one.
LATER = bytes((0xBA, 0x3E, 0))


async def test_what_this_contract_lacks_is_refused_by_path(wire: Wire) -> None:
    unknown = workflow("newer", {"track": {"event": "Signed Up"}}, mail(), pause())
    unknown.trigger.MergeFromString(LATER)
    unknown.steps[1].MergeFromString(LATER)
    code, info, faults = await refused(wire.define(unknown))
    assert (code, info.reason) == (INVALID, "INVALID_ARGUMENT")
    assert set(faults) == {"workflow.trigger", "workflow.steps[1]"}
    assert "999" in faults["workflow.steps[1]"]


async def test_an_unknown_field_beside_the_workflow_is_refused_too(wire: Wire) -> None:
    request = pb.DefineWorkflowRequest(workflow=workflow("newer", "Signed Up", mail()))
    request.MergeFromString(LATER)
    code, info, _ = await refused(wire.upshot.DefineWorkflow(request))
    assert (code, info.reason) == (INVALID, "INVALID_ARGUMENT")
    listed = await wire.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
    assert not listed.workflow_versions


async def test_a_missing_variable_is_told_by_name_and_nothing_half_filled_goes_out(
    wire: Wire, watched_stream: Watch
) -> None:
    lines = mail(subject="Your {{ traits.plan }} plan", text="Hello {{ traits.name }}")
    await wire.define(workflow("welcome", "Signed Up", lines, pause()))
    results = await wire.ingest(
        identify("i1", email="ana@home.example", name="Ana"),
        track("e1"),
        identify("i2", "ben", email="ben@home.example", name="Ben", plan="gold"),
        track("e2", user_id="ben"),
    )
    await wire.advance()
    came = await watched_stream.all(wire)
    ana = [o for o in came if o.user_id == "ana"]
    assert kinds(ana) == ["RUN_STARTED", "MESSAGE_UNDELIVERABLE"]
    assert ana[1].reason == "TEMPLATE_ERROR"
    assert kinds([o for o in came if o.user_id == "ben"]) == ["RUN_STARTED", "MESSAGE_SENT"]

    message, _ = await wire.messages()
    assert message.state == admin_pb2.MESSAGE_STATE_UNDELIVERABLE
    assert (message.reason, message.attempt) == ("TEMPLATE_ERROR", 0)
    assert "plan" in message.detail
    run = await wire.run(results[1].started_runs[0].run_id)
    # The run goes on, and its timeline says why.
    assert (run.state, run.step_id) == (admin_pb2.RUN_STATE_ACTIVE, "pause")
    assert any("TEMPLATE_ERROR" in e.detail and "plan" in e.detail for e in run.timeline)
    # The outcome itself tells the name, for those who only read the stream.
    assert "plan" in ana[1].properties["detail"]


@pytest.mark.parametrize(
    ("trigger", "fields"),
    [
        ({"identify": {}}, {}),
        ({"group": {}}, {}),
        ({"track": {"event": "Signed Up"}, "condition": 'event.properties.plan == "gold"'}, {}),
        ({"invoke": {}}, {"labels": {"team": "growth"}, "cancellation_key": "profile.user_id"}),
    ],
)
async def test_what_was_defined_comes_back_as_it_was(
    wire: Wire, trigger: dict[str, object], fields: dict[str, object]
) -> None:
    given = workflow("any", trigger, mail(), opened(on_timeout=[sms()]), **fields)
    await wire.define(given)
    asked = admin_pb2.GetWorkflowRequest(workflow_id="any")
    back: workflow_pb2.Workflow = (await wire.admin.GetWorkflow(asked)).workflow_version.workflow
    back.ClearField("reentry")
    back.ClearField("purpose")
    back.trigger.ClearField("max_age")
    assert back == given


async def test_a_very_long_list_of_faults_still_reaches_the_caller(wire: Wire) -> None:
    steps = [sms(f"Step {number}!", body="{{ nothing") for number in range(150)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await wire.define(workflow("many", "Signed Up", *steps))
    assert raised.value.code() is INVALID
    status = rpc_status.from_call(raised.value)
    bad = error_details_pb2.BadRequest()
    assert status is not None
    assert status.details[1].Unpack(bad)
    assert "more faults" in bad.field_violations[-1].description


async def test_runs_in_flight_move_are_canceled_or_stay(wire: Wire) -> None:
    async def defined(seconds: int, in_flight: int) -> pb.DefineWorkflowResponse:
        flow = workflow("welcome", "Signed Up", pause(seconds=seconds))
        policy = pb.InFlightPolicy.ValueType(in_flight)
        request = pb.DefineWorkflowRequest(workflow=flow, in_flight=policy)
        return await wire.upshot.DefineWorkflow(request)

    async def done() -> admin_pb2.InFlight:
        request = admin_pb2.GetWorkflowRequest(workflow_id="welcome")
        while True:
            found = (await wire.admin.GetWorkflow(request)).workflow_version
            if found.in_flight.done:
                return found.in_flight
            await asyncio.sleep(0.01)

    await defined(86_400, pb.IN_FLIGHT_POLICY_PIN)
    await wire.ingest(track("e1"))
    await defined(3_600, pb.IN_FLIGHT_POLICY_MIGRATE)
    assert (await done()).moved == 1
    run = (await wire.admin.ListRuns(admin_pb2.ListRunsRequest())).runs[0]
    assert (run.workflow_version, run.due_time.seconds - run.start_time.seconds) == (2, 3_600)
    await defined(60, pb.IN_FLIGHT_POLICY_CANCEL)
    assert (await done()).moved == 1
    run = (await wire.admin.ListRuns(admin_pb2.ListRunsRequest())).runs[0]
    assert run.state == admin_pb2.RUN_STATE_CANCELED
    code, _, faults = await refused(defined(60, 9))
    assert (code, set(faults)) == (INVALID, {"in_flight"})


async def test_an_archived_workflow_starts_nothing(wire: Wire) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause()))
    request = admin_pb2.ArchiveWorkflowRequest(workflow_id="welcome")
    archived = await wire.admin.ArchiveWorkflow(request)
    assert (archived.version, archived.unchanged) == (2, False)
    assert (await wire.admin.ArchiveWorkflow(request)).unchanged
    (result,) = await wire.ingest(track("e1"))
    assert not result.started_runs
    listed = await wire.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
    assert not listed.workflow_versions
    request.in_flight = pb.IN_FLIGHT_POLICY_MIGRATE
    code, _, faults = await refused(wire.admin.ArchiveWorkflow(request))
    assert (code, set(faults)) == (INVALID, {"in_flight"})
    nobody = admin_pb2.ArchiveWorkflowRequest(workflow_id="nobody")
    code, _, _ = await refused(wire.admin.ArchiveWorkflow(nobody))
    assert code is grpc.StatusCode.NOT_FOUND
    assert (await wire.define(workflow("welcome", "Signed Up", pause()))).version == 3


async def test_a_template_is_versioned_listed_and_sent(wire: Wire, watched_stream: Watch) -> None:
    hello = workflow_pb2.Template(template_id="hello")
    hello.variants["default"].email.subject = "Hello {{ traits.name }}"
    hello.variants["default"].email.text = "Hi"
    hello.variants["de"].email.subject = "Hallo"
    hello.variants["de"].email.text = "Hi"
    lines = {"channel": "CHANNEL_EMAIL", "template_id": "hello"}
    flow = workflow("welcome", "Signed Up", {"step_id": "mail", "send": lines})
    early = await wire.define(flow, validate_only=True)
    assert [w.field for w in early.warnings] == ["workflow.steps[0].send.template_id"]
    request = admin_pb2.DefineTemplateRequest(template=hello)
    first = await wire.admin.DefineTemplate(request)
    assert (first.version, first.unchanged) == (1, False)
    assert (await wire.admin.DefineTemplate(request)).unchanged
    assert not (await wire.define(flow)).warnings
    await wire.ingest(identify("i1", email="ana@home.example", name="Ana"), track("e1"))
    await wire.advance()
    sent = [o for o in await watched_stream.all(wire) if o.message_id]
    assert [o.template_id for o in sent] == ["hello"]
    (message,) = await wire.messages()
    full = await wire.admin.GetMessage(admin_pb2.GetMessageRequest(message_id=message.message_id))
    assert full.message.content["subject"] == "Hello Ana"
    listed = await wire.admin.ListTemplates(admin_pb2.ListTemplatesRequest())
    assert [t.template.template_id for t in listed.template_versions] == ["hello"]
    flows = await wire.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
    assert [w.workflow.workflow_id for w in flows.workflow_versions] == ["welcome"]
    got = await wire.admin.GetTemplate(admin_pb2.GetTemplateRequest(template_id="hello"))
    assert got.template_version.template.variants["de"].email.subject == "Hallo"
    hello.variants["de"].email.subject = "{{"
    code, _, faults = await refused(wire.admin.DefineTemplate(request.__class__(template=hello)))
    assert (code, set(faults)) == (INVALID, {"template.variants.de.email.subject"})
    unknown = wire.admin.GetTemplate(admin_pb2.GetTemplateRequest(template_id="x"))
    assert (await refused(unknown))[0] is grpc.StatusCode.NOT_FOUND


def approval(**fields: object) -> dict[str, object]:
    asked = {
        "levels": [
            {"audience_id": "finance", "escalate_after": "3600s"},
            {"users": {"user_ids": ["boss"]}},
        ],
        "request": {"channel": "CHANNEL_SMS", "sms": {"body": "{{ links.review }}"}},
        "summary": "Pay {{ event.properties.amount }}?",
        "timeout": "86400s",
    }
    return {"step_id": "ask", "approve": asked | fields}


async def test_an_approval_is_checked_with_what_it_names_and_what_it_lacks(wire: Wire) -> None:
    templated = {"channel": "CHANNEL_EMAIL", "template_id": "pay"}
    flow = workflow("pay", "Payment Proposed", approval(notice=templated))
    checked = await wire.define(flow, validate_only=True)
    assert [(w.field, w.description) for w in checked.warnings] == [
        ("workflow.steps[0].approve.notice.template_id", "there is no template 'pay' yet"),
        ("workflow.steps[0].approve.levels[0].audience_id", "there is no audience 'finance' yet"),
    ]
    inner = {"step_id": "told", "send": {"channel": "CHANNEL_SMS", "sms": {"body": "{{ x }}"}}}
    context = {"url": "https://a.example", "on_failure": [inner]}
    faulty = approval(levels=[{}], summary="{{ reviewer.id }}", on_denied=[inner], context=context)
    faulty["approve"].pop("request")  # type: ignore[attr-defined]
    code, _, faults = await refused(
        wire.define(workflow("pay", "Payment Proposed", faulty), validate_only=True)
    )
    at = "workflow.steps[0].approve"
    assert (code, set(faults)) == (
        INVALID,
        {
            f"{at}.levels[0].reviewers",
            f"{at}.request",
            f"{at}.summary",
            f"{at}.context.on_failure",
            f"{at}.on_denied[0].send.sms.body",
        },
    )
    assert faults[f"{at}.request"] == "is required"


async def test_what_comes_about_an_approval_is_checked_before_anything_else(wire: Wire) -> None:
    def said(kind: str, **data: str) -> engagement_pb2.Engagement:
        number = engagement_pb2.EngagementKind.Value(f"ENGAGEMENT_KIND_{kind}")
        fact = engagement_pb2.Engagement(message_id="nothing", kind=number)
        fact.data.update(data)
        return fact

    facts = (
        said("ASKED"),
        said("ANSWERED", body=" "),
        said("DENIED", comment="x" * 2001),
        said("ASKED", body="Which invoice?"),
    )
    results = await wire.engage(*facts)
    assert [(result.state, result.reason) for result in results] == [
        *[(pb.ENGAGEMENT_STATE_REJECTED, "INVALID_DATA")] * 3,
        (pb.ENGAGEMENT_STATE_REJECTED, "UNKNOWN_MESSAGE"),
    ]
