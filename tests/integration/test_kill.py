"""kill -9 under load: nothing that was acknowledged is lost, nothing happens twice."""

from pathlib import Path

import pytest

from tests.crash import Crash
from tests.crash_audit import audit


@pytest.mark.timeout(180)
async def test_ten_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    crash = Crash(tmp_path, cycles=10, seed=2)
    history = await crash.run()
    assert audit(history) == []
    # That it was a test: there was load, kills hit calls in flight, and ids came again.
    assert len(crash.recoveries_s) == 10
    assert len(history.runs) > 500
    assert crash.unanswered > 0
    assert any(ack.state == "DUPLICATE" for ack in history.acks)
    assert len([stream for stream in history.validator.streams if stream.responses]) > 5
    assert max(crash.recoveries_s) < 30
