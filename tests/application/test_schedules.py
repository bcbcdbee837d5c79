"""Schedules over everybody: each time once for each person, whatever happens in between."""

import asyncio

import pytest

from tests.flows import DAY, delay, email
from tests.sim import HOUR, MINUTE
from tests.stores import KINDS, opened
from tests.world import World, world
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application import schedules
from upshotd.application.schedules import Schedules
from upshotd.domain.audience import Audience, Did
from upshotd.domain.errors import ResourceExhausted, Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import OutcomeKind
from upshotd.domain.schedule import Schedule
from upshotd.domain.state import IdKind
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode, Trigger, Workflow

RUN_STARTED = OutcomeKind.RUN_STARTED
ALWAYS = Reentry(ReentryMode.ALWAYS)


def every(cron: str, condition: str = "", **fields: object) -> Workflow:
    trigger = Trigger(EventType.SCHEDULED, condition=condition, schedule=Schedule(cron))
    return Workflow("digest", replace(trigger, **fields), (email(),), reentry=ALWAYS)


@pytest.fixture(params=KINDS)
async def here(request, tmp_path):
    encode = ContractCodec().encode_outcome
    async with opened(request.param, tmp_path, encode=encode) as store, world(store) as running:
        yield running


async def people(here: World, *names: str, plan: str = "pro") -> None:
    for name in names:
        await here.identify(name, email=f"{name}@example.com", first_name=name, plan=plan)


async def starts(here: World) -> list[str]:
    """Return who started, in order."""
    return [o.user_id or o.anonymous_id for o in await here.outcomes() if o.kind == RUN_STARTED]


async def test_everybody_who_meets_the_condition_starts_at_each_time(here: World) -> None:
    await people(here, "ana", "ben")
    await people(here, "cleo", plan="free")
    await here.loop.ingest(
        "default", [here.event(Event("x", EventType.TRACK, "", "anon", name="N"))]
    )
    await here.define(every("0 * * * *", 'traits.plan == "pro"'))
    await here.lab.advance(HOUR)
    assert sorted(await starts(here)) == ["ana", "ben"]
    await here.lab.advance(2 * HOUR)
    assert len(await starts(here)) == 6
    found = await here.store.profile("default", (IdKind.USER, "ana"))
    assert found is not None
    assert {message.recipient for message in here.email.ledger} == {
        "ana@example.com",
        "ben@example.com",
    }


async def test_without_a_condition_it_is_everybody_by_whatever_id(here: World) -> None:
    await people(here, "ana")
    await here.loop.ingest(
        "default", [here.event(Event("x", EventType.TRACK, "", "anon", name="N"))]
    )
    await here.define(every("0 * * * *"))
    await here.lab.advance(HOUR)
    assert sorted(await starts(here)) == ["ana", "anon"]


async def test_the_condition_may_ask_in_which_audiences_people_are(here: World) -> None:
    await here.define_audience(Audience("active", Did("Used")))
    await people(here, "ana", "ben")
    await here.track("ana", "Used")
    await here.define(every("0 * * * *", '!("active" in profile.audiences)'))
    await here.lab.advance(HOUR)
    assert await starts(here) == ["ben"]
    await here.define(every("0 * * * *", '"active" in profile.audiences'))
    await here.lab.advance(HOUR)
    assert await starts(here) == ["ben", "ana"]


async def test_the_event_says_which_schedule_and_when(here: World) -> None:
    await people(here, "ana")
    await here.define(every("0 * * * *"))
    began = here.clock.now_us()
    await here.lab.advance(HOUR)
    (started,) = [o for o in await here.outcomes() if o.kind == RUN_STARTED]
    kept = await here.store.event("default", started.event_id)
    assert kept is not None
    event = here.codec.decode_event(kept.stored)
    assert (event.type, event.name, event.event_us) == (EventType.SCHEDULED, "digest", began + HOUR)
    assert [e.reason for e in kept.explanations] == ["STARTED"]


async def test_pages_of_people_are_gone_through_to_the_end(here: World, monkeypatch) -> None:
    monkeypatch.setattr(schedules, "PAGE", 2)
    await people(here, *(f"p{n}" for n in range(5)))
    await here.define(every("0 * * * *"))
    await here.lab.advance(HOUR)
    assert sorted(await starts(here)) == [f"p{n}" for n in range(5)]


async def test_a_stranger_who_turns_out_to_be_somebody_between_two_pages_starts_once(
    here: World, monkeypatch
) -> None:
    monkeypatch.setattr(schedules, "PAGE", 1)
    traits = {"email": "stranger@example.com", "first_name": "S"}
    await here.ingest(Event("s", EventType.IDENTIFY, anonymous_id="stranger", traits=traits))
    await people(here, "ana", "ben")
    await here.define(every("0 * * * *"))
    ingest = here.loop.ingest

    async def merging(workspace_id, events):
        answers = await ingest(workspace_id, events)
        if events and events[0].anonymous_id == "stranger":
            alias = Event("alias", EventType.ALIAS, "ana", previous_id="stranger")
            await ingest(workspace_id, [here.event(alias)])
        return answers

    monkeypatch.setattr(here.loop, "ingest", merging)
    await here.lab.advance(HOUR)
    assert await starts(here) == ["stranger", "ben"]
    await here.lab.advance(HOUR)
    assert sorted((await starts(here))[2:]) == ["ana", "ben"]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_crash_in_the_middle_starts_nobody_twice_and_leaves_nobody_out(
    here: World, monkeypatch, taken: bool
) -> None:
    monkeypatch.setattr(schedules, "PAGE", 2)
    await people(here, *(f"p{n}" for n in range(6)))
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    ingest, calls = here.loop.ingest, []

    async def fails(workspace_id, events):
        calls.append(events)
        if len(calls) == 2:
            if taken:  # and nobody heard of it
                await ingest(workspace_id, events)
            raise Unavailable("the answer was lost")
        return await ingest(workspace_id, events)

    monkeypatch.setattr(here.loop, "ingest", fails)
    here.clock.advance_to(here.clock.now_us() + HOUR)
    with pytest.raises(Unavailable):
        await here.schedules.fire()
    other = Schedules(here.store, here.loop, here.clock, here.codec, here.book)
    await other.fire()
    await here.settle()
    assert sorted(await starts(here)) == [f"p{n}" for n in range(6)]


async def test_a_full_inbox_is_waited_for(here: World, monkeypatch) -> None:
    await people(here, "ana")
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    ingest, refusals = here.loop.ingest, [ResourceExhausted("full"), ResourceExhausted("full")]

    async def full(workspace_id, events):
        if refusals:
            raise refusals.pop()
        return await ingest(workspace_id, events)

    monkeypatch.setattr(here.loop, "ingest", full)
    await here.lab.advance(HOUR)
    assert await starts(here) == ["ana"]


async def test_two_replicas_at_once_start_everybody_once(here: World) -> None:
    await people(here, *(f"p{n}" for n in range(20)))
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    other = Schedules(here.store, here.loop, here.clock, here.codec, here.book)
    here.clock.advance_to(here.clock.now_us() + HOUR)
    await asyncio.gather(here.schedules.fire(), other.fire())
    await here.settle()
    assert len(await starts(here)) == 20


async def test_a_replica_that_is_at_it_is_left_alone_until_its_time_is_over(
    here: World, monkeypatch
) -> None:
    await people(here, "ana")
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    here.clock.advance_to(here.clock.now_us() + HOUR)
    ingest = here.loop.ingest

    async def dies(*_):
        raise Unavailable("dead")

    monkeypatch.setattr(here.loop, "ingest", dies)
    with pytest.raises(Unavailable):
        await here.schedules.fire()
    monkeypatch.setattr(here.loop, "ingest", ingest)
    monkeypatch.setattr(type(here.book), "owner", "another")
    later_us = await here.schedules.fire()
    assert await starts(here) == []
    assert later_us == here.clock.now_us() + schedules.ALONE_US
    here.clock.advance_to(later_us)
    await here.schedules.fire()
    await here.settle()
    assert await starts(here) == ["ana"]


async def test_after_an_outage_the_last_time_is_made_up_for_and_no_other(here: World) -> None:
    await people(here, "ana")
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    here.clock.advance_to(here.clock.now_us() + 5 * HOUR + MINUTE)
    await here.lab.advance(0)
    assert await starts(here) == ["ana"]
    await here.lab.advance(HOUR)
    assert await starts(here) == ["ana", "ana"]


async def test_what_was_missed_for_too_long_is_passed_over(here: World) -> None:
    await people(here, "ana")
    await here.define(every("0 0 * * *", max_age_us=HOUR))
    await here.lab.advance(0)
    here.clock.advance_to(here.clock.now_us() + DAY + 2 * HOUR)
    await here.lab.advance(0)
    assert await starts(here) == []
    await here.lab.advance(DAY)
    assert await starts(here) == ["ana"]


async def test_who_comes_after_the_time_is_not_meant(here: World) -> None:
    await people(here, "ana")
    await here.define(every("0 * * * *"))
    await here.lab.advance(0)
    here.clock.advance_to(here.clock.now_us() + HOUR + MINUTE)
    await people(here, "late")
    await here.lab.advance(0)
    assert await starts(here) == ["ana"]


async def test_another_schedule_begins_with_its_definition_and_a_new_text_changes_none(
    here: World,
) -> None:
    await people(here, "ana")
    await here.define(every("0 */2 * * *"))
    await here.lab.advance(HOUR)  # one o'clock
    here.clock.advance_to(here.clock.now_us() + HOUR + MINUTE)
    await here.define(replace(every("0 */2 * * *"), display_name="Renamed"))
    await here.lab.advance(0)
    assert await starts(here) == ["ana"], "two o'clock is not forgotten by what changes no time"
    await here.define(every("0 1 * * *"))
    await here.lab.advance(0)
    assert await starts(here) == ["ana"], "one o'clock was over when it was defined"
    await here.lab.advance(DAY)
    assert await starts(here) == ["ana"] * 2
    await here.store.define("default", "digest", b"", None, here.clock.now_us())
    await here.lab.advance(2 * DAY)
    assert await starts(here) == ["ana"] * 2, "archived"


async def test_what_is_sent_is_spread_and_each_goes_once(here: World) -> None:
    names = [f"p{n}" for n in range(30)]
    await people(here, *names)
    spread = replace(
        delay("apart"), kind=replace(delay("apart").kind, duration_us=None, spread_us=HOUR)
    )
    flow = replace(every("0 * * * *"), steps=(spread, email()))
    await here.define(flow)
    await here.lab.advance(HOUR)
    assert not here.email.ledger
    await here.lab.advance(HOUR // 2)
    half = len(here.email.ledger)
    assert 5 <= half <= 25
    await here.store.define("default", "digest", b"", None, here.clock.now_us())
    await here.lab.advance(HOUR // 2)
    assert len(here.email.ledger) == 30


async def test_it_goes_by_itself_wakes_for_definitions_and_outlives_trouble(
    here: World, monkeypatch
) -> None:
    """The task of a server: it looks at once, when it is woken, and again after a failure."""
    await people(here, "ana")
    seen, fire = asyncio.Event(), here.schedules.fire
    answers: list[int | Exception | None] = [Unavailable("away"), here.clock.now_us(), None]

    async def told() -> int | None:
        answer = answers.pop(0) if answers else await fire()
        if not answers:
            seen.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(here.schedules, "fire", told)
    working = asyncio.create_task(here.schedules.run())
    await asyncio.wait_for(seen.wait(), 10)
    await here.define(every("0 * * * *"))
    seen.clear()
    here.schedules.wake()
    await asyncio.wait_for(seen.wait(), 10)
    working.cancel()
    await asyncio.wait({working})
    assert working.cancelled()
