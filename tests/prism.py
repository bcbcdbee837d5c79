"""A mock server that takes only what a maker's OpenAPI document allows."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PRISM = Path(sys.prefix) / "prism" / "node_modules" / ".bin" / "prism"
_DOCUMENTS = Path(__file__).parent / "openapi"
_START_S = 60.0


@contextmanager
def prism(document: str) -> Iterator[str]:
    """Serve *document* of tests/openapi; yields the address."""
    if not _PRISM.exists():
        pytest.skip("Prism is not installed: `make test` installs it, and node where there is none")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # node of the machine, else that of the wheel beside this Python.
    path = f"{os.environ.get('PATH', '')}:{Path(sys.executable).parent}"
    command = [str(_PRISM), "mock", "--errors", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, str(_DOCUMENTS / document)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": path},
    )
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"Prism did not start: exit code {process.poll()}")
