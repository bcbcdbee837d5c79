"""API keys: known again by every process, and no more once they are revoked."""

import asyncio

import pytest

from tests.fakes import ManualClock
from upshotd.adapters.memory import MemoryStore
from upshotd.application.credentials import Caller, KeyCredentials
from upshotd.application.keys import OF_KEYS, REFRESH_US, Key, Keys, Scope, allowed_workspace
from upshotd.application.quotas import Quotas
from upshotd.domain.errors import (
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from upshotd.domain.language import Link

ROOT = "root-" + "r" * 32


def store() -> MemoryStore:
    return MemoryStore(encode_outcome=lambda *_: b"")


class World:
    """Two processes on one store."""

    def __init__(self) -> None:
        self.store, self.clock = store(), ManualClock()
        self.here, self.there = (Keys(self.store, self.clock) for _ in range(2))

    async def made(self, *scopes: Scope, workspace: str = "acme") -> tuple[Key, str]:
        return await self.here.create(workspace, scopes or [Scope.INGEST], "a label")


async def test_a_key_is_known_by_its_text_here_and_elsewhere():
    w = World()
    key, text = await w.made(Scope.INGEST, Scope.STREAM)
    assert text.startswith(f"up_{key.key_id}_")
    assert await w.here.find(text) == key
    assert await w.there.find(text) == key, "looked for at once"
    assert key.scopes == {Scope.INGEST, Scope.STREAM}
    assert text.split("_", 2)[2] not in repr(key)


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t[:-1], lambda t: t[:-1] + "!", lambda _: ""]
)
async def test_another_text_is_no_key(change: object):
    w = World()
    _, text = await w.made()
    assert await w.here.find(change(text)) is None  # type: ignore[operator]
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert await w.here.find(other) is None


async def test_guessing_asks_the_store_four_times_a_second_at_most():
    w = World()
    asked = 0
    read = w.store.settings

    async def settings(prefix: str) -> dict[str, str]:
        nonlocal asked
        asked += 1
        return await read(prefix)

    w.store.settings = settings  # type: ignore[method-assign]
    w.clock.advance(REFRESH_US)
    for number in range(100):
        assert await w.here.find(f"up_{number:016x}_{'x' * 43}") is None
    assert asked == 1
    w.clock.advance(REFRESH_US)
    await w.here.find(f"up_{0:016x}_{'x' * 43}")
    assert asked == 2


async def test_a_revoked_key_is_none_and_whoever_asked_is_told():
    w = World()
    key, text = await w.made()
    await w.there.refresh()
    told: list[str] = []
    w.here.on_revoked = w.there.on_revoked = told.extend
    revoked = await w.here.revoke("acme", key.key_id)
    assert revoked.revoke_us == w.clock.now_us()
    assert await w.here.find(text) is None
    assert told == [key.key_id]
    assert await w.there.find(text) == key, "until it reads again"
    await w.there.refresh()
    assert await w.there.find(text) is None
    assert told == [key.key_id] * 2
    assert await w.here.revoke("acme", key.key_id) == revoked
    await w.there.refresh()
    assert len(told) == 2, "once each"


async def test_keys_are_read_again_and_again_also_when_the_store_was_away():
    w = World()
    key, text = await w.made()
    await w.there.refresh()
    reading = asyncio.create_task(w.there.run())
    read = w.store.settings

    async def away(_prefix: str) -> dict[str, str]:
        raise Unavailable("away")

    w.store.settings = away  # type: ignore[method-assign]
    await asyncio.sleep(0)
    w.clock.advance(REFRESH_US)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await w.there.find(text) == key, "what was known holds"
    w.store.settings = read  # type: ignore[method-assign]
    await w.here.revoke("acme", key.key_id)
    for _ in range(3):
        w.clock.advance(REFRESH_US)
        for _ in range(5):
            await asyncio.sleep(0)
    assert await w.there.find(text) is None
    reading.cancel()


async def test_keys_are_listed_and_revoked_in_their_workspace():
    w = World()
    first, _ = await w.made()
    w.clock.advance(1)
    second, _ = await w.made(Scope.ADMIN)
    await w.made(workspace="blue")
    assert await w.there.list("acme") == [second, first]
    for workspace, key_id in (("blue", first.key_id), ("acme", "nobody")):
        with pytest.raises(NotFound):
            await w.here.revoke(workspace, key_id)


async def test_all_faults_of_a_key_are_named():
    w = World()
    with pytest.raises(InvalidArgument) as raised:
        await w.here.create("No", [Scope.ROOT], "x" * 101)
    assert {fault.field for fault in raised.value.violations} == {"scopes", "label", "workspace_id"}
    assert await w.here.list("No") == []


def test_only_the_root_key_names_a_workspace():
    assert allowed_workspace("acme", "") == allowed_workspace("acme", "acme") == "acme"
    assert allowed_workspace("", "blue") == "blue"
    with pytest.raises(PermissionDenied):
        allowed_workspace("acme", "blue")
    with pytest.raises(InvalidArgument):
        allowed_workspace("", "")


def credentials(w: World, *, required: bool, root: str = ROOT) -> KeyCredentials:
    signed = {"good": Link("k", "linked", "m"), "page": Link("p", "linked", "m")}
    return KeyCredentials(w.here, signed.get, root_key=root, required=required)


async def test_where_keys_are_required_a_call_is_a_key_a_link_or_nothing():
    w = World()
    known = credentials(w, required=True)
    key, text = await w.made(Scope.STREAM)
    caller = await known.caller(f"Bearer {text}")
    assert (caller.workspace_id, caller.scopes, caller.key_id) == (
        "acme",
        {Scope.STREAM},
        key.key_id,
    )
    assert (await known.caller(f"bearer {ROOT}")).scopes == {Scope.ROOT}
    link = await known.caller("Link good")
    assert (link.workspace_id, link.scopes) == ("linked", {Scope.LINK})
    assert link.link == Link("k", "linked", "m")
    page = await known.caller("Link page")
    assert page.scopes == {Scope.CHOICE}
    wrong = (None, "", "Bearer", "Bearer x", f"Basic {text}", "Link bad", f"Bearer {ROOT}x")
    for authorization in wrong:
        with pytest.raises(Unauthenticated):
            await known.caller(authorization)
    with pytest.raises(Unauthenticated):
        await credentials(w, required=True, root="").caller("Bearer ")


async def test_where_none_is_required_a_key_counts_all_the_same():
    w = World()
    known = credentials(w, required=False)
    _, text = await w.made(Scope.STREAM)
    assert (await known.caller(f"Bearer {text}")).scopes == {Scope.STREAM}
    assert (await known.caller(f"Bearer {ROOT}")).scopes == {Scope.ROOT}
    for authorization in (None, "Bearer any", "Basic x", "Bearer up_0123456789abcdef_" + "x" * 43):
        caller = await known.caller(authorization)
        assert (caller.workspace_id, caller.scopes) == ("default", OF_KEYS)
    with pytest.raises(Unauthenticated):
        await known.caller("Link bad")


# -- quotas --------------------------------------------------------------------------------------


def caller(key_id: str = "k", rate: int = 10) -> Caller:
    return Caller("acme", frozenset({Scope.INGEST}), key_id, rate)


async def test_a_key_keeps_its_rate_and_those_without_one_have_the_default():
    w = World()
    _, quick = await w.here.create("acme", [Scope.INGEST], "", 500)
    _, plain = await w.made()
    credentials = KeyCredentials(w.there, {}.get, root_key=ROOT, required=True, rate=20)
    rates = [(await credentials.caller(f"Bearer {text}")).rate for text in (quick, plain, ROOT)]
    assert rates == [500, 20, 0], "the root key makes keys, and has none"
    assert (
        await KeyCredentials(w.there, {}.get, required=True).caller(f"Bearer {plain}")
    ).rate == 0
    assert [key.rate for key in await w.there.list("acme")] in ([0, 500], [500, 0])


@pytest.mark.parametrize("rate", [-1, 1_000_001])
async def test_a_rate_that_cannot_be_is_named(rate: int):
    with pytest.raises(InvalidArgument) as refused:
        await World().here.create("acme", [Scope.INGEST], "", rate)
    assert [fault.field for fault in refused.value.violations] == ["rate"]


async def test_a_key_made_before_there_were_quotas_still_works():
    w = World()
    key, text = await w.made()
    (name, value), *_ = (await w.store.settings("key/")).items()
    await w.store.put_setting(name, value.rpartition(",")[0] + "]")
    found = await w.there.find(text)
    assert found == key


def test_over_its_quota_a_caller_is_told_when_to_come_again():
    clock = ManualClock()
    quotas = Quotas(clock)
    quotas.charge(caller(), 25)
    with pytest.raises(ResourceExhausted) as refused:
        quotas.charge(caller(), 1)
    assert refused.value.reason == "QUOTA_EXCEEDED"
    assert refused.value.retry_after_us == 1_600_000
    assert refused.value.metadata == {"quota": "10/s", "key_id": "k"}
    quotas.charge(caller("another"), 1)
    clock.advance(1_600_000)
    quotas.charge(caller(), 1)


def test_repetitions_cost_nothing():
    quotas = Quotas(ManualClock())
    for _ in range(100):
        quotas.charge(caller(), 9)
        quotas.give_back(caller(), 9)
    quotas.give_back(caller(), 0)
    quotas.charge(caller(), 1)
