"""The relay between a server and a Segment that both fail: at least once, in order, no gap."""

import asyncio
import base64
import re
import signal
import sys

import grpc
import pytest
from structlog.testing import capture_logs

from tests.integration.relay_world import NAME, Answer, World, outcome, outcomes
from upshot.v1 import outcome_pb2
from upshotd.adapters.relay.outcome_log import LogRefused, OutcomesLost
from upshotd.adapters.relay.relay import PAGES_AHEAD, REFUSED_IN_A_ROW_MAX, FarEndRefused


def ids(count: int) -> list[str]:
    return [f"o-{number:04d}" for number in range(1, count + 1)]


def check_that_commits_follow_answers(world: World) -> None:
    """Replay the ledger: a cursor is only committed once all before it were answered for."""
    answered, asked = 0, 0
    for line in world.ledger:
        if match := re.fullmatch(r"asked to take .*\.\.o-(\d+)", line):
            asked = int(match[1])
        elif line == "answered 200":
            answered = max(answered, asked)
        elif match := re.fullmatch(r"asked to commit (\d+)", line):
            assert int(match[1]) <= answered, world.ledger


# -- when all is well ----------------------------------------------------------------------------


async def test_the_log_goes_out_once_in_order_and_then_the_cursor_moves(world: World) -> None:
    world.server.append(*outcomes(1_234))

    relay = await world.relay()

    assert world.segment.taken == ids(1_234)
    assert world.server.places[NAME] == 1_234
    assert (relay.tally.posted, relay.tally.rejected) == (1_234, 0)
    assert world.segment.authorizations == {f"Basic {base64.b64encode(b'key:').decode()}"}
    assert world.slept == []
    check_that_commits_follow_answers(world)


async def test_an_empty_log_is_drained_at_once(world: World) -> None:
    await world.relay()

    assert world.segment.taken == []


async def test_a_relay_that_starts_again_goes_on_where_it_was(world: World) -> None:
    world.server.append(*outcomes(150))
    await world.relay()
    world.server.append(outcome(151))
    await world.relay()

    assert world.segment.taken == ids(151)


async def test_a_lone_outcome_is_not_held_back(world: World) -> None:
    running = asyncio.create_task(world.relay(once=False))
    for number in (1, 2, 3):
        world.segment.asked.clear()
        world.server.append(outcome(number))
        await world.segment.asked.wait()
    world.stop.set()
    await running

    assert world.segment.taken == ids(3)
    assert world.server.places[NAME] == 3


async def test_kinds_that_are_not_exported_are_passed_over(world: World) -> None:
    started = outcome(2, kind=outcome_pb2.OUTCOME_KIND_RUN_STARTED, event="Run Started")
    world.server.append(outcome(1), started, outcome(3), started)

    relay = await world.relay()

    assert world.segment.taken == ["o-0001", "o-0003"]
    assert world.server.places[NAME] == 4
    assert relay.tally.rejected == 0


async def test_an_outcome_segment_would_drop_in_silence_is_rejected_loudly(world: World) -> None:
    world.server.append(outcome(1), outcome(2, user_id=""), outcome(3))

    with capture_logs() as said:
        relay = await world.relay()

    assert world.segment.taken == ["o-0001", "o-0003"]
    assert relay.tally.rejected == 1
    assert world.server.places[NAME] == 3
    rejected = [line for line in said if line["event"] == "relay.rejected"]
    assert rejected == [
        {
            "event": "relay.rejected",
            "log_level": "error",
            "outcome_id": "o-0002",
            "reason": "NO_PERSON",
        }
    ]


# -- when Segment fails --------------------------------------------------------------------------


async def test_a_busy_segment_is_asked_again_when_it_said(world: World) -> None:
    world.server.append(*outcomes(3))
    world.segment.answers = [Answer(429, {"retry-after": "7"}), Answer(500), Answer(503)]

    await world.relay()

    # Retry-After goes over the jitter; the others double, and half of each is slept here.
    assert world.slept == [7_000_000, 1_000_000, 2_000_000]
    assert world.segment.taken == ids(3)
    check_that_commits_follow_answers(world)


async def test_segments_other_way_to_say_when_counts_only_as_a_span(world: World) -> None:
    world.server.append(*outcomes(3))
    resets = [{"x-ratelimit-reset": "7"}, {"x-ratelimit-reset": "1795490914"}]
    world.segment.answers = [Answer(429, reset) for reset in resets]

    await world.relay()

    assert world.slept == [7_000_000, 1_000_000], "a time is no wait of 57 years, nor of an hour"


async def test_nothing_overtakes_what_is_being_retried(world: World) -> None:
    world.server.append(*outcomes(5))
    world.segment.answers = [Answer(500)] * 4
    world.on_pause = lambda: world.server.append(outcome(len(world.server.log) + 1))

    await world.relay()

    assert world.segment.taken == ids(9)


async def test_a_batch_taken_by_a_segment_that_hung_up_goes_out_again_the_same(
    world: World,
) -> None:
    world.server.append(*outcomes(3))
    world.segment.answers = [Answer(hang_up=True)]

    await world.relay()

    assert world.segment.taken == ids(3) + ids(3)
    assert len(world.slept) == 1
    check_that_commits_follow_answers(world)


async def test_a_call_that_is_refused_is_found_and_set_aside_alone(world: World) -> None:
    world.server.append(*outcomes(50))
    world.segment.poison = {"o-0017", "o-0042"}

    relay = await world.relay()

    assert world.segment.taken == [one for one in ids(50) if one not in world.segment.poison]
    assert (relay.tally.posted, relay.tally.rejected) == (48, 2)
    assert world.server.places[NAME] == 50


async def test_a_segment_that_lets_nobody_in_loses_nothing(world: World) -> None:
    world.server.append(*outcomes(3))
    world.segment.answers = [Answer(401)]

    with pytest.raises(FarEndRefused, match="401"):
        await world.relay()
    assert world.server.places[NAME] == 0

    await world.relay()
    assert world.segment.taken == ids(3)


async def test_a_segment_that_refuses_every_call_is_not_fed_the_whole_log(world: World) -> None:
    world.server.append(*outcomes(150))
    world.segment.poison = set(ids(150))

    with pytest.raises(FarEndRefused, match=f"{REFUSED_IN_A_ROW_MAX} items in a row"):
        await world.relay()

    world.segment.poison = set()
    await world.relay()
    assert set(ids(150)[REFUSED_IN_A_ROW_MAX:]) <= set(world.segment.taken)


async def test_a_segment_that_hangs_holds_the_reading_back(world: World) -> None:
    """Memory is bounded: what is not posted stays in the server."""
    big = [outcome(n, link_url="x" * 2_000) for n in range(1, 4_001)]
    world.server.append(*big)
    world.segment.open.clear()
    running = asyncio.create_task(world.relay())
    await world.segment.asked.wait()
    before = -1
    while before != world.server.pages_sent:
        before = world.server.pages_sent
        await asyncio.sleep(0.1)  # the server writes until nobody takes

    # Ahead, in hand, and what the connection itself buffers.
    assert world.server.pages_sent <= 2 * PAGES_AHEAD + 4

    world.segment.open.set()
    await running
    assert world.segment.taken == ids(4_000)


# -- when the server fails -----------------------------------------------------------------------


async def test_a_stream_that_breaks_goes_on_where_it_broke(world: World) -> None:
    world.server.append(*outcomes(1_000))
    codes = [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ]
    world.server.breaks = [(pages, code) for pages in (0, 1, 3) for code in codes]

    await world.relay()

    assert world.segment.taken == ids(1_000)
    assert len(world.server.streams) > 4
    check_that_commits_follow_answers(world)


async def test_streams_that_break_at_once_are_asked_for_ever_more_rarely(world: World) -> None:
    world.server.append(outcome(1))
    world.server.breaks = [(0, grpc.StatusCode.UNAVAILABLE)] * 8
    running = asyncio.create_task(world.relay(once=False))
    await world.segment.asked.wait()
    world.stop.set()
    await running

    pauses = [125_000, 250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 5_000_000, 5_000_000]
    assert world.slept == pauses


async def test_a_commit_that_fails_is_tried_until_it_stands(world: World) -> None:
    world.server.append(*outcomes(3))
    world.server.commit_faults = [grpc.StatusCode.UNAVAILABLE] * 3

    await world.relay()

    assert world.server.places[NAME] == 3
    assert world.segment.taken == ids(3)


async def test_killed_between_the_post_and_the_commit_it_posts_the_same_again(
    world: World,
) -> None:
    world.server.append(*outcomes(250))
    world.server.commits_open.clear()
    running = asyncio.create_task(world.relay())
    while not world.server.commits_waiting:
        await asyncio.sleep(0)
    taken = list(world.segment.taken)
    await world.kill(running)
    assert world.server.places[NAME] == 0
    world.server.commits_open.set()

    await world.relay()

    assert taken == ids(len(taken))
    assert world.segment.taken == taken + ids(250)
    assert world.server.places[NAME] == 250
    check_that_commits_follow_answers(world)


async def test_outcomes_older_than_the_server_keeps_end_the_relay(world: World) -> None:
    world.server.append(*outcomes(9))
    world.server.earliest = 5

    with pytest.raises(OutcomesLost) as lost:
        await world.relay()

    assert lost.value.earliest_cursor == "5"
    assert world.segment.taken == []


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED])
async def test_a_server_that_will_not_serve_us_ends_the_relay_after_what_it_gave(
    world: World, code: grpc.StatusCode
) -> None:
    world.server.append(*outcomes(150))
    world.server.breaks = [(1, code)]

    with pytest.raises(LogRefused, match=code.name):
        await world.relay(once=False)

    assert world.segment.taken == ids(100)
    assert world.server.places[NAME] == 100


async def test_a_subscription_deleted_under_us_ends_the_relay(world: World) -> None:
    world.server.append(outcome(1))
    world.server.commit_faults = [grpc.StatusCode.NOT_FOUND]

    with pytest.raises(LogRefused, match="NOT_FOUND"):
        await world.relay()


# -- when it is told to stop ---------------------------------------------------------------------


async def test_a_post_under_way_is_finished_and_committed(world: World) -> None:
    world.server.append(*outcomes(3))
    world.segment.open.clear()
    running = asyncio.create_task(world.relay(once=False))
    await world.segment.asked.wait()
    world.stop.set()
    world.segment.open.set()
    await running

    assert world.segment.taken
    assert world.server.places[NAME] == len(world.segment.taken)


async def test_a_retry_is_given_up_and_nothing_is_committed(world: World) -> None:
    world.server.append(*outcomes(3))
    world.segment.answers = [Answer(503)] * 100
    world.on_pause = world.stop.set

    await world.relay(once=False)

    assert world.segment.taken == []
    assert world.server.places[NAME] == 0


async def test_an_idle_relay_stops_at_once(world: World) -> None:
    running = asyncio.create_task(world.relay(once=False))
    while not world.server.streams:
        await asyncio.sleep(0)
    world.stop.set()
    await running


# -- the command ---------------------------------------------------------------------------------


async def command(world: World, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "upshotd", "relay", "segment", "--server", world.address),
        *("--endpoint", world.endpoint, "--write-key", "key", *options),
        stderr=asyncio.subprocess.PIPE,
    )


async def test_once_drains_the_log_and_exits_0(world: World) -> None:
    world.server.append(*outcomes(120))

    process = await command(world, "--once", "--subscription", "other")
    _, said = await process.communicate()

    assert process.returncode == 0, said
    assert b"120 calls posted, 0 rejected" in said
    assert world.segment.taken == ids(120)
    assert world.server.places == {"other": 120}


async def test_sigterm_lets_the_post_under_way_finish_and_exits_0(world: World) -> None:
    world.server.append(*outcomes(2))
    world.segment.open.clear()
    process = await command(world)
    await world.segment.asked.wait()
    process.send_signal(signal.SIGTERM)
    world.segment.open.set()
    _, said = await process.communicate()

    assert process.returncode == 0, said
    assert world.server.places[NAME] == len(world.segment.taken) > 0


async def test_lost_outcomes_exit_3_and_say_where_what_is_kept_begins(world: World) -> None:
    world.server.earliest = 5

    process = await command(world)
    _, said = await process.communicate()

    assert process.returncode == 3, said
    assert b"begins at 5" in said


async def test_a_segment_that_bars_us_exits_4(world: World) -> None:
    world.server.append(outcome(1))
    world.segment.answers = [Answer(403)]

    process = await command(world)
    _, said = await process.communicate()

    assert process.returncode == 4, said
    assert b"write key and endpoint" in said
