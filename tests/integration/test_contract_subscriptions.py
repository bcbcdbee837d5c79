"""SubscriptionService over the wire: durable places in the log, by name."""

from pathlib import Path

import grpc

from tests.wire import (
    HOUR_S,
    Watch,
    Wire,
    fact,
    identify,
    mail,
    pause,
    refused,
    running,
    track,
    workflow,
)
from upshot.v1 import service_pb2 as pb
from upshot.v1 import subscription_pb2
from upshotd.application import cursor as cursors

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def commit(wire: Wire, cursor: str, name: str = "relay", *, rewind: bool = False) -> str:
    request = subscription_pb2.CommitCursorRequest(subscription=name, cursor=cursor, rewind=rewind)
    return str((await wire.subscriptions.CommitCursor(request)).cursor)


async def listed(wire: Wire) -> list[subscription_pb2.Subscription]:
    request = subscription_pb2.ListSubscriptionsRequest()
    return list((await wire.subscriptions.ListSubscriptions(request)).subscriptions)


async def sent(wire: Wire, count: int = 1) -> None:
    """Let *count* people start a run and get a mail."""
    await wire.define(workflow("welcome", "Signed Up", mail(), pause(seconds=9 * HOUR_S)))
    for number in range(count):
        user_id = f"u{number}"
        await wire.ingest(identify(f"i{number}", user_id), track(f"e{number}", user_id=user_id))
    await wire.advance()


async def test_a_commit_moves_forward_only_unless_it_rewinds(
    wire: Wire, watched_stream: Watch
) -> None:
    await sent(wire, 3)
    stream = watched_stream(wire, subscription="relay", max_batch=2)
    ids = [outcome.outcome_id for outcome in await stream.until(6)]
    begin, second, fourth, end = (r.cursor for r in stream.stream.responses)

    assert await commit(wire, fourth) == fourth
    assert await commit(wire, second) == fourth, "a late commit takes nothing back"
    resumed = watched_stream(wire, subscription="relay")
    assert [o.outcome_id for o in await resumed.until(2)] == ids[4:]

    assert await commit(wire, begin, rewind=True) == begin
    again = watched_stream(wire, subscription="relay", start=pb.START_POSITION_NOW)
    assert [o.outcome_id for o in await again.until(6)] == ids
    assert await commit(wire, end) == end


async def test_what_an_unknown_subscription_starts_with_is_stored_before_its_first_response(
    wire: Wire, watched_stream: Watch
) -> None:
    await sent(wire, 1)
    late = watched_stream(wire, subscription="late", start=pb.START_POSITION_NOW)
    early = watched_stream(wire, subscription="early")
    at_head, at_begin = await late.next(), await early.next()
    late.cancel()
    early.cancel()
    await wire.ingest(identify("i7", "u7"), track("e7", user_id="u7"))
    await wire.advance()
    assert {held.subscription: held.cursor for held in await listed(wire)} == {
        "early": at_begin.cursor,
        "late": at_head.cursor,
    }
    # Its own place counts, not the start of whoever comes later.
    resumed = watched_stream(wire, subscription="late")
    assert [o.position for o in await resumed.until(2)] == [3, 4]


async def test_a_cursor_goes_before_the_place_of_the_subscription(
    wire: Wire, watched_stream: Watch
) -> None:
    await sent(wire, 2)
    stream = watched_stream(wire, subscription="relay", max_batch=1)
    await stream.until(4)
    first = stream.stream.responses[1].cursor
    await commit(wire, stream.cursor)
    assert len(await watched_stream(wire, subscription="relay", after_cursor=first).until(3)) == 3


async def test_two_readers_of_one_subscription_both_get_everything(
    wire: Wire, watched_stream: Watch
) -> None:
    await sent(wire, 2)
    readers = [watched_stream(wire, subscription="relay") for _ in range(2)]
    ids = [[o.outcome_id for o in await reader.until(4)] for reader in readers]
    assert ids[0] == ids[1]


async def test_lag_is_told_in_outcomes_and_in_time(wire: Wire, watched_stream: Watch) -> None:
    await sent(wire, 2)
    stream = watched_stream(wire, subscription="relay", max_batch=1)
    await stream.until(4)
    await wire.advance(2 * HOUR_S)
    (held,) = await listed(wire)
    assert held.lag == 4
    assert 0 <= held.lag_duration.seconds - 2 * HOUR_S < 60

    (message, _) = await wire.messages()
    await wire.engage(fact("OPENED", message.message_id, "o1"))
    await stream.until(5)
    await commit(wire, stream.stream.responses[4].cursor)
    (held,) = await listed(wire)
    assert (held.lag, held.lag_duration.seconds < 60) == (1, True)
    assert held.commit_time.seconds - held.create_time.seconds >= 2 * HOUR_S
    await commit(wire, stream.cursor)
    (held,) = await listed(wire)
    assert (held.lag, held.lag_duration.ToMicroseconds()) == (0, 0)


async def test_a_forgotten_subscription_begins_anew(wire: Wire, watched_stream: Watch) -> None:
    await sent(wire, 1)
    stream = watched_stream(wire, subscription="relay")
    await stream.until(2)
    await commit(wire, stream.cursor)
    forget = subscription_pb2.DeleteSubscriptionRequest(subscription="relay")
    await wire.subscriptions.DeleteSubscription(forget)
    assert await listed(wire) == []
    for call in (commit(wire, stream.cursor), wire.subscriptions.DeleteSubscription(forget)):
        code, info, _ = await refused(call)
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert len(await watched_stream(wire, subscription="relay").until(2)) == 2


async def test_a_commit_takes_cursors_of_this_log_only(
    wire: Wire, watched_stream: Watch, tmp_path: Path
) -> None:
    await watched_stream(wire, subscription="relay").next()
    async with running(tmp_path / "other.db") as other:
        await sent(other, 1)
        theirs = watched_stream(other)
        await theirs.until(2)
    code, info, faults = await refused(commit(wire, theirs.cursor))
    assert (code, info.reason, set(faults)) == (INVALID, "CURSOR_INVALID", {"cursor"})
    code, info, _ = await refused(commit(wire, "nonsense"))
    assert (code, info.reason) == (INVALID, "CURSOR_INVALID")
    code, _, faults = await refused(commit(wire, "nonsense", "No Name!"))
    assert (code, set(faults)) == (INVALID, {"cursor", "subscription"})


async def test_a_commit_beyond_the_head_is_refused(wire: Wire, watched_stream: Watch) -> None:
    await sent(wire, 1)
    stream = watched_stream(wire, subscription="relay")
    await stream.until(2)
    place = cursors.parse(stream.cursor)
    assert place is not None
    ahead = cursors.encode(cursors.Cursor(place.epoch, place.workspace_id, {0: 3}))
    code, info, faults = await refused(commit(wire, ahead))
    assert (code, info.reason, set(faults)) == (INVALID, "CURSOR_AHEAD", {"cursor"})
    (held,) = await listed(wire)
    assert held.lag == 2
