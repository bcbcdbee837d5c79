"""Segment's cloud at the edge: Webhooks destinations with signatures, and Courier's way."""

import hashlib
import hmac
import io
import json
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.edge_world import World, as_dict, world
from upshotd.adapters.http.callbacks import Keys
from upshotd.adapters.http.segment_inbound import EVENTS_MAX, is_signed, signed_part

SECRET = "a secret of the destination"
SIGNED = Keys(segment=SECRET)
EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "userId": "ana",
    "messageId": "m1",
    "properties": {"total": 120.5, "note": 'Grüße, [ ] { } " \\ 🎉'},
    "timestamp": "2026-01-01T00:00:00.000Z",
    "sentAt": "2026-01-01T00:00:01.000Z",
}


def sign(part: bytes) -> str:
    return hmac.new(SECRET.encode(), part, hashlib.sha1).hexdigest()


def stringified(value: object) -> bytes:
    """Return what JSON.stringify makes of it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def post(there: World, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    async with there.http.post(
        there.url + path, data=io.BytesIO(body), headers=headers
    ) as response:
        return response.status, await response.json()


async def test_courier_s_way_is_one_event_by_bearer():
    async with world() as there:
        answer = await post(
            there, "/inbound/segment", stringified(EVENT), Authorization="Bearer up_key"
        )
        assert answer == (202, {"messageId": "m1"})
        (event,) = there.server.events
        found = as_dict(event)
        assert (found["event_id"], found["user_id"]) == ("m1", "ana")
        assert found["track"]["event"] == "Order Completed"
        assert found["sent_time"] == "2026-01-01T00:00:01Z"
        assert there.server.credentials == ["Bearer up_key"]


async def test_an_array_comes_in_its_order_by_the_key_in_the_address():
    async with world() as there:
        kinds = ("identify", "group", "page", "screen", "alias", "track")
        events = [{**EVENT, "type": kind, "messageId": kind, "groupId": "g"} for kind in kinds]
        answer = await post(there, "/inbound/segment/up_key", stringified(events))
        assert answer == (202, {"messageId": "identify"})
        assert [event.event_id for event in there.server.events] == list(kinds)
        assert [event.WhichOneof("call") for event in there.server.events] == list(kinds)
        assert there.server.credentials == ["Bearer up_key"]


async def test_what_is_not_signed_is_refused_where_a_secret_is_set():
    async with world(SIGNED) as there:
        path, body = "/inbound/segment/up_key", stringified([EVENT, {**EVENT, "messageId": "m2"}])
        good = sign(stringified(EVENT))
        for wrong in ({}, {"X-Signature": good[:-1]}, {"X-Signature": sign(body)}):
            assert (await post(there, path, body, **wrong))[0] == 401
        assert there.server.events == []
        assert (await post(there, path, body, **{"X-Signature": good}))[0] == 202
        assert (await post(there, path, body, **{"X-Signature": good.upper()}))[0] == 202
        assert len(there.server.events) == 4
        # The way with a header has its key for it.
        assert (await post(there, "/inbound/segment", body, Authorization="Bearer k"))[0] == 202


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
events_made = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=5), json_values, max_size=4
)


@given(st.lists(events_made, min_size=1, max_size=3))
def test_of_an_array_the_first_element_is_signed_byte_for_byte(events: list[dict[str, object]]):
    body = stringified(events)
    assert signed_part(body) == stringified(events[0])
    assert signed_part(stringified(events[0])) == stringified(events[0])
    assert is_signed(SECRET, body, sign(stringified(events[0])))


def test_one_bit_of_the_event_or_its_signature_is_another():
    body = stringified([EVENT, EVENT])
    part, good = stringified(EVENT), sign(stringified(EVENT))
    for at in range(8, (len(part) + 1) * 8):
        turned = bytearray(body)
        turned[at // 8] ^= 1 << at % 8
        assert not is_signed(SECRET, bytes(turned), good)
    for at in range(len(good) * 8):
        turned = bytearray(good.encode())
        turned[at // 8] ^= 1 << at % 8
        text = turned.decode("latin-1")
        assert text.lower() == good or not is_signed(SECRET, body, text)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"[", b"[[", b'"x"', b"\xff", b"[" * 100_000])
async def test_what_is_no_event_is_refused(body: bytes):
    async with world() as there:
        assert (await post(there, "/inbound/segment/k", body))[0] == 400
        assert there.server.events == []


async def test_four_thousand_events_are_taken_and_more_are_not():
    async with world() as there:
        events = [{**EVENT, "messageId": f"m{number}"} for number in range(EVENTS_MAX)]
        assert (await post(there, "/inbound/segment/k", stringified(events)))[0] == 202
        assert [e.event_id for e in there.server.events] == [e["messageId"] for e in events]
        assert (await post(there, "/inbound/segment/k", stringified([*events, EVENT])))[0] == 400
        assert (await post(there, "/inbound/segment/k", b" " * (16 * 1024 * 1024 + 1)))[0] == 413


async def test_what_cannot_be_taken_now_comes_again():
    async with world() as there:
        for code, status in (
            (grpc.StatusCode.UNAVAILABLE, 503),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
            (grpc.StatusCode.UNAUTHENTICATED, 401),
        ):
            there.server.refusal = (code, 3)
            assert (await post(there, "/inbound/segment/k", stringified(EVENT)))[0] == status
        there.server.refusal = None
        assert (await post(there, "/inbound/segment/k", stringified(EVENT)))[0] == 202


async def test_one_event_that_is_none_harms_no_other():
    async with world() as there:
        events = [{"type": "erase", "userId": "ana"}, 7, EVENT]
        status, _ = await post(there, "/inbound/segment/k", stringified(events))
        assert status == 202
        assert [event.WhichOneof("call") for event in there.server.events] == [None, None, "track"]


async def test_a_key_that_no_header_can_carry_is_not_known():
    async with world() as there:
        assert (await post(there, "/inbound/segment/%00", stringified(EVENT)))[0] == 401
        assert (await post(there, "/inbound/segment/" + "k" * 257, stringified(EVENT)))[0] == 401


async def member(there: World, method: str, path: str) -> int:
    headers = {"Authorization": "Bearer up_key"}
    async with there.http.request(method, there.url + path, headers=headers) as response:
        return response.status


async def test_courier_s_lists_are_traits():
    async with world() as there:
        path = "/lists/vip-aud_1/subscriptions/ana%40home"
        assert [await member(there, method, path) for method in ("PUT", "DELETE")] == [204, 204]
        found = [as_dict(event) for event in there.server.events]
        assert [event["user_id"] for event in found] == ["ana@home", "ana@home"]
        traits = [event["identify"]["traits"] for event in found]
        assert traits == [{"vip-aud_1": True}, {"vip-aud_1": False}]
        assert there.server.credentials == ["Bearer up_key"] * 2
        assert await member(there, "GET", path) == 405
        assert await member(there, "PUT", f"/lists/{'x' * 256}/subscriptions/ana") == 400
        there.server.ingest_reason = "INVALID_USER_ID"
        assert await member(there, "PUT", path) == 400


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 200),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.UNAVAILABLE, 503),
    ],
)
async def test_courier_s_test_of_the_key_asks_whether_it_may_ingest(
    code: grpc.StatusCode, status: int
) -> None:
    async with world() as there:
        there.server.refusal = (code, None)
        answer = await post(there, "/debug", b"{}", Authorization="Bearer k")
        assert answer[0] == status
