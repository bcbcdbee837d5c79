"""Settings with one fault each, and secrets in all of them: no secret is told with the fault."""

import itertools
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import canaries
from tests.integration.canary_world import SECRETS, config
from upshotd.cli import main

TEXT = config("http://127.0.0.1:9", 9)
#: What a setting is broken to, around the text that it had.
BREAKAGES = {
    "a list": lambda line, name, value: f"{name} = [{value}]",
    "a table": lambda line, name, value: f"{name} = {{value = {value}}}",
    "its own variable": lambda line, name, value: f"{name} = {{env = {value}}}",
    "the name of a variable": lambda line, name, value: f"{name}_env = {value}",
    "both": lambda line, name, value: f"{line}\n{name}_env = {value}",
    "another name": lambda line, name, value: f"{name}x = {value}",
    "twice": lambda line, name, value: f"{line}\n{line}",
    "a part of it": lambda line, name, value: f"{name} = {value[:9]}{value[0]}",
    "a line break in it": lambda line, name, value: f'{name} = {value[:-1]}\\n"',
    "a strange letter in it": lambda line, name, value: f'{name} = {value[:-1]}é"',
    "spaces in it": lambda line, name, value: f"{name} = {value[:-1]} {value[1:]}",
    "no quote behind it": lambda line, name, value: f"{name} = {value[:-1]}",
    "no quotes": lambda line, name, value: f"{name} = {value[1:-1]}",
    "a number": lambda line, name, value: f"{name} = 7",
    "nothing": lambda line, name, value: f'{name} = ""',
}


def broken() -> Iterator[tuple[str, str]]:
    """Yield what was done, and the settings after it: each line in each way."""
    lines = TEXT.splitlines()
    for at, (how, change) in itertools.product(range(len(lines)), BREAKAGES.items()):
        name, equals, value = lines[at].partition(" = ")
        if equals and value.startswith('"'):
            changed = [*lines[:at], change(lines[at], name, value), *lines[at + 1 :]]
            yield f"{name}: {how}", "\n".join(changed)


def told(text: str, folder: Path, *words: str) -> str:
    """Return what a command says of the settings."""
    file = folder / "upshot.toml"
    file.write_text(text)
    done = CliRunner().invoke(main, [*words, "--config", str(file)])
    assert "Traceback" not in done.output, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def test_the_settings_themselves_are_good(tmp_path: Path):
    assert tomllib.loads(TEXT)
    assert "not asked" in told(TEXT, tmp_path, "doctor")


def test_no_fault_of_a_setting_tells_a_secret(tmp_path: Path):
    faults = 0
    for what, text in broken():
        said = told(text, tmp_path, "doctor").encode()
        faults += b"faults" in said
        assert not canaries.hits(SECRETS, said), (what, said)
    assert faults > 300


@pytest.mark.parametrize("how", BREAKAGES)
def test_no_fault_of_a_relay_tells_its_key(tmp_path: Path, how: str):
    (line,) = [line for line in TEXT.splitlines() if line.startswith("write_key")]
    name, _, value = line.partition(" = ")
    changed = TEXT.replace(line, BREAKAGES[how](line, name, value))
    changed = changed.replace("[relay.segment]\n", "[relay.segment]\nkinds = []\n")
    said = told(changed, tmp_path, "relay", "segment", "--once").encode()
    assert b"faults" in said
    assert not canaries.hits(SECRETS, said), said


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://upshot:{secret}",
        "postgresql://upshot:{secret}@db:nonsense/x",
        "postgresql://upshot:{secret}@127.0.0.1:9/x?nonsense=1",
        "postgresql://upshot:{secret}@127.0.0.1:9/x?password={secret}&nonsense=1",
        "postgresql://upshot:{secret}@/x?host=/nowhere&port=nonsense",
        "postgresql://upshot:{secret}@127.0.0.1:9/x?ssl=nonsense",
        "postgresql://upshot:a/{secret}@127.0.0.1:9/x",
    ],
)
def test_no_faulty_address_of_a_database_tells_its_password(tmp_path: Path, address: str):
    named = address.format(secret=SECRETS["database"])
    ports = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    done = subprocess.run(
        [sys.executable, "-m", "upshotd", "serve", *ports, "--database", named],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2), said
    assert b"Traceback" not in said, said
    assert b"database" in said
    assert not canaries.hits(SECRETS, said), said


@pytest.mark.parametrize(
    "variable",
    ["UPSHOT_AUTH_ROOT_KEY", "UPSHOT_SEGMENT_WEBHOOK_SECRET", "UPSHOT_DATABASE", "UPSHOT_LISTEN"],
)
def test_no_fault_of_a_variable_tells_a_secret(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
):
    secrets: dict[str, Any] = {
        "UPSHOT_AUTH_ROOT_KEY": " " + SECRETS["root"],
        "UPSHOT_SEGMENT_WEBHOOK_SECRET": SECRETS["segment webhook"][:15],
        "UPSHOT_DATABASE": f"mysql://upshot:{SECRETS['database']}@db/upshot",
        "UPSHOT_LISTEN": f"upshot:{SECRETS['database']}@db",
    }
    monkeypatch.setenv(variable, secrets[variable])
    said = told(TEXT, tmp_path, "doctor").encode()
    assert b"faults" in said
    assert not canaries.hits(SECRETS, said), said
