"""The whole server in this process, as `upshot serve` runs it: wired, answering, going down."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from upshot.v1 import admin_pb2, event_pb2, lab_pb2, outcome_pb2, subscription_pb2, workflow_pb2
from upshot.v1 import engagement_pb2 as engagement
from upshot.v1 import service_pb2 as pb
from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub
from upshotd import app
from upshotd.config import Settings, load
from upshotd.domain.errors import FailedPrecondition, InvalidArgument

NULL_PROVIDER = """
[providers.nowhere]
kind = "null"
[channels]
email = "nowhere"
"""
HOUR_S = 3_600


@dataclass
class Running:
    app: app.App
    channel: grpc.aio.Channel
    upshot: Any
    admin: Any
    lab: Any
    subscriptions: Any


def settings(toml: str = NULL_PROVIDER, **overrides: object) -> Settings:
    given = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0", "database": "memory:", **overrides}
    return load(toml, {}, given)


@asynccontextmanager
async def running(toml: str = NULL_PROVIDER, **overrides: object) -> AsyncIterator[Running]:
    async with app.run(settings(toml, **overrides), {}) as started:
        async with grpc.aio.insecure_channel(started.grpc_address) as channel:
            yield Running(
                started,
                channel,
                UpshotServiceStub(channel),
                AdminServiceStub(channel),
                LabServiceStub(channel),
                SubscriptionServiceStub(channel),
            )


def welcome() -> workflow_pb2.Workflow:
    """A mail at once; an hour later the run ends."""
    workflow = workflow_pb2.Workflow(workflow_id="welcome")
    workflow.trigger.track.event = "Signed Up"
    mail = workflow.steps.add(step_id="mail").send
    mail.channel = outcome_pb2.CHANNEL_EMAIL
    mail.email.subject = "Hello {{ traits.name }}"
    mail.email.text = "Welcome."
    workflow.steps.add(step_id="pause").delay.duration.FromSeconds(HOUR_S)
    return workflow


def signed_up(event_id: str, user_id: str = "ana") -> list[event_pb2.Event]:
    person = event_pb2.Event(event_id=f"{event_id}-i", user_id=user_id)
    person.identify.traits.update({"email": f"{user_id}@example.com", "name": "Ana"})
    event = event_pb2.Event(event_id=event_id, user_id=user_id)
    event.track.event = "Signed Up"
    return [person, event]


async def refused(call: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, list[str]]:
    """Return the code, the info and the fields that are named."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    status: status_pb2.Status = rpc_status.from_call(raised.value)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    fields = [v.field for d in status.details if d.Unpack(bad) for v in bad.field_violations]
    return raised.value.code(), info, fields


async def test_an_event_becomes_a_message_and_the_message_an_outcome(tmp_path: Path) -> None:
    database = str(tmp_path / "upshot.db")
    async with running(database=database, lab=True) as s:
        defined = await s.upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=welcome()))
        assert (defined.workflow_id, defined.version) == ("welcome", 1)
        answer = await s.upshot.Ingest(pb.IngestRequest(events=signed_up("e1")))
        assert [r.state for r in answer.results] == [pb.INGEST_STATE_ACCEPTED] * 2
        (run,) = answer.results[1].started_runs

        request = pb.StreamOutcomesRequest(start=pb.START_POSITION_EARLIEST)
        kinds, sent = [], None
        stream = s.upshot.StreamOutcomes(request)
        while sent is None:
            page = await stream.read()
            kinds += [outcome.kind for outcome in page.outcomes]
            found = [o for o in page.outcomes if o.kind == outcome_pb2.OUTCOME_KIND_MESSAGE_SENT]
            sent = found[0] if found else None
        stream.cancel()
        assert (sent.user_id, sent.event, sent.run_id) == ("ana", "Message Sent", run.run_id)

        opened = engagement.Engagement(
            engagement_id="o1",
            message_id=sent.message_id,
            kind=engagement.ENGAGEMENT_KIND_OPENED,
        )
        nameless = engagement.Engagement(kind=engagement.ENGAGEMENT_KIND_OPENED)
        facts = pb.RecordEngagementRequest(engagements=[opened, nameless, opened])
        recorded = await s.upshot.RecordEngagement(facts)
        assert [r.state for r in recorded.results] == [
            pb.ENGAGEMENT_STATE_RECORDED,
            pb.ENGAGEMENT_STATE_REJECTED,
            pb.ENGAGEMENT_STATE_DUPLICATE,
        ]

        advance = lab_pb2.AdvanceTimeRequest()
        advance.duration.FromSeconds(2 * HOUR_S)
        advanced = await s.lab.AdvanceTime(advance)
        assert advanced.fired_timers >= 1
        seen = await s.admin.GetRun(admin_pb2.GetRunRequest(run_id=run.run_id))
        assert seen.run.state == admin_pb2.RUN_STATE_COMPLETED
        moved = advanced.now

    # Down and up again: the clock keeps its place, the same event stays a duplicate.
    async with running(database=database, lab=True) as s:
        again = await s.upshot.Ingest(pb.IngestRequest(events=signed_up("e1")))
        assert [r.state for r in again.results] == [pb.INGEST_STATE_DUPLICATE] * 2
        assert again.results[1].started_runs[0].run_id == run.run_id
        settled = await s.lab.AdvanceTime(lab_pb2.AdvanceTimeRequest())
        assert settled.now.seconds >= moved.seconds


async def test_requests_that_are_wrong_as_a_whole_name_the_field() -> None:
    async with running(lab=True) as s:
        event = event_pb2.Event(user_id="ana")
        too_long = lab_pb2.AdvanceTimeRequest()
        too_long.duration.FromSeconds(401 * 24 * HOUR_S)
        stream = pb.StreamOutcomesRequest(subscription="No Name", max_batch=1001)
        stream.heartbeat_interval.FromMilliseconds(0)
        unknown = pb.StreamOutcomesRequest(start=9)
        unknown.filter.kinds.append(99)
        unknown.filter.channels.append(0)
        for call, fields in [
            (s.upshot.Ingest(pb.IngestRequest()), ["events"]),
            (s.upshot.Ingest(pb.IngestRequest(events=[event] * 1001)), ["events"]),
            (s.upshot.RecordEngagement(pb.RecordEngagementRequest()), ["engagements"]),
            (s.upshot.DefineWorkflow(pb.DefineWorkflowRequest()), ["workflow"]),
            (s.admin.CancelRuns(admin_pb2.CancelRunsRequest()), ["run_id"]),
            (s.admin.GetProfile(admin_pb2.GetProfileRequest()), ["user_id"]),
            (s.admin.ListRuns(admin_pb2.ListRunsRequest(state=9)), ["state"]),
            (s.admin.ListRuns(admin_pb2.ListRunsRequest(page_token="!")), ["page_token"]),
            (s.lab.AdvanceTime(too_long), ["duration"]),
            (
                s.upshot.StreamOutcomes(stream).read(),
                ["heartbeat_interval", "max_batch", "subscription"],
            ),
            (
                s.upshot.StreamOutcomes(unknown).read(),
                ["filter.channels[0]", "filter.kinds[0]", "start"],
            ),
        ]:
            code, info, named = await refused(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert info.reason == "INVALID_ARGUMENT"
            assert sorted(named) == fields


async def test_a_burst_of_calls_waits_and_none_is_canceled() -> None:
    """GRPC ends calls at random above a thousand that wait, unless it is told not to."""
    async with running() as server:
        requests = [ingest_of(f"burst-{number}") for number in range(4_000)]
        answers = await asyncio.gather(*(server.upshot.Ingest(request) for request in requests))
        states = {result.state for answer in answers for result in answer.results}
        assert states == {pb.INGEST_STATE_ACCEPTED}


def ingest_of(event_id: str) -> pb.IngestRequest:
    event = event_pb2.Event(event_id=event_id, user_id="ana")
    event.track.event = "Seen"
    return pb.IngestRequest(events=[event])


async def test_what_is_not_there_is_not_found() -> None:
    async with running() as s:
        for call in (
            s.admin.GetRun(admin_pb2.GetRunRequest(run_id="r")),
            s.admin.GetMessage(admin_pb2.GetMessageRequest(message_id="m")),
            s.admin.GetWorkflow(admin_pb2.GetWorkflowRequest(workflow_id="w")),
            s.admin.GetProfile(admin_pb2.GetProfileRequest(user_id="u")),
            s.admin.CancelRuns(admin_pb2.CancelRunsRequest(run_id="r")),
            s.subscriptions.DeleteSubscription(
                subscription_pb2.DeleteSubscriptionRequest(subscription="s")
            ),
        ):
            code, info, _ = await refused(call)
            assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_everything_can_be_looked_at_and_canceled() -> None:
    async with running() as s:
        workflow = welcome()
        workflow.cancellation_key = "profile.user_id"
        await s.upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=workflow))
        await s.upshot.Ingest(pb.IngestRequest(events=signed_up("e1")))
        nobody = event_pb2.Event(event_id="bad")
        nobody.track.event = "Signed Up"
        await s.upshot.Ingest(pb.IngestRequest(events=[nobody]))

        versions = await s.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
        assert [v.workflow.workflow_id for v in versions.workflow_versions] == ["welcome"]
        asked = admin_pb2.ListWorkflowVersionsRequest(workflow_id="welcome")
        assert len((await s.admin.ListWorkflowVersions(asked)).workflow_versions) == 1
        asked = admin_pb2.GetWorkflowRequest(workflow_id="welcome")
        assert (await s.admin.GetWorkflow(asked)).workflow_version.version == 1
        (run,) = (await s.admin.ListRuns(admin_pb2.ListRunsRequest(user_id="ana"))).runs
        assert (run.state, run.user_id) == (admin_pb2.RUN_STATE_ACTIVE, "ana")
        (message,) = (await s.admin.ListMessages(admin_pb2.ListMessagesRequest())).messages
        asked = admin_pb2.GetMessageRequest(message_id=message.message_id)
        assert (await s.admin.GetMessage(asked)).message.recipient == "ana@example.com"
        asked = admin_pb2.GetProfileRequest(user_id="ana")
        assert (await s.admin.GetProfile(asked)).profile.contact["email"] == "ana@example.com"
        refusals = await s.admin.ListRejectedEvents(admin_pb2.ListRejectedEventsRequest())
        assert [e.event_id for e in refusals.rejected_events] == ["bad"]
        counts = await s.admin.CountOutcomes(admin_pb2.CountOutcomesRequest())
        assert {c.workflow_id for c in counts.counts} == {"welcome"}

        asked = admin_pb2.CancelRunsRequest(cancellation_key="ana")
        assert (await s.admin.CancelRuns(asked)).canceled_run_ids == [run.run_id]


async def test_a_subscription_is_opened_committed_listed_and_forgotten() -> None:
    async with running() as s:
        stream = s.upshot.StreamOutcomes(pb.StreamOutcomesRequest(subscription="relay"))
        first = await stream.read()
        assert (list(first.outcomes), first.partition_count) == ([], 1)
        commit = subscription_pb2.CommitCursorRequest(subscription="relay", cursor=first.cursor)
        assert (await s.subscriptions.CommitCursor(commit)).cursor == first.cursor
        listed = await s.subscriptions.ListSubscriptions(
            subscription_pb2.ListSubscriptionsRequest()
        )
        assert [(x.subscription, x.cursor, x.lag) for x in listed.subscriptions] == [
            ("relay", first.cursor, 0)
        ]
        forget = subscription_pb2.DeleteSubscriptionRequest(subscription="relay")
        await s.subscriptions.DeleteSubscription(forget)
        stream.cancel()


async def test_faults_of_form_and_of_meaning_are_named_together() -> None:
    workflow = welcome()
    workflow.steps[0].step_id = "Mail!"
    workflow.steps[1].delay.duration.nanos = -5
    async with running() as s:
        code, info, named = await refused(
            s.upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=workflow))
        )
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert any(field.startswith("workflow.steps[0]") for field in named)
        assert any(field.startswith("workflow.steps[1].delay") for field in named)
        nothing = await s.admin.ListWorkflows(admin_pb2.ListWorkflowsRequest())
        assert not nothing.workflow_versions


async def test_going_down_tells_streams_to_resume() -> None:
    async with AsyncExitStack() as serving:
        started = await serving.enter_async_context(app.run(settings(), {}))
        async with grpc.aio.insecure_channel(started.grpc_address) as channel:
            stream = UpshotServiceStub(channel).StreamOutcomes(pb.StreamOutcomesRequest())
            assert (await stream.read()).cursor
            going_down = asyncio.create_task(serving.aclose())
            code, info, _ = await refused(stream.read())
            await going_down
    assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_without_providers_the_console_stands_in_loudly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(toml="") as s:
            await s.upshot.DefineWorkflow(pb.DefineWorkflowRequest(workflow=welcome()))
            await s.upshot.Ingest(pb.IngestRequest(events=signed_up("e1")))
    loud = [line for line in lines if line["event"] == "provider.none_configured"]
    assert [line["log_level"] for line in loud] == ["warning"]
    assert "Hello Ana" in capsys.readouterr().out
    assert "example.com" not in json.dumps(lines, default=repr), "no addresses in the log"


async def test_faults_of_all_providers_are_named_at_once() -> None:
    toml = """
        [providers.mail]
        kind = "smtp"
        [providers.carrier]
        kind = "pigeon"
        [channels]
        sms = "mail"
    """
    with pytest.raises(InvalidArgument) as raised:
        async with running(toml=toml):
            pass
    fields = {fault.field for fault in raised.value.violations}
    assert {"providers.mail.host", "providers.carrier.kind", "channels.sms"} <= fields


async def test_ports_and_the_database_belong_to_one_server(tmp_path: Path) -> None:
    database = str(tmp_path / "upshot.db")
    async with running(database=database) as s:
        for taken in (
            {"listen": s.app.grpc_address},
            {"http": s.app.http_address},
            {"database": database},
        ):
            with pytest.raises(FailedPrecondition):
                async with running(**taken):
                    pass


async def test_links_of_old_mail_go_on_working_after_a_restart(tmp_path: Path) -> None:
    database = str(tmp_path / "upshot.db")
    async with running(database=database) as s:
        url = s.app.links.unsubscribe_url("acme", "m1")
        assert url.startswith(f"http://{s.app.http_address}/u/")
    token = url.rpartition("/")[2]
    async with running(database=database) as s:
        kind = engagement.ENGAGEMENT_KIND_UNSUBSCRIBED
        fact = engagement.Engagement(message_id="m1", kind=kind)
        listed = pb.RecordEngagementRequest(engagements=[fact])
        await s.upshot.RecordEngagement(listed, metadata=[("authorization", f"Link {token}")])
        forged = [("authorization", f"Link {token}x")]
        code, _, _ = await refused(s.upshot.RecordEngagement(listed, metadata=forged))
        assert code is grpc.StatusCode.UNAUTHENTICATED
