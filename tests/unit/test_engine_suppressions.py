"""The suppression list: addresses that get nothing, whoever has them."""

import pytest

from tests.flows import delay, track
from tests.sim import DAY, MINUTE, Sim
from upshotd.domain import addresses
from upshotd.domain.addresses import LIST
from upshotd.domain.message import Channel, Deferred, Email, MessageState, Refused, Sms
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.routing import Method, Route
from upshotd.domain.state import IdKind
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import SuppressionResult, SuppressionSet
from upshotd.domain.workflow import Reentry, ReentryMode, Step

EMAIL, SMS = Channel.EMAIL, Channel.SMS
ANAS = addresses.key(EMAIL, "Ana@Example.com")
PHONE = addresses.key(SMS, "+15550001")
STOPPED = Suppression(EMAIL, reason="COMPLAINED")


def both(*after: Step) -> Sim:
    """Return a workflow that sends on both channels to ana; ben has the same phone number."""
    send = Step("tell", Send(Route(Method.ALL, (EMAIL, SMS)), (Email("Hi", text="Hi"), Sms("Hi"))))
    sim = Sim([track("Go", send, *after, reentry=Reentry(ReentryMode.ALWAYS))])
    sim.identify("ana", email="ana@example.com", phone="+15550001")
    sim.identify("ben", email="ben@example.com", phone="+15550001")
    return sim


def put(sim: Sim, owner: tuple[IdKind, str] | str, held: Suppression, on: bool = True) -> bool:
    answer = sim.do(SuppressionSet(held, owner, on))
    assert isinstance(answer, SuppressionResult)
    return answer.changed


def go(sim: Sim, user_id: str = "ana") -> list[str]:
    """Return what a run sends, and why it does not send."""
    before = len(sim.outcomes)
    sim.track(user_id, "Go")
    sent = [message.channel.name for message in sim.sent]
    while sim.sent:
        sim.answer()
    return sent + [f"{o.channel.name} {o.reason}" for o in sim.outcomes[before:] if o.reason]


def test_what_is_on_the_list_gets_nothing_whoever_has_the_address_and_however_it_is_spelt():
    sim = both()
    assert put(sim, ANAS, STOPPED)
    assert not put(sim, ANAS, STOPPED), "it stands there already"
    assert go(sim) == ["SMS", "EMAIL COMPLAINED"]
    sim.identify("cleo", email="ANA@example.com")
    assert go(sim, "cleo") == ["EMAIL COMPLAINED", "SMS NO_ADDRESS"]
    assert go(sim, "ben") == ["EMAIL", "SMS"]
    assert put(sim, ANAS, Suppression(EMAIL), on=False)
    assert not put(sim, ANAS, Suppression(EMAIL), on=False)
    assert go(sim) == ["EMAIL", "SMS"]


def test_a_person_on_the_list_is_held_back_by_channel_or_topic():
    sim = both()
    assert put(sim, (IdKind.USER, "ana"), Suppression(SMS, until_us=sim.now + DAY))
    assert go(sim) == ["EMAIL", "SMS SUPPRESSED"]
    assert go(sim, "ben") == ["EMAIL", "SMS"]
    sim.advance(DAY)
    assert go(sim) == ["EMAIL", "SMS"]
    assert not put(sim, (IdKind.USER, "nobody"), Suppression(SMS), on=False)
    assert sim.changes.empty
    assert put(sim, (IdKind.USER, "dora"), Suppression(EMAIL))
    sim.identify("dora", email="dora@example.com")
    assert go(sim, "dora") == ["EMAIL SUPPRESSED", "SMS NO_ADDRESS"]


@pytest.mark.parametrize(
    ("kind", "channel", "reason"),
    [
        (EngagementKind.BOUNCED, EMAIL, "BOUNCED"),
        (EngagementKind.COMPLAINED, EMAIL, "COMPLAINED"),
        (EngagementKind.BOUNCED, SMS, "BOUNCED"),
    ],
)
def test_bounces_and_complaints_put_the_address_on_the_list(
    kind: EngagementKind, channel: Channel, reason: str
):
    sim = both()
    sim.track("ana", "Go")
    message = sim.answer(None, channel)
    sim.answer()
    sim.engage(message.message_id, kind)
    assert go(sim) == [c for c in ("EMAIL", "SMS") if c != channel.name] + [
        f"{channel.name} {reason}"
    ]
    sim.identify("ana", email="new@example.com", phone="+15550002")
    mended = ["EMAIL", "SMS"]
    # A complaint is the person's, under whatever address; a bounce says nothing about another one.
    expected = ["SMS", "EMAIL COMPLAINED"] if reason == "COMPLAINED" else mended
    assert go(sim) == expected


def test_stop_counts_for_everybody_with_the_number_and_so_does_start():
    sim = both()
    sim.track("ana", "Go")
    message = sim.answer(None, SMS)
    sim.answer()
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "STOP"})
    assert go(sim, "ben") == ["EMAIL", "SMS STOP"]
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "START"})
    assert go(sim, "ben") == ["EMAIL", "SMS"]
    sim.engage(message.message_id, EngagementKind.BOUNCED)
    sim.engage(message.message_id, EngagementKind.REPLIED, data={"body": "START"})
    assert go(sim, "ben") == ["EMAIL", "SMS BOUNCED"], "no word of theirs mends a number"


def test_who_is_put_on_the_list_between_two_attempts_gets_no_second_one():
    sim = both(delay())
    sim.track("ana", "Go")
    message = sim.answer(Deferred("500"), EMAIL)
    sim.answer()
    put(sim, ANAS, STOPPED)
    sim.advance(10 * MINUTE)
    assert sim.state.messages[message.message_id].state is MessageState.SUPPRESSED


def test_sends_rely_on_the_list_and_changes_write_it():
    sim = both()
    sim.track("ana", "Go")
    assert sim.changes.consents[LIST] == 0
    sim.answer()
    put(sim, ANAS, STOPPED)
    assert LIST in sim.changes.profiles
    sim.state.profiles[LIST] = sim.state.profiles[LIST].__class__(LIST, row_version=7)
    sim.track("ben", "Go")
    assert sim.changes.consents[LIST] == 7


def test_an_address_that_was_not_loaded_is_looked_up_before_anything_is_sent():
    """A batch loads what its people had; one of them has a new address by the time of the send."""
    sim = both()
    put(sim, addresses.key(EMAIL, "new@example.com"), STOPPED)
    sim.state.addresses = {*addresses.forms(ANAS), *addresses.forms(PHONE)}
    sim.identify("ana", email="new@example.com", phone="+15550001")
    sim.track("ana", "Go")
    assert not sim.sent
    assert sim.run().due_us == sim.now, "it comes again at once, in a batch that has loaded it"
    new = addresses.key(EMAIL, "new@example.com")
    sim.state.addresses = {*addresses.forms(new), *addresses.forms(PHONE)}
    sim.advance(0)
    assert [message.channel for message in sim.sent] == [SMS]


def test_keys_name_their_addresses():
    assert addresses.of_key(ANAS) == (EMAIL, "ana@example.com")
    assert addresses.of_key("4c7f") == (Channel.UNSPECIFIED, "")
    assert addresses.key(Channel.PUSH, "token") == ""
    found = addresses.keys({"email": "a@b", "phone_number": ""})
    assert found == ["email:a@b", addresses.hidden("email:a@b")]


def test_a_provider_that_knows_of_a_stop_is_believed_and_the_next_channel_tried():
    send = Step(
        "tell", Send(Route(Method.SINGLE, (SMS, EMAIL)), (Email("Hi", text="Hi"), Sms("Hi")))
    )
    sim = Sim([track("Go", send, reentry=Reentry(ReentryMode.ALWAYS))])
    for user_id in ("ana", "ben"):
        sim.identify(user_id, email=f"{user_id}@example.com", phone="+15550001")
    sim.track("ana", "Go")
    sim.answer(Refused("STOP", "21610"))
    assert [m.channel for m in sim.sent] == [EMAIL]
    assert sim.state.suppressions[PHONE][Suppression(SMS).scope].reason == "STOP"
    sim.answer()
    assert go(sim, "ben") == ["EMAIL"], "whoever has the number"
    first = sim.state.messages[next(iter(sim.state.messages))]
    assert (first.state, first.reason) == (MessageState.UNDELIVERABLE, "STOP")
