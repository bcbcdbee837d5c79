"""The command line against a server of its own: what it prints, and how it ends."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from upshotd.cli import main

WELCOME = """
workflow_id: welcome
trigger: {track: {event: Signed Up}}
cancellation_key: event.properties.order
steps:
  - step_id: mail
    send: {channel: CHANNEL_EMAIL, email: {subject: "Hi {{ traits.name }}", text: Welcome.}}
  - step_id: opened
    wait:
      engagement: {step_id: mail, kinds: [ENGAGEMENT_KIND_OPENED]}
      timeout: 24h
---
workflow_id: other
trigger: {invoke: {}}
steps: [{step_id: a, delay: {duration: 1h}}]
"""
#: Two workflows that nothing starts.
IDLE = WELCOME.replace("Signed Up", "Never")
CONFIG = '[providers.nowhere]\nkind = "null"\n[channels]\nemail = "nowhere"\n'


def serving(folder: Path) -> Iterator[str]:
    """Yield the address of a server in a lab, with nothing in it at first."""
    config = folder / "upshot.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "upshotd", "serve", "--lab", "--database", "memory:"]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = (line for line in process.stderr if line.startswith("upshot: gRPC on "))
        yield next(said).split()[3].rstrip(",")
        process.kill()


async def command(environ: Mapping[str, str], *words: str, code: int = 0) -> tuple[str, str]:
    """Run a command in a process of its own, beside a server in this one; return what it printed.

    Never in a thread: gRPC's client and server would share one poller over two event loops.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "upshotd", *words),
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = (part.decode() for part in await process.communicate())
    assert process.returncode == code, (words, out, err)
    assert "Traceback" not in err
    return out, err


class Ask:
    def __init__(self, server: str) -> None:
        self._env = {"UPSHOT_SERVER": server}

    def __call__(self, *words: str, code: int = 0, given: str | None = None) -> Result:
        """Run a command, which must end with *code* and never with a traceback."""
        done = CliRunner().invoke(main, words, env=self._env, input=given)
        assert done.exit_code == code, (words, done.output, done.exception)
        assert "Traceback" not in done.output
        return done

    def rows(self, *words: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self(*words, "--json").stdout.splitlines()]


def event(user_id: str, message_id: str | None, **fields: object) -> dict[str, object]:
    given = {"type": "track", "userId": user_id, "event": "Signed Up", **fields}
    return given if message_id is None else {**given, "messageId": message_id}


def people(*user_ids: str) -> list[dict[str, object]]:
    """Each is identified and signs up."""
    return [
        call
        for user_id in user_ids
        for call in (
            event(user_id, f"{user_id}-1", type="identify",
                  traits={"email": f"{user_id}@example.com", "name": user_id}),
            event(user_id, f"{user_id}-2", properties={"order": f"order-{user_id}"}),
        )
    ]  # fmt: skip


def jsonl(path: Path, calls: list[dict[str, object]], *more: str) -> str:
    lines = [json.dumps(call) for call in calls]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return str(path)


def signed_up(ask: Ask, tmp_path: Path, user_id: str) -> tuple[str, str]:
    """Return run and message of somebody new."""
    ask("define", "-", given=WELCOME)
    ask("ingest", jsonl(tmp_path / f"{user_id}.jsonl", people(user_id)))
    ask("advance", "0s")  # what is due now is done
    (run,) = ask.rows("runs", "--user", user_id)
    (message,) = ask.rows("messages", "--run", str(run["run_id"]))
    return str(run["run_id"]), str(message["message_id"])
