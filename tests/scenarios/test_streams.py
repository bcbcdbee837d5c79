"""Three streams under the settings of one file: what waits, what is capped, what never is."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.scenarios.examples import EXAMPLES, documents_of, workflow_of
from tests.stores import KINDS, opened
from tests.world import HOUR, MINUTE, World, world
from upshotd.adapters.grpc import topic_codec
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.preferences import Preferences
from upshotd.application.shelf import TOPICS, Kind, Shelf
from upshotd.config import load
from upshotd.domain.consent import Topic
from upshotd.domain.message import Deferred, Sms
from upshotd.domain.names import microseconds
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import PreferenceSet

VIENNA = ZoneInfo("Europe/Vienna")
SETTINGS = load((EXAMPLES / "streams.toml").read_text(), {}, {})


@pytest.fixture(params=KINDS)
async def streams(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    encode = ContractCodec().encode_outcome
    async with (
        opened(request.param, tmp_path, encode=encode) as store,
        world(store, policy=SETTINGS.policy) as running,
    ):
        yield running


async def prepared(here: World, *names: str) -> Preferences:
    codec = here.codec
    kind: Kind[Topic] = Kind(
        TOPICS, lambda topic: topic.topic_id, codec.encode_topic, codec.decode_topic,
        topic_codec.faults,
    )  # fmt: skip
    shelf = Shelf(here.store, here.clock, kind, here.book.refresh)
    for name in names:
        for topic in documents_of(name).topics:
            await shelf.define("default", topic, validate_only=False)
        await here.define(workflow_of(name))
    for user_id in ("ana", "ben"):
        await here.identify(user_id, email=f"{user_id}@example.com", phone="+15550001")
    return Preferences(here.store, here.loop, here.clock, shelf)


async def until(here: World, text: str) -> None:
    moment = datetime.fromisoformat(text).replace(tzinfo=VIENNA)
    await here.lab.advance(microseconds(moment) - here.clock.now_us())


async def reasons(here: World) -> list[str]:
    return [o.reason for o in await here.outcomes() if o.kind == OutcomeKind.MESSAGE_SUPPRESSED]


async def test_a_code_goes_out_at_night_to_everybody_and_not_when_it_is_old(streams: World) -> None:
    preferences = await prepared(streams, "sign-in-code")
    await until(streams, "2026-03-02T03:00")
    held = PreferenceSet((IdKind.USER, "ana"), "security", channels_off=frozenset())
    await preferences.choose("default", held)
    await streams.track("ana", "Code Requested", properties={"code": "1234"})
    await streams.settle()
    (text,) = streams.sms.ledger
    assert isinstance(text.content, Sms)
    assert text.content.body == "1234 is your code."
    for n in range(6):
        await streams.track("ana", "Code Requested", properties={"code": str(n)})
    await streams.settle()
    assert len(streams.sms.ledger) == 5, "five an hour, and no cap"
    streams.sms.answers = [Deferred("busy", 20 * MINUTE)]
    await streams.track("ben", "Code Requested", properties={"code": "9"})
    await streams.lab.advance(HOUR)
    said = [o.reason for o in await streams.outcomes() if o.user_id == "ben" and o.message_id]
    assert said[0] == "EXPIRED"


async def test_what_is_about_the_product_waits_for_the_morning(streams: World) -> None:
    await prepared(streams, "project-updates")
    await until(streams, "2026-03-02T23:00")
    comment = {"project_id": "p", "project": "P", "author": "Ben", "text": "Hm."}
    await streams.track("ana", "Comment Added", properties=comment)
    await streams.settle()
    assert not streams.email.ledger
    await until(streams, "2026-03-03T07:00")
    assert len(streams.email.ledger) == 1


async def test_offers_go_to_who_asked_in_the_day_and_twice_a_week(streams: World) -> None:
    preferences = await prepared(streams, "spring-offer", "newsletter")
    for user_id in ("ana", "ben"):
        await streams.identify(user_id, email=f"{user_id}@example.com", plan="free")
    for topic in ("offers", "newsletter"):
        ana = PreferenceSet((IdKind.USER, "ana"), topic, wanted=True)
        await preferences.choose("default", ana)
    await until(streams, "2026-03-20T08:59")
    assert await reasons(streams) == []
    await until(streams, "2026-03-20T13:00")
    assert [d.recipient for d in streams.email.ledger] == ["ana@example.com"]
    assert await reasons(streams) == ["NOT_OPTED_IN"]
    for number in range(2):
        await streams.track("ana", "Newsletter Due", properties={"headline": str(number)})
    await streams.settle()
    assert len(streams.email.ledger) == 2
    assert (await reasons(streams))[-1] == "CAPPED"
