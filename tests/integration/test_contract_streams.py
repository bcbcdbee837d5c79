"""StreamOutcomes over the wire: where it begins, what passes, how it ends."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import structlog

from tests.wire import (
    DAY_S,
    NOWHERE,
    PATIENCE_S,
    Watch,
    Watched,
    Wire,
    connected,
    identify,
    kinds,
    mail,
    refused,
    running,
    sms,
    track,
    workflow,
)
from upshot.v1 import outcome_pb2
from upshot.v1 import service_pb2 as pb
from upshotd.application import cursor as cursors
from upshotd.application.housekeeping import KeepFor

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DAY_US = DAY_S * 1_000_000
SMALL_WINDOW = (("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0))


async def filled(wire: Wire, people: int, first: int = 0) -> None:
    """Let *people* get a mail each: three outcomes for each of them."""
    await wire.define(workflow("welcome", "Signed Up", mail()))
    events = []
    for number in range(first, first + people):
        user_id = f"u{number}"
        events += [identify(f"i{number}", user_id), track(f"e{number}", user_id=user_id)]
    await wire.ingest(*events)
    await wire.advance()


def place(cursor: str) -> cursors.Cursor:
    found = cursors.parse(cursor)
    assert found is not None
    return found


async def drained(stream: Watched) -> None:
    """Read until the stream ends."""
    while True:
        await stream.next()


async def test_a_stream_begins_with_a_checkpoint_and_carries_what_comes(
    wire: Wire, watched_stream: Watch
) -> None:
    await filled(wire, 2)
    everything, from_now = watched_stream(wire), watched_stream(wire, start=pb.START_POSITION_NOW)
    first, now = await everything.next(), await from_now.next()
    assert (list(first.outcomes), first.partition_count) == ([], 1)
    assert (list(now.outcomes), now.partition_count) == ([], 1)
    assert len(await everything.until(6)) == 6
    assert now.cursor == everything.cursor

    # A lone outcome is not held back to fill a response.
    begin = time.monotonic()
    await filled(wire, 1, first=2)
    assert kinds(await from_now.until(3)) == ["RUN_STARTED", "MESSAGE_SENT", "RUN_COMPLETED"]
    assert time.monotonic() - begin < 5
    await everything.until(9)


async def test_every_cursor_resumes_strictly_after_it(wire: Wire, watched_stream: Watch) -> None:
    await filled(wire, 3)
    whole = watched_stream(wire, max_batch=2)
    ids = [outcome.outcome_id for outcome in await whole.until(9)]
    seen = 0
    for response in whole.stream.responses:
        seen += len(response.outcomes)
        resumed = watched_stream(wire, after_cursor=response.cursor)
        await resumed.next()
        assert [o.outcome_id for o in await resumed.until(9 - seen)] == ids[seen:]


async def test_responses_hold_at_most_what_was_asked_for(wire: Wire, watched_stream: Watch) -> None:
    await filled(wire, 50)
    for max_batch, sizes in ((0, [0, 100, 50]), (60, [0, 60, 60, 30]), (1000, [0, 150])):
        stream = watched_stream(wire, max_batch=max_batch)
        await stream.until(150)
        assert [len(response.outcomes) for response in stream.stream.responses] == sizes


async def test_a_malformed_cursor_is_invalid(wire: Wire, watched_stream: Watch) -> None:
    await filled(wire, 1)
    good = (await watched_stream(wire).next()).cursor
    for bad in ("nonsense", good[:-1], good + "A", "é", "x" * 5_000):
        code, info, faults = await refused(watched_stream(wire, after_cursor=bad).next())
        assert (code, info.reason) == (INVALID, "CURSOR_INVALID")
        assert set(faults) == {"after_cursor"}


async def test_a_cursor_of_another_database_is_invalid(
    wire: Wire, watched_stream: Watch, tmp_path: Path
) -> None:
    await filled(wire, 1)
    async with running(tmp_path / "other.db") as other:
        await filled(other, 1)
        theirs = watched_stream(other)
        await theirs.until(3)
    code, info, faults = await refused(watched_stream(wire, after_cursor=theirs.cursor).next())
    assert (code, info.reason) == (INVALID, "CURSOR_INVALID")
    assert "another log" in faults["after_cursor"]


async def test_a_cursor_beyond_the_head_is_ahead(wire: Wire, watched_stream: Watch) -> None:
    await filled(wire, 1)
    head = watched_stream(wire)
    await head.until(3)
    ahead = cursors.encode(replace(place(head.cursor), positions={0: 4}))
    code, info, faults = await refused(watched_stream(wire, after_cursor=ahead).next())
    assert (code, info.reason) == (INVALID, "CURSOR_AHEAD")
    assert set(faults) == {"after_cursor"}


async def test_a_cursor_older_than_retention_says_where_to_go_on(
    wire: Wire, watched_stream: Watch
) -> None:
    await filled(wire, 2)
    stream = watched_stream(wire)
    old = (await stream.next()).cursor
    await stream.until(6)
    await wire.advance(2 * DAY_S)
    await filled(wire, 1, first=2)
    keep = replace(KeepFor(), outcomes_us=DAY_US)
    assert await wire.app.store.prune(keep.until(wire.app.clock.now_us()), 500) == 6

    code, info, _ = await refused(watched_stream(wire, after_cursor=old).next())
    assert (code, info.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    earliest = info.metadata["earliest_cursor"]
    resumed = watched_stream(wire, after_cursor=earliest)
    kept = await resumed.until(3)
    assert [o.position for o in kept] == [7, 8, 9]
    # Whoever had read to the very end of what went has lost nothing.
    last = watched_stream(wire, after_cursor=stream.cursor)
    assert [o.position for o in await last.until(3)] == [7, 8, 9]
    fresh = watched_stream(wire)
    assert [o.position for o in await fresh.until(3)] == [7, 8, 9]


async def test_a_subscription_that_lags_past_retention_is_told_the_same(
    wire: Wire, watched_stream: Watch
) -> None:
    await filled(wire, 1)
    await watched_stream(wire, subscription="relay").next()
    await wire.advance(2 * DAY_S)
    keep = replace(KeepFor(), outcomes_us=DAY_US)
    await wire.app.store.prune(keep.until(wire.app.clock.now_us()), 500)
    code, info, _ = await refused(watched_stream(wire, subscription="relay").next())
    assert (code, info.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    await watched_stream(
        wire, subscription="relay", after_cursor=info.metadata["earliest_cursor"]
    ).next()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"kinds": [outcome_pb2.OUTCOME_KIND_MESSAGE_SENT]}, ["e0", "e1", "t1", "t2"]),
        ({"user_ids": ["u1"]}, ["e1", "e1", "e1", "t2", "t2", "t2"]),
        ({"workflow_ids": ["tour"]}, ["t1", "t1", "t1", "t2", "t2", "t2"]),
        ({"channels": [outcome_pb2.CHANNEL_SMS]}, ["t1", "t2"]),
        ({"user_ids": ["u1"], "kinds": [outcome_pb2.OUTCOME_KIND_RUN_STARTED]}, ["e1", "t2"]),
    ],
)
async def test_only_what_passes_the_filter_comes(
    wire: Wire, watched_stream: Watch, chosen: dict[str, list[object]], expected: list[str]
) -> None:
    await wire.define(workflow("tour", "Tour Begun", sms()))
    await filled(wire, 2)
    await wire.ingest(identify("i9", "u9"), track("t1", "Tour Begun", "u9"))
    await wire.ingest(track("t2", "Tour Begun", "u1"))
    await wire.advance()
    await watched_stream.all(wire)
    stream = watched_stream(wire, filter=pb.OutcomeFilter(**chosen))
    came = await stream.until(len(expected))
    assert sorted(outcome.event_id for outcome in came) == expected


async def test_a_quiet_stream_sends_checkpoints_that_pass_over_what_is_filtered_out(
    wire: Wire, watched_stream: Watch
) -> None:
    only_clicks = pb.OutcomeFilter(kinds=[outcome_pb2.OUTCOME_KIND_MESSAGE_CLICKED])
    request = pb.StreamOutcomesRequest()
    request.heartbeat_interval.FromSeconds(1)
    beat = request.heartbeat_interval
    stream = watched_stream(wire, filter=only_clicks, heartbeat_interval=beat)
    quiet = watched_stream(wire, heartbeat_interval=beat, start=pb.START_POSITION_NOW)
    first = await stream.next()
    await quiet.next()
    await filled(wire, 2)
    await quiet.until(6)

    later = await stream.next()
    assert (list(later.outcomes), later.partition_count) == ([], 0)
    assert place(first.cursor).positions == {0: 0}
    assert place(later.cursor).positions == {0: 6}
    again = await quiet.next()
    assert (list(again.outcomes), again.cursor) == ([], later.cursor)
    # Where nothing is filtered out the same cursor resumes with nothing missing.
    await filled(wire, 1, first=2)
    resumed = watched_stream(wire, after_cursor=later.cursor)
    assert [o.position for o in await resumed.until(3)] == [7, 8, 9]


async def test_partitions_can_be_asked_for(wire: Wire, watched_stream: Watch) -> None:
    await filled(wire, 1)
    assert len(await watched_stream(wire, partitions=[0]).until(3)) == 3
    code, _, faults = await refused(watched_stream(wire, partitions=[0, 1, 0]).next())
    assert (code, set(faults)) == (INVALID, {"partitions[1]", "partitions[2]"})


async def test_a_filter_this_server_does_not_know_whole_is_refused(wire: Wire) -> None:
    request = pb.StreamOutcomesRequest()
    request.filter.MergeFromString(bytes((9 << 3, 1)))
    code, _, faults = await refused(wire.upshot.StreamOutcomes(request).read())
    assert (code, set(faults)) == (INVALID, {"filter"})


async def test_a_reader_that_takes_nothing_is_let_go_and_can_resume(
    database: Path, watched_stream: Watch
) -> None:
    async with running(database, NOWHERE + '[limits]\nreader = "300ms"\n') as wire:
        emit = {"event": "Noise", "properties": {"text": "{{ event.properties.text }}"}}
        steps = [{"step_id": f"emit{n}", "emit": emit} for n in range(10)]
        await wire.define(workflow("noise", "Signed Up", *steps))
        for first in range(0, 60, 20):
            numbers = range(first, first + 20)
            await wire.ingest(
                *(track(f"e{n}", user_id=f"u{n}", text="x" * 20_000) for n in numbers)
            )
        with structlog.testing.capture_logs() as lines:
            async with connected(wire.app.grpc_address, *SMALL_WINDOW) as lazy:
                stream = watched_stream(lazy, max_batch=10)
                await stream.next()
                async with asyncio.timeout(PATIENCE_S):
                    while not any(line.get("reason") == "READER_TOO_SLOW" for line in lines):
                        await asyncio.sleep(0.02)
                # What was on its way is still read; then comes why.
                code, info, _ = await refused(drained(stream))
        assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "READER_TOO_SLOW")
        # Others were not held up, and from the last cursor on nothing is missing.
        resumed = watched_stream(wire, after_cursor=stream.cursor)
        missing = 60 * 12 - len(stream.outcomes)
        assert len(await resumed.until(missing)) == missing
