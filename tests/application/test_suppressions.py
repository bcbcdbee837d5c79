"""The suppression list and preferences as use cases: whole or not at all, listed in pages."""

from collections.abc import AsyncIterator

import pytest

from tests.flows import email, track
from tests.sim import email as usable_email
from tests.sim import phone
from tests.world import World, world
from upshotd.adapters.grpc import topic_codec
from upshotd.application.admin import Admin
from upshotd.application.preferences import Preferences
from upshotd.application.shelf import TOPICS, Kind, Shelf
from upshotd.application.suppressions import ENTRIES_MAX, Entry, Suppressions
from upshotd.domain.consent import Topic, TopicDefault
from upshotd.domain.errors import FailedPrecondition, InvalidArgument, NotFound
from upshotd.domain.message import Channel
from upshotd.domain.profile import ContactRules, Suppression
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import PreferenceSet

EMAIL, SMS = Channel.EMAIL, Channel.SMS
ANA = (IdKind.USER, "ana")


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as running:
        await running.define(track("Go", email()))
        await running.identify("ana", email="ana@example.com", first_name="Ana")
        yield running


def the_list(here: World) -> Suppressions:
    return Suppressions(here.store, here.loop, ContactRules(usable_email, phone))


def address(value: str, **held: object) -> Entry:
    channel = EMAIL if "+" not in value else SMS
    return Entry(Suppression(**held), None, channel, value)  # type: ignore[arg-type]


async def test_what_is_put_on_the_list_stands_there_until_it_is_taken_off(here: World) -> None:
    listed = the_list(here)
    entries = [
        address("ANA@example.com", reason="BOUNCED"),
        address("+15550001", topic="news"),
        Entry(Suppression(SMS, until_us=here.clock.now_us() + 5), ANA),
        Entry(Suppression(topic="tips", reason="OPTED_OUT"), (IdKind.ANONYMOUS, "anon")),
    ]
    assert await listed.change("default", entries, held=True) == 4
    assert await listed.change("default", entries, held=True) == 0
    page = await listed.list("default", 3, "")
    rest = await listed.list("default", 3, page.next_page_token)
    found = [*page.items, *rest.items]
    assert {(e.address or e.identity) for e in found} == {
        "ana@example.com", "+15550001", ANA, (IdKind.ANONYMOUS, "anon"),
    }  # fmt: skip
    view = await Admin(here.store).profile("default", ANA)
    assert sorted(held.reason for held in view.suppressions) == ["BOUNCED", "SUPPRESSED"]
    await here.track("ana", "Go")
    await here.settle()
    assert await here.story() == ["SUPPRESSED EMAIL"]
    assert await listed.change("default", entries, held=False) == 4
    assert (await listed.list("default", 0, "")).items == []


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (address("no address"), "entries[1].email"),
        (address("+no"), "entries[1].phone_number"),
        (address("a@b", reason="WHY"), "entries[1].suppression.reason"),
        (address("a@b", reason="OPTED_OUT"), "entries[1].suppression.reason"),
        (address("a@b", channel=SMS), "entries[1].suppression.channel"),
        (Entry(Suppression(), ANA), "entries[1].suppression.scope"),
    ],
)
async def test_one_faulty_entry_refuses_all(here: World, entry: Entry, field: str) -> None:
    listed = the_list(here)
    with pytest.raises(InvalidArgument) as refused:
        await listed.change("default", [address("fine@example.com"), entry], held=True)
    assert [fault.field for fault in refused.value.violations] == [field]
    assert (await listed.list("default", 0, "")).items == []


@pytest.mark.parametrize("count", [0, ENTRIES_MAX + 1])
async def test_calls_have_a_size(here: World, count: int) -> None:
    with pytest.raises(InvalidArgument):
        await the_list(here).change("default", [address("a@b")] * count, held=True)


async def test_preferences_are_of_who_a_message_was_for(here: World) -> None:
    codec = here.codec
    kind: Kind[Topic] = Kind(
        TOPICS, lambda t: t.topic_id, codec.encode_topic, codec.decode_topic, topic_codec.faults
    )
    shelf = Shelf(here.store, here.clock, kind, here.book.refresh)
    preferences = Preferences(here.store, here.loop, here.clock, shelf)
    for topic in (Topic("news"), Topic("bills", default=TopicDefault.REQUIRED)):
        await shelf.define("default", topic, validate_only=False)
    await here.track("ana", "Go")
    await here.settle()
    (message,) = here.email.ledger
    assert await preferences.addressee("default", message.message_id) == ANA
    with pytest.raises(NotFound):
        await preferences.addressee("default", "no-message")
    with pytest.raises(NotFound):
        await preferences.of("default", (IdKind.USER, "nobody"))
    await preferences.choose("default", PreferenceSet(ANA, "news", wanted=False))
    assert [one.wanted for one in await preferences.of("default", ANA)] == [True, False]
    with pytest.raises(NotFound):
        await preferences.choose("default", PreferenceSet(ANA, "no-topic", wanted=False))
    with pytest.raises(FailedPrecondition):
        await preferences.choose("default", PreferenceSet(ANA, "bills", wanted=False))
