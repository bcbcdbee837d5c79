"""Who signed up and did not use the feature: an audience finds them by itself. On every store."""

import random

import pytest

from tests.dumps import dump
from tests.flows import delay, email, track, wait_engagement
from tests.scenarios.examples import documents_of
from tests.world import DAY, HOUR, MINUTE, START, World
from upshot.v1 import outcome_pb2 as pb
from upshotd.application import failpoints
from upshotd.application.erasing import Erasing
from upshotd.application.filling import Filling, Fillings, Stage, filling_of
from upshotd.domain.audience import (
    AllOf,
    Audience,
    Did,
    Engaged,
    Holds,
    Not,
    Often,
    Transition,
)
from upshotd.domain.errors import Unavailable
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.schedule import Schedule
from upshotd.domain.state import IdKind
from upshotd.domain.values import replace
from upshotd.domain.workflow import Trigger, Workflow

PAID = Audience("paid", Did("Paid", often=Often(at_least=2)))


async def told(scenario: World) -> list[str]:
    """Who came in and who left, as the log has it, with the word of the outcome."""
    kinds = (pb.OUTCOME_KIND_AUDIENCE_USER_MATCHED, pb.OUTCOME_KIND_AUDIENCE_USER_UNMATCHED)
    return [
        f"{o.user_id or o.anonymous_id} {o.event.removeprefix('Audience User ')} {o.reason}".strip()
        for o in await scenario.outcomes()
        if o.kind in kinds
    ]


async def test_three_people_sign_up_and_whoever_does_not_use_it_is_written_to(scenario: World):
    found = documents_of("not-used")
    await scenario.define_audience(*found.audiences)
    await scenario.define(*found.workflows)
    for n, name in enumerate(("ana", "ben", "cleo")):
        contact = {"email": f"{name}@example.com", "phone": f"+1555000{n}"}
        await scenario.identify(name, first_name=name.title(), plan="pro", **contact)
        await scenario.track(name, "Signed Up")
    await scenario.advance(DAY)
    await scenario.track("ben", "Feature Used")
    await scenario.advance(2 * DAY)
    assert {d.user_id for d in scenario.email.ledger} == {"ana", "cleo"}
    assert await scenario.members("not-used") == {"ana", "cleo"}
    await scenario.advance(HOUR)
    await scenario.track("cleo", "Feature Used")
    await scenario.advance(DAY)
    assert await scenario.story("ana") == ["SENT EMAIL", "IGNORED EMAIL", "SENT SMS"]
    assert await scenario.story("cleo") == ["SENT EMAIL"]
    assert await scenario.story("ben") == []
    assert await told(scenario) == ["ana Matched", "cleo Matched", "cleo Unmatched"]
    (matched,) = (o for o in await scenario.outcomes() if o.user_id == "ana" and not o.run_id)
    assert matched.properties["reason"] == (
        'did "Signed Up" 3 d ago (at 2026-01-01T00:00:00Z) and did not do "Feature Used"'
    )
    run_id = next(o.run_id for o in await scenario.outcomes() if o.run_id)
    run = await scenario.store.run("default", run_id)
    assert run is not None
    event = await scenario.store.event("default", run.event_id)
    assert event is not None
    decoded = scenario.codec.decode_event(event.stored)
    assert (decoded.type, decoded.name) == (EventType.AUDIENCE, "not-used")
    assert decoded.properties["transition"] == "ENTER"


# -- before it was defined ---------------------------------------------------------------------


async def test_who_belonged_to_it_before_is_found_and_nothing_starts_for_them(scenario: World):
    trigger = Trigger(EventType.AUDIENCE, "paid", transition=Transition.ENTER)
    await scenario.define(Workflow("flow", trigger, (delay(),)))
    for name, times in (("ana", 2), ("ben", 1), ("cleo", 0)):
        await scenario.identify(name, known=True)
        for _ in range(times):
            await scenario.track(name, "Paid")
    await scenario.track("", "Paid", anonymous_id="a1")
    await scenario.track("ben", "Linked", anonymous_id="a1")
    await scenario.define_audience(PAID)
    assert await scenario.members("paid") == {"ana", "ben"}, "what was another's is ben's by now"
    assert sorted(await told(scenario)) == ["ana Matched BACKFILLED", "ben Matched BACKFILLED"]
    assert not [o for o in await scenario.outcomes() if o.run_id]
    value = (await scenario.store.settings("audience/"))["audience/default/paid/1"]
    done = filling_of(value)
    assert (done.stage, done.events, done.people, done.moved) == (Stage.DONE, 8, 3, 2)
    await scenario.track("cleo", "Paid")
    await scenario.track("cleo", "Paid")
    await scenario.settle()
    assert (await told(scenario))[-1] == "cleo Matched"
    assert [o.user_id for o in await scenario.outcomes() if o.run_id] == ["cleo"]


async def test_messages_from_before_count_by_their_facts(scenario: World):
    await scenario.define(track("Go", email(subject="Hi"), wait_engagement()))
    for name in ("ana", "ben"):
        await scenario.identify(name, email=f"{name}@example.com")
        await scenario.track(name, "Go")
    await scenario.settle()
    (mail,) = (d.message_id for d in scenario.email.ledger if d.user_id == "ana")
    await scenario.engage(mail, EngagementKind.OPENED)
    await scenario.advance(2 * DAY)
    await scenario.define_audience(
        Audience("opened", Engaged((EngagementKind.OPENED,))),
        Audience("ignored", Engaged(ignored=True)),
        Audience("neither", Not(Engaged((EngagementKind.OPENED,), ignored=True))),
    )
    assert await scenario.members("opened") == {"ana"}
    assert await scenario.members("ignored") == {"ben"}
    assert await scenario.members("neither") == set()


async def test_what_happens_while_it_is_filled_counts_once(scenario: World):
    await scenario.identify("ana", known=True)
    await scenario.identify("cleo", known=True)
    await scenario.track("ana", "Paid")
    await scenario.define_audience(PAID, fill=False)
    await scenario.track("cleo", "Paid")
    await scenario.track("ana", "Seen")
    assert await scenario.members("paid") == set()
    await scenario.track("ana", "Paid", event_id="twice")
    assert await scenario.members("paid") == set(), "nobody is judged by half of what they did"
    await scenario.track("ben", "Paid")
    await scenario.track("ben", "Paid")
    assert await scenario.members("paid") == {"ben"}, "of whom is new all is known"
    await scenario.fillings.finish()
    assert await scenario.members("paid") == {"ana", "ben"}
    row = await scenario.store.audience_rows.unready("default", "paid", "", 10)
    assert row == []


async def test_who_changes_after_their_turn_and_before_the_end_is_not_missed(scenario: World):
    await scenario.identify("ana", plan="free")
    await scenario.define_audience(Audience("pro", Holds('traits.plan == "pro"')), fill=False)

    class Cut(Fillings):
        async def _filled(self, filling: Filling) -> None:
            raise Unavailable("the process was killed here")

    with pytest.raises(Unavailable):
        await Cut(
            scenario.store, scenario.loop, scenario.clock, scenario.codec, scenario.book
        ).finish()
    await scenario.identify("ana", plan="pro")
    await scenario.fillings.finish()
    assert await scenario.members("pro") == {"ana"}


async def test_a_crash_in_between_is_made_up_for(scenario: World):
    for n in range(450):
        await scenario.ingest(Event(f"p{n}", EventType.TRACK, f"u{n}", name="Paid"))
    await scenario.define_audience(Audience("once", Did("Paid")), fill=False)

    pages: list[int] = []

    def killed() -> None:
        pages.append(1)
        if len(pages) == 4:  # events, no more events, a page of people, another one
            raise Unavailable("the process was killed here")

    failpoints.arm({"filling.page": killed})
    try:
        with pytest.raises(Unavailable):
            await scenario.fillings.finish()
    finally:
        failpoints.arm({})
    assert len(await scenario.members("once")) == 400
    await scenario.fillings.finish()
    assert len(await scenario.members("once")) == 450
    assert len(await told(scenario)) == 450, "nobody is told of twice"


async def test_a_changed_definition_is_filled_anew_and_says_only_what_changes(scenario: World):
    await scenario.define_audience(PAID)
    for name, times in (("ana", 1), ("ben", 2), ("cleo", 3)):
        for _ in range(times):
            await scenario.track(name, "Paid")
    assert await scenario.members("paid") == {"ben", "cleo"}
    await scenario.define_audience(replace(PAID, rule=Did("Paid", often=Often(at_least=3))))
    assert await scenario.members("paid") == {"cleo"}
    await scenario.define_audience(replace(PAID, rule=Did("Paid")))
    assert await scenario.members("paid") == {"ana", "ben", "cleo"}
    assert sorted((await told(scenario))[2:]) == [
        "ana Matched BACKFILLED",
        "ben Matched BACKFILLED",
        "ben Unmatched BACKFILLED",
    ]
    assert (await scenario.audiences.define("default", PAID, validate_only=True)).version == 4


async def test_a_trait_alone_is_filled_without_a_look_at_events(scenario: World):
    await scenario.identify("ana", plan="pro")
    await scenario.identify("ben", plan="free")
    await scenario.define_audience(Audience("pro", Holds('traits.plan == "pro"')))
    assert await scenario.members("pro") == {"ana"}
    value = (await scenario.store.settings("audience/"))["audience/default/pro/1"]
    assert filling_of(value).events == 0


# -- people who change -------------------------------------------------------------------------


async def test_nothing_is_left_of_who_is_erased_not_even_what_they_did_as_another(scenario: World):
    secret = Audience("secret", AllOf((Did("Paid"), Holds('traits.plan == "gold-17"'))))
    await scenario.track("", "Paid", anonymous_id="a-17")
    await scenario.identify("ana", plan="gold-17")
    await scenario.track("ana", "Linked", anonymous_id="a-17")
    await scenario.define_audience(secret)
    assert await scenario.members("secret") == {"ana"}
    assert "gold-17" in (await dump(scenario.store))
    erasing = Erasing(scenario.store, scenario.loop, scenario.clock, scenario.codec)
    await scenario.advance(MINUTE)
    await erasing.erase("default", (IdKind.USER, "ana"))
    await erasing.finish()
    assert await scenario.members("secret") == set()
    left = (await dump(scenario.store)).replace('traits.plan == "gold-17"', "")
    assert "gold-17" not in left
    assert (await told(scenario))[-1].startswith("ana Matched"), "who left no trace, left unheard"
    await scenario.define_audience(replace(secret, rule=Did("Paid")))
    assert await scenario.members("secret") == set(), "what was erased is not found again"
    await scenario.advance(MINUTE)
    await scenario.track("ana", "Paid")
    assert await scenario.members("secret") == {"ana"}


async def test_two_who_are_one_are_in_it_together(scenario: World):
    await scenario.define_audience(PAID)
    await scenario.track("", "Paid", anonymous_id="a1")
    await scenario.track("ana", "Paid")
    assert await scenario.members("paid") == set()
    await scenario.ingest(Event("al", EventType.ALIAS, "ana", previous_id="a1"))
    assert await scenario.members("paid") == {"ana"}


async def test_a_schedule_over_an_audience_writes_to_its_members_only(scenario: World):
    await scenario.define_audience(Audience("paid", Did("Paid")))
    trigger = Trigger(EventType.SCHEDULED, schedule=Schedule("0 9 * * *", audience_id="paid"))
    await scenario.define(Workflow("daily", trigger, (email(subject="Hi"),)))
    for name in ("ana", "ben", "cleo"):
        await scenario.identify(name, email=f"{name}@example.com")
    await scenario.track("ana", "Paid")
    await scenario.track("cleo", "Paid")
    await scenario.advance(DAY)
    assert sorted(d.user_id for d in scenario.email.ledger) == ["ana", "cleo"]


# -- the same as looking at everything ---------------------------------------------------------

RULES = {
    "unused": AllOf((Did("Signed Up", often=Often(ago_us=3 * DAY)), Not(Did("Feature Used")))),
    "often": Did("Feature Used", often=Often(at_least=3, within_us=2 * DAY)),
    "lapsed": AllOf(
        (
            Holds('traits.plan == "pro"'),
            Did("Feature Used", "event.properties.n > 2"),
            Not(Did("Feature Used", often=Often(within_us=DAY))),
        )
    ),
}


def by_hand(name: str, history: list[tuple[int, str, int]], plan: str, now_us: int) -> bool:
    """Evaluate a rule over all that somebody did, without anything of the product."""

    def count(what: str, after_us: int = 0, until_us: int = 1 << 62, least: int = 0) -> int:
        return sum(w == what and after_us < t <= until_us and n >= least for t, w, n in history)

    match name:
        case "unused":
            return count("Signed Up", until_us=now_us - 3 * DAY) > 0 and not count("Feature Used")
        case "often":
            return count("Feature Used", after_us=now_us - 2 * DAY) >= 3
        case _:
            recent = count("Feature Used", after_us=now_us - DAY)
            return plan == "pro" and count("Feature Used", least=3) > 0 and not recent


@pytest.mark.parametrize("define_at", [0, 25], ids=["from the start", "half way"])
async def test_at_fifty_instants_it_is_what_the_whole_history_says(
    scenario: World, define_at: int
) -> None:
    chance = random.Random(7)
    people = [f"u{n}" for n in range(12)]
    history: dict[str, list[tuple[int, str, int]]] = {name: [] for name in people}
    plans = dict.fromkeys(people, "")
    for instant in range(50):
        if instant == define_at:
            await scenario.define_audience(*(Audience(n, rule) for n, rule in RULES.items()))
        await scenario.advance(chance.choice((MINUTE, HOUR, 7 * HOUR, DAY, DAY)))
        for name in chance.sample(people, 3):
            what = chance.choice(("Signed Up", "Feature Used", "Feature Used", "identify"))
            if what == "identify":
                plans[name] = chance.choice(("pro", "free"))
                await scenario.identify(name, plan=plans[name])
                continue
            late_us = chance.choice((0, 0, HOUR, 2 * DAY))
            number = chance.randrange(5)
            event = Event(scenario.next_event_id(), EventType.TRACK, name, name=what)
            event = scenario.event(event._replace(properties={"n": number}))
            event = event._replace(event_us=max(event.event_us - late_us, START))
            await scenario.loop.ingest("default", [event])
            history[name].append((event.event_us, what, number))
        if instant < define_at:
            continue
        now_us = scenario.clock.now_us()
        for rule in RULES:
            wanted = {n for n in people if by_hand(rule, history[n], plans[n], now_us)}
            assert await scenario.members(rule) == wanted, (instant, rule)
    assert len(await told(scenario)) > 20
