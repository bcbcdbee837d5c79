"""What a step that asks something outside may not say, by path."""

import pytest

from tests.languages import BAD, Languages
from upshotd.adapters.grpc import fetch_codec
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.zones import zone
from upshotd.domain.event import EventType
from upshotd.domain.fetch_validation import unanswered
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.message import Channel, Sms
from upshotd.domain.steps.approve import Approve
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import Send
from upshotd.domain.validation import validate
from upshotd.domain.workflow import Step, StepKind, Trigger, Workflow

SECOND = 1_000_000
OBJECT = {"type": "object"}
URL = "https://a.example"


def faults(kind: StepKind) -> list[str]:
    step = Step("ask", kind)
    workflow = Workflow("w", Trigger(EventType.TRACK, "Go"), (step,))
    found = validate(workflow, Languages(), Languages(), zone)
    return [f.field.removeprefix("workflow.steps[0].") for f in found.violations]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (FetchStep(""), "fetch.url"),
        (FetchStep(URL + BAD), "fetch.url"),
        (FetchStep("a.example/x"), "fetch.url"),
        (FetchStep("https://a.example/${secrets.key}"), "fetch.url"),
        (FetchStep(URL, HttpMethod.POST, body="${secrets.key}"), "fetch.body"),
        (FetchStep(URL, body="x"), "fetch.body"),
        (FetchStep(URL, HttpMethod.POST, body=BAD), "fetch.body"),
        (FetchStep(URL, headers={"x": BAD}), "fetch.headers.x"),
        (FetchStep(URL, headers={"x": "${secrets.a}" + BAD}), "fetch.headers.x"),
        (FetchStep(URL, headers={"Host": "x"}), "fetch.headers.Host"),
        (FetchStep(URL, headers={"a b": "x"}), "fetch.headers.a b"),
        (FetchStep(URL, headers={f"x{n}": "" for n in range(21)}), "fetch.headers"),
        (FetchStep(URL, timeout_us=0), "fetch.timeout"),
        (FetchStep(URL, timeout_us=31 * SECOND), "fetch.timeout"),
        (FetchStep(URL, attempts=11), "fetch.max_attempts"),
        (FetchStep(URL, on_failure=(Step("inner", Exit("no")),)),
         "fetch.on_failure[0].exit.reason"),
        (Generate("", OBJECT), "generate.prompt"),
        (Generate(BAD, OBJECT), "generate.prompt"),
        (Generate("x", OBJECT, BAD), "generate.system"),
        (Generate("x", {}), "generate.schema"),
        (Generate("x", {"type": "array"}), "generate.schema"),
        (Generate("x", OBJECT, model="x" * 101), "generate.model"),
        (Generate("x", OBJECT, most_tokens=8001), "generate.max_tokens"),
        (Generate("x", OBJECT, timeout_us=121 * SECOND), "generate.timeout"),
        (Generate("x", OBJECT, attempts=0), "generate.max_attempts"),
        (Generate("x", OBJECT, on_failure=(Step("ask", Exit()),)),
         "generate.on_failure[0].step_id"),
    ],
)  # fmt: skip
def test_each_fault_has_its_path(kind: StepKind, path: str) -> None:
    assert faults(kind) == [path]


@pytest.mark.parametrize(
    "kind",
    [
        FetchStep(URL, headers={"Authorization": "Bearer ${secrets.key}"}),
        FetchStep(URL, HttpMethod.PATCH, body="{}", timeout_us=30 * SECOND, attempts=10),
        Generate("x", OBJECT, "y", "z", 8000, 120 * SECOND, 10),
    ],
)
def test_what_is_well_is_taken(kind: StepKind) -> None:
    assert faults(kind) == []


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("https://{{ traits.domain }}/a", True),
        ("https://shop.example{{ traits.path }}", True),
        ("{{ traits.url }}", True),
        ("https://shop.example:{{ traits.port }}/", True),
        ("https://shop.example/{{ traits.path }}", False),
        ("https://shop.example?{{ traits.path }}", False),
        ("https://shop.example", False),
    ],
)
def test_a_secret_for_a_host_that_somebody_else_names_is_warned_of(url: str, warned: bool) -> None:
    for secret in ("Bearer ${secrets.key}", "plain"):
        step = Step("ask", FetchStep(url, headers={"Authorization": secret}))
        workflow = Workflow("w", Trigger(EventType.TRACK, "Go"), (step,))
        found = validate(workflow, Languages(), Languages(), zone)
        fields = [warning.field for warning in found.warnings]
        assert fields == ["workflow.steps[0].fetch.url"] * (warned and secret != "plain")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"required": 7}, "is no JSON Schema"),
        ({"properties": {"a": {"pattern": 7}}}, "is no JSON Schema"),
        (
            {"properties": {"a": {"pattern": "["}}},
            "has a pattern that RE2 does not take: missing ]",
        ),
        ({"items": {"pattern": "(?=a)"}}, "has a pattern that RE2 does not take"),
        ({"pattern": "(" * 3000}, "has a pattern that RE2 does not take"),
        ({"items": {"patternProperties": {}}}, "patternProperties are not taken"),
    ],
)
def test_a_schema_that_is_none_is_told_when_it_is_read(
    schema: dict[str, object], words: str
) -> None:
    assert words in schema_fault(schema)


def test_a_schema_may_have_patterns_and_names_of_every_kind() -> None:
    text = {"type": "string", "pattern": r"^\p{L}+$", "maxLength": 80}
    assert schema_fault({"properties": {"patternProperties": text, "pattern": text}}) == ""
    assert schema_fault({"properties": {"a": {"pattern": "(" * 900 + ")" * 900}}}) == ""


def schema_fault(schema: dict[str, object]) -> str:
    reading = Reading()
    message = fetch_codec.generate_message(Generate("x", {"type": "object", **schema}))
    fetch_codec.generate(message, "generate", reading)
    assert {fault.field for fault in reading.violations} <= {"generate.schema"}
    return "".join(fault.description for fault in reading.violations)


def test_what_the_settings_do_not_have_is_told_where_it_is_named() -> None:
    asks = FetchStep(URL, headers={"Authorization": "Bearer ${secrets.key}", "x": "${secrets.old}"})
    context = Approve((), Send(Channel.SMS, (Sms("?"),)), "?", 1, context=asks)
    around = Branch((Case("true", (Step("c", Generate("x", OBJECT)),)),))
    steps = (Step("a", asks), Step("b", context), Step("d", around))
    workflow = Workflow("w", Trigger(EventType.TRACK, "Go"), steps)

    def told(secrets: set[str], *, model: bool) -> list[str]:
        found = unanswered(workflow, secrets, model=model)
        return [f.field.removeprefix("workflow.steps") for f in found]

    assert told({"key"}, model=False) == [
        "[0].fetch.headers.x",
        "[1].approve.context.headers.x",
        "[2].branch.cases[0].steps[0].generate",
    ]
    assert told({"key", "old"}, model=True) == []
