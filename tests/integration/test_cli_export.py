"""`upshot export`: everything that is defined, in files that lose nothing."""

import json
from pathlib import Path

from tests.integration.cli_world import IDLE, Ask

OF_ALL_KINDS = """# the words
template_id: {0}-bill
variants:
  default: {{sms: {{body: Pay.}}}}
  de: {{sms: {{body: Zahlen.}}}}
# who wants to hear of it
---
topic_id: {0}-bills
---
audience_id: {0}-owing
rule: {{condition: "traits.owes == true"}}
--- # and when
workflow_id: {0}-bills
trigger: {{track: {{event: Never}}}}
topic: {0}-bills
steps:
  - {{step_id: say, send: {{channel: CHANNEL_SMS, template_id: {0}-bill}}}}
"""


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


def test_everything_that_is_defined_is_exported(ask: Ask, tmp_path: Path) -> None:
    ask("define", "-", given=OF_ALL_KINDS.format("all"))
    folder = tmp_path / "all"
    ask("export", str(folder))
    written = {path.name for path in folder.iterdir() if path.name.startswith("all-")}
    names = {"all-bill.template.yaml", "all-bills.topic.yaml", "all-owing.audience.yaml"}
    assert written == {*names, "all-bills.yaml"}
    said = ask("define", str(folder)).stdout
    for name in ("template all-bill", "topic all-bills", "audience all-owing", "all-bills"):
        assert f"{name}  version 1  (unchanged)\n" in said


def test_an_export_writes_over_what_changed_and_nothing_beside_it(ask: Ask, tmp_path: Path) -> None:
    ask("define", "-", given=OF_ALL_KINDS.format("own"))
    folder = tmp_path / "own"
    folder.mkdir()
    file, other = folder / "mine.yaml", folder / "own-bills.json"
    text = OF_ALL_KINDS.format("own")
    file.write_text(text)
    ask("export", str(folder))
    assert file.read_text() == text
    assert not [path for path in folder.iterdir() if path.name.startswith("own-")]
    edited = text.replace("Zahlen", "Bezahlen").replace("event: Never", "event: Never Ever")
    file.write_text(f"{edited}---\nworkflow_id: own-more\ntrigger: {{invoke: {{}}}}\n")
    said = ask("export", str(folder), code=1).stderr
    assert f"{file} says something else of template own-bill; --force writes over that" in said
    assert f"{file} says something else of workflow own-bills; --force" in said
    assert "Bezahlen" in file.read_text()
    ask("export", str(folder), "--force")
    now = file.read_text()
    assert now.startswith("# the words\ntemplate_id: own-bill\n")
    assert "# who wants to hear of it\n---\ntopic_id: own-bills\n---\naudience_id: own-owing" in now
    assert "--- # and when\nworkflow_id: own-bills\n" in now
    assert now.endswith("---\nworkflow_id: own-more\ntrigger: {invoke: {}}\n")
    assert "nothing to write" in ask("export", str(folder)).stderr
    assert "own-more" not in ask("workflows").stdout
    flow = {"workflow_id": "own-bills", "trigger": {"invoke": {}}}
    file.unlink()
    other.write_text(json.dumps(flow))
    (folder / "own-bill.template.yaml").write_text("notes: of mine\n")
    said = ask("export", str(folder), "--force", code=1)
    assert "own-bill.template.yaml is there and has no template own-bill: move it" in said.stderr
    assert (folder / "own-bill.template.yaml").read_text() == "notes: of mine\n"
    assert json.loads(other.read_text())["steps"][0]["step_id"] == "say"
