"""The edge of the whole server: from a Segment call to a mail, and from its links back."""

from pathlib import Path

import aiohttp
import grpc

from upshot.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    engagement_pb2,
    outcome_pb2,
    service_pb2,
    service_pb2_grpc,
    workflow_pb2,
)
from upshotd import app
from upshotd.config import ProviderTable, Settings
from upshotd.config_network import Address, Network
from upshotd.domain.message import Channel

TARGET = "https://shop.example/start"
WELCOME = workflow_pb2.Workflow(
    workflow_id="welcome",
    trigger=workflow_pb2.Trigger(track=workflow_pb2.TrackTrigger(event="Trial Started")),
    steps=[
        workflow_pb2.Step(
            step_id="mail",
            send=workflow_pb2.Send(
                channel=outcome_pb2.CHANNEL_EMAIL,
                email=workflow_pb2.EmailContent(
                    subject="Welcome", html=f'<a href="{TARGET}">Start</a>'
                ),
            ),
        ),
    ],
)
BATCH = {
    "batch": [
        {"type": "identify", "userId": "ana", "messageId": "1",
         "traits": {"email": "ana@home.example"}},
        {"type": "track", "userId": "ana", "messageId": "2", "event": "Trial Started"},
        {"type": "track", "userId": ["ana"], "messageId": "3", "event": "Trial Started"},
        {"type": "track", "userId": "ana", "messageId": "4", "event": "Large",
         "properties": {"text": "x" * 40_000}},
    ]
}  # fmt: skip


def settings(tmp_path: Path) -> Settings:
    return Settings(
        network=Network(Address("127.0.0.1", 0), Address("127.0.0.1", 0)),
        database=str(tmp_path / "upshot.db"),
        providers={"null": ProviderTable("null", "null", {})},
        channels={Channel.EMAIL: ("null",)},
    )


async def sent_message(outcomes: "grpc.aio.UnaryStreamCall[object, object]") -> str:
    """Return the id of the first message that was sent."""
    async for page in outcomes:
        for outcome in page.outcomes:  # type: ignore[attr-defined]
            if outcome.kind == outcome_pb2.OUTCOME_KIND_MESSAGE_SENT:
                return str(outcome.message_id)
    raise AssertionError("the stream ended")


async def test_a_mail_comes_of_a_batch_and_its_links_come_back(tmp_path: Path) -> None:
    async with (
        app.run(settings(tmp_path), {}) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
        aiohttp.ClientSession() as http,
    ):
        service = service_pb2_grpc.UpshotServiceStub(channel)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        await service.DefineWorkflow(service_pb2.DefineWorkflowRequest(workflow=WELCOME))
        async with http.post(f"http://{running.http_address}/v1/batch", json=BATCH) as answer:
            assert answer.status == 200
        stream = service.StreamOutcomes(
            service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_EARLIEST)
        )
        message_id = await sent_message(stream)
        stream.cancel()

        links = running.links
        async with http.get(links.open_url("default", message_id)) as answer:
            assert answer.status == 200
        click = links.click_url("default", message_id, TARGET)
        async with http.get(click, allow_redirects=False) as answer:
            assert answer.headers["Location"] == TARGET
        unsubscribe = links.unsubscribe_url("default", message_id)
        profile = admin_pb2.GetProfileRequest(user_id="ana")
        async with http.get(unsubscribe) as answer:
            assert answer.status == 200
        assert not (await admin.GetProfile(profile)).profile.suppressions
        for _ in range(2):
            body = {"List-Unsubscribe": "One-Click"}
            async with http.post(unsubscribe, data=body) as answer:
                assert answer.status == 200
        async with http.post(links.unsubscribe_url("default", "no-message")) as answer:
            assert answer.status == 404

        (held,) = (await admin.GetProfile(profile)).profile.suppressions
        message = (
            await admin.GetMessage(admin_pb2.GetMessageRequest(message_id=message_id))
        ).message
        refused = (
            await admin.ListRejectedEvents(admin_pb2.ListRejectedEventsRequest())
        ).rejected_events
    assert held.channel == outcome_pb2.CHANNEL_EMAIL
    assert {"opened", "clicked"} <= set(message.facts)
    # What could not be taken was answered with 200, and is here.
    assert {event.event_id for event in refused} == {"3", "4"}
    assert any("`userId` is neither a text nor a number" in event.payload for event in refused)


async def test_an_engagement_by_the_contract_and_one_by_the_edge_are_of_one_message(
    tmp_path: Path,
) -> None:
    async with (
        app.run(settings(tmp_path), {}) as running,
        grpc.aio.insecure_channel(running.grpc_address) as channel,
        aiohttp.ClientSession() as http,
    ):
        service = service_pb2_grpc.UpshotServiceStub(channel)
        await service.DefineWorkflow(service_pb2.DefineWorkflowRequest(workflow=WELCOME))
        async with http.post(f"http://{running.http_address}/v1/batch", json=BATCH) as answer:
            assert answer.status == 200
        stream = service.StreamOutcomes(
            service_pb2.StreamOutcomesRequest(start=service_pb2.START_POSITION_EARLIEST)
        )
        message_id = await sent_message(stream)
        stream.cancel()
        async with http.get(running.links.open_url("default", message_id)) as answer:
            assert answer.status == 200
        again = engagement_pb2.Engagement(
            engagement_id=f"open:{message_id}",
            message_id=message_id,
            kind=engagement_pb2.ENGAGEMENT_KIND_OPENED,
        )
        request = service_pb2.RecordEngagementRequest(engagements=[again])
        (result,) = (await service.RecordEngagement(request)).results
    assert result.state == service_pb2.ENGAGEMENT_STATE_DUPLICATE
