"""The processes that are measured: `upshot serve` as everybody starts it, and the references."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[providers.null]
kind = "null"

[channels]
email = "null"
"""
#: Most that a process may take to listen, in seconds.
_START_S = 30.0
_END_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens."""

    #: Where, as HOST:PORT.
    address: str
    pid: int

    def rss_mib(self) -> float:
        """Memory that the process holds, in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def cpu_s(self) -> float:
        """CPU that the process has used so far, in seconds; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def upshot_serve(directory: Path, database: str = "") -> AsyncIterator[Server]:
    """Serve *database* with the null provider; logs go to a file in *directory*.

    Without one it is a SQLite file there.
    """
    config = directory / "upshot.toml"
    config.write_text(CONFIG)
    command = ["-m", "upshotd", "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    database = database or str(directory / "upshot.db")
    command += ["--database", database, "--config", str(config)]
    async with _process(command, directory / "upshot.log", "upshot: gRPC on ") as server:
        yield server


@asynccontextmanager
async def reference(directory: Path, *arguments: str) -> AsyncIterator[Server]:
    """Run a program of references.py."""
    command = [str(Path(__file__).with_name("references.py")), *arguments]
    log = directory / f"{arguments[0]}.log"
    async with _process(command, log, "reference on ") as server:
        yield server


@asynccontextmanager
async def _process(command: list[str], log: Path, says: str) -> AsyncIterator[Server]:
    """Run Python with *command*; it listens when its log has a line that begins with *says*."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(_START_S):
            address = await _listening(process, log, says)
        yield Server(address, process.pid)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _listening(process: asyncio.subprocess.Process, log: Path, says: str) -> str:
    while True:
        for line in log.read_text().splitlines():
            if line.startswith(says):
                return line.removeprefix(says).split()[0].rstrip(",")
        if process.returncode is not None:
            raise SystemExit(f"the process ended before it listened:\n{log.read_text()}")
        await asyncio.sleep(0.05)
