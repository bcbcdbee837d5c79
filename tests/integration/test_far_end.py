"""Providers in a bad mood, a real server, and a ledger that is not ours. `make chaos` has more."""

from pathlib import Path

import pytest

from tests.far_end import MOODS
from tests.journeys import audit, travel


@pytest.mark.timeout(120)
async def test_five_hundred_journeys_end_and_nobody_gets_anything_twice_unmarked(tmp_path: Path):
    found = await travel(tmp_path, 500, seed=5, kills=1)
    assert audit(found) == []
    # That it was a test: every mood came, some was taken twice, breakers opened.
    assert {line.mood for line in found.ledger} == {"fine", *MOODS}
    assert any(times > 1 for times in found.taken.values())
    assert any(line.known_by and not line.taken and line.mood == "fine" for line in found.ledger)
    assert any(told.failed for told in found.told.values())
    assert found.opened > 0
    assert found.kinds["MESSAGE_DELIVERED"] > 0, "callbacks told what became of some"
