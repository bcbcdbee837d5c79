"""Templates: which content somebody gets, and the layout around it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flows import delay, track
from tests.sim import Sim
from tests.strategies import texts
from tests.workflow_strategies import contents, in_order
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.grpc import template_codec
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.domain.errors import TemplateError
from upshotd.domain.message import Channel, Email, Sms
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.routing import Method, Route
from upshotd.domain.steps.send import Send
from upshotd.domain.template import Library, Template, locales
from upshotd.domain.template_validation import validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

EMAIL, SMS = Channel.EMAIL, Channel.SMS
GREETING = Template(
    "greeting",
    {
        "": (Email("Hello {{ traits.name }}", text="Hello"), Sms("Hello")),
        "pt": (Email("Olá", text="Olá"),),
        "pt-br": (Email("Oi", text="Oi"),),
    },
)


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("pt-BR", ["pt-br", "pt", ""]),
        ("pt_BR.UTF-8", ["pt-br", "pt", ""]),
        ("zh-Hant-TW", ["zh-hant-tw", "zh-hant", "zh", ""]),
        ("de", ["de", ""]),
        ("", [""]),
    ],
)
def test_a_locale_falls_back_to_its_language_and_then_to_everybodys(
    locale: str, expected: list[str]
):
    assert list(locales(locale)) == expected


@pytest.mark.parametrize(
    ("locale", "channel", "first"),
    [
        ("pt-BR", EMAIL, "Oi"),
        ("pt-PT", EMAIL, "Olá"),
        ("fr", EMAIL, "Hello {{ traits.name }}"),
        ("pt-BR", SMS, "Hello"),  # each channel falls back by itself
    ],
)
def test_each_gets_the_content_of_their_language(locale: str, channel: Channel, first: str):
    assert Library({"greeting": GREETING}).content("greeting", channel, locale)[0] == first


def test_what_is_not_there_is_told_by_name():
    library = Library({"greeting": GREETING})
    with pytest.raises(TemplateError, match="no template 'nothing'"):
        library.content("nothing", EMAIL, "")
    with pytest.raises(TemplateError, match="says nothing on PUSH"):
        library.content("greeting", Channel.PUSH, "")
    astray = Library({"a": Template("a", {"": (Email("x", "y"),)}, layout_id="gone")})
    with pytest.raises(TemplateError, match="no layout 'gone'"):
        astray.content("a", EMAIL, "")


def test_a_layout_stands_around_the_email_in_the_same_language():
    around = Email("", "<b>{{ content }}</b>", "-- {{ content }} --", reply_to="us@example.com")
    german = replace(around, html="<i>{{ content }}</i>")
    layout = Template("layout", {"": (around,), "de": (german,)})
    inner = Email("Hi", "<p>{{ traits.name }}</p>", "Hi", headers={"X-A": "1"})
    library = Library(
        {"layout": layout, "mail": Template("mail", {"": (inner,)}, layout_id="layout")}
    )
    assert library.content("mail", EMAIL, "en") == Email(
        "Hi",
        "<b><p>{{ traits.name }}</p></b>",
        "-- Hi --",
        reply_to="us@example.com",
        headers={"X-A": "1"},
    )
    found = library.content("mail", EMAIL, "de-AT")
    assert isinstance(found, Email)
    assert found.html == "<i><p>{{ traits.name }}</p></i>"


# -- sent --------------------------------------------------------------------------------------


def sending(*templates: Template, **traits: str) -> Sim:
    route = Route(Method.SINGLE, (EMAIL, SMS))
    sim = Sim([track("Go", Step("hi", Send(route, (), template_id="greeting")), delay())])
    library = Library({template.template_id: template for template in templates})
    sim.definitions = replace(sim.definitions, library=library)
    sim.identify("u", **{"email": "u@example.com", "name": "Ana", **traits})
    sim.track("u", "Go")
    return sim


def test_a_template_is_rendered_for_the_person_and_named_in_the_outcome():
    sim = sending(GREETING)
    content = sim.answer().content
    assert isinstance(content, Email)
    assert content.subject == "Hello Ana"
    assert sim.outcomes[-1].template_id == "greeting"


def test_the_locale_of_the_person_decides():
    content = sending(GREETING, locale="pt-BR").sent[0].content
    assert isinstance(content, Email)
    assert content.subject == "Oi"


def test_a_template_that_is_not_there_is_undeliverable_and_says_so():
    sim = sending()
    assert sim.messages_kinds() == ["UNDELIVERABLE EMAIL"]
    assert sim.outcomes[-1].reason == "TEMPLATE_ERROR"
    assert sim.outcomes[-1].properties == {"detail": "there is no template 'greeting'"}
    assert sim.run().step_id == "pause"


# -- defined -----------------------------------------------------------------------------------


def paths(template: Template) -> list[str]:
    faults = validate(template, CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone)
    return [fault.field for fault in faults]


def test_good_templates_have_no_fault():
    assert paths(GREETING) == []
    assert paths(Template("layout", {"": (Email("", "<b>{{ content }}</b>"),)})) == []
    # An approve step may use it.
    assert paths(Template("ask", {"": (Sms("{{ reviewer.name }}: {{ approval.summary }}"),)})) == []


@pytest.mark.parametrize(
    ("template", "path"),
    [
        (replace(GREETING, template_id="Bad Id"), "template_id"),
        (replace(GREETING, layout_id="Bad Id"), "layout_id"),
        (replace(GREETING, layout_id="greeting"), "layout_id"),
        (Template("a", {}), "variants.default"),
        (Template("a", {"": ()}), "variants.default"),
        (Template("a", {"": (Sms("a"),), "x!": (Sms("a"),)}), "variants.x!"),
        (Template("a", {"": (Sms("a"),), "de": (Sms(""),)}), "variants.de.sms.body"),
        (Template("a", {"": (Email("{{ a", text="x"),)}), "variants.default.email.subject"),
        (Template("a", {"": (Email("", text="x"),)}), "variants.default.email.subject"),
    ],
)
def test_a_fault_is_told_by_its_path(template: Template, path: str):
    assert paths(template) == [f"template.{path}"]


variants = st.dictionaries(
    st.sampled_from(["", "de", "pt-br"]),
    st.lists(contents, max_size=6, unique_by=type).map(in_order),
    max_size=3,
)
labels = st.dictionaries(texts, texts, max_size=2)


@settings(max_examples=60, deadline=None)
@given(st.builds(Template, texts, variants, st.just(0), texts, texts, labels))
def test_a_template_survives_being_stored(template: Template):
    stored = template_codec.encode_template(template)
    assert template_codec.decode_template(stored, 7) == replace(template, version=7)


def test_faults_of_form_are_told_by_their_path():
    message = template_codec.message(GREETING)
    message.variants["PT"].sms.body = "x"
    message.MergeFromString(bytes((0xBA, 0x3E, 0)))
    _, faults = template_codec.template(message)
    assert sorted(fault.field for fault in faults) == ["template", "template.variants.pt"]
