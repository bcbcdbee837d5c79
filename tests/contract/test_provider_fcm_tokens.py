"""FCM's access tokens: one for many sends, replaced in time, asked for once more when refused."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.provider_worlds import LITTLE_PATIENCE, push_delivery
from tests.contract.push_worlds import SCOPE, FcmWorld, account_json, rsa_key
from upshotd.adapters.providers.service_account import service_account
from upshotd.domain.message import Accepted, Deferred

SECOND = 1_000_000


@pytest.fixture
async def world() -> AsyncIterator[FcmWorld]:
    world = FcmWorld()
    await world.start()
    yield world
    await world.provider.close()
    await world.stop()


async def test_one_token_serves_many_sends_at_once(world: FcmWorld) -> None:
    sends = (world.provider.send(push_delivery(f"msg-{number}")) for number in range(12))
    results = await asyncio.gather(*sends)
    assert all(isinstance(result, Accepted) for result in results)
    assert world.token_requests == 1
    assert len({received.message_id for received in world.ledger}) == 12


async def test_a_token_is_replaced_shortly_before_its_end(world: FcmWorld) -> None:
    now = 1_800_000_000 * SECOND
    world.now_us = lambda: now
    await world.provider.send(push_delivery())
    now += 3299 * SECOND
    await world.provider.send(push_delivery())
    assert world.token_requests == 1
    now += SECOND
    await world.provider.send(push_delivery())
    assert world.token_requests == 2
    assert len(world.ledger) == 3


async def test_of_a_short_token_half_is_used(world: FcmWorld) -> None:
    now = 1_800_000_000 * SECOND
    world.now_us, world.lasts_s = (lambda: now), 60
    for later in (0, 29, 1):
        now += later * SECOND
        assert isinstance(await world.provider.send(push_delivery()), Accepted)
    assert world.token_requests == 2


async def test_a_refused_token_is_thrown_away_and_asked_for_once_more(world: FcmWorld) -> None:
    await world.provider.send(push_delivery())
    world.tokens.clear()  # revoked
    sends = (world.provider.send(push_delivery(f"msg-{number}")) for number in range(8))
    assert all(isinstance(result, Accepted) for result in await asyncio.gather(*sends))
    assert world.token_requests == 2
    assert len(world.ledger) == 9


async def test_a_token_that_stays_refused_is_ours_to_mend(world: FcmWorld) -> None:
    world.lasts_s = 0  # what is given out is never good
    result = await world.provider.send(push_delivery())
    assert isinstance(result, Deferred)
    assert result.detail.startswith("configuration: HTTP 401, UNAUTHENTICATED")
    assert world.token_requests == 2


async def test_a_second_token_that_cannot_be_had_puts_it_off(world: FcmWorld) -> None:
    await world.provider.send(push_delivery())
    world.tokens.clear()
    world.token_answers = [(503, {})]
    assert await world.provider.send(push_delivery()) == Deferred(
        "no access token: HTTP 503", 9 * SECOND
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, {}, "no access token: HTTP 429"),
        (500, {"error": "internal_failure"}, "no access token: HTTP 500, internal_failure"),
        (401, {"error": "invalid_client", "error_description": "There is none."},
         "configuration: no access token: HTTP 401, invalid_client: There is none."),
        (200, {"token": "x"}, "configuration: no access token: HTTP 200"),
        (200, {"access_token": "é"}, "configuration: no access token: HTTP 200"),
    ],
)  # fmt: skip
async def test_without_a_token_nothing_was_sent(
    world: FcmWorld, status: int, body: dict[str, Any], expected: str
) -> None:
    world.token_answers = [(status, body)]
    pause_us = 0 if expected.startswith("configuration") else 9 * SECOND
    assert await world.provider.send(push_delivery()) == Deferred(expected, pause_us)
    assert world.asked == []


async def test_google_believes_nobody_but_the_account(world: FcmWorld) -> None:
    for changes in ({"client_email": "eve@example.com"}, {"private_key_id": "key-2"}):
        provider = world.build(service_account=account_json(**changes))
        result = await provider.send(push_delivery())
        await provider.close()
        assert isinstance(result, Deferred)
        assert result.detail.startswith("configuration: no access token: HTTP 400, invalid_grant")
    provider = world.build(service_account=account_json(rsa_key(1)))
    result = await provider.send(push_delivery())
    await provider.close()
    assert "Invalid JWT Signature." in result.detail
    provider = world.build(token_url=world.token_url.replace("127.0.0.1", "localhost"))
    assert "audience" in (await provider.send(push_delivery())).detail
    await provider.close()
    assert world.asked == []


def test_the_far_end_is_as_strict_as_google(world: FcmWorld) -> None:
    account, now_us = service_account(account_json()), world.now_us()
    good = account.assertion(world.token_url, SCOPE, now_us)
    assert world._fault(good) == ""
    head, claims, signature = good.split(".")
    for bad in (
        account.assertion(world.token_url, SCOPE.replace("messaging", "database"), now_us),
        account.assertion("https://oauth2.example/token", SCOPE, now_us),
        account.assertion(world.token_url, SCOPE, now_us - 3700 * SECOND),
        account.assertion(world.token_url, SCOPE, now_us + 600 * SECOND),
        f"{head}.{claims}.{signature[:-4]}AAAA",
    ):
        assert world._fault(bad) != ""


async def test_a_token_server_that_is_silent_was_not_a_send(world: FcmWorld) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await world.released.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = world.build(token_url=f"http://127.0.0.1:{port}/token", timeout=LITTLE_PATIENCE)
    result = await provider.send(push_delivery())
    assert isinstance(result, Deferred)
    assert "no access token" in result.detail
    # One who is cut off while all wait for a token leaves the others theirs; so does the end.
    waiting = [asyncio.create_task(provider.send(push_delivery())) for _ in range(2)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert not waiting[1].done()
    await provider.close()
    await asyncio.wait(waiting)
    world.released.set()
    server.close()
