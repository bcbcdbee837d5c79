"""Files of workflows: every fault by path and line, YAML's traps, and back without a loss."""

import json
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from upshot.v1 import outcome_pb2
from upshot.v1.workflow_pb2 import ApprovalDecision, Emit, ReentryMode, Workflow
from upshotd.cli import durations, yamlfile
from upshotd.cli.reading import Reader


def read(text: str, target: Message | None = None) -> tuple[Any, Reader]:
    reader, message = Reader(), target if target is not None else Workflow()
    (document,) = yamlfile.documents(text)
    reader.message(document, message, "workflow")
    return message, reader


def faults(text: str, target: Message | None = None) -> dict[str, str]:
    """Return path -> line and text of each fault; no path twice."""
    found = read(text, target)[1].faults
    told = {fault.path: f"{fault.line}: {fault.text}" for fault in found}
    assert len(told) == len(found)
    return told


def fault(text: str, path: str) -> str:
    """Return the one fault there is, which is at *path*."""
    told = faults(text)
    assert list(told) == [path]
    return told[path]


# what is right


def test_a_workflow_is_read_with_names_of_both_kinds_and_friendly_durations() -> None:
    text = """
workflowId: welcome
trigger: {track: {event: Signed Up, includeOwnOutcomes: true}, max_age: 3d}
reentry: {mode: REENTRY_MODE_ONCE_EVER, cooldown: 1h30m}
labels: {team: growth}
steps:
  - step_id: wait
    wait:
      any_of: {conditions: [{event: {event: A}}, {event: {event: B, since: 2}}]}
      timeout: 86400s
      onTimeout:
        - {step_id: until, delay: {until: {time: "2026-07-01T14:00:00+02:00"}}}
        - {step_id: tell, emit: {event: Told, properties: {n: 1.5, on: yes, list: [1, null, true]}}}
"""
    workflow, reader = read(text)
    assert reader.faults == []
    assert workflow.workflow_id == "welcome"
    assert workflow.trigger.max_age.seconds == 3 * 86_400
    assert workflow.reentry.cooldown.seconds == 5_400
    assert workflow.reentry.mode == ReentryMode.REENTRY_MODE_ONCE_EVER
    assert workflow.labels == {"team": "growth"}
    wait = workflow.steps[0].wait
    assert wait.any_of.conditions[1].event.since == 2
    assert wait.on_timeout[0].delay.until.time.ToJsonString() == "2026-07-01T12:00:00Z"
    properties = wait.on_timeout[1].emit.properties
    assert dict(properties) == {"n": 1.5, "on": "yes", "list": properties["list"]}
    assert list(properties["list"]) == [1, None, True]


def test_an_approval_is_read_and_its_faults_stand_where_they_are_written() -> None:
    text = """
workflow_id: pay
steps:
  - step_id: ask
    approve:
      levels:
        - {audience_id: finance, escalate_after: 1h30m}
        - {users: {user_ids: [ana, "{{ traits.manager }}"]}}
      request: {channel: CHANNEL_SMS, sms: {body: "{{ links.review }}"}}
      summary: Pay?
      reminders: [30m, 1h]
      timeout: 2d
      default_decision: DENIED
      on_approved: [{step_id: paid, exit: {}}]
"""
    said = fault(text, "workflow.steps[0].approve.default_decision")
    assert "APPROVAL_DECISION_DENIED" in said
    workflow, reader = read(text.replace("DENIED", "APPROVAL_DECISION_DENIED"))
    assert reader.faults == []
    approve = workflow.steps[0].approve
    first, second = approve.levels
    assert (first.audience_id, first.escalate_after.seconds) == ("finance", 5_400)
    assert list(second.users.user_ids) == ["ana", "{{ traits.manager }}"]
    assert [span.seconds for span in approve.reminders] == [1_800, 3_600]
    assert approve.default_decision == ApprovalDecision.APPROVAL_DECISION_DENIED
    assert approve.on_approved[0].WhichOneof("kind") == "exit"
    assert_survives(workflow)


def test_a_line_is_known_of_everything_that_stands_in_the_file() -> None:
    reader = read("workflow_id: a\nsteps:\n- step_id: x\n  send:\n    email: {text: t}\n")[1]
    assert reader.line("workflow.steps[0].send.email.text") == 5
    assert reader.line("workflow.steps[0].send.channel") == 4  # what is missing: where it would be
    assert reader.line("elsewhere") == 0


def test_json_is_read_with_tabs_escapes_and_halves_of_emojis() -> None:
    text = '{\n\t"workflowId": "a",\n\t"displayName": "\\ud83d\\ude00 \\/ \\t"\n}'
    workflow, reader = read(text)
    assert reader.faults == []
    assert workflow.display_name == "\N{GRINNING FACE} / \t"


def test_several_documents_and_empty_ones() -> None:
    assert len(yamlfile.documents("---\na: 1\n---\n---\nb: 2\n")) == 2
    assert yamlfile.documents("# nothing\n") == []


def test_an_alias_is_what_it_stands_for() -> None:
    text = "steps:\n- {step_id: a, send: &s {sms: {body: hi}}}\n- {step_id: b, send: *s}\n"
    workflow, reader = read(text)
    assert reader.faults == []
    assert workflow.steps[0].send == workflow.steps[1].send


# what is wrong


def test_all_faults_are_told_at_once() -> None:
    told = faults(
        """workflow_id: 5
trigger: {track: {event: A}, identify: {}}
steps:
  - step_id: a
    send: {channel: email, email: {subject: {{ x }}, txt: b}}
  - wait: {timeout: 5 days, on_timeout: {step_id: x}}
  - delay: {duration: 24}
labels: {a: on, b: true}
nonsense: 1
"""
    )
    assert told == {
        "workflow.workflow_id": "1: is a number, 5; write it in quotes if it is a text",
        "workflow.trigger.identify": (
            "2: excludes `track` of line 2; give one of track, identify, group, page, screen, "
            "audience, schedule, invoke"
        ),
        "workflow.steps[0].send.channel": "5: 'email' is no Channel; did you mean CHANNEL_EMAIL?",
        "workflow.steps[0].send.email.subject": (
            "5: is a mapping; must be a text; put it in quotes if it begins with {{"
        ),
        "workflow.steps[0].send.email.txt": ("5: is no field of EmailContent; did you mean text?"),
        "workflow.steps[1].wait.timeout": (
            "6: '5 days' is no duration; write it as 45s, 90m, 24h, 3d or 1h30m"
        ),
        "workflow.steps[1].wait.on_timeout": (
            "6: is a mapping; must be a list, each item after a `- `, or [] if there is none"
        ),
        "workflow.steps[2].delay.duration": (
            "7: 24 has no unit; write it as 45s, 90m, 24h, 3d or 1h30m"
        ),
        "workflow.labels.b": "8: is a boolean, true; write it in quotes if it is a text",
        "workflow.nonsense": (
            "9: is no field of Workflow; there are workflow_id, display_name, trigger, steps, "
            "reentry, exits, topic, purpose, cancellation_key, labels"
        ),
    }


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("- a", "workflow", "is a list; must be fields with their values: workflow_id,"),
        ("trigger: {track: Paid}", "workflow.trigger.track", "values: event, include_own_outcomes"),
        ("trigger: {invoke: now}", "workflow.trigger.invoke", "with their values: none, as {}"),
        ("topic: a\ntopic: b", "workflow.topic", "2: is given a second time; it stands in line 1"),
        ("display_name: a\ndisplayName: b", "workflow.display_name", "a second time"),
        ("labels: {a: b, a: c}", "workflow.labels.a", "a second time"),
        ("labels: [a]", "workflow.labels", "is a list; must be names with their values"),
        ("? [a]\n: b", "workflow", "is no name of a field"),
        ("{{ a }}: b", "workflow", "a template that begins with {{ must stand in quotes"),
        ("a: &a {}\n", "workflow.a", "is no field of Workflow"),
        ("<<: {topic: b}", "workflow", "merging by << is not supported"),
        ("topic: !secret b", "workflow.topic", "must be a text"),
        ("topic: 007", "workflow.topic", "begins with a zero"),
        ('topic: "\\ud83d"', "workflow.topic", "half of a surrogate pair"),
        ("on: true", "workflow.on", "is no field of Workflow"),
        ("trigger: {track: {include_own_outcomes: on}}",
         "workflow.trigger.track.include_own_outcomes", "is 'on'; must be true or false"),
        ("trigger: {identify: }", "workflow.trigger.identify", "for one without fields write {}"),
        ("trigger: {identify: {a: b}}", "workflow.trigger.identify.a", "which has none"),
        ("trigger: {max_age: [1]}", "workflow.trigger.max_age", "is a list; write it as 45s"),
        ("trigger: {max_age: 30m1h}", "workflow.trigger.max_age", "is no duration"),
        ("trigger: {max_age: 400000000d}", "workflow.trigger.max_age", "than 10 000 years"),
        ("purpose: [a]", "workflow.purpose", "is a list; must be one word"),
        ("purpose: 99", "workflow.purpose", "'99' is no Purpose"),
        ("steps: [{delay: {until: {time: tomorrow}}}]",
         "workflow.steps[0].delay.until.time", "'tomorrow' is no time; write it as 2026-"),
        ("steps: [{wait: {engagement: {kinds: [ENGAGEMENT_KIND_OPEND]}}}]",
         "workflow.steps[0].wait.engagement.kinds[0]", "did you mean ENGAGEMENT_KIND_OPENED?"),
        ("steps: [{emit: {properties: [1]}}]", "workflow.steps[0].emit.properties", "is a list"),
        ("steps: [{emit: {properties: {a: {b: [12345678901234567891]}}}}]",
         "workflow.steps[0].emit.properties.a.b[0]", "cannot be told exactly"),
        ("steps: [{emit: {properties: {a: 1e999}}}]",
         "workflow.steps[0].emit.properties.a", "cannot be told exactly"),
        ("steps: [{emit: {properties: {zip: 01234}}}]",
         "workflow.steps[0].emit.properties.zip", "begins with a zero"),
        ("steps: [{emit: {properties: {a: !!python/name:os b}}}]",
         "workflow.steps[0].emit.properties.a", "b"),
    ],
)  # fmt: skip
def test_each_fault_is_named(text: str, path: str, said: str) -> None:
    if path.endswith("properties.a") and "python" in text:
        message, reader = read(text)
        # PyYAML's own tags build nothing here: only nodes are read.
        assert reader.faults == []
        assert message.steps[0].emit.properties["a"] == said
    else:
        assert said in fault(text, path)


def test_numbers_of_other_messages_are_checked() -> None:
    outcome, reader = read("position: 5\npartition: '7'", outcome_pb2.Outcome())
    assert (outcome.position, outcome.partition, reader.faults) == (5, 7, [])
    told = faults("{position: 1.5, partition: 5000000000}", outcome_pb2.Outcome())
    assert told == {
        "workflow.position": "1: is 1.5; must be a whole number",
        "workflow.partition": "1: is 5000000000; must be a whole number",
    }
    assert list(faults("position: true", outcome_pb2.Outcome())) == ["workflow.position"]
    assert list(faults("position: [1]", outcome_pb2.Outcome())) == ["workflow.position"]


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("a: [1", "is no YAML", 1),
        ("a: b\n\tc: d", "indented by a tab", 2),
        ("a:\n  {b: Hello {{ c }}}", "with {{ in it must stand in quotes here", 2),
        ('a: {b: Is it?, c: "{{ d }}"}', "but got '\\?'$", 1),
        ("a: {{ b }} c", "with {{ in it must stand in quotes here", 1),
        ("a: *b", "undefined alias", 1),
        ("a: b\nc: \x07", "character that YAML does not allow", 2),
        ("a: " + "[" * 2_000, "is nested deeper than 100", 0),
        ("a: " + "[" * 200 + "]" * 200, "is nested deeper than 100", 1),
        ("a: &a [*a]", "is nested deeper than 100", 1),
        ("a" * (yamlfile.TEXT_MAX + 1), "is longer than", 0),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, said: str, line: int) -> None:
    with pytest.raises(yamlfile.Unreadable, match=said) as raised:
        yamlfile.documents(text)
    assert raised.value.line == line


def test_a_short_file_that_unfolds_to_a_billion_values_is_refused() -> None:
    levels = [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]"
              for n in range(9)]  # fmt: skip
    bomb = "\n".join(["a: &a [lol]", *levels])
    with pytest.raises(yamlfile.Unreadable, match="aliases"):
        yamlfile.documents(bomb)


# durations


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("24h", 86_400, 0),
        ("1d2h3m4s5ms", 93_784, 5_000_000),
        ("0s", 0, 0),
        ("0.5s", 0, 500_000_000),
        ("1.5h", 5_400, 0),
        ("-1.5s", -1, -500_000_000),
        (" 90m ", 5_400, 0),
    ],
)
def test_durations(text: str, seconds: int, nanos: int) -> None:
    assert durations.parse(text) == Duration(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize("text", ["", "-", "24", "h", "1h1h", "1m1h", "1 h", "1e3s", "1y", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write it as"):
        durations.parse(text)


def test_durations_are_written_in_two_units() -> None:
    spans = [Duration(seconds=s) for s in (0, 59, 3_600, 90_061)]
    assert [durations.written(span) for span in spans] == ["0s", "59s", "1h", "1d 1h"]


# there and back


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["on", "no", "null", "~", "1", "1e5", "0x1F", "1:30", "2026-07-01", "{{ a }}", "a: b", "# x",
     "a\nb\n", " a ", "true", ".inf", "=", "<<", "\x85", "\u2028", "é", "-", "!x", "&x", "*x", "%"]
)  # fmt: skip
NUMBERS = st.integers(-(2**53), 2**53).map(float) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def _value_of(draw: Any, field: Any, depth: int) -> Any:
    if field.enum_type is not None:
        return draw(st.sampled_from([value.number for value in field.enum_type.values]))
    if field.message_type is not None:
        return _message_of(draw, field.message_type, depth - 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
        return draw(st.integers(-(2**31), 2**31 - 1))
    return draw(st.booleans() if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else TEXTS)


def _message_of(draw: Any, descriptor: Any, depth: int) -> Message:
    match descriptor.full_name:
        case "google.protobuf.Duration":
            return Duration(
                seconds=draw(st.integers(0, 10**9)), nanos=draw(st.integers(0, 10**9 - 1))
            )
        case "google.protobuf.Timestamp":
            return Timestamp(
                seconds=draw(st.integers(0, 4 * 10**9)), nanos=draw(st.integers(0, 999))
            )
        case "google.protobuf.Struct":
            struct = Struct()
            struct.update(draw(st.dictionaries(TEXTS, JSON, max_size=3)))
            return struct
    message: Any = descriptor._concrete_class()
    taken: set[str] = set()
    for field in descriptor.fields:
        oneof = field.containing_oneof.name if field.containing_oneof else field.name
        if oneof in taken or (field.message_type and depth <= 0) or not draw(st.booleans()):
            continue
        taken.add(oneof)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            drawn = draw(st.dictionaries(TEXTS, TEXTS, max_size=3))
            getattr(message, field.name).update(drawn)
        elif field.is_repeated:
            count = draw(st.integers(1, 2))
            getattr(message, field.name).extend(
                [_value_of(draw, field, depth) for _ in range(count)]
            )
        elif field.message_type is not None:
            submessage = getattr(message, field.name)
            submessage.CopyFrom(_value_of(draw, field, depth))
            submessage.SetInParent()
        else:
            setattr(message, field.name, _value_of(draw, field, depth))
    return message


@st.composite
def workflows(draw: Any) -> Any:
    return _message_of(draw, Workflow.DESCRIPTOR, 6)


@settings(max_examples=60, deadline=None)
@given(workflows())
def test_a_workflow_survives_yaml_and_json(workflow: Any) -> None:
    assert_survives(workflow)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXTS, JSON, max_size=4))
def test_open_data_survives_yaml_and_json(values: dict[str, object]) -> None:
    emit = Emit(event="e")
    emit.properties.update(values)
    assert_survives(emit)


def assert_survives(message: Message) -> None:
    as_json = MessageToJson(message)
    spaced = MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False)
    tabbed = json.dumps(json.loads(as_json), indent="\t")
    for text in (yamlfile.dump(message), as_json, spaced, tabbed):
        found = type(message)()
        reader = Reader()
        documents = yamlfile.documents(text)
        reader.message(documents[0], found, "workflow")
        assert reader.faults == [], text
        assert found == message, text
