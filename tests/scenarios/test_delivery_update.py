"""A message that reaches people on what they have, by whoever is up, in time. On every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scenarios.examples import workflow_of
from tests.stores import KINDS, opened
from tests.world import CARRIERS, HOUR, MINUTE, World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.domain.definitions import Carrier
from upshotd.domain.message import Channel, Deferred, Email, Push, Refused, Unknown
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind

PARCEL = {"order_id": "o-1", "minutes": 9}
MAILERS = (Carrier("smtp", idempotent=False), Carrier("spare", idempotent=False))


@pytest.fixture(params=KINDS)
async def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    encode = ContractCodec().encode_outcome
    carriers = {**CARRIERS, Channel.EMAIL: MAILERS}
    async with opened(request.param, tmp_path, encode=encode) as store:
        async with world(store, carriers=carriers) as running:
            await running.define(workflow_of("delivery-update"))
            yield running


async def nearby(scenario: World, user_id: str, **context: object) -> None:
    await scenario.track(user_id, "Courier Nearby", properties=PARCEL, context=context)
    await scenario.settle()


async def test_each_on_what_they_have(scenario: World) -> None:
    await scenario.identify("ana", email="ana@example.com", phone="+15550001")
    await scenario.identify("ben", email="ben@example.com", phone="+15550002")
    await scenario.identify("cleo", email="cleo@example.com")
    await nearby(scenario, "ana", device={"token": "t-1"})
    await nearby(scenario, "ben")
    await nearby(scenario, "cleo")
    await nearby(scenario, "dan")
    stories = {user_id: await scenario.story(user_id) for user_id in ("ana", "ben", "cleo", "dan")}
    assert stories == {
        "ana": ["SENT PUSH"],
        "ben": ["SENT SMS"],
        "cleo": ["SENT EMAIL"],
        "dan": ["UNROUTABLE PUSH"],
    }
    (push,) = scenario.providers["pushes"].ledger
    assert push.recipient == "t-1"
    assert push.content == Push("Your parcel is 9 minutes away", "", {"order_id": "o-1"})
    (mail,) = scenario.email.ledger
    assert isinstance(mail.content, Email)
    assert mail.content.text.startswith("Order o-1 is almost there.\n")
    assert "utm_source=upshot" in mail.content.html
    assert (mail.content.reply_to, mail.content.headers) == (
        "help@shop.example",
        {"X-Stream": "delivery"},
    )
    reasons = {o.user_id: o.reason for o in await scenario.outcomes() if o.reason}
    assert reasons == {"dan": "UNREACHED"}


async def test_what_one_did_is_known_afterwards(scenario: World) -> None:
    await scenario.identify("ana", phone="+15550001")
    await nearby(scenario, "ana")
    found = await scenario.store.profile("default", (IdKind.USER, "ana"))
    assert found is not None
    assert found[0].traits["last_order_id"] == "o-1"


async def test_a_token_that_is_dead_is_followed_by_a_text(scenario: World) -> None:
    await scenario.identify("ana", phone="+15550001")
    scenario.providers["pushes"].answers = [Refused("INVALID_ADDRESS", "UNREGISTERED")]
    await nearby(scenario, "ana", device={"token": "t-1"})
    await scenario.settle()
    assert await scenario.story() == ["UNDELIVERABLE PUSH", "SENT SMS"]


async def test_a_mail_service_that_is_down_is_followed_by_the_other(scenario: World) -> None:
    await scenario.identify("cleo", email="cleo@example.com")
    scenario.email.answers = [Deferred("HTTP 503")]
    await nearby(scenario, "cleo")
    await scenario.settle()
    first, second = scenario.email.ledger + scenario.providers["spare"].ledger
    assert first.message_id == second.message_id
    assert second.content == first.content
    (sent,) = [o for o in await scenario.outcomes() if o.provider]
    assert (sent.provider, sent.possible_duplicate) == ("spare", False)


async def test_one_that_does_not_answer_is_not_followed_by_anything(scenario: World) -> None:
    await scenario.identify("ana", email="ana@example.com", phone="+15550001")
    scenario.providers["pushes"].answers = [Unknown("timed out")]
    await nearby(scenario, "ana", device={"token": "t-1"})
    await scenario.advance(HOUR)
    assert await scenario.story() == ["UNDELIVERABLE PUSH"]
    assert scenario.sms.ledger == scenario.email.ledger == []


async def test_a_callback_tells_that_it_came_after_all(scenario: World) -> None:
    await scenario.identify("ana", phone="+15550001")
    scenario.providers["pushes"].answers = [Unknown("timed out")]
    await nearby(scenario, "ana", device={"token": "t-1"})
    message_id = scenario.providers["pushes"].ledger[0].message_id
    await scenario.engage(message_id, EngagementKind.DELIVERED)
    assert await scenario.story() == ["SENT PUSH", "DELIVERED PUSH"]


async def test_nobody_is_told_of_a_courier_who_has_gone(scenario: World) -> None:
    await scenario.identify("cleo", email="cleo@example.com")
    busy = [Deferred("HTTP 503")] * 50
    scenario.email.answers, scenario.providers["spare"].answers = list(busy), list(busy)
    await nearby(scenario, "cleo")
    await scenario.advance(20 * MINUTE)
    assert await scenario.story() == ["UNDELIVERABLE EMAIL"]
    reasons = [o.reason for o in await scenario.outcomes() if o.reason]
    assert reasons == ["EXPIRED", "UNREACHED"]
