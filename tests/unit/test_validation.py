"""Every fault of a workflow is told at once, by the path a person finds it at."""

import pytest

from tests.languages import BAD, Languages
from upshotd.adapters.zones import zone
from upshotd.domain.event import EventType
from upshotd.domain.findings import SPAN_MAX_US
from upshotd.domain.message import (
    Attachment,
    Channel,
    Chat,
    Content,
    Email,
    Inbox,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.schedule import Schedule
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import WAIT_MAX_US, Delay
from upshotd.domain.steps.digest import Digest, Keep
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import EngagementWait, EventWait, Wait
from upshotd.domain.validation import CEL_WORDS, Faults, validate
from upshotd.domain.values import replace
from upshotd.domain.workflow import (
    DAY_US,
    ExitRule,
    Reentry,
    ReentryMode,
    Step,
    StepKind,
    Trigger,
    Workflow,
)

OPENED, CLICKED = EngagementKind.OPENED, EngagementKind.CLICKED
ACCEPTED, NO_KIND = EngagementKind.ACCEPTED, EngagementKind.UNSPECIFIED
ALL = Method.ALL


def nested_route(depth: int) -> Route:
    """A route inside of a route ..., with one channel at the bottom."""
    route = Route(ALL, (Channel.SMS,))
    return route if depth == 1 else Route(ALL, (nested_route(depth - 1),))


def email(step_id: str = "mail", content: Content | None = None) -> Step:
    return Step(step_id, Send(Channel.EMAIL, (content or Email("Hello", text="..."),)))


def wait_for(*conditions: EngagementWait | EventWait, **more: object) -> Wait:
    some = conditions or (EngagementWait("mail", (OPENED,)),)
    return replace(Wait(some, DAY_US, any_of=len(some) > 1), **more)  # type: ignore[arg-type]


def flow(*steps: Step | StepKind) -> Workflow:
    """Return a workflow of steps; a bare kind becomes the step `it`."""
    placed = tuple(s if isinstance(s, Step) else Step("it", s) for s in steps)
    return Workflow("welcome", Trigger(EventType.TRACK, "Signed Up"), placed)


def check(workflow: Workflow) -> Faults:
    return validate(workflow, Languages(), Languages(), zone)


def paths(workflow: Workflow) -> list[str]:
    return [violation.field for violation in check(workflow).violations]


def warned(workflow: Workflow) -> list[str]:
    faults = check(workflow)
    assert not faults.violations
    return [violation.field for violation in faults.warnings]


def test_a_sound_workflow_has_no_faults() -> None:
    nudge = Step("nudge", Send(Channel.SMS, (Sms("Have a look"),)))
    asked = wait_for(
        EngagementWait("mail", (OPENED, CLICKED)),
        EventWait("Feature Used", "event.properties.n > 1"),
        on_match=(Step("thanks", Emit("Feature Explained", {"n": 1, "who": ["{{ x }}", None]})),),
        on_timeout=(
            nudge,
            Step("answered", wait_for(EngagementWait("nudge", (CLICKED,)))),
            Step("mute", Suppress(Channel.EMAIL, duration_us=DAY_US)),
            Step("mute_topic", Suppress(topic="news")),
            Step("more", Enroll("win-back")),
        ),
        on_undeliverable=(Step("stop", Exit("NO_MAIL")),),
    )
    branch = Branch(
        (Case("traits.plan == 'pro'", (Step("hook", Delay(0)),)),), (Step("e", Exit()),)
    )
    workflow = replace(
        flow(
            email(),
            Step("asked", asked, "has(traits.name)"),
            Step("choice", branch),
            Step("tomorrow", Delay(until="text")),
            Step("then", Delay(until_us=0)),
            Step("tell", Send(Channel.WEBHOOK, (Webhook("{}"),))),
        ),
        display_name="Welcome",
        topic="onboarding",
        labels={"team": "growth"},
        reentry=Reentry(ReentryMode.ALWAYS, key="text", cooldown_us=DAY_US),
        exits=(ExitRule("Deleted"), ExitRule("Feature Used", "event.properties.all")),
        cancellation_key="text",
    )
    assert check(workflow) == Faults()
    assert check(replace(workflow, trigger=Trigger(None))) == Faults()


def test_five_faults_are_told_in_one_answer() -> None:
    faulty = Workflow(
        "Welcome!",
        Trigger(EventType.TRACK, ""),
        (
            email(content=Email("", html="<p>")),
            Step(
                "asked",
                Wait(
                    (EngagementWait("male", (OPENED,)),),
                    0,
                    on_timeout=(Step("nudge", Send(Channel.SMS, (Email("Hi", text=BAD),))),),
                ),
            ),
        ),
        exits=(ExitRule("Gone", BAD),),
    )
    assert paths(faulty) == [
        "workflow.workflow_id",
        "workflow.trigger.track.event",
        "workflow.steps[0].send.email.subject",
        "workflow.steps[1].wait.timeout",
        "workflow.steps[1].wait.engagement.step_id",
        "workflow.steps[1].wait.on_timeout[0].send.email.text",
        "workflow.steps[1].wait.on_timeout[0].send.channel",
        "workflow.exits[0].condition",
    ]
    assert all(violation.description for violation in check(faulty).violations)


BASE = flow(email())


def mail_with(*files: Attachment) -> Send:
    return Send(Channel.EMAIL, (Email("a", "x", attachments=files),))


def timed(schedule: Schedule) -> Trigger:
    return Trigger(EventType.SCHEDULED, schedule=schedule)


@pytest.mark.parametrize(
    ("workflow", "path"),
    [
        (replace(BASE, workflow_id=""), "workflow_id"),
        (replace(BASE, workflow_id="-a"), "workflow_id"),
        (replace(BASE, workflow_id="a" * 64), "workflow_id"),
        (replace(BASE, workflow_id="welcome\n"), "workflow_id"),
        (replace(BASE, display_name="x" * 256), "display_name"),
        (replace(BASE, topic="On Boarding"), "topic"),
        (replace(BASE, labels={str(n): "" for n in range(65)}), "labels"),
        (replace(BASE, labels={"": "x"}), "labels"),
        (replace(BASE, labels={"x" * 64: "x"}), "labels"),
        (replace(BASE, labels={"x": "x" * 256}), "labels"),
        (replace(BASE, cancellation_key=BAD), "cancellation_key"),
        (replace(BASE, trigger=Trigger(EventType.TRACK, "x" * 256)), "trigger.track.event"),
        (replace(BASE, trigger=Trigger(None, condition="text")), "trigger.condition"),
        (replace(BASE, trigger=Trigger(None, max_age_us=0)), "trigger.max_age"),
        (replace(BASE, trigger=timed(Schedule("9 * *"))), "trigger.schedule.cron"),
        (replace(BASE, trigger=timed(Schedule("0 9 30 2 *"))), "trigger.schedule.cron"),
        (replace(BASE, trigger=timed(Schedule("0 9 * * *", "Mars"))), "trigger.schedule.time_zone"),
        (replace(BASE, trigger=Trigger(None, max_age_us=SPAN_MAX_US + 1)), "trigger.max_age"),
        (replace(BASE, reentry=Reentry(key=BAD)), "reentry.key"),
        (replace(BASE, reentry=Reentry(cooldown_us=-1)), "reentry.cooldown"),
        (replace(BASE, exits=(ExitRule(""),)), "exits[0].track.event"),
        (replace(BASE, exits=(ExitRule("x"),) * 21), "exits"),
        (replace(BASE, steps=()), "steps"),
    ],
)
def test_a_fault_around_the_steps(workflow: Workflow, path: str) -> None:
    assert paths(workflow) == [f"workflow.{path}"]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Send(Channel.UNSPECIFIED, (Sms("x"),)), "send.channel"),
        (Send(Channel.EMAIL, (Webhook("x"),)), "send.channel"),
        (Send(Channel.EMAIL, ()), "send.email"),
        (Send(Channel.EMAIL, (Email("a", text="x"), Sms("x"))), "send.sms"),
        (Send(Route(ALL, (Channel.SMS, Channel.SMS)), (Sms("x"),)), "send.route"),
        (Send(nested_route(4), (Sms("x"),)), "send.route.routes[0].routes[0].routes[0]"),
        (Send(Channel.SMS, (Sms("x"),), max_lateness_us=0), "send.max_lateness"),
        (Send(Channel.EMAIL, (Email("a", "x", mjml="x"),)), "send.email.mjml"),
        (Send(Channel.EMAIL, (Email("a", "x", headers={"To": "b"}),)), "send.email.headers.To"),
        (mail_with(Attachment("")), "send.email.attachments[0].url"),
        (mail_with(Attachment(BAD)), "send.email.attachments[0].url"),
        (mail_with(Attachment("u", BAD)), "send.email.attachments[0].filename"),
        (mail_with(*[Attachment("u")] * 11), "send.email.attachments"),
        (Send(Channel.EMAIL, (Email("a", "x", utm={"x": "b"}),)), "send.email.utm.x"),
        (Send(Channel.PUSH, (Push(""),)), "send.push.title"),
        (Send(Channel.PUSH, (Push("a", data={"b": BAD}),)), "send.push.data.b"),
        (Send(Channel.CHAT, (Chat(BAD),)), "send.chat.body"),
        (Send(Channel.INBOX, (Inbox("a", action_url=BAD),)), "send.inbox.action_url"),
        (UpdateProfile({}), "update_profile.traits"),
        (UpdateProfile({"plan": BAD}), "update_profile.traits.plan"),
        (Send(Channel.EMAIL, (Email("a\r\nBcc: b", text="x"),)), "send.email.subject"),
        (Send(Channel.EMAIL, (Email(BAD, text="x"),)), "send.email.subject"),
        (Send(Channel.EMAIL, (Email("a"),)), "send.email"),
        (Send(Channel.EMAIL, (Email("a", html=BAD),)), "send.email.html"),
        (Send(Channel.SMS, (Sms(""),)), "send.sms.body"),
        (Send(Channel.WEBHOOK, (Webhook(BAD),)), "send.webhook.body"),
        (Delay(), "delay.moment"),
        (Delay(1, spread_us=1), "delay.moment"),
        (Delay(spread_us=0), "delay.spread"),
        (Delay(spread_us=401 * DAY_US), "delay.spread"),
        (Delay(1, 2), "delay.moment"),
        (Delay(-1), "delay.duration"),
        (Delay(WAIT_MAX_US + 1), "delay.duration"),
        (Delay(until=BAD), "delay.until.expression"),
        (Wait((), DAY_US), "wait.condition"),
        (Wait((EventWait("a"), EventWait("b")), DAY_US), "wait.condition"),
        (Wait((EventWait("a"),), DAY_US, any_of=True), "wait.any_of.conditions"),
        (wait_for(*[EventWait("a")] * 11), "wait.any_of.conditions"),
        (wait_for(timeout_us=WAIT_MAX_US + 1), "wait.timeout"),
        (wait_for(EngagementWait("", (OPENED,))), "wait.engagement.step_id"),
        (wait_for(EngagementWait("it", (OPENED,))), "wait.engagement.step_id"),
        (wait_for(EngagementWait("pause", (OPENED,))), "wait.engagement.step_id"),
        (wait_for(EngagementWait("mail", ())), "wait.engagement.kinds"),
        (wait_for(EngagementWait("mail", (OPENED, OPENED))), "wait.engagement.kinds[1]"),
        (wait_for(EngagementWait("mail", (ACCEPTED,))), "wait.engagement.kinds[0]"),
        (wait_for(EngagementWait("mail", (NO_KIND,))), "wait.engagement.kinds[0]"),
        (wait_for(EventWait("")), "wait.event.event"),
        (wait_for(EventWait("a", BAD)), "wait.event.condition"),
        (
            wait_for(EventWait("a"), EngagementWait("x", (OPENED,))),
            "wait.any_of.conditions[1].engagement.step_id",
        ),
        (wait_for(EventWait("a"), EventWait("")), "wait.any_of.conditions[1].event.event"),
        (Branch(()), "branch.cases"),
        (Branch((Case("x"),) * 51), "branch.cases"),
        (Branch((Case(""),)), "branch.cases[0].condition"),
        (Branch((Case("x"), Case(BAD))), "branch.cases[1].condition"),
        (Branch((Case("x", (Step("in", Exit()),)),)), "branch.cases[0].steps[0].step_id"),
        (Branch((Case("x"),), (Step("a", Exit(), BAD),)), "branch.otherwise[0].condition"),
        (Throttle(0, 1), "throttle.max"),
        (Throttle(1001, 1), "throttle.max"),
        (Throttle(1, 0), "throttle.period"),
        (Throttle(1, WAIT_MAX_US + 1), "throttle.period"),
        (Throttle(1, 1, BAD), "throttle.key"),
        (Throttle(1, 1, "", (Step("inner", Exit("no")),)), "throttle.on_throttled[0].exit.reason"),
        (Digest(), "digest.window"),
        (Digest(0), "digest.window"),
        (Digest(1, WAIT_MAX_US + 1), "digest.max_window"),
        (Digest(1, key=BAD), "digest.key"),
        (Digest(1, max_items=0), "digest.max_items"),
        (Digest(1, max_items=501), "digest.max_items"),
        (Digest(1, keep_count=101), "digest.keep.count"),
        (Digest(1, keep=Keep.HIGHEST), "digest.keep.by"),
        (Digest(1, keep=Keep.LAST, by="event.properties.n"), "digest.keep.by"),
        (Digest(1, keep=Keep.LOWEST, by=BAD), "digest.keep.by"),
        (Emit(""), "emit.event"),
        (Emit("Message Sent"), "emit.event"),
        (Emit("upshot thing"), "emit.event"),
        (Emit("a", {"b": {"c": [1, BAD]}}), "emit.properties.b.c[1]"),
        (Emit("a", {"b": ["x"] * 201}), "emit.properties"),
        (Enroll("Not a name"), "enroll.workflow_id"),
        (Enroll(""), "enroll.workflow_id"),
        (Suppress(), "suppress.scope"),
        (Suppress(Channel.SMS, "news"), "suppress.scope"),
        (Suppress(topic="No Topic"), "suppress.topic"),
        (Suppress(Channel.SMS, duration_us=0), "suppress.duration"),
        (Exit("done"), "exit.reason"),
    ],
)
def test_a_fault_of_a_step(kind: StepKind, path: str) -> None:
    pause = Step("pause", Delay(0))
    found = paths(flow(email(), pause, kind))
    assert found == [f"workflow.steps[2].{path}"]


def test_html_is_compiled_as_html() -> None:
    (violation,) = check(flow(email(content=Email("a", html=BAD)))).violations
    assert violation.description == "html does not compile"


@pytest.mark.parametrize("step_id", ["", "A", "1a", "a-b", "a" * 64, *sorted(CEL_WORDS)])
def test_a_step_id_that_conditions_cannot_name(step_id: str) -> None:
    assert paths(flow(email(step_id))) == ["workflow.steps[0].step_id"]


def test_what_is_not_given_is_called_missing() -> None:
    pause = replace(wait_for(EventWait("Paid")), timeout_us=0)
    workflow = replace(flow(email(""), pause), workflow_id="")
    assert [(f.field, f.description.partition(";")[0]) for f in check(workflow).violations] == [
        ("workflow.workflow_id", "is missing"),
        ("workflow.steps[0].step_id", "is missing"),
        ("workflow.steps[1].wait.timeout", "is missing or 0"),
    ]


def test_a_step_id_is_unique_in_the_whole_tree() -> None:
    inner = Branch((Case("x", (email("mail"),)),))
    faults = check(flow(email("mail"), inner))
    (violation,) = faults.violations
    assert violation.field == "workflow.steps[1].branch.cases[0].steps[0].step_id"
    assert "workflow.steps[0]" in violation.description


def test_a_wait_looks_back_along_its_own_path_only() -> None:
    """A message of a sibling list, or of a later step, is never there when the wait begins."""
    opened = Step("opened", wait_for())
    siblings = Branch((Case("x", (email(),)), Case("y", (opened,))))
    path = "workflow.steps[0].branch.cases[1].steps[0].wait.engagement.step_id"
    assert paths(flow(siblings)) == [path]
    assert paths(flow(opened, email())) == ["workflow.steps[0].wait.engagement.step_id"]
    inside = Step("opened", wait_for(on_match=(email(),)))
    assert paths(flow(inside)) == ["workflow.steps[0].wait.engagement.step_id"]


def test_a_wait_may_look_back_into_a_branch_and_out_of_one() -> None:
    branch = Step("b", Branch((Case("x", (email(),)),)))
    assert paths(flow(branch, Step("opened", wait_for()))) == []
    out_of = Step("b", Branch((Case("x", (Step("opened", wait_for()),)),)))
    assert paths(flow(email(), out_of)) == []
    same = Step("b", Branch((Case("x", (email(), Step("opened", wait_for()))),)))
    assert paths(flow(same)) == []


def test_a_wait_after_a_throttle_is_not_of_those_that_did_not_pass() -> None:
    limit = Throttle(1, DAY_US, "", (email(), Step("within", wait_for())))
    assert paths(flow(limit)) == []
    after = Step("opened", wait_for())
    assert paths(flow(limit, after)) == ["workflow.steps[1].wait.engagement.step_id"]


def nest(depth: int) -> Step:
    step = email()
    for level in range(depth - 1):
        step = Step(f"s{level}", Branch((Case("x", (step,)),)))
    return step


def test_steps_nest_ten_deep() -> None:
    assert paths(flow(nest(10))) == []
    (path,) = paths(flow(nest(11)))
    assert path == "workflow.steps" + "[0].branch.cases[0].steps" * 10
    assert paths(flow(nest(13))) == [path]


def test_two_hundred_steps_with_those_nested_in_them() -> None:
    many = tuple(Step(f"s{n}", Delay(0)) for n in range(199))
    inner = Step("last", Branch((Case("x", (email(),)),)))
    assert paths(flow(*many, email())) == []
    assert paths(flow(*many, inner)) == ["workflow.steps"]


def test_what_is_legal_and_probably_not_meant() -> None:
    text = Step("sms", Send(Channel.SMS, (Sms("x"),)))
    opens = wait_for(EngagementWait("sms", (CLICKED, OPENED)))
    assert warned(flow(text, opens)) == ["workflow.steps[1].wait.engagement.kinds[1]"]
    assert warned(flow(Step("end", Exit()), email())) == ["workflow.steps[1]"]
    assert warned(flow(Step("end", Exit(), "x"), email())) == []
    assert warned(flow(Enroll("welcome"))) == ["workflow.steps[0].enroll.workflow_id"]
    unused = wait_for(EventWait("Used"), on_undeliverable=(email(),))
    assert warned(flow(unused)) == ["workflow.steps[0].wait.on_undeliverable"]
    gone = replace(flow(wait_for(EventWait("Gone"))), exits=(ExitRule("Gone"),))
    assert warned(gone) == ["workflow.steps[0].wait.event.event"]
    lone = replace(flow(Digest(DAY_US)), reentry=Reentry(ReentryMode.ONCE_ACTIVE))
    assert warned(lone) == ["workflow.reentry.mode"]
    assert warned(replace(lone, reentry=Reentry(ReentryMode.ALWAYS))) == []
    assert warned(replace(lone, reentry=Reentry(key="event.id"))) == []
    long = replace(flow(Digest(2, 1)), reentry=Reentry(ReentryMode.ALWAYS))
    assert warned(long) == ["workflow.steps[0].digest.window"]
    key = replace(BASE, reentry=Reentry(ReentryMode.ALWAYS, key="x"))
    assert warned(key) == ["workflow.reentry.key"]
