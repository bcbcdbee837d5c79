"""Down and up again on the same file: nothing is lost, nothing is told twice, ends are orderly."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import grpc
import pytest

from tests.servers import Server
from tests.sinks import mailbox, part, sms_gateway
from tests.wire import (
    ACCEPTED,
    DAY_S,
    DUPLICATE,
    HOUR_S,
    PATIENCE_S,
    Watch,
    Watched,
    Wire,
    connected,
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
from upshot.v1 import admin_pb2, subscription_pb2
from upshotd.application.lab import OFFSET_SETTING, Advanced

DRAINING = (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_story_goes_on_after_each_restart(database: Path, watched_stream: Watch) -> None:
    async with running(database) as wire:
        steps = (mail(), opened(on_timeout=[sms(), pause("more", DAY_S), sms("last")]))
        await wire.define(workflow("welcome", "Signed Up", *steps))
        _, result = await wire.ingest(identify("i1"), track("e1"))
        run_id = result.started_runs[0].run_id
        now = (await wire.advance(23 * HOUR_S)).now
        stream = watched_stream(wire, subscription="relay")
        await stream.until(2)
        commit = subscription_pb2.CommitCursorRequest(subscription="relay", cursor=stream.cursor)
        await wire.subscriptions.CommitCursor(commit)

    async with running(database) as wire:
        # The lab's clock has kept its place: the timer is an hour away, not 24.
        assert (await wire.advance()).now.seconds >= now.seconds
        assert (await wire.run(run_id)).step_id == "opened"
        assert (await wire.define(workflow("welcome", "Signed Up", *steps))).unchanged
        (again,) = await wire.ingest(track("e1"))
        assert (again.state, again.started_runs[0].run_id) == (DUPLICATE, run_id)
        assert (await wire.advance(2 * HOUR_S)).fired_timers == 1
        by_cursor = watched_stream(wire, after_cursor=stream.cursor)
        by_name = watched_stream(wire, subscription="relay")
        for reader in (by_cursor, by_name):
            assert kinds(await reader.until(2)) == ["MESSAGE_IGNORED", "MESSAGE_SENT"]

    async with running(database) as wire:
        await wire.advance(DAY_S)
        assert (await wire.run(run_id)).state == admin_pb2.RUN_STATE_COMPLETED
        assert kinds(await watched_stream.all(wire)) == [
            "RUN_STARTED",
            "MESSAGE_SENT",
            "MESSAGE_IGNORED",
            "MESSAGE_SENT",
            "MESSAGE_SENT",
            "RUN_COMPLETED",
        ]


async def test_timers_that_came_due_meanwhile_fire_at_the_start_in_their_order(
    database: Path, watched_stream: Watch
) -> None:
    async with running(database) as wire:
        for hours in (3, 1, 2):
            steps = (pause(seconds=hours * HOUR_S), sms())
            await wire.define(workflow(f"after-{hours}h", f"Wait {hours}", *steps))
            await wire.ingest(identify(f"i{hours}"), track(f"e{hours}", f"Wait {hours}"))
        # As long as if it had been down for four hours.
        await wire.app.store.put_setting(OFFSET_SETTING, str(4 * HOUR_S * 1_000_000))

    async with running(database) as wire:
        stream = watched_stream(wire)
        came = await stream.until(9)
    ended = [o.workflow_id for o in came if kinds([o]) == ["RUN_COMPLETED"]]
    assert ended == ["after-1h", "after-2h", "after-3h"]


async def test_links_of_old_mail_still_lead_somewhere(
    database: Path, watched_stream: Watch
) -> None:
    async with mailbox() as box:
        html = '<p><a href="https://shop.example/start">Start</a></p>'
        step = mail()
        step["send"]["email"]["html"] = html
        async with running(database, box.toml) as wire:
            await wire.define(workflow("welcome", "Signed Up", step, pause()))
            await wire.ingest(identify("i1"), track("e1"))
            await wire.advance()
            old = wire.app.http_address
        (received,) = box.mails
        link = part(received, "html").split('href="')[1].split('"')[0]
        assert link.startswith(f"http://{old}/c/")
        async with running(database, box.toml) as wire, aiohttp.ClientSession() as http:
            moved = link.replace(old, wire.app.http_address)
            async with http.get(moved, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (
                    302,
                    "https://shop.example/start",
                )
            clicked = await watched_stream(wire).until_kind("MESSAGE_CLICKED")
            assert clicked.link_url == "https://shop.example/start"


def told_of_advance(wire: Wire, patch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return what is set once a call of AdvanceTime is under way in the server."""
    lab, begun = wire.app.lab, asyncio.Event()
    assert lab is not None
    advance = lab.advance

    async def told(duration_us: int) -> Advanced:
        begun.set()
        return await advance(duration_us)

    patch.setattr(lab, "advance", told)
    return begun


async def test_going_down_ends_streams_with_a_place_to_resume_and_lets_calls_finish(
    database: Path, watched_stream: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sms_gateway() as gateway, AsyncExitStack() as client:
        server = AsyncExitStack()
        wire = await server.enter_async_context(running(database, gateway.toml))
        own = await client.enter_async_context(connected(wire.app.grpc_address))
        await own.define(workflow("nudge", "Signed Up", sms()))
        await own.ingest(identify("i1"), track("e1"))
        await asyncio.wait_for(gateway.asked.wait(), PATIENCE_S)
        stream = watched_stream(own)
        await stream.until(1)
        begun = told_of_advance(wire, monkeypatch)
        settling = asyncio.ensure_future(own.advance())  # until the gateway has answered
        await asyncio.wait_for(begun.wait(), PATIENCE_S)

        going_down = asyncio.create_task(server.aclose())
        code, info, _ = await refused(_drained(stream))
        assert (code, info.reason) == DRAINING
        code, info, _ = await refused(own.ingest(track("e2")))
        assert (code, info.reason) == DRAINING
        assert not settling.done()
        gateway.answers.set()
        assert (await settling).now.seconds > 0
        await asyncio.wait_for(going_down, PATIENCE_S)

    async with running(database) as wire:
        resumed = watched_stream(wire, after_cursor=stream.cursor)
        assert kinds(await resumed.until(2)) == ["MESSAGE_SENT", "RUN_COMPLETED"]
        (result,) = await wire.ingest(track("e2"))
        assert result.state == ACCEPTED, "what was refused had no effect"


async def _drained(stream: Watched) -> None:
    while True:
        await stream.next()


async def test_a_send_that_is_under_way_is_recorded_before_the_end(
    database: Path, watched_stream: Watch
) -> None:
    async with sms_gateway() as gateway:
        server = AsyncExitStack()
        wire = await server.enter_async_context(running(database, gateway.toml))
        await wire.define(workflow("nudge", "Signed Up", sms()))
        await wire.ingest(identify("i1"), track("e1"))
        await asyncio.wait_for(gateway.asked.wait(), PATIENCE_S)
        going_down = asyncio.create_task(server.aclose())
        done, _ = await asyncio.wait({going_down}, timeout=0.3)
        assert not done, "it waits for the gateway"
        gateway.answers.set()
        await asyncio.wait_for(going_down, PATIENCE_S)
        async with running(database, gateway.toml) as wire:
            came = kinds(await watched_stream.all(wire))
            assert came == ["RUN_STARTED", "MESSAGE_SENT", "RUN_COMPLETED"]
        assert len(gateway.message_ids) == 1


async def test_a_send_that_takes_too_long_is_asked_again_after_the_restart(
    database: Path, watched_stream: Watch
) -> None:
    """The gateway knows our id, so that it is asked again with the same one."""
    async with sms_gateway() as gateway:
        toml = gateway.toml + '[limits]\ndrain = "200ms"\n'
        async with running(database, toml) as wire:
            await wire.define(workflow("nudge", "Signed Up", sms()))
            await wire.ingest(identify("i1"), track("e1"))
            await asyncio.wait_for(gateway.asked.wait(), PATIENCE_S)
        gateway.answers.set()
        async with running(database, toml) as wire:
            await wire.advance(HOUR_S)
            came = kinds(await watched_stream.all(wire))
            assert came == ["RUN_STARTED", "MESSAGE_SENT", "RUN_COMPLETED"]
    assert len(gateway.message_ids) == 2
    assert len(set(gateway.message_ids)) == 1


async def test_sigterm_ends_the_process_with_0_within_its_grace(
    tmp_path: Path, watched_stream: Watch
) -> None:
    quick = '[providers.nowhere]\nkind = "null"\n[channels]\nemail = "nowhere"\n'
    with Server(tmp_path, config=quick, lab=True) as server:
        await server.started()
        async with connected(server.address) as wire:
            await wire.define(workflow("welcome", "Signed Up", mail(), pause()))
            await wire.ingest(identify("i1"), track("e1"))
            stream = watched_stream(wire)
            await stream.until(2)
            begin = time.monotonic()
            ending = asyncio.create_task(server.stopped())
            code, info, _ = await refused(_drained(stream))
            assert (code, info.reason) == DRAINING
            assert await ending == 0
            assert time.monotonic() - begin < 10
        assert "Traceback" not in server.said()
        await server.started()
        async with connected(server.address) as wire:
            await wire.advance(2 * HOUR_S)
            resumed = watched_stream(wire, after_cursor=stream.cursor)
            assert kinds(await resumed.until(1)) == ["RUN_COMPLETED"]
