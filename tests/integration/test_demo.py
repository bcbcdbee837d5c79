"""The demo ends as it says, whoever carries the messages."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "demo.py"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("providers", [[], ["real"]])
def test_the_demo_closes_the_loop(providers: list[str]):
    done = subprocess.run(
        [sys.executable, str(DEMO), *providers], capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost, nothing doubled" in done.stdout
    assert "WRONG" not in done.stdout
