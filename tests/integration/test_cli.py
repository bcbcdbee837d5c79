"""The command line against a real server: what it prints, and which exit code it ends with."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.cli_world import IDLE, WELCOME, Ask, event, jsonl, people, signed_up
from upshotd.cli import main


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
    said = ask("engage", "nothing", "asked", code=4).stderr
    assert said.startswith("rejected (INVALID_DATA)\n  engagement.data.body: is required")
    assert "UNKNOWN_MESSAGE" in ask("engage", "nothing", "asked", "--body", "Why?", code=4).stderr
    for wrong in (["opened"], ["a", "b", "opened"], ["a", "sung"], ["", "opened"],
                  ["opened", "--provider", "p"], ["a", "replied", "--to", "+15550001"],
                  [*words[1:], "--to", "+15550001"]):  # fmt: skip
        ask("engage", *wrong, code=2)


def test_an_answer_is_given_by_the_number_it_comes_from(ask: Ask) -> None:
    answer = ("engage", "replied", "--to", "+41 79 000 00 00", "--body")
    assert "UNKNOWN_MESSAGE" in ask(*answer, "hello", code=4).stderr
    assert ask(*answer, "STOP").stdout == "recorded\n"
    assert "+41790000000" in ask("suppressions").stdout
    assert ask(*answer, "start").stdout == "recorded\n"
    assert "+41790000000" not in ask("suppressions").stdout
    assert "INVALID_TARGET" in ask("engage", "replied", "--to", "Bank", code=4).stderr


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
        assert "Examples:" in ask(name, "--help").stdout


def test_help_imports_no_command() -> None:
    code = "import sys, upshotd.cli; print({'grpc', 'yaml', 'sqlalchemy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


PAY = """
workflow_id: pay
trigger: {track: {event: Pay}}
steps:
  - step_id: ok
    approve:
      levels: [{users: {user_ids: [rita]}}]
      request: {channel: CHANNEL_EMAIL, email: {subject: Pay, text: "{{ links.review }}"}}
      summary: Pay 5?
      timeout: 1d
  - {step_id: pause, delay: {duration: 1s}}
  - {step_id: late, send: {channel: CHANNEL_EMAIL, email: {subject: Hi, text: "{{ traits.code }}"}}}
"""


def test_tail_and_why_tell_what_was_asked_and_decided(ask: Ask, tmp_path: Path) -> None:
    ask("define", "-", given=PAY)
    known = {"type": "identify", "traits": {"email": "rita@example.com"}}
    payer = {"type": "identify", "traits": {"email": "paul@example.com"}}
    calls = [event("rita", "r1", **known), event("paul", "p1", **payer)]
    ask("ingest", jsonl(tmp_path / "pay.jsonl", [*calls, event("paul", "p2", event="Pay")]))
    ask("advance", "0s")
    (message,) = ask.rows("messages", "--user", "rita")
    for words in (("ask", "What for?"), ("answer", "Cake."), ("approve", "--comment", "well")):
        ask("approval", words[0], str(message["message_id"]), *words[1:])
    ask("advance", "1s")
    said = ask("tail", "--workflow", "pay", "--from-start", "--once").stdout
    for told in ("Pay 5?", "rita What for?", "Cake.", "APPROVED rita well"):
        assert f"pay/ok  {told}\n" in said
    assert "pay/late  TEMPLATE_ERROR traits.code is missing\n" in said
    said = ask("why", str(message["run_id"])).stdout
    assert re.search(r"pause began to wait, until [-\d]{10} [:\d]{8} UTC\n", said)
    assert "ok got the answer to q1: Cake." in said
    assert "ok was decided: APPROVED by rita: well" in said
