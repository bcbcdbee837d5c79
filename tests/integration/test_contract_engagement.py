"""RecordEngagement over the wire: callbacks early, late, twice, by software, about nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.sinks import Gateway, sms_gateway
from tests.wire import (
    DAY_S,
    NOWHERE,
    PATIENCE_S,
    Watch,
    Wire,
    fact,
    identify,
    kinds,
    mail,
    opened,
    pause,
    refused,
    running,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, engagement_pb2, outcome_pb2
from upshot.v1 import service_pb2 as pb

RECORDED, PENDING = pb.ENGAGEMENT_STATE_RECORDED, pb.ENGAGEMENT_STATE_PENDING
AGAIN, REFUSED = pb.ENGAGEMENT_STATE_DUPLICATE, pb.ENGAGEMENT_STATE_REJECTED


async def waiting(wire: Wire, **lists: object) -> tuple[str, str]:
    """Let ana wait for an opening; return the run and the message."""
    await wire.define(workflow("welcome", "Signed Up", mail(), opened(**lists), pause()))
    (_, result) = await wire.ingest(identify("i1"), track("e1"))
    await wire.advance()
    (message,) = await wire.messages()
    return result.started_runs[0].run_id, message.message_id


async def test_an_opening_lets_the_run_go_on_and_counts_once(
    wire: Wire, watched_stream: Watch
) -> None:
    run_id, message_id = await waiting(wire, on_timeout=[sms()])
    (first,) = await wire.engage(fact("OPENED", message_id, "o1"))
    assert (first.state, first.message_id) == (RECORDED, message_id)
    assert list(first.resumed_run_ids) == [run_id]
    again, within, second = await wire.engage(
        fact("OPENED", message_id, "o1"),
        fact("OPENED", message_id, "o1"),
        fact("OPENED", message_id, "o2"),
    )
    assert [again.state, within.state, second.state] == [AGAIN, AGAIN, RECORDED]
    assert not second.resumed_run_ids
    await wire.advance(2 * DAY_S)
    came = await watched_stream.all(wire)
    assert kinds(came).count("MESSAGE_OPENED") == 2
    assert "MESSAGE_IGNORED" not in kinds(came)
    assert len(await wire.messages()) == 1, "nobody was nudged"


async def test_facts_of_any_order_take_nothing_back(wire: Wire) -> None:
    _, message_id = await waiting(wire)
    await wire.engage(fact("CLICKED", message_id, "c1", link_url="https://shop.example/"))
    await wire.engage(fact("DELIVERED", message_id, "d1"), fact("BOUNCED", message_id, "b1"))
    asked = admin_pb2.GetMessageRequest(message_id=message_id)
    message = (await wire.admin.GetMessage(asked)).message
    assert {"sent", "clicked", "delivered", "bounced"} <= set(message.facts)
    assert message.state == admin_pb2.MESSAGE_STATE_ACCEPTED


async def test_a_bounce_ends_the_wait_at_once(wire: Wire, watched_stream: Watch) -> None:
    run_id, message_id = await waiting(wire, on_undeliverable=[sms()])
    (result,) = await wire.engage(fact("BOUNCED", message_id, "b1", reason="no such mailbox"))
    assert list(result.resumed_run_ids) == [run_id]
    await wire.advance()
    came = await watched_stream.all(wire)
    (bounced,) = [o for o in came if o.reason]
    assert (kinds([bounced]), bounced.reason) == (["MESSAGE_UNDELIVERABLE"], "BOUNCED")
    assert bounced.properties["detail"] == "no such mailbox"
    assert [m.step_id for m in await wire.messages()] == ["mail", "text"]


async def test_what_software_opened_is_streamed_and_satisfies_no_wait(
    wire: Wire, watched_stream: Watch
) -> None:
    run_id, message_id = await waiting(wire, on_timeout=[sms()])
    (result,) = await wire.engage(fact("OPENED", message_id, "m1", machine=True))
    assert (result.state, list(result.resumed_run_ids)) == (RECORDED, [])
    assert (await wire.run(run_id)).step_id == "opened"
    await wire.advance(DAY_S + 60)
    came = await watched_stream.all(wire)
    (seen,) = [o for o in came if kinds([o]) == ["MESSAGE_OPENED"]]
    assert seen.machine
    assert "MESSAGE_IGNORED" in kinds(came), "no person has engaged with it"
    assert [m.step_id for m in await wire.messages()] == ["mail", "text"]


async def test_what_is_about_no_message_of_ours_is_rejected(
    wire: Wire, watched_stream: Watch
) -> None:
    _, message_id = await waiting(wire)
    untyped = engagement_pb2.Engagement(message_id=message_id)
    results = await wire.engage(
        fact("OPENED", "no-message", "x1"),
        fact("OPENED", "", "x2"),
        untyped,
        fact("OPENED", message_id, "x" * 201),
        fact("OPENED", message_id, "x4"),
    )
    assert [(r.state, r.reason) for r in results] == [
        (REFUSED, "UNKNOWN_MESSAGE"),
        (REFUSED, "MISSING_TARGET"),
        (REFUSED, "MISSING_KIND"),
        (REFUSED, "INVALID_ENGAGEMENT_ID"),
        (RECORDED, ""),
    ]
    assert [[fault.field for fault in result.violations] for result in results] == [
        [],
        ["engagement.target"],
        ["engagement.kind"],
        ["engagement.engagement_id"],
        [],
    ]
    assert kinds(await watched_stream.all(wire)).count("MESSAGE_OPENED") == 1


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_request_of_no_or_too_many_facts_fails_as_a_whole(wire: Wire, count: int) -> None:
    facts = [fact("OPENED", "m", f"o{number}") for number in range(count)]
    code, _, faults = await refused(wire.engage(*facts))
    assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {"engagements"})


@asynccontextmanager
async def with_gateway(database: Path) -> AsyncIterator[tuple[Wire, Gateway]]:
    async with sms_gateway() as gateway, running(database, gateway.toml) as wire:
        yield wire, gateway
        gateway.answers.set()


def by_provider(kind: str, engagement_id: str, number: int = 1) -> engagement_pb2.Engagement:
    target = engagement_pb2.ProviderMessage(
        provider="gateway", provider_message_id=f"theirs-{number}"
    )
    return fact(kind, "", engagement_id, provider_message=target)


async def texted(wire: Wire) -> str:
    """Let ana be sent an SMS and wait for a click; return the run."""
    click = {"engagement": {"step_id": "text", "kinds": ["ENGAGEMENT_KIND_CLICKED"]}}
    answered = {"step_id": "answered", "wait": {**click, "timeout": "3600s"}}
    await wire.define(workflow("nudge", "Signed Up", sms(), answered))
    (_, result) = await wire.ingest(identify("i1"), track("e1"))
    return str(result.started_runs[0].run_id)


async def test_a_callback_that_overtakes_the_answer_waits_for_it(
    database: Path, watched_stream: Watch
) -> None:
    async with with_gateway(database) as (wire, gateway):
        run_id = await texted(wire)
        await asyncio.wait_for(gateway.asked.wait(), PATIENCE_S)
        early, repeated = await wire.engage(
            by_provider("CLICKED", "c1"), by_provider("CLICKED", "c1")
        )
        assert (early.state, early.message_id) == (PENDING, "")
        assert repeated.state == AGAIN
        gateway.answers.set()
        await wire.advance()
        run = await wire.run(run_id)
        assert run.state == admin_pb2.RUN_STATE_COMPLETED, "the click was there before the wait"
        came = kinds(await watched_stream.all(wire))
        assert came == ["RUN_STARTED", "MESSAGE_SENT", "MESSAGE_CLICKED", "RUN_COMPLETED"]
        # Now the id is known.
        late, again = await wire.engage(
            by_provider("DELIVERED", "d1"), by_provider("CLICKED", "c1")
        )
        assert (late.state, late.message_id) == (RECORDED, gateway.message_ids[0])
        assert again.state == AGAIN


async def test_a_callback_with_our_id_is_acceptance(database: Path, watched_stream: Watch) -> None:
    async with with_gateway(database) as (wire, gateway):
        run_id = await texted(wire)
        await asyncio.wait_for(gateway.asked.wait(), PATIENCE_S)
        (result,) = await wire.engage(fact("DELIVERED", gateway.message_ids[0], "d1"))
        assert result.state == RECORDED
        assert (await wire.run(run_id)).step_id == "answered"
        gateway.answers.set()
        await wire.advance()
        came = await watched_stream.all(wire)
        assert kinds(came) == ["RUN_STARTED", "MESSAGE_SENT", "MESSAGE_DELIVERED"]
        (message,) = await wire.messages()
        assert message.provider_message_id == "theirs-1"
        assert len(gateway.message_ids) == 1


def by_number(number: str, engagement_id: str, body: str = "") -> engagement_pb2.Engagement:
    target = engagement_pb2.Recipient(channel=outcome_pb2.CHANNEL_SMS, address=number)
    made = fact("REPLIED", "", engagement_id, recipient=target)
    made.data.update({"body": body})
    return made


async def test_an_answer_finds_its_message_by_the_number_however_it_is_written(
    database: Path, watched_stream: Watch
) -> None:
    async with running(database, 'default_region = "CH"\n' + NOWHERE) as wire:
        await wire.define(workflow("nudge", "Signed Up", sms()))
        await wire.ingest(identify("i1", phone="+41790000000"), track("e1"))
        await wire.advance()
        (message,) = await wire.messages()
        results = await wire.engage(
            by_number("079 000 00 00", "a1", "gladly"),
            by_number("+41 79 000 00 00", "a2", "Stop!"),
            by_number("+41790000000", "a2", "Stop!"),
            by_number("+41790000001", "a3", "gladly"),
            by_number("+41790000001", "a4", "stop"),
            by_number("79", "a5", "stop"),
            by_number("+41790000000", "", "stop"),
        )
        assert [(r.state, r.reason, r.message_id) for r in results] == [
            (RECORDED, "", message.message_id),
            (RECORDED, "", message.message_id),
            (AGAIN, "", ""),
            (REFUSED, "UNKNOWN_MESSAGE", ""),
            (RECORDED, "", ""),
            (REFUSED, "INVALID_TARGET", ""),
            (REFUSED, "INVALID_ENGAGEMENT_ID", ""),
        ]
        listed = await wire.admin.ListSuppressions(admin_pb2.ListSuppressionsRequest())
        assert sorted(entry.phone_number for entry in listed.entries) == [
            "", "+41790000000", "+41790000001",
        ]  # fmt: skip
        answers = [o for o in await watched_stream.all(wire) if kinds([o]) == ["MESSAGE_REPLIED"]]
        assert [dict(o.properties) for o in answers] == [
            {"body": "gladly"},
            {"body": "Stop!", "keyword": "STOP"},
        ]
