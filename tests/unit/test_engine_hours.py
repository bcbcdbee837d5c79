"""When things happen by the clock on the wall: delays and digests until a time, quiet hours."""

from datetime import UTC, datetime, time, timedelta

import pytest

from tests.flows import email, sms, track
from tests.sim import DAY, HOUR, MINUTE, START, Sim
from upshotd.domain.definitions import Policy
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import (
    Accepted,
    Channel,
    Deferred,
    Email,
    MessageState,
    Purpose,
    Push,
    Refused,
    Sms,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.routing import Method, Route
from upshotd.domain.run import RunState
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest
from upshotd.domain.steps.send import Send
from upshotd.domain.window import Window
from upshotd.domain.workflow import Reentry, ReentryMode, Step, Trigger, Workflow

WORK = frozenset(range(5))
EVENING = Window(time(8), time(20))
#: START is a Thursday, 00:00 in UTC and 01:00 in Berlin.


def waiting(window: Window, time_zone: str = "", **traits: object) -> Sim:
    step = Step("until", Delay(window=window, time_zone=time_zone))
    sim = Sim([track("Go", step, email(subject="Now"))])
    sim.identify("u", email="u@example.com", **traits)
    sim.track("u", "Go")
    return sim


def at(sim: Sim) -> str:
    """Return when the run goes on, in UTC."""
    due_us = sim.run().due_us
    assert due_us is not None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=due_us)).isoformat()[:16]


@pytest.mark.parametrize(
    ("time_zone", "traits", "expected"),
    [
        ("", {}, "2026-01-01T09:00"),  # nobody knows better: the server's
        ("", {"timezone": "America/New_York"}, "2026-01-01T14:00"),
        ("", {"timezone": "Mars/Olympus"}, "2026-01-01T09:00"),
        ("Europe/Berlin", {"timezone": "America/New_York"}, "2026-01-01T08:00"),
    ],
)
def test_a_delay_until_a_time_is_by_the_clock_of_the_person(
    time_zone: str, traits: dict[str, object], expected: str
):
    sim = waiting(Window(time(9)), time_zone, **traits)
    assert at(sim) == expected


def test_a_delay_until_a_window_that_is_open_goes_on_at_once_and_says_so():
    sim = waiting(Window(time(0), time(6)))
    assert sim.run().step_id == "welcome"
    assert "is now: goes on at once" in sim.run().timeline[1].detail


def test_a_delay_until_working_hours_waits_over_the_weekend():
    sim = Sim([track("Go", Step("until", Delay(window=Window(time(9), time(17), WORK))), email())])
    sim.identify("u", email="u@example.com")
    sim.now = START + 2 * DAY + 12 * HOUR  # Saturday noon
    sim.track("u", "Go")
    assert at(sim) == "2026-01-05T09:00"


def test_a_digest_closes_on_schedule_in_the_persons_zone():
    step = Step("digest", Digest(schedule=Window(time(18))))
    mail = email("mail", "{{ steps.digest.count }}")
    sim = Sim([track("Go", step, mail, reentry=Reentry(ReentryMode.ALWAYS))])
    sim.identify("u", email="u@example.com", timezone="America/New_York")
    for _ in range(3):
        sim.track("u", "Go")
        sim.advance(6 * HOUR)
    # 18:00 in New York is 23:00 in UTC: all three are in it.
    assert sim.state.messages == {}
    sim.advance(5 * HOUR)
    assert [m.content.subject for m in sim.state.messages.values()] == ["3"]


# -- quiet hours ---------------------------------------------------------------------------------


def quiet(*steps: Step, purpose: Purpose = Purpose.MARKETING, **traits: object) -> Sim:
    policy = Policy(hours={Purpose.MARKETING: EVENING})
    sim = Sim([track("Go", *steps, purpose=purpose)], policy=policy)
    sim.identify("u", email="u@example.com", phone="+15550000", first_name="U", **traits)
    sim.track("u", "Go")
    return sim


def test_a_message_of_the_night_goes_out_in_the_morning():
    sim = quiet(email(), sms())
    assert (sim.sent, at(sim)) == ([], "2026-01-01T08:00")
    assert sim.whats() == ["started", "quiet"]
    sim.advance(8 * HOUR)
    assert [m.channel.name for m in sim.sent] == ["EMAIL"]
    sim.answer()
    assert [m.channel.name for m in sim.sent] == ["SMS"]


def test_it_is_the_persons_night():
    assert quiet(email(), timezone="Asia/Tokyo").sent != []  # 09:00 there
    assert at(quiet(email(), timezone="Europe/Berlin")) == "2026-01-01T07:00"


@pytest.mark.parametrize("purpose", [Purpose.TRANSACTIONAL, Purpose.PRODUCT])
def test_what_has_no_quiet_hours_goes_out_at_night(purpose: Purpose):
    assert len(quiet(email(), purpose=purpose).sent) == 1


def test_a_run_that_is_canceled_in_the_night_sends_nothing_in_the_morning():
    sim = quiet(email())
    sim.cancel(sim.run().run_id)
    sim.advance(DAY)
    assert sim.state.messages == {}


def test_consent_is_read_when_the_night_is_over():
    sim = quiet(email())
    held = Suppression(Channel.EMAIL, reason="UNSUBSCRIBED")
    sim.state.suppressions[sim.profile("u").profile_id] = {held.scope: held}
    sim.advance(DAY)
    assert sim.messages_kinds() == ["SUPPRESSED EMAIL"]


def test_another_attempt_is_not_put_off():
    """The message was due by day; its provider asked for a pause into the night."""
    policy = Policy(hours={Purpose.MARKETING: EVENING})
    sim = Sim([track("Go", email(), purpose=Purpose.MARKETING)], policy=policy)
    sim.now = START + 20 * HOUR - 1
    sim.identify("u", email="u@example.com", first_name="U")
    sim.track("u", "Go")
    sim.answer(Deferred("421"))
    sim.advance(MINUTE)
    (message,) = sim.state.messages.values()
    assert (message.state, message.attempt) == (MessageState.SENDING, 2)
    sim.answer(Accepted("p"))
    assert sim.messages_kinds() == ["SENT EMAIL"]


def test_what_was_opened_before_the_night_is_known_in_the_morning():
    wait = Step("pause", Delay(HOUR))
    policy = Policy(hours={Purpose.MARKETING: EVENING})
    second = Step("second", sms().kind, "!has(steps.welcome.opened)")
    sim = Sim([track("Go", email(), wait, second, purpose=Purpose.MARKETING)], policy=policy)
    sim.now = START + 19 * HOUR + HOUR // 2
    sim.identify("u", email="u@example.com", phone="+15550000", first_name="U")
    sim.track("u", "Go")
    message = sim.answer()
    sim.advance(HOUR)
    assert sim.run().step_id == "second"
    sim.engage(message.message_id, EngagementKind.OPENED)
    sim.advance(DAY)
    # Its condition was looked at when the step was entered, before the opening.
    assert [m.channel.name for m in sim.sent] == ["SMS"]


# -- pages and screens ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [EventType.PAGE, EventType.SCREEN])
def test_a_page_or_a_screen_starts_what_listens_to_its_name_or_to_any(kind: EventType):
    flows = [
        Workflow("pricing", Trigger(kind, "Pricing"), (email(),)),
        Workflow("any", Trigger(kind), (email(),)),
        Workflow("track", Trigger(EventType.TRACK, "Pricing"), (email(),)),
    ]
    sim = Sim(flows)
    for number, name in enumerate(("Pricing", "Home", "")):
        sim.event(Event(f"p{number}", kind, f"u{number}", name=name))
    started = [(run.event_id, run.workflow_id) for run in sim.state.runs.values()]
    assert started == [("p0", "pricing"), ("p0", "any"), ("p1", "any"), ("p2", "any")]


@pytest.mark.parametrize("method", [Method.SINGLE, Method.ALL])
def test_the_next_channel_of_a_route_waits_for_the_morning_too(method: Method):
    """The first failed at night: the second went out at once (simulation, 40240)."""
    inner = Route(Method.SINGLE, (Channel.EMAIL, Channel.SMS))
    route = inner if method is Method.SINGLE else Route(method, (inner, Channel.PUSH))
    contents = (Email("Hi", text="Hi"), Sms("Hi"), Push("Hi"))
    send = Send(route, contents[: 2 if method is Method.SINGLE else 3])
    flow = track("Go", Step("tell", send), purpose=Purpose.MARKETING)
    policy = Policy(hours={Purpose.MARKETING: EVENING})
    sim = Sim([flow], policy=policy)
    sim.identify("u", email="u@example.com", phone="+15550000")
    sim.now = START + 20 * HOUR - MINUTE
    sim.track("u", "Go")
    sim.now += 2 * MINUTE
    sim.answer(Refused("BOUNCED", "no such address"), Channel.EMAIL)
    assert not sim.sent
    assert at(sim) == "2026-01-02T08:00"
    sim.advance(13 * HOUR)
    (text,) = sim.sent
    assert text.channel is Channel.SMS
    sim.answer()
    assert sim.run().state is RunState.COMPLETED
