"""Relays to Segment, to a webhook and to a file beside each other, everybody killed at random:
nothing is missing, nothing comes in another order. `make chaos` tells the same story longer."""

from pathlib import Path

import pytest

from tests.relay_story import RELAYS, RelayStory


@pytest.mark.timeout(180)
async def test_relays_and_a_collector_killed_at_random_lose_and_mix_up_nothing(
    tmp_path: Path,
) -> None:
    story = RelayStory(tmp_path, rounds=2, seed=2)
    assert await story.run() == []
    # That it was a test: there was load, everybody was killed, and much came twice.
    assert len(story.log) > 200
    assert set(story.kills) >= {"collector", "server", "file", *RELAYS}
    assert len(story.manners.keys() - {"200"}) >= 2
    told = {end: len(rows) - len({row[0] for row in rows}) for end, rows in story.told.items()}
    assert set(told) == set(RELAYS)
    assert sum(told.values()) > 0
