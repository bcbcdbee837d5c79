"""The far ends beside Segment, several of them at once, and what becomes of what none takes."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import orjson
import pytest

from tests.integration.relay_receiver import SECRETS, Receiver
from tests.integration.relay_world import World, outcome, outcomes
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.failing import EXIT_CODE, VARIABLE
from upshotd.adapters.relay.dead_letters import DeadLetters
from upshotd.adapters.relay.plain import outcome_json
from upshotd.adapters.relay.relay import FarEndRefused, Relay
from upshotd.adapters.relay.webhook import Webhook, WebhookSettings
from upshotd.signing import keys_of


def ids(count: int) -> list[str]:
    return [f"o-{number:04d}" for number in range(1, count + 1)]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver(SECRETS[0])
    async with receiver.serving():
        yield receiver


async def to_webhook(world: World, receiver: Receiver, secrets: str = SECRETS[0]) -> Relay:
    """Relay what is in the log to *receiver*, each signature a second after the one before."""
    seconds = count(int(time.time()) - 200)
    settings = WebhookSettings(receiver.url, keys_of(secrets), "1")
    far_end = Webhook(settings, lambda: next(seconds) * 1_000_000)
    return await world.relay(far_end=far_end)


class Command:
    """`upshot relay` with a configuration of its own."""

    def __init__(self, world: World, folder: Path, config: str) -> None:
        self._world = world
        self._folder = folder
        (folder / "upshot.toml").write_text(f'[log]\nformat = "json"\n{config}')

    async def start(self, *words: str, **environ: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "upshotd", "relay", *words),
            *("--server", self._world.address, "--config", "upshot.toml"),
            cwd=self._folder,
            env={**os.environ, **environ},
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *words: str, code: int = 0, **environ: str) -> str:
        process = await self.start(*words, **environ)
        _, said = await process.communicate()
        assert process.returncode == code, said.decode()
        return said.decode()


# -- a webhook -----------------------------------------------------------------------------------


async def test_each_outcome_is_a_request_that_the_standards_own_library_verifies(
    world: World, receiver: Receiver
) -> None:
    world.server.append(*outcomes(120))

    relay = await to_webhook(world, receiver)

    assert receiver.taken == ids(120)
    assert receiver.bodies["o-0007"] == outcome_json(outcome(7), include_recipient=False)
    assert (relay.tally.posted, relay.tally.rejected) == (120, 0)
    assert world.server.places == {"segment": 120}


async def test_while_secrets_are_rotated_both_receivers_believe_it(
    world: World, receiver: Receiver
) -> None:
    world.server.append(outcome(1))
    await to_webhook(world, receiver, " ".join(SECRETS))
    world.server.places.clear()
    receiver.secret = SECRETS[1]
    await to_webhook(world, receiver, " ".join(SECRETS))

    assert receiver.taken == ["o-0001", "o-0001"]


async def test_what_is_tried_again_has_the_same_id_and_a_new_signature(
    world: World, receiver: Receiver
) -> None:
    world.server.append(*outcomes(2))
    receiver.answers = [500, 429, 503]

    await to_webhook(world, receiver)

    assert receiver.ids == ["o-0001"] * 4 + ["o-0002"]
    assert len(set(receiver.signatures)) == 5
    assert world.slept == [500_000, 1_000_000, 2_000_000]


async def test_one_that_is_refused_alone_holds_nobody_up(world: World, receiver: Receiver) -> None:
    world.server.append(*outcomes(5))
    receiver.poison = {"o-0002"}

    relay = await to_webhook(world, receiver)

    assert receiver.taken == ["o-0001", "o-0003", "o-0004", "o-0005"]
    assert relay.tally.rejected == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404, 410])
async def test_a_webhook_that_is_not_there_or_lets_nobody_in_loses_nothing(
    world: World, receiver: Receiver, status: int
) -> None:
    world.server.append(*outcomes(3))
    receiver.answers = [204, status]

    with pytest.raises(FarEndRefused, match=str(status)):
        await to_webhook(world, receiver)
    assert receiver.taken == ["o-0001"]
    assert world.server.places == {"segment": 0}

    await to_webhook(world, receiver)
    assert receiver.taken == ["o-0001", *ids(3)]


# -- a file --------------------------------------------------------------------------------------

FILE = '[relay.archive]\nkind = "file"\npath = "outcomes.jsonl"\n'


def lines(path: Path) -> list[str]:
    return [orjson.loads(line)["outcomeId"] for line in path.read_bytes().splitlines()]


async def test_each_outcome_is_a_line_of_the_file(world: World, tmp_path: Path) -> None:
    started = outcome(121, kind=pb.OUTCOME_KIND_RUN_STARTED, event="Run Started")
    world.server.append(*outcomes(120), started)

    said = await Command(world, tmp_path, FILE)("archive", "--once")

    assert "121 calls posted, 0 rejected" in said
    path = tmp_path / "outcomes.jsonl"
    assert lines(path) == ids(121)
    assert path.read_bytes().splitlines()[6] == outcome_json(outcome(7), include_recipient=False)
    assert world.server.places == {"archive": 121}


async def test_killed_before_its_cursor_is_stored_it_writes_the_same_again(
    world: World, tmp_path: Path
) -> None:
    world.server.append(*outcomes(3))
    relay = Command(world, tmp_path, FILE)
    await relay("archive", "--once", code=EXIT_CODE, **{VARIABLE: "relay.posted=exit"})
    path = tmp_path / "outcomes.jsonl"
    assert lines(path) == ids(3)
    assert world.server.places == {"archive": 0}
    with path.open("ab") as file:
        file.write(b'{"outcomeId":"o-0001","ki')  # as a loss of power might leave it

    await relay("archive", "--once")

    written = path.read_bytes().splitlines()
    assert written[3:] == written[:3]


async def test_a_file_is_rotated_under_a_relay_that_runs(world: World, tmp_path: Path) -> None:
    process = await Command(world, tmp_path, FILE).start("archive")
    path, moved = tmp_path / "outcomes.jsonl", tmp_path / "outcomes.jsonl.1"

    async def come(path: Path, wanted: list[str]) -> None:
        async with asyncio.timeout(20):
            while not path.exists() or lines(path) != wanted:
                await asyncio.sleep(0.02)

    world.server.append(outcome(1))
    await come(path, ["o-0001"])
    path.rename(moved)
    world.server.append(outcome(2))
    await come(path, ["o-0002"])
    process.send_signal(signal.SIGHUP)
    world.server.append(outcome(3))
    await come(path, ["o-0002", "o-0003"])
    process.terminate()
    _, said = await process.communicate()

    assert process.returncode == 0, said
    assert lines(moved) == ["o-0001"]


async def test_a_file_that_another_relay_has_is_left_alone(world: World, tmp_path: Path) -> None:
    world.server.append(outcome(1))
    other = '[relay.other]\nkind = "file"\npath = "outcomes.jsonl"\n'
    relay = Command(world, tmp_path, FILE + other)
    process = await relay.start("archive")
    async with asyncio.timeout(20):
        while world.server.places.get("archive") != 1:
            await asyncio.sleep(0.02)

    said = await relay("other", "--once", code=4)
    process.terminate()
    await process.communicate()

    assert "another process appends to it; check path" in said
    assert world.server.places == {"archive": 1, "other": 0}
    assert lines(tmp_path / "outcomes.jsonl") == ["o-0001"]


# -- dead letters --------------------------------------------------------------------------------


async def test_what_is_refused_alone_is_kept_until_it_is_retried(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    config = '[relay.partner]\nkind = "webhook"\ndead_letters = "dead.jsonl"\n'
    config += f'url = "{receiver.url}"\nsecret_env = "SECRET"\n'
    relay = Command(world, tmp_path, config)
    world.server.append(*outcomes(6))
    receiver.poison = {"o-0002", "o-0005"}
    letters = tmp_path / "dead.jsonl"

    said = await relay("partner", "--once", SECRET=SECRETS[0])
    assert "4 calls posted, 2 rejected" in said
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [letter["outcome"]["outcomeId"] for letter in kept] == ["o-0002", "o-0005"]
    assert {letter["detail"] for letter in kept} == {"HTTP 422"}

    receiver.poison = {"o-0005"}
    said = await relay("partner", "--retry-dead-letters", SECRET=SECRETS[0])
    assert "1 calls posted, 1 rejected" in said
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert [letter["outcome"]["outcomeId"] for letter in kept] == ["o-0005"]

    receiver.poison = set()
    await relay("partner", "--retry-dead-letters", SECRET=SECRETS[0])
    assert not list(tmp_path.glob("dead.jsonl*"))
    assert sorted(receiver.taken) == ids(6)
    assert world.server.places == {"partner": 6}
    assert "0 calls posted" in await relay("partner", "--retry-dead-letters", SECRET=SECRETS[0])


async def test_nothing_is_passed_over_that_cannot_be_kept(world: World, tmp_path: Path) -> None:
    """A dead letter that cannot be written holds the cursor, until there is room for it."""
    folder = tmp_path / "not-yet"
    world.dead_letters = DeadLetters(folder / "dead.jsonl", "segment", False, lambda: 0)
    world.server.append(outcome(1), outcome(2, user_id=""), outcome(3))

    def make_room() -> None:
        assert world.server.places == {"segment": 0}
        if len(world.slept) == 3:
            folder.mkdir()

    world.on_pause = make_room
    await world.relay()

    assert len(world.slept) == 3
    assert world.segment.taken == ["o-0001", "o-0003"]
    assert "o-0002" in (folder / "dead.jsonl").read_text()


# -- looking at it -------------------------------------------------------------------------------


async def test_a_relay_says_how_far_it_is_behind_when_it_is_asked(
    world: World, tmp_path: Path
) -> None:
    world.server.append(*outcomes(5))
    world.segment.open.clear()
    config = f'[relay.segment]\nwrite_key = "k"\nendpoint = "{world.endpoint}"\n'
    process = await Command(world, tmp_path, config).start("segment")
    await world.segment.asked.wait()
    process.send_signal(signal.SIGUSR1)
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while b"relay.lag" not in (line := await process.stderr.readline()):
            assert line
    process.terminate()
    world.segment.open.set()
    await process.communicate()

    said = json.loads(line)
    assert (said["event"], said["outcomes"], said["seconds"]) == ("relay.lag", 5, 0.0)


async def test_last_engagements_go_out_behind_what_they_are_of(world: World) -> None:
    opened = outcome(1, kind=pb.OUTCOME_KIND_MESSAGE_OPENED, event="Message Opened")
    opened.occur_time.seconds = 1_767_225_600
    world.server.append(opened, outcome(2))

    relay = await world.relay(identify=True)

    assert world.segment.taken == ["o-0001", "o-0001-traits", "o-0002"]
    assert relay.tally.posted == 3
