"""Starts, kills and talks to the processes of the demo; all of them end with it."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.request import urlopen

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

HERE = Path(__file__).parent
UPSHOT = [sys.executable, "-m", "upshotd"]
PATIENCE_S = 30.0
T = TypeVar("T")


class DemoFailed(Exception):
    """Something did not come in time, or not as it must."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, look: Callable[[], T | None], patience_s: float = PATIENCE_S) -> T:
    """Return what *look* finds, as soon as it finds something."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise DemoFailed(f"waited {patience_s:g} s in vain for {what}")


@dataclass
class Stage:
    """The folder, the ports and the processes of one demo."""

    folder: Path
    #: Whether SendGrid and Twilio are played, in place of a mail server and a gateway.
    real: bool = False
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> "Stage":
        for name in ("grpc", "http", "smtp", "sms", "segment", "sendgrid", "twilio"):
            self.ports[name] = free_port()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    # processes

    def start(self, name: str, command: list[str]) -> None:
        """Start a process; what it prints goes to a file in the folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def sink(self, name: str, *more: str, program: str = "sinks.py") -> None:
        """Start one of the sinks and wait until it listens."""
        port = self.ports[name]
        ledger = str(self.folder / f"{name}.jsonl")
        self.start(name, [sys.executable, str(HERE / program), name, str(port), ledger, *more])
        until(f"the {name} sink", lambda: _listens(port))

    def sendgrid_key(self) -> str:
        """Make the key pair that SendGrid signs with; return the public one as it shows it."""
        key = generate_private_key(SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key_file.write_bytes(private)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def serve(self) -> None:
        """Start `upshot serve --lab` and wait until it is ready."""
        options = ["--listen", f"127.0.0.1:{self.ports['grpc']}"]
        options += ["--http", f"127.0.0.1:{self.ports['http']}"]
        options += ["--database", str(self.folder / "upshot.db")]
        options += ["--config", str(self.config)]
        self.start("serve", [*UPSHOT, "serve", "--lab", *options])
        until("upshot serve", self._ready)

    def relay(self) -> None:
        """Start `upshot relay segment`."""
        options = ["--server", f"127.0.0.1:{self.ports['grpc']}", "--config", str(self.config)]
        self.start("relay", [*UPSHOT, "relay", "segment", *options])

    def kill(self, name: str) -> None:
        """Kill -9."""
        process = self.processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def _ready(self) -> bool:
        if self.processes["serve"].poll() is not None:
            raise DemoFailed(f"upshot serve has ended; see {self.folder / 'serve.log'}")
        try:
            with urlopen(f"http://127.0.0.1:{self.ports['http']}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    # talking

    def upshot(self, *arguments: str) -> str:
        """Run the command line and return what it printed."""
        environ = {**os.environ, "UPSHOT_SERVER": f"127.0.0.1:{self.ports['grpc']}"}
        done = subprocess.run(
            [*UPSHOT, *arguments], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DemoFailed(f"upshot {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def ledger(self, name: str) -> list[dict[str, str]]:
        """Return what a sink has got so far."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def mails(self) -> list[dict[str, str]]:
        """Return the e-mails that went out."""
        return self.ledger("sendgrid" if self.real else "smtp")

    def texts(self) -> list[dict[str, str]]:
        """Return the text messages that went out."""
        return self.ledger("twilio" if self.real else "sms")

    @property
    def key_file(self) -> Path:
        """The private key of SendGrid."""
        return self.folder / "sendgrid.pem"

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "upshot.toml"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
