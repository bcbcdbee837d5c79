"""Workflows for tests, written as short as a file would be."""

from upshotd.domain.event import EventType
from upshotd.domain.message import Channel, Email, Sms
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.send import Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.wait import EngagementWait, EventWait, Wait
from upshotd.domain.workflow import ExitRule, Step, StepKind, Trigger, Workflow

DAY = 86_400_000_000
OPENED = (EngagementKind.OPENED, EngagementKind.CLICKED)
CLICKED = (EngagementKind.CLICKED, EngagementKind.REPLIED)


def step(step_id: str, kind: StepKind, condition: str = "") -> Step:
    return Step(step_id, kind, condition)


def email(step_id: str = "welcome", subject: str = "Hello {{ traits.first_name }}") -> Step:
    return Step(step_id, Send(Channel.EMAIL, (Email(subject, "<p>Hi</p>", "Hi"),)))


def sms(step_id: str = "nudge", body: str = "Still there?") -> Step:
    return Step(step_id, Send(Channel.SMS, (Sms(body),)))


def delay(step_id: str = "pause", duration: int = DAY) -> Step:
    return Step(step_id, Delay(duration))


def wait_engagement(
    step_id: str = "opened",
    of: str = "welcome",
    kinds: tuple[EngagementKind, ...] = OPENED,
    timeout: int = DAY,
    on_match: tuple[Step, ...] = (),
    on_timeout: tuple[Step, ...] = (),
    on_undeliverable: tuple[Step, ...] = (),
) -> Step:
    condition = EngagementWait(of, kinds)
    return Step(step_id, Wait((condition,), timeout, on_match, on_timeout, on_undeliverable))


def wait_event(
    step_id: str = "paid",
    event: str = "Paid",
    condition: str = "",
    timeout: int = DAY,
    since_run_started: bool = False,
    on_match: tuple[Step, ...] = (),
    on_timeout: tuple[Step, ...] = (),
) -> Step:
    waited = EventWait(event, condition, since_run_started)
    return Step(step_id, Wait((waited,), timeout, on_match, on_timeout))


def track(event: str, *steps: Step, workflow_id: str = "flow", **fields: object) -> Workflow:
    """A workflow that starts on a track event."""
    trigger = fields.pop("trigger", None) or Trigger(EventType.TRACK, event)
    return Workflow(workflow_id, trigger, steps, **fields)  # type: ignore[arg-type]


def feature_not_used() -> Workflow:
    """The case the system was described with."""
    return track(
        "Feature Not Used",
        email(),
        wait_engagement(
            on_timeout=(
                sms(),
                wait_engagement(
                    "answered",
                    "nudge",
                    CLICKED,
                    on_timeout=(
                        Step("mute", Suppress(Channel.EMAIL, duration_us=30 * DAY)),
                        Step("more", Enroll("win-back")),
                    ),
                ),
            )
        ),
        workflow_id="feature-not-used",
        topic="onboarding",
        exits=(ExitRule("Feature Used"),),
    )


def win_back() -> Workflow:
    """What an ignored person is enrolled in."""
    return Workflow("win-back", Trigger(None), (email("mail"), sms("text", "Come back")))
