"""Steps that the conditions and templates of a workflow name: they should be there."""

from upshotd.adapters.cel import CelConditions
from upshotd.adapters.templates import SandboxTemplates
from upshotd.adapters.zones import zone
from upshotd.domain.event import EventType
from upshotd.domain.message import Channel, Email, Sms
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import EventGoal, Experiment, Optimize, Variant
from upshotd.domain.steps.send import Send
from upshotd.domain.template import Template
from upshotd.domain.template_validation import steps_named
from upshotd.domain.validation import validate
from upshotd.domain.workflow import Step, Trigger, Workflow

LANGUAGES = (CelConditions(), SandboxTemplates(MESSAGE_ROOTS), zone)


def warned(*steps: Step, condition: str = "") -> list[tuple[str, str]]:
    workflow = Workflow("w", Trigger(EventType.TRACK, "Go", condition), steps)
    found = validate(workflow, *LANGUAGES)
    assert found.violations == ()
    return [(w.field.removeprefix("workflow.steps"), w.description) for w in found.warnings]


def test_one_that_is_not_there_is_warned_of_wherever_it_is_named() -> None:
    words = Email("{{ steps.mial.sent }}", "<p>{{ steps.mail.sent }} {{ steps.no }}</p>")
    mail = Step("mail", Send(Channel.EMAIL, (words,)))
    late = Step("late", Exit("LATE"), condition="steps.mail.sent && steps.maill.opened")
    assert warned(mail, late) == [
        ("[0].send.email.subject", "names steps.mial, and there is no step 'mial'"),
        ("[0].send.email.html", "names steps.no, and there is no step 'no'"),
        ("[1].condition", "names steps.maill, and there is no step 'maill'"),
    ]


def test_one_that_stands_inside_of_another_is_there() -> None:
    told = Step("told", Emit("Told", {"how": "{{ steps.inner.sent | default('') }}"}))
    inner = Step("inner", Send(Channel.EMAIL, (Email("Hi", text="Hi"),)))
    around = Step("around", Branch((Case("has(steps.inner.sent)", (inner,)),)))
    assert warned(around, told) == []


def test_before_and_beside_a_run_no_step_is_at_hand() -> None:
    goal = EventGoal("Paid", "steps.end.sent && event.properties.total > 1")
    variants = (Variant("a", (Step("a", Exit()),)), Variant("b", ()))
    trying = Step("try", Experiment(variants, optimize=Optimize(goal, 1)))
    end = Step("end", Exit())
    text = "names steps, which are not at hand here: it cannot be evaluated"
    assert warned(trying, end, condition="has(steps.end.sent)") == [
        ("workflow.trigger.condition", text),
        ("[0].experiment.optimize.goal.event.condition", text),
    ]


def test_those_that_a_template_names_are_found_in_every_variant() -> None:
    mail = Email("{{ steps.a.sent }}", "<p>{{ steps.b.sent }} {{ traits.steps.no }}</p>")
    template = Template("words", {"": (mail, Sms("{{ run.id }}")), "de": (Sms("{{ steps.c.x }}"),)})
    assert steps_named(template, SandboxTemplates(MESSAGE_ROOTS)) == {"a", "b", "c"}
    assert steps_named(Template("bare", {}), SandboxTemplates(MESSAGE_ROOTS)) == frozenset()
