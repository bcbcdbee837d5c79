"""Devices that are gone: off the profile, and what becomes of the message that found it out."""

import pytest

from tests.flows import delay, track
from tests.sim import MINUTE, Sim
from upshotd.domain import devices
from upshotd.domain.definitions import Carrier
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import (
    Accepted,
    Channel,
    Deferred,
    Message,
    MessageState,
    Push,
    Refused,
    SendResult,
    Sms,
    Unknown,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.steps.wait import EngagementWait, Wait
from upshotd.domain.workflow import Reentry, ReentryMode, Step

PUSH, SMS = Channel.PUSH, Channel.SMS
GONE = Refused("DEVICE_GONE", "HTTP 404", ("phone", "tablet"))


def pushing(send: Send | None = None, *after: Step) -> Sim:
    """Return a workflow that pushes to u, who has a phone, a newer tablet and a number."""
    step = Step("tell", send or Send(PUSH, (Push("Hi", "there"),)))
    sim = Sim(
        [track("Go", step, *after, reentry=Reentry(ReentryMode.ALWAYS))],
        carriers={
            PUSH: (Carrier("fcm", idempotent=False), Carrier("spare", idempotent=False)),
            SMS: (Carrier("sms", idempotent=True),),
        },
    )
    sim.identify("u", phone="+15550001")
    for token in ("phone", "tablet"):
        own(sim, token)
    return sim


def own(sim: Sim, token: str) -> None:
    sim.track("u", "Opened", context={"device": {"token": token}})


def tokens(sim: Sim) -> list[str]:
    return sim.profile("u").contact.get("push_tokens", "").split()


def go(sim: Sim) -> Message:
    sim.track("u", "Go")
    (message,) = sim.sent
    return message


@pytest.mark.parametrize(
    "result",
    [
        Accepted("projects/p/messages/1", "1 of 2 devices", gone=("phone",)),
        Refused("INVALID_ADDRESS", "", gone=("phone",)),
        Deferred("HTTP 503", gone=("phone",)),
        Unknown("no answer", gone=("phone",)),
    ],
)
def test_a_device_that_is_gone_is_off_the_profile_whatever_became_of_the_message(
    result: SendResult,
):
    sim = pushing()
    message = go(sim)
    sim.settle(message, result)
    assert tokens(sim) == ["tablet"]
    assert ("device_gone", "1 of 2") in [(e.what, e.detail) for e in sim.run().timeline]
    own(sim, "phone")
    assert tokens(sim) == ["phone", "tablet"], "an app that says so is there again"


def test_the_timeline_tells_which_of_several_did_not_take_it():
    sim = pushing()
    sim.settle(go(sim), Accepted("m", "1 of 2 devices: HTTP 503"))
    assert sim.run().timeline[-2].detail == "fcm: 1 of 2 devices: HTTP 503"
    assert tokens(sim) == ["tablet", "phone"]


def test_a_message_without_a_device_left_is_undeliverable_and_the_next_has_no_address():
    sim = pushing()
    sim.settle(go(sim), GONE)
    assert "push_tokens" not in sim.profile("u").contact
    sim.track("u", "Go")
    told = [(o.kind.name, o.reason) for o in sim.outcomes if o.reason and o.message_id]
    assert told == [
        ("MESSAGE_UNDELIVERABLE", "DEVICE_GONE"),
        ("MESSAGE_UNROUTABLE", "NO_ADDRESS"),
    ]


def test_a_route_goes_on_to_its_next_channel():
    route = Route(Method.SINGLE, (PUSH, SMS))
    sim = pushing(Send(route, (Push("Hi", "there"), Sms("Hi"))))
    sim.settle(go(sim), GONE)
    (text,) = sim.sent
    assert text.channel is SMS
    sim.answer()
    sim.track("u", "Go")
    assert [message.channel for message in sim.sent] == [SMS]


def test_another_attempt_goes_only_to_the_devices_that_are_left():
    sim = pushing()
    sim.settle(go(sim), Deferred("HTTP 503", gone=("tablet",)))
    (message,) = sim.sent
    assert (message.provider, message.recipient, message.attempt) == ("spare", "phone", 2)
    own(sim, "watch")
    sim.settle(message, Deferred("HTTP 503"))
    sim.advance(MINUTE)
    (message,) = sim.sent
    assert message.recipient == "phone", "what came later was not asked for"


def test_another_attempt_begins_only_if_a_device_is_left():
    sim = pushing()
    first = go(sim)
    sim.track("u", "Go")
    (other,) = (m for m in sim.sent if m.message_id != first.message_id)
    sim.settle(first, GONE)
    sim.settle(other, Deferred("HTTP 503"))
    found = sim.state.messages[other.message_id]
    assert (found.state, found.reason) == (MessageState.UNDELIVERABLE, "DEVICE_GONE")
    assert not any(run.active for run in sim.state.runs.values())


def test_a_possible_duplicate_goes_only_to_the_devices_that_are_left():
    sim = pushing(Send(PUSH, (Push("Hi", "there"),), on_unknown=OnUnknown.RESEND))
    sim.settle(go(sim), Unknown("no answer", gone=("phone",)))
    sim.advance(2 * MINUTE)
    (message,) = sim.sent
    assert (message.recipient, message.possible_duplicate) == ("tablet", True)


def test_a_late_answer_tells_the_truth_about_devices_all_the_same():
    sim = pushing(Send(PUSH, (Push("Hi", "there"),), on_unknown=OnUnknown.RESEND))
    first = go(sim)
    sim.settle(first, Unknown("no answer"))
    sim.advance(2 * MINUTE)
    sim.settle(first, Accepted("m", gone=("phone",)))
    assert tokens(sim) == ["tablet"]
    (message,) = sim.sent
    assert message.attempt == 2, "for the message it was too late"


def test_a_device_that_was_off_already_is_no_change():
    sim = pushing(None, delay())
    sim.settle(go(sim), Accepted("m", gone=("watch",)))
    assert sim.changes.profiles == {}
    assert "device_gone" not in sim.whats()
    sim.settle(sim.state.messages[sim.outcomes[-1].message_id], Accepted("m", gone=("phone",)))
    assert tokens(sim) == ["tablet"]
    assert "device_gone" not in sim.whats(), "the run had gone on"


def test_two_people_who_became_one_lose_the_device_all_the_same():
    sim = Sim(
        [track("Go", Step("tell", Send(PUSH, (Push("Hi"),))))],
        carriers={PUSH: (Carrier("fcm", idempotent=False),)},
    )
    device = {"device": {"token": "phone"}}
    sim.event(Event("a", EventType.TRACK, "", "anon", name="Go", context=device))
    (message,) = sim.sent
    sim.event(Event("b", EventType.TRACK, "u", "anon", name="Signed In"))
    sim.settle(message, Refused("DEVICE_GONE", gone=("phone",)))
    assert tokens(sim) == []


# -- told later ----------------------------------------------------------------------------------


def test_a_callback_names_devices_by_their_digests():
    wait = Wait(
        (EngagementWait("tell", (EngagementKind.OPENED,)),),
        MINUTE,
        on_undeliverable=(Step("text", Send(SMS, (Sms("Hi"),))),),
    )
    sim = pushing(None, Step("opened", wait))
    message = go(sim)
    sim.settle(message, Accepted("NT1"))
    told = {devices.GONE: [devices.digest("phone")]}
    sim.engage(message.message_id, EngagementKind.ACCEPTED, data=told)
    assert tokens(sim) == ["tablet"]
    told = {devices.GONE: [devices.digest(token) for token in ("phone", "tablet")]}
    sim.engage(message.message_id, EngagementKind.BOUNCED, data=told)
    assert tokens(sim) == []
    assert [m.channel for m in sim.sent] == [SMS], "the run took the way of the undeliverable"


def test_a_run_that_goes_on_by_a_report_pushes_to_what_the_report_has_left():
    sim = pushing(None, Step("again", Send(PUSH, (Push("Hi", "again"),))))
    message = go(sim)
    sim.settle(message, Unknown("no answer"))
    told = {devices.GONE: [devices.digest("phone")]}
    sim.engage(message.message_id, EngagementKind.ACCEPTED, data=told)
    (message,) = sim.sent
    assert (message.step_id, message.recipient) == ("again", "tablet")


def test_a_report_that_overtook_the_answer_counts_when_its_message_is_known():
    sim = pushing(None, Step("again", Send(PUSH, (Push("Hi", "again"),))))
    message = go(sim)
    told = {devices.GONE: [devices.digest("phone")]}
    sim.engage("", EngagementKind.DELIVERED, provider="fcm", provider_message_id="m1", data=told)
    sim.settle(message, Accepted("m1"))
    (message,) = sim.sent
    assert (message.step_id, message.recipient) == ("again", "tablet")


def test_a_run_that_goes_on_by_an_answer_pushes_to_what_the_answer_has_left():
    sim = pushing(None, Step("again", Send(PUSH, (Push("Hi", "again"),))))
    sim.settle(go(sim), Accepted("m", gone=("phone",)))
    (message,) = sim.sent
    assert (message.step_id, message.recipient) == ("again", "tablet")


@pytest.mark.parametrize("told", [{}, {devices.GONE: "phone"}, {devices.GONE: ["phone", 7, None]}])
def test_what_names_no_device_changes_none(told: dict[str, object]):
    sim = pushing()
    message = go(sim)
    sim.settle(message, Accepted("NT1"))
    sim.engage(message.message_id, EngagementKind.BOUNCED, data=told)
    assert tokens(sim) == ["tablet", "phone"]


def test_a_callback_about_another_channel_names_no_device():
    sim = pushing(Send(SMS, (Sms("Hi"),)))
    message = go(sim)
    sim.settle(message, Accepted("SM1"))
    told = {devices.GONE: [devices.digest(message.recipient), devices.digest("phone")]}
    sim.engage(message.message_id, EngagementKind.BOUNCED, data=told)
    assert tokens(sim) == ["tablet", "phone"]
