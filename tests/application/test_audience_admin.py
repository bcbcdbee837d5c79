"""Looking at audiences: how they stand, who is in them, why; and what a filling bears."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.world import DAY, World, world
from upshotd.application import audience_admin, filling
from upshotd.application.admin import Admin
from upshotd.application.audience_admin import AudienceAdmin
from upshotd.application.filling import Stage
from upshotd.domain.audience import Audience, Did, Engaged, Holds, InGroup, Not, Often
from upshotd.domain.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import AudienceFill, FillResult
from upshotd.domain.values import replace

ANA, BEN = (IdKind.USER, "ana"), (IdKind.USER, "ben")
PAID = Audience("paid", Did("Paid", often=Often(at_least=2, within_us=DAY)))


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as running:
        yield running


def admin(here: World) -> AudienceAdmin:
    return AudienceAdmin(here.store, here.audiences, here.book, here.clock)


async def test_it_says_how_an_audience_stands_and_who_is_in_it(here: World) -> None:
    await here.define_audience(PAID)
    for name in ("ana", "ben", "cleo"):
        await here.track(name, "Paid")
        await here.track(name, "Paid")
    looking = admin(here)
    shown = await looking.show("default", "paid", 0)
    assert (shown.kept.thing.audience_id, shown.kept.version, shown.members) == ("paid", 1, 3)
    assert shown.filling is not None
    assert shown.filling.stage is Stage.DONE
    first = await looking.members("default", "paid", 2, "")
    rest = await looking.members("default", "paid", 2, first.next_page_token)
    names = [one.profile.user_id for one in (*first.items, *rest.items)]
    assert sorted(names) == ["ana", "ben", "cleo"]
    assert all(one.reason.startswith('did "Paid" 2 times') for one in first.items)
    with pytest.raises(NotFound):
        await looking.members("default", "nothing", 2, "")
    with pytest.raises(NotFound):
        await looking.show("default", "paid", 9)


async def test_it_says_why_somebody_is_in_it_and_why_somebody_else_is_not(here: World) -> None:
    await here.define_audience(PAID)
    await here.track("ana", "Paid")
    await here.track("ana", "Paid")
    await here.track("ben", "Paid")
    looking = admin(here)
    found = await looking.why("default", "paid", ANA)
    assert found.membership.member
    assert found.membership.due_us is not None
    found = await looking.why("default", "paid", BEN)
    assert not found.membership.member
    assert found.reason == 'did not do "Paid" 2 times within 1 d (1 so far)'
    for audience_id, who in (("nothing", ANA), ("paid", (IdKind.USER, "nobody"))):
        with pytest.raises(NotFound):
            await looking.why("default", audience_id, who)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Not(InGroup("acme")), "is not in the group acme"),
        (Holds("traits.vip == true"), "not traits.vip == true"),
        (Did("Seen", often=Often(within_us=90_000_000)), 'did not do "Seen" within 90 s'),
        (Did("Paid", often=Often(within_us=1)), 'did not do "Paid" within 1e-06 s (last 20'),
        (Did("Paid", often=Often(ago_us=3 * DAY)), 'did not do "Paid" 3 d ago (first 20'),
        (Engaged((EngagementKind.OPENED,)), "not opened messages"),
        (Engaged(ignored=True, workflow_id="hi"), "not ignored messages of hi"),
    ],
)
async def test_reasons_are_words(here: World, rule: object, reason: str) -> None:
    await here.define_audience(Audience("them", rule))  # type: ignore[arg-type]
    await here.track("ana", "Paid")
    await here.advance(1)
    found = await admin(here).why("default", "them", ANA)
    assert found.reason.startswith(reason)


async def test_of_whom_nobody_has_looked_at_yet_no_moment_is_named(here: World) -> None:
    await here.track("ana", "Paid")
    await here.define_audience(PAID, fill=False)
    for _ in range(2):
        found = await admin(here).why("default", "paid", ANA)
        assert (found.membership.ready, found.membership.due_us) == (False, None)
        assert found.reason == "not everybody was looked at since version 1 was defined"
        await here.track("ana", "Paid")


async def test_who_was_in_it_is_until_somebody_looks_by_the_new_definition(here: World) -> None:
    await here.define_audience(Audience("them", Did("Paid")))
    await here.track("ana", "Paid")
    await here.define_audience(Audience("them", Not(Did("Paid"))), fill=False)
    found = await admin(here).why("default", "them", ANA)
    assert found.membership.member
    text = 'not everybody was looked at since version 2 was defined; before that: did "Paid" (at 20'
    assert found.reason.startswith(text)


async def test_of_who_is_erased_it_says_that_and_nothing_of_the_rule(here: World) -> None:
    await here.define_audience(Audience("them", Not(Did("Paid"))))
    await here.identify("ana", city="Lisbon")
    await here.ingest(Event("d", EventType.DELETE, "ana"))
    found = await admin(here).why("default", "them", ANA)
    assert (found.membership.member, found.reason) == (False, "was erased")


async def test_there_are_only_so_many_audiences(here: World, monkeypatch) -> None:
    monkeypatch.setattr(audience_admin, "AUDIENCES_MAX", 1)
    looking = admin(here)
    await looking.define("default", PAID, validate_only=False)
    assert (await looking.define("default", PAID, validate_only=True)).unchanged
    with pytest.raises(InvalidArgument, match="at most 1"):
        await looking.define("default", Audience("other", Did("Paid")), validate_only=False)


async def test_a_filling_waits_where_the_loop_is_full_and_goes_on_after_trouble(
    here: World, monkeypatch
) -> None:
    await here.track("ana", "Paid")
    await here.define_audience(Audience("once", Did("Paid")), fill=False)
    ask, trouble = here.loop.ask, [ResourceExhausted("full"), Unavailable("the store is away")]

    async def troubled(workspace_id, stimuli):
        if trouble:
            raise trouble.pop(0)
        return await ask(workspace_id, stimuli)

    monkeypatch.setattr(here.loop, "ask", troubled)
    monkeypatch.setattr(filling, "INTERVAL_US", 1)
    running = asyncio.create_task(here.fillings.run())
    while await here.members("once") != {"ana"}:
        await asyncio.sleep(0)
    running.cancel()
    assert not trouble


async def test_what_is_told_of_another_version_or_nobody_changes_nothing(here: World) -> None:
    await here.define_audience(PAID)
    told = AudienceFill("paid", 9, "nobody", {})
    assert await here.loop.ask("default", [told]) == [FillResult(stale=True)]
    told = AudienceFill("paid", 1, "nobody", {}, last=True)
    assert await here.loop.ask("default", [told]) == [FillResult()]


async def test_a_profile_names_the_audiences_that_somebody_is_in(here: World) -> None:
    again = replace(PAID, audience_id="again")
    for audience in (PAID, again, Audience("often", Did("Paid", often=Often(at_least=3)))):
        await here.define_audience(audience)
    for name in ("ana", "ana", "ben"):
        await here.track(name, "Paid")
    looking = Admin(here.store)
    assert list((await looking.profile("default", ANA)).audience_ids) == ["again", "paid"]
    assert list((await looking.profile("default", (IdKind.USER, "ben"))).audience_ids) == []
    await here.define_audience(replace(PAID, rule=Did("Nothing")))
    await here.settle()
    assert list((await looking.profile("default", ANA)).audience_ids) == ["again"]
