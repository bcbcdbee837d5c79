"""Strangers who turn out to be somebody while an audience is filled: nothing they did is missed."""

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.flows import delay, email, track
from tests.world import World, world
from upshotd.application import filling
from upshotd.domain.audience import Audience, Did, Engaged
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import Answer, AudienceFill, Stimulus

OPENED = Audience("them", Engaged((EngagementKind.OPENED,)))
PAID = Audience("them", Did("Paid"))
ANA, BEN, STRANGER = (IdKind.USER, "ana"), (IdKind.USER, "ben"), (IdKind.ANONYMOUS, "stranger")


@pytest.fixture
async def here(monkeypatch) -> AsyncIterator[World]:
    monkeypatch.setattr(filling, "PEOPLE", 1)
    async with world() as running:
        await running.identify("ana", city="Lisbon")
        await running.identify("ben", city="Porto")
        yield running


async def stranger(here: World, name: str) -> None:
    await here.ingest(Event(f"s-{name}", EventType.TRACK, anonymous_id="stranger", name=name))


async def known_as_ana(here: World) -> None:
    await here.ingest(Event("alias", EventType.ALIAS, "ana", previous_id="stranger"))


async def who(here: World, identity: tuple[IdKind, str]) -> str:
    found = await here.store.profile("default", identity)
    assert found is not None
    return found[0].profile_id


def told_last(profile_id: str) -> Callable[[Stimulus], bool]:
    def last(stimulus: Stimulus) -> bool:
        fill = isinstance(stimulus, AudienceFill) and stimulus.last
        return fill and stimulus.profile_id == profile_id

    return last


async def opened_by_the_stranger(here: World) -> None:
    """A stranger gets an e-mail and opens it, before the audience is defined."""
    await here.define(track("Go", email(subject="Hello"), delay()))
    traits = {"email": "stranger@example.com"}
    await here.ingest(Event("s", EventType.IDENTIFY, anonymous_id="stranger", traits=traits))
    await stranger(here, "Go")
    await here.settle()
    (message_id,) = {o.message_id for o in await here.outcomes()} - {""}
    await here.engage(message_id, EngagementKind.OPENED)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_a_stranger_opened_counts_also_where_ana_is_looked_at_first(
    here: World, monkeypatch, when: str
) -> None:
    await opened_by_the_stranger(here)
    await here.define_audience(OPENED, fill=False)
    ask, hers = here.loop.ask, told_last(await who(here, ANA))

    async def merging(workspace_id: str, stimuli: Sequence[Stimulus]) -> Sequence[Answer]:
        meant = any(map(hers, stimuli))
        if meant and when == "before":  # what her messages say was read already
            await known_as_ana(here)
        answers = await ask(workspace_id, stimuli)
        if meant and when == "after":
            await known_as_ana(here)
        return answers

    monkeypatch.setattr(here.loop, "ask", merging)
    await here.fillings.finish()
    assert await here.members("them") == {"ana"}


async def test_nobody_is_left_unready_by_a_stranger_who_is_looked_at_at_the_very_end(
    here: World, monkeypatch
) -> None:
    await stranger(here, "Seen")
    await here.define_audience(PAID, fill=False)
    ask = here.loop.ask
    strange, bens = told_last(await who(here, STRANGER)), told_last(await who(here, BEN))
    looked: list[str] = []

    async def meanwhile(workspace_id: str, stimuli: Sequence[Stimulus]) -> Sequence[Answer]:
        answers = await ask(workspace_id, stimuli)
        if any(map(strange, stimuli)):  # everybody was looked at; now they do something
            await here.track("ben", "Paid")
            await stranger(here, "Paid")
        elif any(map(bens, stimuli)):
            looked.append("ben")
            if len(looked) == 2:  # at the end once more, and the stranger comes after him
                await known_as_ana(here)
        return answers

    monkeypatch.setattr(here.loop, "ask", meanwhile)
    await here.fillings.finish()
    assert len(looked) == 2
    assert await here.members("them") == {"ana", "ben"}
    assert await here.store.audience_rows.unready("default", "them", "", 9) == []
