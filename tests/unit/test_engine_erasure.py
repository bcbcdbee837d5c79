"""Erasing a person: what runs for them ends, nothing is left, nothing late brings it back."""

import pytest

from tests.flows import delay, track
from tests.sim import DAY, HOUR, MINUTE, Sim
from upshotd.domain import addresses
from upshotd.domain.erasure import without_payload
from upshotd.domain.errors import Violation
from upshotd.domain.event import Event, EventType, RejectedEvent
from upshotd.domain.fetching import Found
from upshotd.domain.message import Accepted, Channel, Deferred, Email, MessageState, Refused
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.routing import Method, Route
from upshotd.domain.state import IdKind
from upshotd.domain.steps.approve import Approve, ReviewerLevel
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import (
    EngagementState,
    EraseRequested,
    EraseResult,
    FetchSettled,
    IngestState,
    RunDue,
    SuppressionResult,
    SuppressionSet,
)
from upshotd.domain.workflow import Reentry, ReentryMode, Step

ANA = (IdKind.USER, "ana")
ANAS = addresses.key(Channel.EMAIL, "ana@example.com")


def written_to_ana(*after: Step) -> Sim:
    """Return a workflow that has mailed ana, and goes on with *after*."""
    send = Step("tell", Send(Route(Method.SINGLE, (Channel.EMAIL,)), (Email("Hi", text="Hi"),)))
    sim = Sim([track("Go", send, *after, reentry=Reentry(ReentryMode.ONCE_EVER))])
    sim.identify("ana", email="ana@example.com", first_name="Ana")
    sim.track("ana", "Go", anonymous_id="a1")
    return sim


def erase(sim: Sim) -> int:
    answer = sim.do(EraseRequested(ANA))
    assert isinstance(answer, EraseResult)
    return answer.erase_us


def test_the_run_is_canceled_the_profile_is_empty_and_the_log_says_so():
    sim = written_to_ana(delay("later", HOUR))
    sim.answer()
    assert erase(sim) == sim.now
    profile = sim.profile("ana")
    assert profile.erased
    assert profile.erase_us == sim.now
    assert (profile.traits, profile.contact, profile.group_ids) == ({}, {}, ())
    assert sim.kinds[-2:] == ["RUN_CANCELED", "PROFILE_ERASED"]
    assert sim.outcomes[-2].reason == "ERASED"
    assert sim.outcomes[-1].user_id == "ana"
    (gone,) = sim.changes.erasures.values()
    assert (gone.user_id, gone.anonymous_ids) == ("ana", ("a1",))
    assert ANAS in gone.addresses
    sim.advance(DAY)
    assert sim.kinds[-1] == "PROFILE_ERASED", "nobody goes on for them"


@pytest.mark.parametrize(
    "answer", [Accepted("p1"), Deferred("busy"), Refused("DEVICE_GONE", gone=("token",))]
)
def test_what_was_under_way_is_given_up_and_its_answer_says_nothing(answer: object) -> None:
    sim = written_to_ana()
    (sending,) = sim.sent
    erase(sim)
    assert sim.kinds[-3:] == ["MESSAGE_SUPPRESSED", "RUN_CANCELED", "PROFILE_ERASED"]
    assert not any(outcome.recipient for outcome in sim.outcomes)
    before = len(sim.outcomes)
    sim.settle(sending, answer)  # type: ignore[arg-type]
    sim.advance(2 * DAY)
    assert len(sim.outcomes) == before
    left = sim.state.messages[sending.message_id]
    assert (left.state, left.recipient, left.detail) == (MessageState.SUPPRESSED, "", "")


@pytest.mark.parametrize("kind", list(EngagementKind)[1:])
def test_late_callbacks_find_a_tombstone(kind: EngagementKind) -> None:
    sim = written_to_ana()
    message = sim.answer()
    erase(sim)
    before = len(sim.outcomes)
    late = sim.engage(message.message_id, kind, data={"body": "STOP", "ip": "192.0.2.1"})
    assert (late.state, late.reason) == (EngagementState.REJECTED, "ERASED")
    theirs = f"p-{message.message_id}"
    late = sim.engage("", kind, provider="smtp", provider_message_id=theirs)
    assert late.reason == "ERASED"
    assert len(sim.outcomes) == before
    assert not sim.changes.pending


def test_an_event_of_before_is_refused_and_one_of_after_begins_anew():
    sim = written_to_ana()
    sim.answer()
    erased_us = erase(sim)
    sim.now += MINUTE
    late = sim.track("ana", "Go", event_us=erased_us)
    assert (late.state, late.reason) == (IngestState.REJECTED, "ERASED")
    by_device = sim.track("", "Go", anonymous_id="a1", event_us=erased_us - HOUR)
    assert by_device.reason == "ERASED", "by whatever id"
    assert sim.profile("ana").erased
    fresh = sim.track("ana", "Came Back")
    assert fresh.state is IngestState.ACCEPTED
    assert not sim.profile("ana").erased
    assert sim.profile("ana").create_us == sim.now
    assert sim.track("ana", "Go", event_us=erased_us).reason == "ERASED", "still"


def test_somebody_nobody_has_heard_of_is_erased_too():
    sim = Sim([])
    erase(sim)
    assert sim.profile("ana").erased
    sim.now += MINUTE
    assert sim.track("ana", "Go", event_us=sim.now - HOUR).reason == "ERASED"


def test_a_delete_is_an_event_that_counts_once_and_keeps_nothing_of_itself():
    sim = written_to_ana()
    sim.answer()
    event = Event("d1", EventType.DELETE, "ana", payload=b"ana@example.com", context={"ip": "1"})
    assert sim.event(event).state is IngestState.ACCEPTED
    kept = sim.changes.events["d1"].event
    assert (kept.payload, kept.user_id, kept.context) == (b"", "", {})
    assert sim.event(event).state is IngestState.DUPLICATE
    assert sim.kinds.count("PROFILE_ERASED") == 1


def test_a_delete_by_somebody_who_may_not_erase_is_refused_alone():
    sim = written_to_ana()
    refused = sim.event(Event("d1", EventType.BARRED, "ana"))
    assert (refused.state, refused.reason) == (IngestState.REJECTED, "ERASE_NOT_ALLOWED")
    assert not sim.profile("ana").erased


def test_no_group_finds_the_person_until_they_join_again():
    sim = Sim([])

    def join() -> None:
        sim.event(Event(sim._event_id(), EventType.GROUP, "ana", group_id="acme"))

    join()
    member = ("acme", sim.profile("ana").profile_id)
    erase(sim)
    assert sim.changes.group_members == {member: False}
    erase(sim)
    assert sim.changes.group_members == {}, "nothing is left to go"
    sim.now += MINUTE
    join()
    assert sim.changes.group_members == {member: True}


def test_a_device_that_became_the_person_is_erased_with_them():
    sim = Sim([])
    sim.track("", "Looked", anonymous_id="a1")
    before = sim.profile(anonymous_id="a1").profile_id
    sim.identify("ana", email="ana@example.com")
    sim.event(Event("d1", EventType.DELETE, "ana", anonymous_id="a1"))
    (gone,) = sim.changes.erasures.values()
    assert gone.profile_ids == (gone.profile_id, before)
    assert sim.profile("ana").erased


def test_a_device_that_was_erased_and_logs_in_leaves_who_logged_in_alone():
    sim = Sim([])
    sim.track("", "Looked", anonymous_id="a1")
    sim.do(EraseRequested((IdKind.ANONYMOUS, "a1")))
    sim.now += MINUTE
    sim.identify("ben", email="ben@example.com")
    sim.now += MINUTE
    sim.track("ben", "Go", anonymous_id="a1")
    ben = sim.profile("ben")
    assert (ben.erased, ben.erase_us, ben.contact["email"]) == (False, 0, "ben@example.com")


def test_an_address_that_complained_is_left_in_peace_by_its_hash():
    sim = written_to_ana()
    sim.do(SuppressionSet(Suppression(Channel.EMAIL, reason="COMPLAINED"), ANAS))
    listed = sim.state.suppressions.pop(ANAS)
    sim.state.suppressions[addresses.hidden(ANAS)] = listed  # as the store does
    sim.identify("cleo", email="Ana@Example.com")
    sim.track("cleo", "Go")
    assert sim.outcomes[-2].reason == "COMPLAINED"
    taken_off = sim.do(SuppressionSet(Suppression(Channel.EMAIL), ANAS, held=False))
    assert taken_off == SuppressionResult(changed=True)
    assert not sim.state.suppressions[addresses.hidden(ANAS)]


def test_hashes_are_no_addresses_and_are_not_hashed_again():
    hidden = addresses.hidden(ANAS)
    assert "ana" not in hidden
    assert addresses.hidden(hidden) == hidden
    assert addresses.of_key(hidden)[0] is Channel.EMAIL
    assert addresses.forms("") == ()


def test_refused_events_lose_what_they_said_of_the_person():
    fault = (Violation("event", "broken"),)
    payload = '{"userId": "ana", "traits": {"email": "ana@example.com"}}'
    refused = RejectedEvent("r1", "e1", 100, "INVALID_EVENT", fault, payload)
    emptied = without_payload(refused, {"ana": 100})
    assert emptied is not None
    assert emptied.payload == ""
    assert without_payload(refused, {"ana": 99}) is None, "it came later"
    assert without_payload(refused, {"an": 100}) is None, "somebody else"


def asking_ana() -> Sim:
    """Return a run of pia's that has just asked ana, and would ask cem a day later."""
    levels = (ReviewerLevel(user_ids=("ana",), escalate_us=DAY), ReviewerLevel(user_ids=("cem",)))
    mail = Send(Channel.EMAIL, (Email("Pay?", text="Pay?"),))
    sim = Sim([track("Go", Step("ok", Approve(levels, mail, "Pay?", 2 * DAY)))])
    for name in ("ana", "cem"):
        sim.identify(name, email=f"{name}@example.com")
    sim.track("pia", "Go")
    find(sim, "ana")
    return sim


def find(sim: Sim, *names: str) -> None:
    """Let the people of a level be found."""
    (fetch,) = sim.changes.fetches
    found = Found(tuple(sim.profile(name).profile_id for name in names))
    sim.do(FetchSettled(fetch.run_id, fetch.step_id, fetch.attempt, found))


def test_a_run_that_has_asked_them_in_the_same_batch_is_due_at_once() -> None:
    """The store has not heard of it, and could not wake it."""
    sim = asking_ana()
    (request,) = sim.sent
    erase(sim)
    assert sim.kinds[-2:] == ["MESSAGE_SUPPRESSED", "PROFILE_ERASED"]
    assert sim.state.messages[request.message_id].reason == "ERASED"
    assert sim.run().due_us == sim.now
    sim.do(RunDue(sim.run().run_id))
    find(sim, "cem")
    assert [message.recipient for message in sim.sent] == ["cem@example.com"]


def test_a_run_that_looks_for_others_meanwhile_is_not_hurried() -> None:
    sim = asking_ana()
    sim.now += DAY
    sim.do(RunDue(sim.run().run_id))
    before = sim.run().due_us
    search = sim.changes
    erase(sim)
    assert sim.run().due_us == before
    sim.changes = search
    find(sim)
    assert sim.outcomes[-2].reason == "UNREACHABLE"
    assert sim.kinds[-1] == "RUN_COMPLETED"
