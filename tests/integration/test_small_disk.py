"""A real disk that is full: a small file system in a namespace of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def test_a_full_disk_loses_nothing_and_room_heals_it() -> None:
    allowed = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"this machine allows no mount of our own: {allowed.stderr.strip()}")
    command = [*NAMESPACE, sys.executable, "-m", "tests.small_disk"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
