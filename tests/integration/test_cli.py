"""The command line against a real server: what it prints, and which exit code it ends with."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a lab, with nothing in it at first."""
    config = tmp_path_factory.mktemp("cli") / "upshot.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "upshotd", "serve", "--lab", "--database", "memory:"]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = (line for line in process.stderr if line.startswith("upshot: gRPC on "))
        yield next(said).split()[3].rstrip(",")
        process.kill()


@pytest.fixture
def ask(server: str) -> "Ask":
    return Ask(server)


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


def test_workflows_are_defined_and_printed_as_a_file_that_defines_them(
    ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(IDLE.replace("welcome", "defined-1").replace("other", "defined-2"))
    said = ask("define", str(file), "--validate-only").stdout
    assert said.splitlines()[0] == "defined-1  valid, would become version 1"
    ask("workflows", "defined-1", code=1)
    assert ask("define", str(file)).stdout.split("\n")[1] == "defined-2  version 1"
    assert "defined-1  version 1  (unchanged)" in ask("define", str(file)).stdout
    printed = ask("workflows", "defined-1").stdout
    assert printed.startswith("# version 1, defined ")
    assert "(unchanged)" in ask("define", "-", given=printed).stdout
    as_json = json.dumps(ask.rows("workflows", "defined-1")[0]["workflow"])
    assert "(unchanged)" in ask("define", "-", given=as_json).stdout
    assert "track 'Never'" in ask("workflows").stdout


def test_a_version_that_is_not_expected_is_refused(ask: Ask) -> None:
    one = IDLE.split("---")[0].replace("welcome", "expected")
    ask("define", "-", "--expected-version", "0", given=one)
    said = ask("define", "-", "--expected-version", "7", given=one, code=1).stderr
    assert "VERSION_MISMATCH" in said
    ask("define", "-", "--expected-version", "1", given=WELCOME, code=2)


def test_faults_of_the_file_and_faults_of_the_meaning_are_told_together(
    ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        """workflow_id: Bad Id
trigger: {track: {event: Signed Up}, condition: "event.name =="}
steps:
  - step_id: mail
    send: {channel: CHANNEL_EMAIL, email: {subject: "{{ x", txt: hi}}
  - step_id: wait
    wait:
      engagement: {step_id: nobody, kinds: [ENGAGEMENT_KIND_OPENED]}
      timeout: 5 days
"""
    )
    good = tmp_path / "good.yaml"
    good.write_text(IDLE.replace("welcome", "beside-bad").replace("other", "beside-bad-2"))
    said = ask("define", str(good), str(file), code=1)
    assert said.stdout == ""
    told = [line.split(": ")[:2] for line in said.stderr.splitlines()]
    assert told[:-1] == [
        [f"{file}:1", "workflow.workflow_id"],
        [f"{file}:2", "workflow.trigger.condition"],
        [f"{file}:5", "workflow.steps[0].send.email.txt"],
        [f"{file}:5", "workflow.steps[0].send.email.subject"],
        [f"{file}:8", "workflow.steps[1].wait.engagement.step_id"],
        [f"{file}:9", "workflow.steps[1].wait.timeout"],
    ]
    assert said.stderr.splitlines()[-1] == "upshot: 6 faults; nothing was defined"
    ask("workflows", "beside-bad", code=1)


def test_files_that_cannot_be_read_are_named(ask: Ask, tmp_path: Path) -> None:
    ask("define", str(tmp_path / "absent.yaml"), code=2)
    broken, latin, twice = (tmp_path / name for name in ("broken", "latin", "twice"))
    broken.write_text("a: [")
    latin.write_bytes(b"topic: \xe9")
    twice.write_text(WELCOME.replace("other", "welcome"))
    said = ask("define", str(broken), str(latin), str(twice), code=1).stderr
    assert f"{broken}:1: is no YAML" in said
    assert f"{latin}: is no UTF-8" in said
    assert f"'welcome' is defined in {twice}:2 already" in said
    alone = ask("define", str(twice), "--server", "127.0.0.1:1", code=1).stderr
    assert "only the files were looked at: cannot reach 127.0.0.1:1" in alone


def test_a_file_of_events_counts_once_however_often_it_is_sent(ask: Ask, tmp_path: Path) -> None:
    ask("define", "-", given=WELCOME)
    calls = [*people("ines"), people("ines")[1], event("ines", None, event="Nameless")]
    batch = {"batch": people("igor") + [event("igor", None, event="Nameless")]}
    file = jsonl(tmp_path / "events.jsonl", calls, "", json.dumps(batch))
    said = ask("ingest", file)
    assert said.stdout == "6 accepted, 1 duplicate, 0 rejected; 2 runs started\n"
    assert "2 events without a messageId got one" in said.stderr
    assert ask("ingest", file).stdout == "0 accepted, 7 duplicate, 0 rejected; 0 runs started\n"


def test_lines_that_are_refused_are_named_and_the_others_go_in(ask: Ask, tmp_path: Path) -> None:
    large = event("ilse", "large", properties={"text": "x" * 40_000})
    huge = event("ilse", "huge", properties={"text": "x" * 2_000_000})
    calls = [event("", "nobody"), large, huge, {"userId": "ilse"}, event("ilse", "fine")]
    calls.append(event("ilse", "odd", type="identify", traits={"email": "no address"}))
    file = jsonl(tmp_path / "events.jsonl", calls, "no json", "[]")
    said = ask("ingest", file, code=4)
    assert said.stdout.startswith("2 accepted, 0 duplicate, 6 rejected")
    told = [line.split(":")[0].strip() for line in said.stderr.splitlines()]
    assert told[-6:] == [
        "line 1 (nobody)",
        "line 2 (large)",
        "line 3 (huge)",
        "line 4",
        "line 7",
        "line 8",
    ]
    assert "  3 MALFORMED" in said.stderr
    assert "  2 EVENT_TOO_LARGE" in said.stderr
    assert "warning, 1 time: event.identify.traits.email" in said.stderr
    assert "nobody" in ask("rejected").stdout
    assert {row["event_id"] for row in ask.rows("rejected")} >= {"nobody", "large"}


def test_many_events_go_in_over_several_calls_at_once(ask: Ask, tmp_path: Path) -> None:
    calls = [event(f"many-{n % 7}", f"many-{n}", event="Seen") for n in range(1_203)]
    file = jsonl(tmp_path / "many.jsonl", calls)
    said = ask("ingest", file, "--concurrency", "3").stdout
    assert said == "1203 accepted, 0 duplicate, 0 rejected; 0 runs started\n"


def test_a_run_is_shown_with_each_step_and_what_became_of_its_message(
    ask: Ask, tmp_path: Path
) -> None:
    run_id, message_id = signed_up(ask, tmp_path, "rosa")
    assert "recorded" in ask("engage", message_id, "opened", "--machine").stdout
    assert "timer fired" in ask("advance", "23h59m").stdout.replace("timers", "timer")
    said = ask("engage", message_id, "OPENED", "--engagement-id", "e-rosa").stdout
    assert said == f"recorded\n  run {run_id} went on\n"
    assert ask("engage", message_id, "opened", "--engagement-id", "e-rosa").stdout == "duplicate\n"
    shown = ask("run", run_id).stdout
    for word in ("started", "sent", "waiting", "matched", "+23h 59m", "machine_opened", message_id):
        assert word in shown
    assert [row["run_id"] for row in ask.rows("run", run_id)] == [run_id, run_id]
    assert run_id in ask("runs", "--state", "completed", "--workflow", "welcome").stdout
    assert ask("runs", "--user", "nobody").stderr == "no runs\n"
    assert "Hi rosa" in ask("message", message_id).stdout
    assert ask.rows("message", message_id)[0]["recipient"] == "rosa@example.com"
    assert f"{message_id}  welcome/mail" in ask("messages", "--user", "rosa").stdout


def test_engagement_by_the_providers_id_may_come_first(ask: Ask) -> None:
    words = ("engage", "bounced", "--provider", "nowhere", "--provider-message-id", "p-1")
    assert ask(*words, "--reason", "550").stdout.startswith("pending")
    assert "UNKNOWN_MESSAGE" in ask("engage", "nothing", "opened", code=4).stderr
    assert ask.rows("engage", *words[1:])[0]["state"]
    for wrong in (["opened"], ["a", "b", "opened"], ["a", "sung"], ["", "opened"],
                  ["opened", "--provider", "p"]):  # fmt: skip
        ask("engage", *wrong, code=2)


def test_runs_are_canceled_one_by_one_or_by_key(ask: Ask, tmp_path: Path) -> None:
    first, _ = signed_up(ask, tmp_path, "carl")
    second, _ = signed_up(ask, tmp_path, "cora")
    assert ask("cancel", first).stdout == f"run {first} canceled\n"
    assert ask("cancel", first).stdout.startswith("nothing to cancel")
    assert ask.rows("cancel", "--key", "order-cora") == [{"canceled_run_ids": [second]}]
    assert "NOT_FOUND" in ask("cancel", "nothing", code=1).stderr
    ask("cancel", code=2)


def test_outcomes_are_followed_and_gone_on_with_where_a_reader_was(
    ask: Ask, tmp_path: Path
) -> None:
    run_id, _ = signed_up(ask, tmp_path, "tina")
    mine = ("tail", "--user", "tina", "--from-start")
    lines = ask(*mine, "--once").stdout.splitlines()
    assert ["Run Started" in lines[0], "Message Sent" in lines[1]] == [True, True]
    assert "welcome/mail" in lines[1]
    pages = ask.rows(*mine, "--limit", "2")
    first = pages[0]["outcomes"]
    assert isinstance(first, list)
    assert first[0]["run_id"] == run_id
    after = str(pages[0]["cursor"])
    rest = ask.rows("tail", "--user", "tina", "--after", after, "--limit", "1")
    assert rest[0]["outcomes"] == pages[1]["outcomes"]
    kinds = ("--kind", "message_sent", "--workflow", "welcome")
    assert len(ask.rows(*mine, *kinds, "--once")) == 1
    named = ("--subscription", "shop")
    look = ask.rows(*mine, *named, "--no-commit", "--limit", "1")
    assert ask.rows(*mine, *named, "--limit", "1") == look
    assert ask.rows(*mine, *named, "--limit", "1") == rest
    assert ask(*mine, *named, "--once").stdout == ""
    assert ask("subscriptions").stdout.splitlines()[1].split()[:2] == ["shop", "0"]
    assert ask.rows("subscriptions")[0]["subscription"] == "shop"
    assert "CURSOR_INVALID" in ask("tail", "--after", "nonsense", code=1).stderr


def test_people_and_counts_are_shown(ask: Ask, tmp_path: Path) -> None:
    signed_up(ask, tmp_path, "pia")
    said = ask("profile", "pia").stdout
    assert "contact email  pia@example.com" in said
    assert 'trait name     "pia"' in said
    assert ask.rows("profile", "pia")[0]["user_id"] == "pia"
    assert "NOT_FOUND" in ask("profile", "pia", "--anonymous", code=1).stderr
    line = ask("counts", "--workflow", "welcome").stdout
    assert "message_sent" in line
    assert ask.rows("counts", "--workflow", "unknown") == []


def test_a_server_that_is_not_there_ends_with_3(ask: Ask, tmp_path: Path) -> None:
    nobody = ("--server", "127.0.0.1:1")
    for words in (("runs",), ("tail",), ("advance", "1h"), ("define", "-")):
        said = ask(*words, *nobody, code=3, given=WELCOME).stderr
        assert said.startswith("upshot: cannot reach 127.0.0.1:1: is `upshot serve` running")
    file = jsonl(tmp_path / "events.jsonl", [event("a", "a")])
    said = ask("ingest", file, "--retry-for", "0.1", *nobody, code=3)
    assert said.stdout.startswith("0 accepted")
    assert "trying again for 0.1 s" in said.stderr


def test_what_is_used_wrongly_ends_with_2(ask: Ask) -> None:
    ask("runs", "--server", "nowhere", code=2)
    ask("advance", "24x", code=2)
    ask("workflows", "--version", "2", code=2)
    ask("nonsense", code=2)


def test_help_has_examples_of_every_command(ask: Ask) -> None:
    said = ask("--help").stdout
    assert "Exit codes:" in said
    for name in main.list_commands(None):  # type: ignore[arg-type]  # needs no context
        assert f"  {name} " in said
        if name != "relay":
            assert "Examples:" in ask(name, "--help").stdout


def test_help_imports_no_command(server: str) -> None:
    code = "import sys, upshotd.cli; print({'grpc', 'yaml', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_why_tells_of_events_runs_and_messages_in_words(ask: Ask, tmp_path: Path) -> None:
    run_id, message_id = signed_up(ask, tmp_path, "wilma")
    ask("ingest", jsonl(tmp_path / "again.jsonl", [event("wilma", "wilma-3")]))
    said = ask("why", "wilma-2").stdout.splitlines()
    assert said[0].startswith('event wilma-2: track "Signed Up" of wilma, received ')
    assert said[1] == f"  it started welcome v1: run {run_id}"
    said = ask("why", "wilma-3").stdout
    assert "it did not start welcome v1: its key has no value: event.properties.order" in said
    assert "no workflow listened to it when it came" in ask("why", "wilma-1").stdout
    said = ask("why", run_id).stdout
    assert "mail gave a message to its provider: email by nowhere" in said
    assert "  it stands at opened until " in said
    said = ask("why", message_id).stdout
    assert said.startswith(f"message {message_id}: email to wilma@example.com through nowhere")
    assert "mail was taken by the provider nowhere" in said
    ask("ingest", jsonl(tmp_path / "bad.jsonl", [event("", "bad-1")]), code=4)
    assert "event bad-1 was refused" in ask("why", "bad-1").stdout
    assert "nothing is known of 'no-id'" in ask("why", "no-id", code=1).stderr


def test_a_folder_is_applied_shows_what_it_changes_and_prunes(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    (folder / "deep").mkdir(parents=True)
    one, two = (part.replace("Never", "Never Ever") for part in IDLE.split("---"))
    (folder / "one.yaml").write_text(one.replace("welcome", "folder-1"))
    (folder / "deep" / "two.yml").write_text(two.replace("other", "folder-2"))
    (folder / "notes.txt").write_text("no workflow")
    said = ask("define", str(folder)).stdout
    assert "+workflow_id: folder-1" in said
    assert said.splitlines()[-1] == "folder-1  version 1"
    assert "folder-2  version 1\n" in said
    assert "+" not in ask("define", str(folder)).stdout
    changed = (folder / "one.yaml").read_text().replace("timeout: 24h", "timeout: 48h")
    (folder / "one.yaml").write_text(changed)
    said = ask("define", str(folder), "--validate-only").stdout
    assert '-    timeout: "86400s"' in said
    assert '+    timeout: "172800s"' in said
    (folder / "deep" / "two.yml").unlink()
    would = ask("define", str(folder), "--prune", "--validate-only").stdout
    assert "folder-2  would be archived" in would
    said = ask("define", str(folder), "--prune", "--in-flight", "migrate").stdout
    assert "folder-1  version 2" in said
    assert "folder-2  archived, version 2" in said
    assert "folder-2" not in ask("workflows").stdout
    assert "# version 2, defined" in ask("workflows", "folder-2").stdout
    listed = ask("workflows", "folder-1", "--versions").stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["folder-1", "2"], ["folder-1", "1"]]
    assert '+    timeout: "172800s"' in ask("workflows", "folder-1", "--since", "1").stdout
    ask("define", str(folder / "one.yaml"), "--prune", code=2)
    ask("define", str(folder / "deep"), code=2)


def test_what_is_exported_defines_the_same_and_other_files_are_kept(
    ask: Ask, tmp_path: Path
) -> None:
    ask("define", "-", given=IDLE.replace("welcome", "exported-1").replace("other", "exported-2"))
    folder = tmp_path / "out"
    assert f"{folder / 'exported-1.yaml'}  written" in ask("export", str(folder)).stdout
    assert "nothing to write" in ask("export", str(folder)).stderr
    assert "version" in ask("define", str(folder)).stdout
    file = folder / "exported-1.yaml"
    text = file.read_text()
    file.write_text(f"# of mine\n{text}")
    ask("export", str(folder))
    assert file.read_text().startswith("# of mine")
    file.write_text(text.replace("Never", "Ever"))
    assert "says something else" in ask("export", str(folder), code=1).stderr
    ask("export", str(folder), "--force")
    assert file.read_text() == text
    assert ask("archive", "exported-2").stdout == "exported-2  archived, version 2\n"
    ask("archive", "nowhere", code=1)


def test_runs_in_flight_go_on_with_the_new_version(ask: Ask, tmp_path: Path) -> None:
    slow = IDLE.split("---")[0].replace("welcome", "moving").replace("Never", "Moved")
    ask("define", "-", given=slow)
    moved = [{**call, "event": "Moved"} for call in people("mo")]
    ask("ingest", jsonl(tmp_path / "mo.jsonl", moved))
    ask("advance", "0s")
    ask("define", "-", "--in-flight", "migrate", given=slow.replace("24h", "48h"))
    for _ in range(100):
        if "1 run so changed, 0 stay" in ask("workflows", "moving").stdout:
            break
        ask("advance", "0s")
    (run,) = ask.rows("runs", "--user", "mo")
    assert run["workflow_version"] == "2"
    assert "went on with another version: v1 -> v2" in ask("why", str(run["run_id"])).stdout
