"""A device that is gone is off the profile in every store, before the next push is decided."""

from pathlib import Path

import pytest

from tests.flows import track
from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.domain import devices
from upshotd.domain.message import Accepted, Channel, Deferred, Push, Refused
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.steps.send import Send
from upshotd.domain.workflow import Reentry, ReentryMode, Step

every_store = pytest.mark.parametrize("kind", KINDS)
GO = track(
    "Go",
    Step("tell", Send(Channel.PUSH, (Push("Hi", "there"),))),
    reentry=Reentry(ReentryMode.ALWAYS),
)


async def owners(w: World, *tokens: str) -> None:
    await w.define(GO)
    for token in tokens:
        await w.track("ana", "Opened", context={"device": {"token": token}})


async def kept(w: World) -> str:
    found = await w.store.profile("default", (IdKind.USER, "ana"))
    assert found is not None
    return found[0].contact.get("push_tokens", "")


async def asked(w: World) -> list[str]:
    """Let ana be told, and return which devices the provider was asked for since."""
    ledger = w.providers["pushes"].ledger
    before = len(ledger)
    await w.track("ana", "Go")
    await w.settle()
    return [delivery.recipient for delivery in ledger[before:]]


@every_store
async def test_the_next_push_does_not_go_to_it(kind: str, tmp_path: Path) -> None:
    encode = ContractCodec().encode_outcome
    async with opened(kind, tmp_path, encode=encode) as store, world(store) as w:
        await owners(w, "phone", "tablet", "watch")
        pushes = w.providers["pushes"]
        pushes.answers = [Accepted("m1", "2 of 3 devices", ("phone",))]
        assert await asked(w) == ["watch tablet phone"]
        assert await kept(w) == "watch tablet"
        pushes.answers = [Deferred("HTTP 503", gone=("watch",))]
        assert await asked(w) == ["watch tablet"]
        await w.advance(60_000_000)
        assert pushes.ledger[-1].recipient == "tablet", "the second attempt"
        pushes.answers = [Refused("DEVICE_GONE", "HTTP 404", ("tablet",))]
        assert await asked(w) == ["tablet"]
        assert await kept(w) == ""
        assert await asked(w) == []
        assert await w.story("ana") == [
            "SENT PUSH",
            "SENT PUSH",
            "UNDELIVERABLE PUSH",
            "UNROUTABLE PUSH",
        ]


@every_store
async def test_a_callback_takes_it_off_too(kind: str, tmp_path: Path) -> None:
    encode = ContractCodec().encode_outcome
    async with opened(kind, tmp_path, encode=encode) as store, world(store) as w:
        await owners(w, "phone", "tablet")
        await asked(w)
        message_id = w.providers["pushes"].ledger[0].message_id
        told = {devices.GONE: [devices.digest("tablet")]}
        await w.engage(message_id, EngagementKind.ACCEPTED, data=told)
        assert await kept(w) == "phone"
        assert await asked(w) == ["phone"]
