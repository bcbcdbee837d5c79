"""A page of commands with their output, run against a server to see whether it tells the truth.

Each ```sh block is followed by a block with what it prints. Ids, times and cursors differ from run
to run: where the page has one, the run may have another, and later commands use the run's. Output
that ends in `^C` is of a command that does not end: it is killed once it has printed that much.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.servers import Server
from upshot.v1.lab_pb2 import AdvanceTimeRequest
from upshot.v1.lab_pb2_grpc import LabServiceStub

INTERRUPTED = "^C\n"
_EXCHANGE = re.compile(r"```sh\n([^`]*)```\n\n```(?:text|json)\n([^`]*)```\n")
_PRELUDE = re.compile(r"```sh\n(server=[^`]*)```\n")
_SERVER = re.compile(r"server=\S+")
_PASSING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
    r'|(?<="cursor": ")[\w-]+'
)
#: Longest run of one command, in seconds.
_COMMAND_S = 30


@dataclass(frozen=True, slots=True)
class Exchange:
    """A command and what it printed, on stdout and stderr."""

    command: str
    output: str


@dataclass
class Session:
    """Runs the commands of a page in order, against one server in a lab."""

    server: Server
    page: str
    #: Id, time or cursor of the page -> that of this run.
    names: dict[str, str] = field(default_factory=dict)

    def exchanges(self) -> Iterator[tuple[Exchange, Exchange]]:
        """Run all; yield each exchange as it is on the page, and as it came."""
        for command, output in _EXCHANGE.findall(self.page):
            came = Exchange(command, self._run(self._renamed(command), output))
            self._learn(output, came.output)
            yield Exchange(command, output), came

    def _run(self, command: str, expected: str) -> str:
        self._settle()
        prelude = _PRELUDE.findall(self.page)[0]
        prelude = _SERVER.sub(f"server=http://{self.server.address}", prelude)
        process = subprocess.Popen(
            ["bash", "-c", prelude + command],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        endless = expected.endswith(INTERRUPTED)
        try:
            if not endless:
                return process.communicate(timeout=_COMMAND_S)[0]
            assert process.stdout is not None
            lines = expected.removesuffix(INTERRUPTED).count("\n")
            return "".join(process.stdout.readline() for _ in range(lines)) + INTERRUPTED
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _settle(self) -> None:
        """Let the server finish what the command before began: a page has no races."""
        with grpc.insecure_channel(self.server.address) as channel:
            LabServiceStub(channel).AdvanceTime(AdvanceTimeRequest(), timeout=_COMMAND_S)

    def _learn(self, expected: str, came: str) -> None:
        pairs = zip(_PASSING.findall(expected), _PASSING.findall(came), strict=False)
        for ours, theirs in pairs:
            self.names.setdefault(ours, theirs)

    def _renamed(self, text: str) -> str:
        for ours, theirs in self.names.items():
            text = text.replace(ours, theirs)
        return text


def shape(output: str) -> str:
    """Return *output* with numbered marks for what differs from run to run."""
    marks: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        # Times may be equal or not; an id must stand wherever the page has the same one.
        if found[0].endswith("Z"):
            return "<time>"
        return marks.setdefault(found[0], f"<{len(marks) + 1}>")

    return _PASSING.sub(mark, output)
