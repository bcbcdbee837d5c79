"""The command line on definitions in life, and on why things happened."""

from pathlib import Path

from tests.integration.cli_world import IDLE, Ask, event, jsonl, people, signed_up

MEASURED = """
workflow_id: measured
trigger: {track: {event: Never}}
steps:
  - {step_id: try, experiment: {variants: [{variant_id: a}, {variant_id: b}]}}
  - step_id: more
    experiment:
      variants:
        - {variant_id: a, steps: [{step_id: hi, send: {channel: CHANNEL_SMS, sms: {body: Hi}}}]}
        - {variant_id: b}
      optimize:
        goal: {engagement: {kinds: [ENGAGEMENT_KIND_CLICKED]}}
        window: 1h
        measure_only: true
"""


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


def test_what_defines_nothing_in_a_folder_is_left_out_and_named(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "agent").mkdir(parents=True)
    flow = (
        "workflow_id: mixed\ntrigger: {invoke: {}}\nsteps: [{step_id: a, delay: {duration: 1h}}]\n"
    )
    (folder / "flow.yaml").write_text(flow)
    (folder / "agent" / "payment.json").write_text('{"payment_id": "p-1", "amount": 12.5}')
    (folder / "list.yml").write_text("- one\n- two\n")
    said = ask("define", str(folder))
    assert said.stdout.splitlines()[-1] == "mixed  version 1"
    for name in ("agent/payment.json", "list.yml"):
        assert f"upshot: {folder / name} defines nothing: left out\n" in said.stderr
    said = ask("define", str(folder / "agent" / "payment.json"), code=1)
    assert "is no field of Workflow" in said.stderr
    ask("define", str(folder / "agent"), code=2)
    (folder / "flow.yaml").write_text(flow.replace("workflow_id", "worklow_id") + "---\nnotes: x\n")
    said = ask("define", str(folder), code=1).stderr
    assert "flow.yaml:1: workflow.worklow_id: is no field of Workflow; did you mean wor" in said
    assert "flow.yaml:5: workflow.notes: is no field of Workflow" in said


def test_the_examples_are_a_folder_to_define(ask: Ask) -> None:
    examples = Path(__file__).parents[2] / "examples"
    said = ask("define", str(examples), "--validate-only")
    assert f"{examples / 'agent' / 'payment.json'} defines nothing: left out" in said.stderr


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


def test_templates_and_workflows_come_in_one_file(ask: Ask, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "examples" / "receipt.yaml"
    said = ask("define", str(file))
    assert said.stdout.splitlines() == [
        "template layout  version 1",
        "template receipt  version 1",
        "receipt  version 1",
    ]
    assert "warning" not in said.stderr
    assert "template receipt  version 1  (unchanged)" in ask("define", str(file)).stdout
    broken = tmp_path / "broken.yaml"
    broken.write_text('template_id: broken\nvariants:\n  de: {sms: {body: "{{ x"}}\n')
    said = ask("define", str(broken), code=1)
    assert "broken.yaml:3: template.variants.de.sms.body: " in said.stderr
    assert "template.variants.default: is required" in said.stderr


def test_topics_and_what_people_choose(ask: Ask, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "examples" / "newsletter.yaml"
    assert ask("define", str(file)).stdout.splitlines()[0] == "topic newsletter  version 1"
    call = event("prue", "prue-1", type="identify", traits={"email": "prue@example.com"})
    ask("ingest", jsonl(tmp_path / "prue.jsonl", [call]))
    assert "newsletter  no      default: opted_out" in ask("preferences", "prue").stdout
    said = ask("preferences", "prue", "--topic", "newsletter", "--in", "--off", "sms").stdout
    assert "newsletter  yes     their choice  sms" in said
    said = ask("profile", "prue").stdout
    assert "topic newsletter on sms for good (CHANNEL_OFF)" in said
    assert "topic newsletter: asked for" in said
    said = ask("preferences", "prue", "--topic", "newsletter", "--out", "--all-channels").stdout
    assert "newsletter  no      their choice  -" in said
    ask("preferences", "prue", "--in", code=2)
    ask("preferences", "prue", "--topic", "newsletter", "--off", "smoke", code=2)
    ask("preferences", "prue", "--topic", "nothing", "--in", code=1)
    required = "topic_id: receipts\ndefault: TOPIC_DEFAULT_REQUIRED\n"
    ask("define", "-", given=required)
    said = ask("preferences", "prue", "--topic", "receipts", "--out", code=1).stderr
    assert "TOPIC_REQUIRED" in said
    ask("define", "-", given="topic_id: Bad\ndefault: 9\n", code=1)


def test_what_is_checked_together_is_there_for_each_other(ask: Ask) -> None:
    alone = "workflow_id: bills\ntrigger: {track: {event: Billed}}\nsteps:\n- step_id: mail\n"
    alone += "  send: {channel: CHANNEL_SMS, template_id: bill}\n"
    both = f"template_id: bill\nvariants: {{default: {{sms: {{body: Pay.}}}}}}\n---\n{alone}"
    said = ask("define", "-", "--validate-only", given=both)
    assert "bills  valid, would become version 1" in said.stdout
    assert "warning" not in said.stderr
    assert "there is no template 'bill' yet" in ask("define", "-", given=alone).stderr


def test_what_the_settings_do_not_have_is_warned_of_when_it_is_named(ask: Ask) -> None:
    examples = Path(__file__).parents[2] / "examples"
    said = ask("define", str(examples / "price-drop.yaml")).stderr
    assert (
        "warning: workflow.steps[1].fetch.headers.Authorization: gets no answer (NO_SECRET)" in said
    )
    said = ask("define", str(examples / "daily-summary.yaml")).stderr
    assert "warning: workflow.steps[1].generate: gets no answer (NOT_CONFIGURED)" in said


def test_experiments_are_told_with_how_sure_it_is(ask: Ask, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "examples" / "first-project.yaml"
    said = ask("define", str(file))
    assert "warning" not in said.stderr
    joined = [{**call, "event": "Signed Up"} for n in range(12) for call in people(f"ex-{n}")]
    ask("ingest", jsonl(tmp_path / "ex.jsonl", joined))
    ask("advance", "25h")
    made = [event(f"ex-{n}", f"made-{n}", event="Project Created") for n in range(12)]
    ask("ingest", jsonl(tmp_path / "made.jsonl", made))
    lines = ask("experiment", "first-project").stdout.splitlines()
    about = "first-project/nudge, 'Project Created' with a condition within 3d, shares move"
    assert lines[0] == about
    assert lines[1].split()[:4] == ["VARIANT", "RUNS", "REACHED", "RATE"]
    assert [line.split()[0] for line in lines[2:]] == ["template", "video", "holdout"]
    assert sum(int(line.split()[1]) for line in lines[2:]) == 12
    held_out = lines[4].split()[1] != "0"
    for line in lines[2:4]:
        assert line.endswith(" points") == (held_out and line.split()[1] != "0"), lines
    (row,) = ask.rows("experiment", "first-project/nudge")
    assert row["step_id"] == "nudge"
    (run, *_) = ask.rows("runs", "--user", "ex-3")
    assert "nudge took the variant " in ask("why", str(run["run_id"])).stdout
    said = ask("define", "-", given=MEASURED)
    assert "'b', which sends nothing" in said.stderr
    lines = ask("experiment", "measured").stdout.splitlines()
    assert lines[0] == "measured/try, no goal, shares are the weights"
    assert lines[2].split() == ["a", "0", "0", "-", "-", "-", "-"]
    assert lines[5] == "measured/more, clicked within 1h, shares are the weights"
    assert "no experiments in other" in ask("experiment", "other").stderr
    ask("experiment", "nowhere", code=1)
    ask("experiment", "first-project/help_email", code=1)
