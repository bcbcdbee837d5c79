"""What an approve step may not say, by path, and what is legal and probably not meant."""

import pytest

from tests.languages import BAD, Languages
from upshotd.adapters.zones import zone
from upshotd.domain.event import EventType
from upshotd.domain.message import Channel, Chat, Content, Email, Inbox, Sms, Webhook
from upshotd.domain.outcome import ABOUT_APPROVALS, EngagementKind
from upshotd.domain.reading import parts_read
from upshotd.domain.routing import Method, Route
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import EngagementGoal, Experiment, Optimize, Variant
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.wait import EngagementWait, Wait
from upshotd.domain.validation import Faults, validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step, StepKind, Trigger, Workflow, audiences, sends

HOUR = 3_600_000_000
DAY = 24 * HOUR
URL = "https://a.example"
LINK = "{{ links.review }}"
REQUEST = Send(Channel.SMS, (Sms(f"Hi {{{{ reviewer.name }}}}: {LINK}"),))
SOMEBODY = ReviewerLevel(audience_id="finance")
FIRST = replace(SOMEBODY, escalate_us=HOUR)
SOUND = Approve((SOMEBODY,), REQUEST, "Pay {{ event.properties.amount }}?", DAY)


def flow(*kinds: StepKind) -> Workflow:
    steps = tuple(Step(f"it{index}", kind) for index, kind in enumerate(kinds))
    return Workflow("w", Trigger(EventType.TRACK, "Go"), steps)


def found(*kinds: StepKind) -> Faults:
    return validate(flow(*kinds), Languages(), Languages(), zone)


def faults(approve: Approve) -> list[str]:
    path = "workflow.steps[0].approve."
    return [fault.field.removeprefix(path) for fault in found(approve).violations]


def warned(approve: Approve) -> list[str]:
    both = found(approve)
    assert both.violations == ()
    return [v.field.removeprefix("workflow.steps[0].approve.") for v in both.warnings]


def levels(*given: ReviewerLevel) -> Approve:
    return replace(SOUND, levels=given)


def users(*user_ids: str) -> Approve:
    return levels(ReviewerLevel(user_ids=user_ids))


def asked_by(*contents: Content, channel: Channel = Channel.EMAIL) -> Approve:
    return replace(SOUND, request=Send(channel, contents))


def told(*, notice: Send) -> Approve:
    return replace(SOUND, notice=notice)


@pytest.mark.parametrize(
    ("approve", "path"),
    [
        (levels(), "levels"),
        (levels(*[FIRST] * 5, SOMEBODY), "levels"),
        (levels(ReviewerLevel()), "levels[0].reviewers"),
        (levels(ReviewerLevel("finance", "acme")), "levels[0].reviewers"),
        (levels(ReviewerLevel("finance", user_ids=("u",))), "levels[0].reviewers"),
        (levels(ReviewerLevel("Not A Name")), "levels[0].audience_id"),
        (levels(ReviewerLevel(group_id=BAD)), "levels[0].group_id"),
        (levels(ReviewerLevel(group_id="{{ reviewer.id }}")), "levels[0].group_id"),
        (users(*["u"] * 26), "levels[0].users.user_ids"),
        (users("u", ""), "levels[0].users.user_ids[1]"),
        (users("u", BAD), "levels[0].users.user_ids[1]"),
        (levels(SOMEBODY, SOMEBODY), "levels[0].escalate_after"),
        (levels(replace(FIRST, escalate_us=0), SOMEBODY), "levels[0].escalate_after"),
        (levels(replace(FIRST, escalate_us=401 * DAY), SOMEBODY), "levels[0].escalate_after"),
        (levels(replace(FIRST, escalate_us=-1)), "levels[0].escalate_after"),
        (asked_by(Email("", text=LINK)), "request.email.subject"),
        (asked_by(Email("a", html=BAD)), "request.email.html"),
        (asked_by(Email("a", text=LINK), channel=Channel.SMS), "request.channel"),
        (replace(SOUND, request=replace(REQUEST, max_lateness_us=HOUR)), "request.max_lateness"),
        (replace(SOUND, request=replace(REQUEST, max_lateness_us=0)), "request.max_lateness"),
        (replace(SOUND, answer=Send(Channel.SMS, ())), "answer.sms"),
        (replace(SOUND, answer=replace(REQUEST, max_lateness_us=HOUR)), "answer.max_lateness"),
        (told(notice=Send(Channel.CHAT, (Chat(""),))), "notice.chat.body"),
        (told(notice=replace(REQUEST, max_lateness_us=HOUR)), "notice.max_lateness"),
        (told(notice=Send(Channel.SMS, (), template_id="No Name")), "notice.template_id"),
        (replace(SOUND, summary=""), "summary"),
        (replace(SOUND, summary=BAD), "summary"),
        (replace(SOUND, summary="{{ approval.kind }}"), "summary"),
        (replace(SOUND, context=FetchStep("")), "context.url"),
        (replace(SOUND, context=FetchStep(URL, timeout_us=0)), "context.timeout"),
        (replace(SOUND, context=FetchStep(URL, headers={"x": BAD})), "context.headers.x"),
        (replace(SOUND, context=FetchStep("https://a.example/{{ reviewer.id }}")), "context.url"),
        (replace(SOUND, reminders_us=(1, 2, 3, 4, 5, 6)), "reminders"),
        (replace(SOUND, reminders_us=(0,)), "reminders[0]"),
        (replace(SOUND, reminders_us=(HOUR, HOUR)), "reminders[1]"),
        (replace(SOUND, reminders_us=(2 * HOUR, HOUR)), "reminders[1]"),
        (replace(SOUND, timeout_us=0), "timeout"),
        (replace(SOUND, timeout_us=401 * DAY), "timeout"),
        (
            replace(SOUND, default=ApprovalDecision.DENIED, on_timeout=(Step("no", Exit()),)),
            "on_timeout",
        ),
        (replace(SOUND, on_approved=(Step("a", Exit("no")),)), "on_approved[0].exit.reason"),
        (replace(SOUND, on_denied=(Step("a", Exit("no")),)), "on_denied[0].exit.reason"),
        (replace(SOUND, on_timeout=(Step("a", Exit("no")),)), "on_timeout[0].exit.reason"),
    ],
)
def test_each_fault_has_its_path(approve: Approve, path: str) -> None:
    assert faults(approve) == [path]


def test_an_approval_that_uses_everything_is_taken_without_a_warning() -> None:
    group = ReviewerLevel(group_id="{{ traits.team }}", escalate_us=HOUR)
    people = ReviewerLevel(user_ids=("boss", "{{ traits.manager | default('') }}"))
    route = Route(Method.SINGLE, (Channel.CHAT, Channel.EMAIL))
    whole = Approve(
        levels=(FIRST, group, people),
        request=Send(route, (Chat(f"{{{{ approval.kind }}}} {LINK}"), Email("a", text="b"))),
        summary="Pay?",
        timeout_us=DAY,
        context=FetchStep(URL),
        reminders_us=(HOUR, 2 * HOUR),
        answer=Send(Channel.INBOX, (Inbox("{{ approval.answer }}"),)),
        notice=Send(Channel.WEBHOOK, (Webhook("{{ reviewer.user_id }}"),)),
        on_approved=(Step("paid", Emit("Paid")),),
        on_denied=(Step("denied", Exit("DENIED")),),
        on_timeout=(Step("late", Exit("LATE")),),
    )
    assert found(whole) == Faults()
    default = replace(whole, on_timeout=(), default=ApprovalDecision.DENIED)
    assert found(default) == Faults()


def test_what_is_legal_and_probably_not_meant() -> None:
    assert warned(levels(FIRST)) == ["levels[0].escalate_after"]
    slow = replace(FIRST, escalate_us=12 * HOUR)
    assert warned(levels(slow, slow, SOMEBODY)) == ["levels[1].escalate_after"]
    assert warned(levels(slow, slow, slow, SOMEBODY)) == ["levels[1].escalate_after"]
    assert warned(levels(slow, replace(slow, escalate_us=HOUR), SOMEBODY)) == []
    assert warned(replace(SOUND, reminders_us=(HOUR, DAY))) == ["reminders[1]"]


def test_a_request_without_a_link_is_told_that_nobody_can_decide_from_it() -> None:
    assert warned(asked_by(Email("Pay?", text="Yes?"))) == ["request"]
    assert warned(asked_by(Webhook("{}"), channel=Channel.WEBHOOK)) == ["request"]
    assert warned(asked_by(Email("Pay?", "x", "{{ links.unsubscribe }}"))) == ["request"]
    assert warned(asked_by(Email("Pay?", "x", "{{ links.approve }}"))) == []
    assert warned(asked_by(Inbox("Pay?", action_url=LINK), channel=Channel.INBOX)) == []
    templated = Send(Channel.EMAIL, (), template_id="pay")
    assert warned(replace(SOUND, request=templated)) == []


@pytest.mark.parametrize("name", ["reviewer", "approval", "links.review", "links.deny"])
def test_what_reviewers_get_has_names_that_others_have_not(name: str) -> None:
    text = f"{{{{ {name} }}}}"
    for kind in (
        Send(Channel.SMS, (Sms(text),)),
        Emit("Told", {"a": [text]}),
        FetchStep(f"https://a.example/{text}"),
    ):
        (fault,) = found(kind).violations
        assert fault.description == f"names '{name}'; only what an approve step sends has it"
    assert found(replace(SOUND, answer=Send(Channel.SMS, (Sms(text),)))) == Faults()


@pytest.mark.parametrize("kind", sorted(ABOUT_APPROVALS))
def test_nothing_else_waits_for_what_comes_about_an_approval(kind: EngagementKind) -> None:
    waits = Wait((EngagementWait("it0", (EngagementKind.OPENED, kind)),), DAY)
    (fault,) = found(Send(Channel.EMAIL, (Email("a", text="b"),)), waits).violations
    assert fault.field == "workflow.steps[1].wait.engagement.kinds[1]"
    said = "comes about an approve step, which goes on with it itself"
    assert fault.description == f"{kind.name} {said}"
    variants = tuple(
        Variant(name, (Step(name, Send(Channel.SMS, (Sms("x"),))),)) for name in ("a", "b")
    )
    goal = Experiment(variants, optimize=Optimize(EngagementGoal((kind,)), DAY))
    (fault,) = found(goal).violations
    assert fault.field == "workflow.steps[0].experiment.optimize.goal.engagement.kinds[0]"


def test_a_wait_is_for_the_message_of_a_send_step_not_of_an_approval() -> None:
    waits = Wait((EngagementWait("it0", (EngagementKind.OPENED,)),), DAY)
    (fault,) = found(SOUND, waits).violations
    assert (fault.field, fault.description) == (
        "workflow.steps[1].wait.engagement.step_id",
        "'it0' is no send step",
    )


def test_an_experiment_knows_that_reviewers_are_not_the_person() -> None:
    variants = (
        Variant("asked", (Step("approval", SOUND),)),
        Variant("told", (Step("text", Send(Channel.SMS, (Sms("x"),))),)),
    )
    goal = EngagementGoal((EngagementKind.CLICKED,))
    both = found(Experiment(variants, optimize=Optimize(goal, DAY)))
    assert both.violations == ()
    (warning,) = both.warnings
    assert "never reached in 'asked'" in warning.description


def test_what_it_names_of_other_definitions_is_found_wherever_it_stands() -> None:
    template = Send(Channel.EMAIL, (), template_id="pay")
    people = ReviewerLevel(user_ids=("u",))
    asks = replace(SOUND, levels=(FIRST, people, SOMEBODY), answer=template, notice=REQUEST)
    inside = Branch((Case("x", (Step("inner", asks),)),))
    workflow = flow(SOUND, inside)
    at = "workflow.steps[1].branch.cases[0].steps[0].approve"
    assert list(sends(workflow.steps, "workflow.steps")) == [
        ("workflow.steps[0].approve.request", REQUEST),
        (f"{at}.request", REQUEST),
        (f"{at}.answer", template),
        (f"{at}.notice", REQUEST),
    ]
    assert list(audiences(workflow)) == [
        ("workflow.steps[0].approve.levels[0].audience_id", "finance"),
        (f"{at}.levels[0].audience_id", "finance"),
        (f"{at}.levels[2].audience_id", "finance"),
    ]


@pytest.mark.parametrize(
    "approve",
    [
        replace(SOUND, summary="{{ event.properties.x }}"),
        levels(ReviewerLevel(group_id="{{ event.properties.x }}")),
        users("{{ event.properties.x }}"),
        replace(SOUND, context=FetchStep("https://a.example/{{ event.properties.x }}")),
        replace(SOUND, context=FetchStep(URL, headers={"x": "{{ event.properties.x }}"})),
        replace(SOUND, request=Send(Channel.SMS, (Sms("{{ event.properties.x }}"),))),
        replace(SOUND, answer=Send(Channel.SMS, (Sms("{{ event.properties.x }}"),))),
        replace(SOUND, notice=Send(Channel.SMS, (Sms("{{ event.properties.x }}"),))),
    ],
)
def test_what_any_of_its_texts_reads_of_the_event_is_made(approve: Approve) -> None:
    silent = replace(SOUND, summary="Pay?")
    assert parts_read(flow(silent)) == frozenset()
    if approve.summary == SOUND.summary:
        approve = replace(approve, summary="Pay?")
    assert parts_read(flow(approve)) == {"properties"}
