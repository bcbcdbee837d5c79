"""Conditions in CEL: what they mean, and that none can cost more than a bounded amount."""

import resource
import sys
from datetime import UTC, datetime, timedelta
from time import perf_counter
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upshotd.adapters.cel import CelConditions
from upshotd.domain.errors import ConditionError
from upshotd.domain.language import Verdict

CONDITIONS = CelConditions()
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NAMES = {
    "event": {
        "name": "Order Placed",
        "properties": {
            "amount": 120.5, "count": 3, "items": [{"sku": "a", "price": 5}, {"sku": "b"}],
            "code": "x.map(y)", "none": None, "event": 7,
        },
    },
    "traits": {"plan": "pro", "size": "XL", "address": {"city": "Bern"}},
    "profile": {"email": "a@b.example"},
    "group": {},
    "steps": {"welcome": {"opened": True}},
    "run": {"id": "r1"},
    "now": NOW,
}  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        "event.properties.amount > 100 && traits.plan == 'pro'",
        "event.properties.amount > 100.25",
        "event.properties.count == 3.0",
        "event.properties.count < event.properties.amount",
        "event['name'] == 'Order Placed'",
        "event.properties['amount'] > 1",
        ".traits.plan == 'pro'",
        "traits // a comment with event.properties.nope\n . plan == 'pro'",
        "size(event.properties) == 6",
        "event.properties.size() == 6",
        "traits.address == {'city': 'Bern'}",
        "traits.size.size() == 2",
        "event.properties.event == 7",
        "event.properties.items.exists(i, i.sku == 'b')",
        "event.properties.items.exists(traits, traits.sku == 'b')",
        "event.properties.items.exists(i, has(i.price) && i.price * 2 == 10)",
        "event.properties.items[0].price == 5",
        "!has(traits.nope)",
        "has(steps.welcome) && steps.welcome.opened",
        "!has(group.name)",
        "steps.nope.opened || traits.plan == 'pro'",
        "now - duration('24h') < now",
        "now.getFullYear() == 2026",
        "event.properties.none == null",
        "event.properties.code == 'x.map(y)'",
        "'[1].map(x, x).filter(' != traits.plan",
        "r'\\d' != \"it's .map(\"",
        "'''a'b.map(''' != traits.plan",
        "traits.plan.matches('^p.o$')",
        "'a' + traits.plan == 'apro'",
        "1 == 1",
    ],
)
def test_a_condition_holds(source):
    assert CONDITIONS.fault(source) is None
    assert CONDITIONS.holds(source, NAMES) == Verdict(True)


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("traits.nope == 1", "traits.nope is missing"),
        ("event.properties.deep.er > 1", "event.properties.deep is missing"),
        ("event['nope'] == 1", "nope is missing"),
        ("steps.nope.opened", "steps.nope is missing"),
        ("group.plan == 'x'", "group.plan is missing"),
        ("traits.plan", "yields string, not true or false"),
        ("event.properties.items", "yields list, not true or false"),
        ("traits.plan > 3", "No matching overloads"),
        ("1 / 0 == 1", "divide by zero"),
        ("traits.plan.matches('(')", "regular expression"),
    ],
)
def test_what_cannot_be_evaluated_does_not_hold_and_says_why(source, note):
    assert CONDITIONS.fault(source) is None or "yields" in note
    verdict = CONDITIONS.holds(source, NAMES)
    assert not verdict.holds
    assert note in verdict.note
    assert "\n" not in verdict.note


@pytest.mark.parametrize("source", ["traits.plan == 'x'", "has(traits.nope)", "false"])
def test_what_does_not_hold_has_no_note(source):
    assert CONDITIONS.holds(source, NAMES) == Verdict(False)


def test_roots_that_are_not_given():
    assert CONDITIONS.holds("traits.plan == 'x'", {}) == Verdict(False, "traits.plan is missing")
    assert CONDITIONS.holds("has(traits.plan)", {}) == Verdict(False)
    assert CONDITIONS.holds("now > timestamp('2020-01-01T00:00:00Z')", {}).note == "now is missing"
    assert CONDITIONS.holds("traits.a == 1", {"traits": MappingProxyType({"a": 1})}).holds
    assert CONDITIONS.holds("size(traits) == 1", {"traits": MappingProxyType({"a": 1})}).holds


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("1 +", "line 1, column 4: Syntax error"),
        ("nope == 1", "undeclared reference to 'nope'; there are event, group, now, profile, run,"),
        (
            "traits.plan == pro",
            "'pro'; there are event, group, now, profile, run, steps, traits,"
            " and texts stand in quotes",
        ),
        ("now() == now", "undeclared reference to 'now', which is no function"),
        ("traits.plan = 'pro'", "at: '= '; = is written =="),
        ("traits.a and traits.b", "mismatched input 'and' expecting <EOF>; and is written &&"),
        ("event.name ==\n nope", "line 2, column 2"),
        ("size(event)", "yields int, not true or false"),
        ("'x'", "yields string, not true or false"),
        ("true || '" + "x" * 2050 + "' == ''", "2048 are allowed"),
        ("é" * 1200, "2048 are allowed"),
        ("'\ud800' == ''", "surrogate"),
        ("(" * 30 + "true" + ")" * 30, "nested deeper"),
        ("[" * 900 + "]" * 900, "nested deeper"),
        ("event" + ".a" * 900 + " == 1", "recursion"),
        ("+".join(["1"] * 900) + " == 1", "recursion"),
        ("[1].map(x, x) == [1]", "map() is not offered"),
        ("[1] . map\n(x, x) == [1]", "map() is not offered"),
        ("[1].map// c\n(x, x) == [1]", "map() is not offered"),
        ("[1].filter(x, true) == [1]", "filter() is not offered"),
        ("[1].transformList(i, v, v) == [1]", "transformList() is not offered"),
        ("{'a': 1}.transformMap(k, v, v) == {}", "transformMap() is not offered"),
        ("cel.bind(x, 1, x) == 1", "undeclared"),
        ("[1].exists(a, [1].all(b, [1].all(c, true)))", "deeper than 2"),
        ("event.l.all(a, size(traits.s + traits.s) > 1)", "+ is not offered inside"),
        ("event.l.all(a, " + " && ".join(["a == 1"] * 30) + ")", "more than 24 operations"),
        ("event.name.format([1]) == ''", "undeclared"),
    ],
)
def test_faults_are_told_in_one_line(source, fault):
    told = CONDITIONS.fault(source)
    assert told is not None
    assert fault in told
    assert "\n" not in told
    assert len(told) <= 300
    assert not CONDITIONS.holds(source, NAMES).holds
    assert CONDITIONS.holds(source, NAMES).note


def test_a_key_expression_need_not_be_a_bool():
    assert CONDITIONS.fault("event.properties.sku", yields="key") is None
    assert CONDITIONS.fault("'a' + traits.plan", yields="key") is None
    assert CONDITIONS.fault("event.properties", yields="key") is None
    assert CONDITIONS.fault("[1]", yields="key") == "yields list, not a single value"
    assert CONDITIONS.fault("now + duration('1h')", yields="moment") is None
    assert CONDITIONS.fault("event.properties.at", yields="moment") is None
    assert CONDITIONS.fault("42", yields="moment") == "yields int, not a timestamp"
    assert CONDITIONS.fault("'a' +", yields="key") is not None


def test_values():
    assert CONDITIONS.value("traits.plan", NAMES) == "pro"
    assert CONDITIONS.value("event.properties.amount", NAMES) == 120.5
    assert CONDITIONS.value("size(traits)", NAMES) == 3
    assert CONDITIONS.value("1u", NAMES) == 1
    assert CONDITIONS.value("true", NAMES) is True
    assert CONDITIONS.value("event.properties.none", NAMES) is None
    moment = CONDITIONS.value("now + duration('1h')", NAMES)
    assert moment == NOW + timedelta(hours=1)
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    "source",
    [
        "event.time + duration(event.pause)",
        "event['time'] + duration('90m')",
        "run.start_time + duration('90m')",
        "event.size() == 2 && event.time < now ? event.time + duration('90m') : now",
    ],
)
def test_moments_inside_of_maps_are_timestamps(source):
    moment = NOW - timedelta(days=1, microseconds=1)
    names = {
        "event": {"time": moment, "pause": "90m"},
        "run": {"start_time": moment},
        "now": NOW,
    }
    assert CONDITIONS.value(source, names) == moment + timedelta(minutes=90)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("traits.nope", "traits.nope is missing"),
        ("traits", "yields map"),
        ("event.properties.items", "yields list"),
        ("b'x'", "yields bytes"),
        ("duration('1h')", "yields duration"),
        ("type(1)", "yields type"),
        ("1 +", "Syntax error"),
        ("event.properties.items.all(i, true) ? traits.nope : 1", "traits.nope is missing"),
    ],
)
def test_what_has_no_value_says_why(source, fault):
    with pytest.raises(ConditionError, match=fault):
        CONDITIONS.value(source, NAMES)


def test_a_text_that_looks_like_an_error_is_a_text():
    text = 'NOT_FOUND: Key not found in map : "x"'
    assert CONDITIONS.value("traits.t", {"traits": {"t": text}}) == text


@pytest.mark.parametrize(
    "odd", [2**70, "\ud800", {1, 2}, datetime(2026, 1, 1), object(), {None: 1}]
)
def test_values_that_cel_cannot_take_are_a_note_that_does_not_quote_them(odd):
    verdict = CONDITIONS.holds("traits.x > 1", {"traits": {"x": odd}})
    assert not verdict.holds
    assert verdict.note
    assert str(2**70) not in verdict.note


LONG = {"event": {"l": list(range(1000)), "m": {str(n): n for n in range(1000)}, "s": "a" * 30_000}}


@pytest.mark.parametrize(
    "source",
    [
        "event.l.all(a, event.l.all(b, true))",
        "event.l.all(a, event.m == event.m && event.m == event.m)",
        "event.l.all(a, event.s.matches('(a*)*(b|a)*$'))",
        "event.l.all(a, event.l.all(b, !(-1 in event.l)))",
        "event.l.exists(a, string(bytes(event.s)) == '')",
        "event.s.matches('(x+x+)+y')",
        "event.s.matches('a{1000}{1000}')",
    ],
)
def test_no_condition_costs_much(source):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = perf_counter()
    verdict = CONDITIONS.holds(source, LONG)
    assert perf_counter() - begun < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
    assert not verdict.holds


def test_loops_over_what_one_order_holds_are_fine():
    order = {"event": {"items": [{"sku": str(n), "price": n, "tags": ["a"]} for n in range(200)]}}
    assert CONDITIONS.holds("event.items.exists(i, i.price > 198)", order).holds


@pytest.mark.parametrize(
    "source", ["null", "event.properties.none", "traits.plan == 'x' ? dyn(1) : dyn(null)"]
)
def test_nulls_take_nothing_from_the_none_of_python(source: str) -> None:
    """Before Python 3.12 the process would abort with its last one, after some thousand nulls."""
    CONDITIONS.holds(source, NAMES)
    before = sys.getrefcount(None)
    for _ in range(1_000):
        assert CONDITIONS.value(source, NAMES) is None
        assert CONDITIONS.holds(source, NAMES).note == "yields null, not true or false"
    assert sys.getrefcount(None) > before - 200


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.lists(inner, max_size=2),
        max_leaves=8,
    ),
    st.sampled_from(
        ["traits.a == 1", "traits.a.b == 1", "has(traits.a.b)",
         "traits.a.b.c == 1 || traits.a == 2",
         "traits.a.exists(b, b == traits.b)", "traits.a == traits.b", "traits.a.size() == 1"]
    ),
)  # fmt: skip
def test_giving_only_the_paths_that_are_read_changes_no_verdict(value, source):
    # Indexing reads the whole root, so that nothing is left out of it.
    whole = f"({source}) && (traits['a'] == traits['a'] || true) && size(traits) >= 0"
    names = {"traits": {"a": value, "b": 1, "c": 2}}
    assert CONDITIONS.holds(source, names).holds == CONDITIONS.holds(whole, names).holds


def test_it_is_known_which_steps_a_condition_names():
    assert CONDITIONS.steps("steps.a.sent && has(steps.b.data.x)") == {"a", "b"}
    assert CONDITIONS.steps("steps == traits || steps.a.sent ==") == frozenset()
    assert CONDITIONS.steps("size(steps) == 1") == frozenset()
