"""What the documents show can be typed: workflows are valid, links and lists are true."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from yaml.nodes import Node

from tests.contract.push_worlds import account_json
from tests.sim import DAY, HOUR, Sim
from upshot.v1 import admin_pb2, audience_pb2
from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc import audience_codec, template_codec, topic_codec, workflow_codec
from upshotd.adapters.providers.build import CHANNELS, build
from upshotd.adapters.providers.options import Home
from upshotd.adapters.relay.settings import relay_settings
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.cli import yamlfile
from upshotd.cli.definitions import kind_of
from upshotd.cli.reading import Reader
from upshotd.cli.why import REASONS, WORDS
from upshotd.config import VARIABLES, Settings, load
from upshotd.domain import audience_validation, explanation, template_validation
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Trigger, Workflow

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.yaml"))

#: What the settings in documents take from variables.
SECRETS = {
    "SMTP_PASSWORD": "x",
    "TEXTS_SECRET": "whsec_" + "A" * 32,
    "FCM_ACCOUNT": account_json(),
}

_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_PATH = re.compile(r"`((?:src|tests|docs|examples|proto|bench)/[A-Za-z0-9_/.-]+)`")


def workflows_of(text: str) -> Iterator[tuple[Workflow, list[str]]]:
    """Yield each workflow of a YAML text with everything that is wrong with it."""
    for node in yamlfile.documents(text):
        reader = Reader()
        if kind_of(node) == "template":
            yield from _template(node, reader)
            continue
        if kind_of(node) == "topic":
            topic = admin_pb2.Topic()
            reader.message(node, topic, "topic")
            faults = [fault.field for fault in topic_codec.topic(topic)[1]]
            yield Workflow(topic.topic_id, Trigger(None), ()), [*map(str, reader.faults), *faults]
            continue
        if kind_of(node) == "audience":
            yield _audience(node, reader)
            continue
        message = pb.Workflow()
        reader.message(node, message, "workflow")
        workflow, form = workflow_codec.workflow(message)
        found = validate(workflow, CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone)
        wrong = [f"{fault.path} {fault.text}" for fault in reader.faults]
        wrong += [f"{v.field} {v.description}" for v in (*form, *found.violations)]
        yield workflow, wrong + [f"warning: {v.field} {v.description}" for v in found.warnings]


def _audience(node: Node, reader: Reader) -> tuple[Workflow, list[str]]:
    """Return the faults of an audience, as those of a workflow that does nothing."""
    written = audience_pb2.Audience()
    reader.message(node, written, "audience")
    audience, form = audience_codec.audience(written)
    languages = (CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone)
    found = audience_validation.validate(audience, *languages)
    wrong = [f"{fault.path} {fault.text}" for fault in reader.faults]
    wrong += [f"{v.field} {v.description}" for v in (*form, *found)]
    return Workflow(audience.audience_id, Trigger(None), ()), wrong


def _template(node: Node, reader: Reader) -> Iterator[tuple[Workflow, list[str]]]:
    """Yield the faults of a template, as those of a workflow that does nothing."""
    written = pb.Template()
    reader.message(node, written, "template")
    template, form = template_codec.template(written)
    found = template_validation.validate(
        template, CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone
    )
    wrong = [f"{fault.path} {fault.text}" for fault in reader.faults]
    wrong += [f"{v.field} {v.description}" for v in (*form, *found)]
    yield Workflow(template.template_id, Trigger(None), ()), wrong


def whole(snippet: str) -> str:
    """Make a workflow of a snippet that shows a part: only steps, or all but the steps."""
    if snippet.startswith(("template_id:", "topic_id:", "audience_id:")):
        return snippet
    if snippet.startswith("- "):
        snippet = f"steps:\n{snippet}"
    missing = {
        "workflow_id": "snippet",
        "trigger": "{invoke: {}}",
        "steps": "[{step_id: only, exit: {}}]",
    }
    for name, value in missing.items():
        if not re.search(rf"^{name}:", snippet, re.MULTILINE):
            snippet += f"{name}: {value}\n"
    return snippet


def snippets() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for number, match in enumerate(_YAML.finditer(document.read_text()), 1):
            yield f"{document.name} {number}", match[1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_can_be_defined(path: Path):
    found = list(workflows_of(path.read_text()))
    assert [wrong for _, wrong in found] == [[] for _ in found]
    # A file may bring the templates that its workflow sends, before it.
    assert found[-1][0].workflow_id == path.stem


def test_the_settings_of_the_examples_can_be_read():
    for path in ROOT.glob("examples/*.toml"):
        check_relays(load(path.read_text(), {}, {}))  # raises with every fault


def check_relays(settings: Settings) -> None:
    secrets = {"SEGMENT_KEY": "key", "SEGMENT_EU_KEY": "key"}
    secrets["PARTNER_SECRETS"] = "whsec_" + "A" * 32
    for name in settings.relay:
        relay_settings(name, settings.relay, secrets, {}, "1")


@pytest.mark.parametrize(("place", "snippet"), [pytest.param(*s, id=s[0]) for s in snippets()])
def test_yaml_in_documents_can_be_defined(place: str, snippet: str):
    assert [wrong for _, wrong in workflows_of(whole(snippet))] == [[]], place


def test_the_examples_show_every_kind_of_step():
    text = "".join(path.read_text() for path in EXAMPLES)
    kinds = [field.name for field in pb.Step.DESCRIPTOR.oneofs_by_name["kind"].fields]
    assert [kind for kind in kinds if not re.search(rf"\b{kind}:", text)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document: Path):
    text = document.read_text()
    links = [link for link in _LINK.findall(text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [path for path in _PATH.findall(text) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_in_documents_can_be_read(document: Path):
    for match in _TOML.finditer(document.read_text()):
        settings = load(match[1], {}, {})  # raises with every fault
        for table in settings.providers.values():
            home = Home(lambda: 0, SECRETS)
            build(table.kind, table.name, table.options, home)
        check_relays(settings)


def test_every_kind_of_provider_is_explained():
    text = (ROOT / "docs/providers.md").read_text()
    assert [kind for kind in CHANNELS if f"`{kind}`" not in text] == []


def test_the_lists_are_whole():
    outcomes = (ROOT / "docs/outcomes.md").read_text()
    kinds = [kind.name for kind in (*OutcomeKind, *EngagementKind) if kind]
    assert [kind for kind in kinds if f"| {kind} |" not in outcomes] == []
    operations = (ROOT / "docs/operations.md").read_text()
    settings = [f"`{path}`" for path in VARIABLES]
    assert [setting for setting in settings if setting not in operations] == []
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


# -- what the comments of the examples tell ------------------------------------------------------


def sim(*names: str) -> Sim:
    found = [next(workflows_of((ROOT / f"examples/{n}.yaml").read_text()))[0] for n in names]
    return Sim([replace(workflow, version=1) for workflow in found])


def test_a_payment_lets_only_the_run_of_its_own_order_go_on():
    shop = sim("order-paid")
    shop.identify("ana", email="ana@example.org")
    for order_id in ("1042", "1043"):
        shop.track("ana", "Order Placed", properties={"order_id": order_id, "total": 12.5})
    shop.answer()
    shop.track("ana", "Order Paid", properties={"order_id": "1043"})
    shop.answer()
    assert [(run.reentry_key, run.active) for run in shop.state.runs.values()] == [
        ("1042", True),
        ("1043", False),
    ]
    shop.advance(HOUR)
    assert shop.answer().step_id == "reminder"
    shop.advance(2 * DAY)
    assert [outcome.event for outcome in shop.outcomes][-2:] == ["Order Abandoned", "Run Completed"]


def test_canceling_an_order_ends_only_its_own_run():
    shop = sim("order-paid")
    for order_id in (1042, 1043):
        shop.track("ana", "Order Placed", properties={"order_id": order_id, "total": 12.5})
    shop.track("ana", "Order Canceled", properties={"order_id": 1042})
    assert [run.reason for run in shop.state.runs.values()] == ["EXITED", ""]


def test_a_trial_tells_two_days_before_and_on_the_day():
    shop = sim("trial-ending")
    shop.identify("ana", email="ana@example.org", phone="+15005550001", plan="solo")
    shop.track("ana", "Trial Started", properties={"ends_at": "2026-01-08T00:00:00Z"})
    shop.advance(5 * DAY - 1)
    assert shop.sent == []
    shop.advance(1)
    assert shop.answer().step_id == "person_email"
    shop.advance(2 * DAY)
    assert shop.answer().step_id == "last_sms"


def test_a_person_is_welcomed_once_and_colleagues_are_not():
    shop = sim("identify-welcome")
    shop.identify("cora", email="cora@example.com")
    assert shop.run().reason == "COLLEAGUE"
    shop.identify("ana", email="ana@example.org")
    shop.advance(600 * 1_000_000)
    assert shop.answer().step_id == "welcome"
    shop.identify("ana", email="ana@example.org")
    assert len(shop.state.runs) == 2


def test_every_word_of_a_timeline_is_documented_and_told_in_words() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/upshotd/domain").rglob("*.py"))
    written = set(re.findall(r'note(?:_once)?\(\s*"([a-z_]+)"', source))
    table = (ROOT / "docs/outcomes.md").read_text().partition("## Timeline of a run")[2]
    documented = {
        word
        for row in re.findall(r"^\| ([a-z_, ]+) \|", table, re.MULTILINE)
        for word in row.split(", ")
    } - {"word"}
    assert written <= documented
    assert documented == set(WORDS)


def test_every_reason_against_a_start_is_told_in_words() -> None:
    against = {
        value
        for name, value in vars(explanation).items()
        if name.isupper() and isinstance(value, str)
    }
    assert against - {"STARTED"} == set(REASONS)


def test_every_file_of_the_program_stands_in_the_table_of_the_architecture() -> None:
    table = (ROOT / "docs/architecture.md").read_text()
    validations = re.compile(r"\w+_validation\.py")
    places = [ROOT / "src/upshotd" / name for name in (".", "domain", "application", "adapters")]
    files = {path.name for place in places for path in place.glob("[a-z]*.py")}
    folders = {f"{path.name}/" for path in places[-1].glob("[a-z]*") if path.is_dir()}
    named = {f"`{name}`" for name in files | folders if not validations.fullmatch(name)}
    assert {name for name in named if name not in table} == set()
