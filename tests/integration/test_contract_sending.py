"""Sends of the whole server: intent, call, result, and what follows when there is none."""

from pathlib import Path

from tests.integration.cli_world import command
from tests.sinks import mailbox, sms_gateway
from tests.wire import (
    DAY_S,
    HOUR_S,
    Watch,
    Wire,
    identify,
    kinds,
    mail,
    pause,
    running,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, provider_pb2

UNDELIVERABLE = admin_pb2.MESSAGE_STATE_UNDELIVERABLE


async def begun(wire: Wire, *steps: object, **fields: object) -> str:
    """Define a workflow and let ana start it; return the run."""
    await wire.define(workflow("welcome", "Signed Up", *steps, **fields))
    _, result = await wire.ingest(identify("i1"), track("e1"))
    await wire.advance()
    return str(result.started_runs[0].run_id)


async def test_a_provider_in_trouble_is_asked_again_when_its_time_has_come(
    database: Path, watched_stream: Watch
) -> None:
    async with sms_gateway() as gateway, running(database, gateway.toml) as wire:
        gateway.answers.set()
        gateway.statuses = [503, 429, 200]
        run_id = await begun(wire, sms())
        (message,) = await wire.messages()
        assert message.state == admin_pb2.MESSAGE_STATE_RETRYING
        assert message.HasField("due_time")
        assert (await wire.run(run_id)).step_id == "text", "the run holds until it is clear"
        await wire.advance(HOUR_S)
        (message,) = await wire.messages()
        assert (message.state, message.attempt) == (admin_pb2.MESSAGE_STATE_ACCEPTED, 3)
        assert not message.possible_duplicate
        assert len(gateway.message_ids) == 3
        assert len(set(gateway.message_ids)) == 1, "the same key on every attempt"
        came = kinds(await watched_stream.all(wire))
        assert came == ["RUN_STARTED", "MESSAGE_SENT", "RUN_COMPLETED"]


async def test_a_provider_that_never_recovers_is_given_up_on_within_a_day(
    database: Path, watched_stream: Watch
) -> None:
    async with sms_gateway() as gateway, running(database, gateway.toml) as wire:
        gateway.answers.set()
        gateway.statuses = [503] * 1000
        gateway.headers = {"Retry-After": "3600"}
        await begun(wire, sms())
        await wire.advance(26 * HOUR_S)
        (message,) = await wire.messages()
        assert (message.state, message.reason) == (UNDELIVERABLE, "PROVIDER_ERROR")
        assert len(gateway.message_ids) == 24, "not before the hour that it asked for"
        came = kinds(await watched_stream.all(wire))
        assert came == ["RUN_STARTED", "MESSAGE_UNDELIVERABLE", "RUN_COMPLETED"]


async def test_a_refusal_is_final_and_the_run_goes_on(
    database: Path, watched_stream: Watch
) -> None:
    async with mailbox() as box, running(database, box.toml) as wire:
        box.answers = ["550 5.1.1 no such mailbox"]
        run_id = await begun(wire, mail(), pause())
        (message,) = await wire.messages()
        assert (message.state, message.reason) == (UNDELIVERABLE, "BOUNCED")
        assert (await wire.run(run_id)).step_id == "pause"
        came = await watched_stream.all(wire)
        assert kinds(came) == ["RUN_STARTED", "MESSAGE_UNDELIVERABLE"]
        assert came[1].reason == "BOUNCED"
        assert "no such mailbox" in came[1].properties["detail"]
        assert box.mails == []


async def test_a_mail_that_nobody_answered_for_is_not_sent_again(
    database: Path, watched_stream: Watch
) -> None:
    async with mailbox() as box, running(database, box.toml) as wire:
        box.drops = 1
        await begun(wire, mail())
        (message,) = await wire.messages()
        assert message.state == admin_pb2.MESSAGE_STATE_UNKNOWN
        await wire.advance(2 * DAY_S)
        (message,) = await wire.messages()
        assert (message.state, message.reason) == (UNDELIVERABLE, "UNKNOWN")
        assert len(box.mails) == 1, "it may have arrived"
        came = kinds(await watched_stream.all(wire))
        assert came == ["RUN_STARTED", "MESSAGE_UNDELIVERABLE", "RUN_COMPLETED"]


async def test_what_a_person_asked_for_is_sent_again_and_says_so(
    database: Path, watched_stream: Watch
) -> None:
    async with mailbox() as box, running(database, box.toml) as wire:
        box.drops = 1
        await begun(wire, mail(subject="Your code"), purpose="PURPOSE_TRANSACTIONAL")
        await wire.advance(2 * DAY_S)
        (message,) = await wire.messages()
        assert message.state == admin_pb2.MESSAGE_STATE_ACCEPTED
        assert message.possible_duplicate
        assert [m["Subject"] for m in box.mails] == ["Your code"] * 2
        assert box.mails[0]["Message-ID"] == box.mails[1]["Message-ID"]
        (sent,) = [o for o in await watched_stream.all(wire) if kinds([o]) == ["MESSAGE_SENT"]]
        assert sent.possible_duplicate


async def test_what_is_retried_is_held_back_when_the_person_left_meanwhile(
    database: Path, watched_stream: Watch
) -> None:
    async with sms_gateway() as gateway, running(database, gateway.toml) as wire:
        gateway.answers.set()
        gateway.statuses = [503]
        await begun(wire, sms(), exits=[{"track": {"event": "Bought"}}])
        await wire.ingest(track("b1", "Bought"))
        await wire.advance(HOUR_S)
        (message,) = await wire.messages()
        assert (message.state, message.reason) == (
            admin_pb2.MESSAGE_STATE_SUPPRESSED,
            "RUN_ENDED",
        )
        assert len(gateway.message_ids) == 1
        came = await watched_stream.all(wire)
        assert kinds(came) == ["RUN_STARTED", "MESSAGE_SUPPRESSED", "RUN_COMPLETED"]
        assert came[2].reason == "EXITED"


async def test_a_channel_without_a_provider_is_unroutable(
    database: Path, watched_stream: Watch
) -> None:
    async with mailbox() as box, running(database, box.toml) as wire:
        await begun(wire, sms())
        came = await watched_stream.all(wire)
        assert kinds(came) == ["RUN_STARTED", "MESSAGE_UNROUTABLE", "RUN_COMPLETED"]
        assert came[1].reason == "NO_PROVIDER"


async def test_a_provider_that_is_away_is_left_alone_and_people_can_see_it(database: Path) -> None:
    async with sms_gateway() as gateway, running(database, gateway.toml) as wire:
        gateway.answers.set()
        gateway.statuses = [503] * 6
        always = {"mode": "REENTRY_MODE_ALWAYS"}
        await wire.define(workflow("welcome", "Signed Up", sms(), reentry=always))
        for number in range(8):
            await wire.ingest(identify(f"i{number}"), track(f"e{number}"))
            await wire.advance()
        assert len(gateway.message_ids) == 5
        listed, _ = await command({}, "providers", "--server", wire.app.grpc_address)
        _, line = listed.splitlines()
        assert line.startswith("gateway   sms       open")
        assert line.endswith("5         HTTP 503")

        await wire.advance(HOUR_S)
        request = provider_pb2.ListProvidersRequest()
        (gone,) = (await wire.admin.ListProviders(request)).providers
        assert gone.state == provider_pb2.BREAKER_STATE_CLOSED
        assert not gone.HasField("open_time")
        assert len(set(gateway.message_ids)) == 8, "and everybody has their message"
