"""Real `upshot serve` processes: started, watched, killed, started again on the same ports.

    with Server(tmp_path, config=SMS, lab=True) as server:
        server.start()
        ...
        server.kill()
        server.start()

Leaving the block kills what runs. On Linux the kernel does so too when the test itself is killed.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

#: The line that `upshot serve` prints when everything is up.
READY = "upshot: gRPC on "
#: Longest start on a machine with other work, in seconds.
START_S = 60.0
_POLL_S = 0.02
#: Below the range from which systems take the ports of outgoing connections: one of those could
#: otherwise sit on the port of a server that was killed and comes back.
_PORTS = range(15_000, 32_000)
#: Ties the process to its parent (PR_SET_PDEATHSIG), then is `python -m MODULE`.
_LEASHED = (
    "import ctypes, runpy, sys; ctypes.CDLL(None).prctl(1, 9); sys.argv[0] = 'upshot'; "
    "runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
)


def leashed(module: str) -> tuple[str, ...]:
    """Return what a Python is told to run *module*, and not to outlive us where it can be had."""
    return ("-c", _LEASHED.format(module)) if sys.platform == "linux" else ("-m", module)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class ServerDied(Exception):
    """The process ended before it served; the text is the end of what it said."""


class Server:
    """One server: a folder with its database, configuration and output, and two ports."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        config: str = "",
        lab: bool = False,
        database: str = "",
        environ: dict[str, str] | None = None,
    ) -> None:
        """Serve from a file in *folder*, or from *database*, the address of a PostgreSQL."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.database = database or str(folder / "upshot.db")
        self.address = f"127.0.0.1:{free_port()}"
        self.http_address = f"127.0.0.1:{free_port()}"
        #: Of the processes that are started from now on.
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("UPSHOT_")}
        self.environ |= environ or {}
        self._options = [*options, *(["--lab"] if lab else [])]
        if config:
            (folder / "upshot.toml").write_text(config, encoding="utf-8")
            self._options += ["--config", "upshot.toml"]
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "serve.err"
        #: Where in the log the process that runs began to write.
        self._said_from = 0

    # starting

    def launch(self) -> None:
        """Start the process; it does not serve yet."""
        assert not self.running, "it runs already"
        self._said_from = self._log.stat().st_size if self._log.exists() else 0
        addresses = ["--listen", self.address, "--http", self.http_address]
        command = [
            sys.executable,
            *leashed("upshotd"),
            "serve",
            *addresses,
            "--database",
            self.database,
        ]
        with self._log.open("ab") as err, (self.folder / "serve.out").open("ab") as out:
            self._process = subprocess.Popen(
                [*command, *self._options],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it and return when it serves. Raises ServerDied, TimeoutError."""
        self.launch()
        for _ in self._until_ready():
            time.sleep(_POLL_S)

    async def started(self) -> None:
        """Like `start`, while other tasks go on."""
        self.launch()
        await self.ready()

    async def ready(self) -> None:
        """Return when the launched process serves. Raises ServerDied, TimeoutError."""
        for _ in self._until_ready():
            await asyncio.sleep(_POLL_S)

    def _until_ready(self) -> Iterator[None]:
        until = time.monotonic() + START_S
        while READY not in self.said():
            if not self.running:
                raise ServerDied(self.said()[-4000:])
            if time.monotonic() > until:
                raise TimeoutError(f"not serving after {START_S} s:\n{self.said()[-4000:]}")
            yield

    # ending

    def kill(self) -> None:
        """SIGKILL to its process group; returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._gone(10)

    def pause(self) -> None:
        """SIGSTOP: it stands still, wherever it is."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on, and knows nothing of the time between."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; return the exit code once it has gone down by itself."""
        self._signal(signal.SIGTERM)
        return self._gone(40)

    async def stopped(self) -> int:
        """Like `stop`, while other tasks go on."""
        self._signal(signal.SIGTERM)
        return await asyncio.to_thread(self._gone, 40)

    def _signal(self, number: int) -> None:
        if self.running and self._process is not None:
            os.killpg(self._process.pid, number)

    def _gone(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s) if self._process is not None else 0

    # looking

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """Return what the latest process wrote on stderr."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._said_from)
            return log.read().decode(errors="replace")

    def said_ever(self) -> str:
        """Return what all its processes wrote on stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.kill()
