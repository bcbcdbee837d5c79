"""Which stimuli share somebody with changes: those wait while the changes are being committed."""

import pytest

from tests.builders import (
    a_message,
    a_profile,
    a_run,
    an_engagement,
    changes,
)
from upshotd.application.touching import about, touched
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Accepted, Channel, Deferred
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Group, Merge, Suppression
from upshotd.domain.state import Changes, IdKind, State
from upshotd.domain.stimulus import (
    CancelRequested,
    EngagementArrived,
    EventArrived,
    MessageDue,
    RunBroke,
    RunDue,
    SendSettled,
    Stimulus,
)


def loaded() -> State:
    """Ana has a run and a message that is being sent; nobody else is known."""
    state = State()
    state.profiles["p-ana"] = a_profile(profile_id="p-ana", user_id="ana")
    state.identities[IdKind.USER, "ana"] = "p-ana"
    state.put_run(a_run(run_id="run", profile_id="p-ana", cancellation_key="order-1"))
    state.by_cancellation_key["order-1"] = ["run"]
    state.messages["m"] = a_message(message_id="m", run_id="run", profile_id="p-ana")
    state.provider_messages["smtp", "x-1"] = "m"
    state.by_recipient["sms:+1555"] = "m"
    return state


def track(
    user_id: str = "", anonymous_id: str = "", event_id: str = "e", **fields: object
) -> EventArrived:
    return EventArrived(Event(event_id, EventType.TRACK, user_id, anonymous_id, **fields))  # type: ignore[arg-type]


def settled(message_id: str, provider_message_id: str = "") -> SendSettled:
    return SendSettled(message_id, 1, Accepted(provider_message_id), "smtp", False)


def engaged(**target: str) -> EngagementArrived:
    return EngagementArrived(an_engagement(engagement_id="g", kind=EngagementKind.OPENED, **target))


OF_ANA: list[Stimulus] = [
    track("ana"),
    settled("m"),
    MessageDue("m"),
    RunDue("run"),
    RunBroke("run", "incident"),
    CancelRequested(run_id="run"),
    CancelRequested(cancellation_key="order-1"),
    engaged(message_id="m"),
    engaged(message_id="", provider="smtp", provider_message_id="x-1"),
    engaged(message_id="", provider="", provider_message_id="", recipient="sms:+1555"),
]


@pytest.mark.parametrize("stimulus", OF_ANA, ids=lambda s: type(s).__name__)
def test_whatever_is_about_ana_waits_while_she_is_written(stimulus: Stimulus) -> None:
    for written in (
        changes(a_profile(profile_id="p-ana")),
        changes(a_run(run_id="other", profile_id="p-ana")),
        changes(a_message(message_id="other", profile_id="p-ana")),
        Changes("default", merges=[Merge("p-anon", "p-ana")]),
        Changes("default", identities={(IdKind.ANONYMOUS, "a"): "p-ana"}),
        Changes("default", suppressions={("p-ana", "email"): None}),
    ):
        assert touched(written) & set(about(stimulus, loaded()))


@pytest.mark.parametrize("stimulus", OF_ANA, ids=lambda s: type(s).__name__)
def test_nothing_about_ana_waits_while_ben_is_written(stimulus: Stimulus) -> None:
    held = Suppression(Channel.EMAIL, "", None, "UNSUBSCRIBED")
    written = changes(
        a_profile(profile_id="p-ben", user_id="ben"),
        a_run(run_id="run-ben", profile_id="p-ben", cancellation_key="order-2"),
        a_message(message_id="m-ben", run_id="run-ben", profile_id="p-ben", provider="smtp"),
    )
    written.suppressions["p-ben", "email"] = held
    assert not touched(written) & set(about(stimulus, loaded()))


def test_somebody_new_waits_for_whoever_makes_them() -> None:
    written = Changes("default", identities={(IdKind.USER, "new"): "p-new"})
    assert touched(written) & set(about(track("new"), State()))
    assert touched(written) & set(about(track("x", "y", previous_id="new"), State()))
    assert not touched(written) & set(about(track("newer"), State()))


def test_ids_from_outside_wait_for_themselves() -> None:
    waiting = an_engagement(
        engagement_id="g", message_id="", provider="smtp", provider_message_id="x-9"
    )
    written = Changes("default", pending={"g": waiting}, groups={"acme": Group("acme")})
    state = State()
    assert touched(written) & set(about(engaged(message_id="nobody"), state))
    assert touched(written) & set(about(settled("nobody", "x-9"), state))
    assert touched(written) & set(about(track("a", context={"groupId": "acme"}), state))
    assert not touched(written) & set(about(settled("nobody", "x-8"), state))
    unanswered = SendSettled("nobody", 1, Deferred("busy"), "smtp", False)
    assert not touched(written) & set(about(unanswered, state))


def test_a_message_that_its_provider_names_waits_for_that_name() -> None:
    written = changes(a_message(provider="smtp", provider_message_id="x-1", profile_id="p-ben"))
    assert touched(written) & set(
        about(engaged(message_id="", provider="smtp", provider_message_id="x-1"), State())
    )


def test_an_answer_waits_for_messages_to_its_number_and_for_its_place_on_the_list() -> None:
    answer = engaged(message_id="", provider="", provider_message_id="", recipient="sms:+1555")
    text = a_message(channel=Channel.SMS, recipient="+1555", profile_id="p-ben")
    taken = a_message(channel=Channel.SMS, recipient="+1555", profile_id="p-ben", facts={"sent": 1})
    assert not touched(changes(text)) & set(about(answer, State())), "nobody has it yet"
    assert touched(changes(taken)) & set(about(answer, State()))
    held = Suppression(Channel.SMS, reason="STOP")
    listed = Changes("default", suppressions={("sms:+1555", held.scope): held})
    assert touched(listed) & set(about(answer, State()))
    assert "" not in touched(changes(a_message(facts={"sent": 1})))


def test_what_names_nobody_known_is_about_its_own_ids_alone() -> None:
    state = State()
    assert set(about(RunDue("gone"), state)) == set()
    assert set(about(MessageDue("gone"), state)) == set()
    assert set(about(CancelRequested(run_id="gone"), state)) <= {""}
