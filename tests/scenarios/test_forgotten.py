"""A person who wants to be forgotten, and everything that comes too late. On every store."""

from pathlib import Path

import pytest

from tests.dumps import dump, files
from tests.flows import delay, track
from tests.stores import opened
from tests.world import DAY, HOUR, MINUTE, World, world
from upshot.v1 import outcome_pb2 as pb
from upshotd.adapters.grpc.codec import ContractCodec
from upshotd.application.erasing import Erasing
from upshotd.domain.errors import Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import Channel, Email
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.state import IdKind
from upshotd.domain.steps.send import Send
from upshotd.domain.stimulus import EngagementState, IngestState, SuppressionSet
from upshotd.domain.values import replace
from upshotd.domain.workflow import Step

ANA = (IdKind.USER, "u-17")
#: What must be nowhere afterwards: no two of them are parts of each other.
CANARIES = (
    *("ana@canary.example", "Anastasia", "+15550017", "192.0.2.17", "gold-plan-17"),
    *("https://example.com/ana-17", "yes please 17", "old-address@canary.example", "browsed-17"),
)


def erasing(scenario: World) -> Erasing:
    return Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)


async def finish(scenario: World) -> None:
    """Let the background work come to its end."""
    await erasing(scenario).finish()


async def a_life(scenario: World, *, complains: bool = True) -> str:
    """Let a person do all there is to do; return the message they got."""
    mail = Email("{{ traits.first_name }}", text="{{ event.properties.plan }} {{ traits.email }}")
    send = Step("tell", Send(Channel.EMAIL, (mail,)))
    never = track("Bought", Step("x", Send(Channel.EMAIL, (mail,))), workflow_id="never")
    never = replace(never, trigger=replace(never.trigger, condition="event.properties.plan == ''"))
    await scenario.define(track("Bought", send, delay("later", HOUR)), never)
    who = {"first_name": "Anastasia", "phone": "+15550017", "ip": "192.0.2.17"}
    looked = Event("e-a", EventType.TRACK, "", "a-17", name="Looked")
    await scenario.ingest(looked._replace(properties={"what": "browsed-17"}))
    former = Event("e-b", EventType.IDENTIFY, "u-17", "a-17")
    await scenario.ingest(former._replace(traits={"email": "old-address@canary.example", **who}))
    await scenario.track("u-17", "Bought", properties={"plan": "gold-plan-17"})
    await scenario.advance(2 * HOUR)
    await scenario.identify("u-17", email="ana@canary.example")
    await scenario.track("u-17", "Bought", properties={"plan": "gold-plan-17"})
    await scenario.settle()
    message_id = scenario.email.ledger[-1].message_id
    for kind, fields in (
        (EngagementKind.CLICKED, {"link_url": "https://example.com/ana-17"}),
        (EngagementKind.REPLIED, {"data": {"body": "yes please 17"}, "reason": "192.0.2.17"}),
    ):
        await scenario.engage(message_id, kind, **fields)
    if complains:
        await scenario.engage(message_id, EngagementKind.COMPLAINED)
    broken = Event("", EventType.GROUP, "u-17", traits={"email": "ana@canary.example"})
    assert (await scenario.ingest(broken))[0].state is IngestState.REJECTED
    return message_id


async def forget(scenario: World) -> None:
    assert await erasing(scenario).erase("default", ANA) == scenario.clock.now_us()


async def test_nothing_is_left_of_them_in_any_row_or_in_the_log(scenario: World) -> None:
    await a_life(scenario)
    before = await dump(scenario.store)
    assert all(canary in before for canary in CANARIES), "the search finds what is there"
    await forget(scenario)
    await finish(scenario)
    after = await dump(scenario.store)
    assert [canary for canary in CANARIES if canary in after] == []
    kinds = [pb.OutcomeKind.Name(o.kind) for o in await scenario.outcomes()]
    assert kinds[-1] == "OUTCOME_KIND_PROFILE_ERASED"
    assert "OUTCOME_KIND_MESSAGE_CLICKED" in kinds, "what happened stays, to whom does not"


async def test_nothing_is_left_in_the_files_of_sqlite_either(tmp_path: Path) -> None:
    encode = ContractCodec().encode_outcome
    async with opened("sqlite", tmp_path, encode=encode) as store, world(store) as scenario:
        await a_life(scenario)
        assert b"Anastasia" in files(tmp_path)
        await forget(scenario)
        await finish(scenario)
        left = files(tmp_path)
    assert [canary for canary in CANARIES if canary.encode() in left] == []


async def test_a_crash_in_between_is_made_up_for(scenario: World) -> None:
    await a_life(scenario)
    await forget(scenario)

    class Cut(Erasing):
        async def _log(self, *_: object) -> None:
            raise Unavailable("the process was killed here")

    await scenario.advance(MINUTE)
    with pytest.raises(Unavailable):
        await Cut(scenario.store, scenario.loop, scenario.clock, scenario.codec).finish()
    assert "yes please 17" in await dump(scenario.store)
    await finish(scenario)
    assert "yes please 17" not in await dump(scenario.store)
    await finish(scenario)  # there is nothing left to do


async def test_what_comes_late_creates_nothing(scenario: World) -> None:
    message_id = await a_life(scenario)
    happened_us = scenario.clock.now_us()
    await scenario.advance(MINUTE)
    await forget(scenario)
    await finish(scenario)
    kept = len(await scenario.outcomes())
    sent = len(scenario.email.ledger) + len(scenario.sms.ledger)
    late = Event("late", EventType.TRACK, "u-17", name="Bought", event_us=happened_us)
    late = scenario.event(late)._replace(event_us=happened_us)
    (answer,) = await scenario.loop.ingest("default", [late])
    assert (answer.state, answer.reason) == (IngestState.REJECTED, "ERASED")
    told = await scenario.engage(message_id, EngagementKind.OPENED, data={"ip": "192.0.2.17"})
    assert (told.state, told.reason) == (EngagementState.REJECTED, "ERASED")
    await scenario.advance(40 * DAY)
    assert len(await scenario.outcomes()) == kept
    assert len(scenario.email.ledger) + len(scenario.sms.ledger) == sent
    assert "192.0.2.17" not in await dump(scenario.store)


async def test_who_comes_back_begins_anew_and_is_not_erased_with_what_was(scenario: World) -> None:
    await a_life(scenario, complains=False)
    await forget(scenario)
    await scenario.advance(MINUTE)
    await scenario.identify("u-17", email="new@canary.example", first_name="Ann")
    await scenario.track("u-17", "Bought", properties={"plan": "silver"})
    await scenario.settle()
    assert scenario.email.ledger[-1].recipient == "new@canary.example"
    await finish(scenario)
    after = await dump(scenario.store)
    assert "new@canary.example" in after
    assert "Anastasia" not in after


async def test_who_complained_is_left_in_peace_under_another_name(scenario: World) -> None:
    await a_life(scenario)
    await forget(scenario)
    await scenario.identify("u-18", email="ana@canary.example", first_name="Ann")
    await scenario.track("u-18", "Bought", properties={"plan": "x"})
    await scenario.settle()
    assert (await scenario.story("u-18"))[-1] == "SUPPRESSED EMAIL"


async def test_a_list_without_them_stays_as_it_was(scenario: World) -> None:
    held = Suppression(Channel.EMAIL, reason="BOUNCED")
    await scenario.loop.ask("default", [SuppressionSet(held, "email:ben@canary.example")])
    await forget(scenario)
    await finish(scenario)
    assert "ben@canary.example" in await dump(scenario.store)
