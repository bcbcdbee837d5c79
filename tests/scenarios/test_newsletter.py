"""Only who asked for it, on what they chose, until they say stop. On every store."""

from tests.scenarios.examples import documents_of, workflow_of
from tests.world import World
from upshotd.adapters.grpc import topic_codec
from upshotd.application.preferences import Preferences
from upshotd.application.shelf import TOPICS, Kind, Shelf
from upshotd.domain.consent import Topic
from upshotd.domain.message import Channel
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import PreferenceSet


async def prepared(scenario: World) -> Preferences:
    kind: Kind[Topic] = Kind(
        TOPICS,
        lambda topic: topic.topic_id,
        scenario.codec.encode_topic,
        scenario.codec.decode_topic,
        topic_codec.faults,
    )
    shelf = Shelf(scenario.store, scenario.clock, kind, scenario.book.refresh)
    preferences = Preferences(scenario.store, scenario.loop, scenario.clock, shelf)
    for topic in documents_of("newsletter").topics:
        await shelf.define("default", topic, validate_only=False)
    await scenario.define(workflow_of("newsletter"))
    for user_id in ("ana", "ben"):
        await scenario.identify(user_id, email=f"{user_id}@example.com", phone="+15550001")
    return preferences


async def issue(scenario: World, user_id: str) -> list[str]:
    """Let an issue go out; return how this person got it, or why not."""
    before = len(await scenario.outcomes())
    await scenario.track(user_id, "Newsletter Due", properties={"headline": "It works."})
    await scenario.settle()
    said = (await scenario.outcomes())[before:]
    return [o.reason or o.provider for o in said if o.message_id]


async def test_who_asked_for_it_gets_it_where_they_want_it(scenario: World) -> None:
    preferences = await prepared(scenario)
    assert await issue(scenario, "ana") == ["NOT_OPTED_IN"]
    ana = (IdKind.USER, "ana")
    await preferences.choose("default", PreferenceSet(ana, "newsletter", wanted=True))
    assert await issue(scenario, "ana") == ["smtp"]
    assert await issue(scenario, "ben") == ["NOT_OPTED_IN"]
    off = frozenset({Channel.EMAIL})
    await preferences.choose("default", PreferenceSet(ana, "newsletter", channels_off=off))
    assert await issue(scenario, "ana") == ["texts"]
    (told,) = await preferences.of("default", ana)
    assert (told.wanted, told.chosen, told.channels_off) == (True, True, off)


async def test_stop_ends_the_texts_and_unsubscribing_all_of_it(scenario: World) -> None:
    preferences = await prepared(scenario)
    ana = (IdKind.USER, "ana")
    off = frozenset({Channel.EMAIL})
    await preferences.choose("default", PreferenceSet(ana, "newsletter", True, off))
    await issue(scenario, "ana")
    text = scenario.sms.ledger[-1].message_id
    await scenario.engage(text, EngagementKind.REPLIED, data={"body": "Stop"})
    assert await issue(scenario, "ana") == ["CHANNEL_OFF"]
    await scenario.engage(text, EngagementKind.REPLIED, data={"body": "START"})
    assert await issue(scenario, "ana") == ["texts"]
    await scenario.engage(text, EngagementKind.UNSUBSCRIBED)
    (told,) = await preferences.of("default", ana)
    assert not told.wanted
    assert await issue(scenario, "ana") == ["UNSUBSCRIBED"]
