"""Templates: what they mean, that nothing gets out of them, and that none can cost much."""

import resource
from datetime import UTC, datetime
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from upshotd.adapters.templates import SandboxTemplates, renderer
from upshotd.adapters.templates.parts import render_parts
from upshotd.domain.errors import TemplateError

TEMPLATES = SandboxTemplates()


def test_a_name_that_nobody_gives_is_a_fault_at_definition():
    templates = SandboxTemplates(frozenset({"traits", "event"}))
    assert templates.fault("{{ traits.x }}{% for i in event.items %}{{ i }}{% endfor %}") is None
    assert templates.fault("{{ trait.name }}") == "names 'trait'; there are event, traits"
    assert templates.fault("{% for i in range(2) %}{{ i }}{% endfor %}") is None


def test_what_a_template_takes_from_its_caller_is_known_without_rendering_it():
    source = "{% set mine = traits.x %}{% for i in range(2) %}{{ i }}{{ mine }}{{ links['a'] }}"
    assert TEMPLATES.names(source + "{% endfor %}") == {"traits", "links"}
    assert TEMPLATES.names(source) == frozenset(), "it does not compile"


def test_it_is_known_which_steps_a_template_names():
    source = (
        "{{ steps.a.sent }}{% for i in steps['b'].data.l %}{{ i.steps }}{% endfor %}{{ steps }}"
    )
    assert TEMPLATES.steps(source) == {"a", "b"}
    assert TEMPLATES.steps("{{ steps.a") == frozenset(), "it does not compile"


NAMES = {
    "event": {
        "name": "Order <Placed>",
        "properties": {
            "amount": 120.0, "tax": 7.25, "gift": True, "none": None, "keys": "K",
            "items": [{"name": "A&B", "price": 1}, {"name": "C", "price": 2.5}],
        },
    },
    "traits": {
        "first_name": "Ada", "plan": "pro", "address": {"city": "Bern"}, "big": "x" * 30_000,
    },
    "now": datetime(2026, 11, 24, 9, 5, tzinfo=UTC),
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain <b>", "plain <b>"),
        ("Hi {{ traits.first_name }}!", "Hi Ada!"),
        ("{{ event.name }}", "Order <Placed>"),
        ("{{ event['properties'].amount }}", "120"),
        ("{{ event.properties.tax }}", "7.25"),
        ("{{ event.properties.gift }}", "true"),
        ("{{ now }}", "2026-11-24T09:05:00+00:00"),
        ("{{ now.year }} {{ now.isoformat() }}", "2026 2026-11-24T09:05:00+00:00"),
        ("{{ now | date('%d %B %Y, %H:%M') }}", "24 November 2026, 09:05"),
        ("{{ '2026-01-02T03:04:05Z' | date }}", "2026-01-02"),
        ("{{ event.properties.keys }}", "K"),
        ("{{ event.properties.items[0].name }}", "A&B"),
        ("{{ event.properties.items | length }}", "2"),
        ("{{ (event.properties.items | last).name }}", "C"),
        ("{% for i in event.properties.items %}{{ loop.index }}{{ i.name }}{{ i.price }};"
         "{% endfor %}",
         "1A&B1;2C2.5;"),
        ("{% for i in event.properties.items if i.price > 1 %}{{ i.name }}{% endfor %}", "C"),
        ("{% for k, v in traits.address.items() %}{{ k }}={{ v }}{% endfor %}", "city=Bern"),
        ("{% for n in range(3) %}{{ n }}{% else %}none{% endfor %}", "012"),
        ("{% for n in range(2) %}{% for m in range(n) %}{{ 'a b'.split()[m] }}{% endfor %}"
         "{{ loop.cycle('x', 'y') }}{{ 'k'.upper() }}{% endfor %}", "xKayK"),
        ("{% for n in [] %}{{ n }}{% else %}none{% endfor %}", "none"),
        ("{% if traits.plan == 'pro' and 1 < 2 %}yes{% else %}no{% endif %}", "yes"),
        ("{% if traits.plan in ['free', 'pro'] %}yes{% endif %}", "yes"),
        ("{{ 'yes' if traits.nope is defined else 'no' }}", "no"),
        ("{{ 'yes' if event.properties.none is defined else 'no' }}", "no"),
        ("{{ traits.nope | default('friend') }}", "friend"),
        ("{{ traits.nope.deeper | default('friend') | upper }}", "FRIEND"),
        ("{{ event.properties.none | default('friend') }}", "friend"),
        ("{{ '' | default('friend', true) }}", "friend"),
        ("{{ traits.first_name.upper() }}", "ADA"),
        ("{{ traits.first_name | upper | lower | capitalize | title | trim }}", "Ada"),
        ("{{ traits.first_name[:2] }}{{ traits.first_name[0] }}{{ traits.first_name[-1] }}",
         "AdAa"),
        ("{% set who = traits.first_name ~ ' of ' ~ traits.address.city %}{{ who }}",
         "Ada of Bern"),
        ("{{ traits.first_name + '!' }}", "Ada!"),
        ("{{ event.properties.amount * 2 - 1 }}", "239"),
        ("{{ 7 // 2 }} {{ 7 % 2 }} {{ 7 / 2 }} {{ -7 }} {{ +7 }}", "3 1 3.5 -7 7"),
        ("{{ event.properties.tax | fixed }} {{ 2.345 | round(1) }} {{ -2 | abs }}",
         "7.25 2.3 2"),
        ("{{ '12' | int }} {{ 'x' | int }} {{ '1.5' | float }} {{ 'nan' | float }}", "12 0 1.5 0"),
        ("{{ ['a', 'b'] | join(', ') }}{{ ['a'] | first }}", "a, ba"),
        ("{{ 'a-b' | replace('-', '+') }} {{ 'a b'.split()[1] }}", "a+b b"),
        ("{{ 'abcdef' | truncate(5) }}{{ 'abc' | truncate(5) }}", "ab...abc"),
        ("{{ 'a'.startswith('a') }} {{ 'a'.endswith('b') }}", "true false"),
        ("{{ 'a b&' | urlencode }}", "a%20b%26"),
        ("{{ event.properties.items | tojson }}",
         '[{"name": "A\\u0026B", "price": 1}, {"name": "C", "price": 2.5}]'),
        ("{{ '<' | escape }}{{ '<' | e }}", "&lt;&lt;"),
        ("""{{ "<!channel> 'A&B' <https://a.example|b>" | slack }}""",
         "&lt;!channel&gt; 'A&amp;B' &lt;https://a.example|b&gt;"),
        ("{{ traits.get('plan') }}", "pro"),
        ("{# a comment #}{% raw %}{{ raw }}{% endraw %}", "{{ raw }}"),
        ("{{ 'a' 'b' }}", "ab"),
    ],
)  # fmt: skip
def test_a_template_renders(source, text):
    assert TEMPLATES.fault(source) is None
    assert TEMPLATES.render(source, NAMES) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>{{ event.name }}</p>", "<p>Order &lt;Placed&gt;</p>"),
        ("{{ event.name | upper }}", "ORDER &lt;PLACED&gt;"),
        ("{{ event.name | escape }}", "Order &lt;Placed&gt;"),
        ("{{ event.name | escape | upper }}", "ORDER &amp;LT;PLACED&amp;GT;"),
        ("{{ '<b>' ~ event.name }}", "&lt;b&gt;Order &lt;Placed&gt;"),
        ("{% set x = event.name %}{{ x }}", "Order &lt;Placed&gt;"),
        ("{{ '<b>' + event.name }}", "&lt;b&gt;Order &lt;Placed&gt;"),
        ("{{ ['<', event.name] | join('&') }}", "&lt;&amp;Order &lt;Placed&gt;"),
        ("{{ event.name | replace('Order', '<i>') }}", "&lt;i&gt; &lt;Placed&gt;"),
        ("{{ {'a': '</script>'} | tojson }}", '{"a": "\\u003c/script\\u003e"}'),
        ("{{ event.properties.amount }}", "120"),
        ("{{ traits.nope | default('<') }}", "&lt;"),
    ],
)
def test_html_is_escaped_and_only_html(source, text):
    assert TEMPLATES.fault(source, html=True) is None
    assert TEMPLATES.render(source, NAMES, html=True) == text


@pytest.mark.parametrize("sign", list("<>&'\"aé\u2028"))
def test_escaping_is_that_of_markupsafe(sign):
    assert TEMPLATES.render("{{ a }}", {"a": sign}, html=True) == str(escape(sign))
    assert TEMPLATES.render("{{ a }}{% if 1 %}{% endif %}", {"a": sign}, html=True) == escape(sign)


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ("{{ traits.nope }}", "traits.nope"),
        ("{{ nope }}", "nope"),
        ("{{ event.properties.none }}", "event.properties.none"),
        ("{{ traits.nope.deeper.still }}", "traits.nope.deeper.still"),
        ("{{ traits['nope'] }}", "traits.nope"),
        ("{{ traits.nope | upper }}", "traits.nope"),
        ("{{ event.properties.none | upper | lower }}", "event.properties.none"),
        ("{{ traits.nope.upper() }}", "traits.nope"),
        ("{{ traits.nope + 1 }}", "traits.nope"),
        ("{{ traits.nope ~ 'x' }}", "traits.nope"),
        ("{% if traits.nope %}x{% endif %}", "traits.nope"),
        ("{% if traits.nope > 3 %}x{% endif %}", "traits.nope"),
        ("{% if 'a' in traits.nope %}x{% endif %}", "traits.nope"),
        ("{% for i in traits.nope %}x{% endfor %}", "traits.nope"),
        ("{% for i in event.properties.items %}{{ i.nope }}{% endfor %}", "i.nope"),
        ("{% if event.properties.none %}{{ event.properties.none }}{% endif %}{{ traits.x }}",
         "traits.x"),
        ("{{ traits.first_name }} {{ traits.last_name | default(traits.nick) }}",
         "traits.last_name"),
    ],
)  # fmt: skip
def test_a_missing_value_is_named(source, variable):
    assert TEMPLATES.fault(source) is None
    for html in (False, True):
        with pytest.raises(TemplateError) as raised:
            TEMPLATES.render(source, NAMES, html=html)
        assert raised.value.variable == variable
        assert variable in str(raised.value)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{{ traits", "line 1: unexpected end of template"),
        ("a\n{% if %}", "line 2"),
        ("{% include 'x' %}", "line 1: include is not offered"),
        ("{{ 1 | nope }}", "nope"),
        (r"{{ 'Hi \ud83d\ude00' }}", "line 1: half of a surrogate pair is no character"),
        (r"{{ {'\udfff': 1} | tojson }}", "half of a surrogate pair"),
        (r"{{ traits['\ud800'] }}", "half of a surrogate pair"),
        (r"{% if traits.x == '\ud800' %}{% endif %}", "half of a surrogate pair"),
        (r"{{ traits.x | default('\ud800') | replace('a', b='\ud801') }}", "half of a surrogate"),
        ("{{ 1 is nope }}", "nope"),
        ("x" * 65_537, "65536 are allowed"),
    ],
)
def test_faults_are_told_at_definition(source, fault):
    told = TEMPLATES.fault(source)
    assert told is not None
    assert fault in told
    assert "\n" not in told
    with pytest.raises(TemplateError):
        TEMPLATES.render(source, NAMES)


@pytest.mark.parametrize(
    "source",
    ["{{ traits }}", "{{ event.properties.items }}", "{{ range }}", "{{ traits.items }}",
     "{% for x in [1] %}{{ loop }}{% endfor %}", "{{ traits == event }}", "{{ 'a' * 2 }}",
     "{{ 1 / 0 }}", "{{ traits.plan() }}", "{{ 'a'.nope() }}", "{% for x in 3 %}{% endfor %}",
     "{{ 3 | length }}", "{{ 3 | first }}", "{{ 3 | date }}", "{{ now | date('%10000000d') }}",
     "{{ range('a') }}", "{{ 'x' | date }}", "{{ 'a' | replace('a') }}", "{{ 'a' - 1 }}"],
)  # fmt: skip
def test_what_has_no_meaning_is_an_error_and_never_text(source):
    for html in (False, True):
        with pytest.raises(TemplateError) as raised:
            TEMPLATES.render(source, NAMES, html=html)
        assert "\n" not in str(raised.value)


ESCAPES = [
    "{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ ''|attr('__class__') }}",
    "{{ ().__class__.__bases__[0].__subclasses__() }}", "{{ traits.__init__.__globals__ }}",
    "{{ traits['__' ~ 'class__'] }}", "{{ self }}", "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}", "{{ config }}", "{{ request.application }}",
    "{{ environment }}", "{{ context }}", "{{ cycler.__init__.__globals__.os }}", "{{ joiner() }}",
    "{{ namespace(a=1) }}", "{{ lipsum(5) }}", "{{ dict(a=1) }}", "{{ range.__call__ }}",
    "{{ '{0.__class__}'.format(1) }}", "{{ '{0.__class__}'.format_map({}) }}",
    "{{ '%s'|format(1) }}", "{{ ['a']|map('upper')|list }}",
    "{{ [1]|map(attribute='__class__')|list }}", "{{ [1]|groupby('__class__') }}",
    "{{ traits|xmlattr }}", "{{ traits.pop('plan') }}", "{{ traits.update({}) }}",
    "{{ traits.clear() }}", "{{ event.properties.items.append(1) }}",
    "{{ traits.__setitem__('a', 1) }}", "{% set traits.plan = 1 %}", "{% set ns = namespace() %}",
    "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}",
    "{% block a %}{% endblock %}", "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% call a() %}{% endcall %}", "{% filter upper %}x{% endfilter %}", "{% set a %}x{% endset %}",
    "{% with a = 1 %}{% endwith %}", "{% autoescape false %}{% endautoescape %}",
    "{{ '<b>'|safe }}", "{{ _a }}", "{{ loop.__class__ }}", "{{ range(*[1]) }}",
    "{{ range(**{}) }}", "{{ 'a'.encode() }}", "{{ now.strftime('%d') }}",
    "{{ now.replace(year=1) }}", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ (1).bit_length() }}", "{{ traits.items.__self__ }}", "{{ traits.items.func }}",
    "{{ range.start }}", "{% for x in [1] %}{{ loop._iterable }}{% endfor %}",
    "{% set a, b = 1, 2 %}", "{% do 1 %}", "{% for x in [1] %}{% break %}{% endfor %}",
    "{{ traits|list }}", "{{ super() }}", "{{ caller() }}", "{{ gettext('x') }}", "{{ x.y.z() }}",
    "{{ (traits.get)('plan') ~ [] }}",
]  # fmt: skip


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_gets_out_of_a_template(source):
    before = repr(NAMES)
    for html in (False, True):
        with pytest.raises(TemplateError):
            TEMPLATES.render(source, NAMES, html=html)
    assert repr(NAMES) == before


BOMBS = [
    "{{ 'a' * 10**9 }}", "{{ 'a' * 1000000000 }}", "{{ [1] * 1000000000 }}", "{{ 10 ** 10000000 }}",
    "{{ 2 ** 2 ** 100 }}", "{{ 'a'|center(1000000000) }}", "{{ 'a'.center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}", "{{ 'a'.zfill(1000000000) }}", "{{ '%1000000000d'|format(1) }}",
    "{{ '%1000000000d' % 1 }}", "{{ '{:>1000000000}'.format(1) }}",
    "{{ 'a\\nb'|indent(1000000000) }}", "{{ 'a'|wordwrap(1) }}", "{{ lipsum(n=100000) }}",
    "{{ range(1000000000)|length }}", "{{ '\\t'.expandtabs(1000000000) }}",
    "{{ 1|round(1000000000) }}|" * 5 + "{{ nope }}",
    "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(10000) if a > 10000 and a > 10000 %}{% endfor %}" * 20,
    "{% for a in range(10000) %}" + "{% if a %}{% endif %}" * 200 + "{% endfor %}",
    "{% for a in range(9999) %}{{ traits.big }}{% endfor %}",
    "{% for a in range(9999) %}{{ traits.big | upper | length }}{% endfor %}",
    "{% for a in range(9999) %}{{ 'a' in traits.big ~ traits.big }}{% endfor %}",
    "{% for a in range(9999) %}{{ traits.big[1:] | length }}{% endfor %}",
    "{% for a in range(9999) %}{{ traits.big.split('x') | length }}{% endfor %}",
    "{% for a in range(9999) %}{% for b in traits.big %}{% endfor %}{% endfor %}",
    "{{ traits.big | replace('', traits.big) }}", "{{ traits.big | replace('x', traits.big) }}",
    "{{ traits.big.replace('x', 'yy' ~ traits.big) }}",
    "{{ traits.big.split('x') | join(traits.big) }}",
    "{{ [traits.big, traits.big, traits.big, traits.big] | join(traits.big) | join(traits.big) }}",
    "{{ " + " ~ ".join(["traits.big"] * 40) + " }}",
    "{{ traits.big }}" * 40, "{{ traits.big }}" * 1500,
    "{{ " + "+".join(["traits.big"] * 40) + " }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x | tojson }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x == x }}",
    "{% set x = {'a': 1} %}" + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x }}",
    "{% set x = 'aaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
    "{% set x = 'aaaaaaaa' %}" + "{% set x = x + x %}" * 40 + "{{ x }}",
    "{% set x = 'a' %}" + "{% set x = x | replace('a', 'aaaaaaaaaa') %}" * 40 + "{{ x }}",
    "{% set x = 9 %}" + "{% set x = x * x %}" * 40 + "{{ x }}", "{{ " + "9" * 5000 + " }}",
    "{{ " + "9" * 4000 + " * 9 }}", "{{ '" + "9" * 60000 + "' | int | nope }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{{ " + "-" * 5000 + "1 }}", "{{ " + "not " * 5000 + "1 }}", "{{ a" + ".a" * 5000 + " }}",
    "{{ " + "1+" * 5000 + "1 }}", "{{ a" + "|upper" * 5000 + " }}", "{{ a" + "[0]" * 4000 + " }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500, "{% for a in b %}" * 100 + "{% endfor %}" * 100,
    "{{ a }}" * 9000, "{{" * 30000, "{%" * 30000, "{#" * 30000, "{{ '" * 15000, "{{ 1" * 10000,
    "{{ now | date('%A' * 1000) }}", "{{ now | date('" + "%A" * 1000 + "') }}",
    "{{ now | date('%1000000000Y') }}", "{{ '&' * 1000000 | escape }}",
    "{{ [traits.big]" + " | tojson" * 20 + " }}",
]  # fmt: skip


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:40])
def test_no_template_costs_much(source):
    templates = SandboxTemplates()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for html in (False, True):
        begun = process_time()
        with pytest.raises(TemplateError) as raised:
            templates.render(source, NAMES, html=html)
        assert "TypeError" not in str(raised.value)
        # A tenth of a second on a machine of its own; up to one on a busy one.
        assert process_time() - begun < 1
    # Kilobytes; the largest sources take a few megabytes to parse.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000


def test_work_spent_by_one_rendering_is_not_missing_to_the_next():
    templates = SandboxTemplates()
    source = "{% for a in range(9999) %}{{ 1 }}{% endfor %}{{ traits.plan }}"
    assert {templates.render(source, NAMES) for _ in range(20)} == {"1" * 9999 + "pro"}
    with pytest.raises(TemplateError):
        templates.render(BOMBS[18], NAMES)
    assert templates.render(source, NAMES).endswith("pro")


PIECES = st.sampled_from(
    ["text <b> ", "{{ a }}", "{{ a.b }}", "{{ a['c'] }}", "{{ a.b.c }}", "{{ a.items }}", "{{ b }}",
     "{{ a | upper }}", "{{ a.b | default('d') }}", "{{ a.b.c | default('<') | lower }}",
     "{{ b | default(a) }}", "{{ a.upper | default('x') }}", "{{ b | default('', true) }}",
     "{{ b | truncate(3) }}", "{{ a.b | trim | escape }}", "{{ b | length }}", "{{ 'k' | upper }}",
     "{{ b | replace('a', '&') }}", "{{ b | fixed(1) }}", "{{ range }}", "{{ b | tojson }}",
     "{{ b | truncate(length=2, end='') }}", "{{ b | first }}", "{{ a.b | int }}"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["<a>", " aB ", datetime(2026, 1, 1, tzinfo=UTC)]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["b", "c", "items", "upper"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def outcome(render, *arguments, **named):
    try:
        return render(*arguments, **named)
    except TemplateError as error:
        return (str(error), error.variable)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(PIECES, min_size=1, max_size=4).map("".join),
    st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2),
    st.booleans(),
)
def test_the_fast_path_says_what_jinja_says(source, names, html):
    compiled = TEMPLATES._compiled[html](source)
    fast = outcome(TEMPLATES.render, source, names, html=html)
    TEMPLATES._budget.left = renderer.WORK
    assert fast == outcome(renderer._render, compiled, names)


def test_plain_templates_take_the_fast_path():
    for source in ("{{ a.b }}", "{{ a.b | upper }}", "x {{ a.c | default('d') | title }}"):
        parts = TEMPLATES._compiled[False](source).parts
        assert parts is not None
        assert render_parts(parts, {"a": {"b": "v"}}, html=False) is not None
    assert TEMPLATES._compiled[False]("{% if a %}{% endif %}").parts is None


def test_compiled_templates_are_forgotten_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(renderer, "CACHED_CHARS", 1000)
    templates = SandboxTemplates()
    for number in range(100):
        assert templates.render(f"{'x' * 100}{number}", {}).endswith(str(number))
    assert len(templates._compiled[False]._known) < 10
    assert templates.render("x" * 2000, {}) == "x" * 2000
    assert len(templates._compiled[False]._known) == 0
