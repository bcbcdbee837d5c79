"""`upshot serve` as a process: what it prints, how it ends, with which exit code."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

COMMAND = (sys.executable, "-m", "upshotd", "serve", "--http", "127.0.0.1:0")


@contextmanager
def serving(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield the process and where its gRPC listens."""
    process = subprocess.Popen(
        [*COMMAND, "--listen", "127.0.0.1:0", "--database", "upshot.db", *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, _address(process)
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("upshot: gRPC on "):
            return line.split()[3].rstrip(",")
    raise AssertionError("the server never said where it listens")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_go_down_in_good_order(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, "--lab") as (process, address):
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="upshot.v1.LabService")
            assert health.Check(request, timeout=10).status == 1
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert said.rstrip().endswith("upshot: down")


def test_faulty_settings_are_named_and_exit_with_2(tmp_path: Path) -> None:
    config = tmp_path / "upshot.toml"
    config.write_text('lap = true\n[providers.mail]\nkind = "smtp"\n[channels]\nemail = "mail"\n')
    command = [*COMMAND, "--listen", "0.0.0.0:7070", "--config", str(config)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "  lap: is no setting" in done.stderr
    assert "can be reached by others" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_taken_exits_with_1(tmp_path: Path) -> None:
    with serving(tmp_path):
        command = [*COMMAND, "--listen", "127.0.0.1:0", "--database", "upshot.db"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
