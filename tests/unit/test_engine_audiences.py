"""Audiences: who comes in and who leaves, by profile, by behaviour, by time; and what follows."""

import pytest

from tests.audiences import sim_of
from tests.flows import email, track, wait_engagement
from tests.sim import DAY, START, Sim, audiences_of
from upshotd.domain.audience import (
    AllOf,
    AnyOf,
    Audience,
    Did,
    Engaged,
    Holds,
    InGroup,
    Not,
    Often,
)
from upshotd.domain.consent import Topic
from upshotd.domain.event import Event, EventType
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.state import IdKind
from upshotd.domain.stimulus import AudienceDue, AudienceFill, EraseRequested, PreferenceSet
from upshotd.domain.values import replace

#: Signed up three days ago or more, and never used the feature.
UNUSED = Audience(
    "unused", AllOf((Did("Signed Up", often=Often(ago_us=3 * DAY)), Not(Did("Feature Used"))))
)


def audience_outcomes(sim: Sim) -> list[tuple[str, str]]:
    kinds = (OutcomeKind.AUDIENCE_USER_MATCHED, OutcomeKind.AUDIENCE_USER_UNMATCHED)
    return [
        (o.kind.name.removeprefix("AUDIENCE_USER_"), str(o.properties["reason"]))
        for o in sim.outcomes
        if o.kind in kinds
    ]


# -- who is in it ------------------------------------------------------------------------------


def test_a_trait_brings_somebody_in_and_takes_them_out_each_told_with_its_values():
    sim = sim_of(Holds('traits.plan == "pro"'))
    sim.identify("ana", plan="free")
    assert sim.members("them") == set()
    sim.identify("ana", plan="pro")
    assert sim.members("them") == {"ana"}
    sim.identify("ana", plan="pro", city="Lisbon")
    sim.identify("ana", plan="free")
    assert audience_outcomes(sim) == [
        ("MATCHED", 'traits.plan == "pro", where traits.plan is "pro"'),
        ("UNMATCHED", 'not traits.plan == "pro", where traits.plan is "free"'),
    ]
    assert [o.event for o in sim.outcomes] == ["Audience User Matched", "Audience User Unmatched"]
    sim.identify("ana", plan="pro")
    sim.identify("ana", plan=None)
    without = 'not traits.plan == "pro": traits.plan is missing'
    assert audience_outcomes(sim)[-1] == ("UNMATCHED", without)
    assert sim.outcomes[0].user_id == "ana"
    assert sim.outcomes[0].properties["audience_id"] == "them"


@pytest.mark.parametrize("before", [1, 1.0, {"n": [1]}])
def test_a_trait_that_is_true_now_and_was_a_number_before_is_another_one(before: object):
    rule = AnyOf((Holds("traits.vip == true"), Holds("traits.vip.n[0] == true")))
    sim = sim_of(rule)
    sim.identify("ana", vip=before)
    assert sim.members("them") == set()
    sim.identify("ana", vip=True if before == 1 else {"n": [True]})
    assert sim.members("them") == {"ana"}


def test_who_joins_a_group_is_in_the_audience_of_its_members():
    sim = sim_of(InGroup("acme"))
    sim.event(Event("e", EventType.GROUP, "ana", group_id="acme"))
    sim.event(Event("f", EventType.GROUP, "bob", group_id="other"))
    assert audience_outcomes(sim) == [("MATCHED", "is in the group acme")]


def test_a_contact_from_the_context_of_any_event_counts():
    sim = sim_of(Holds('profile.timezone == "Europe/Lisbon"'))
    sim.track("ana", "Seen")
    sim.track("ana", "Seen", context={"timezone": "Europe/Lisbon"})
    assert sim.members("them") == {"ana"}


def test_three_times_within_a_week_come_and_go_with_time():
    sim = sim_of(Did("Paid", often=Often(at_least=3, within_us=7 * DAY)))
    for _ in range(2):
        sim.track("ana", "Paid")
        sim.advance(DAY)
    assert sim.members("them") == set()
    sim.track("ana", "Paid")
    assert sim.members("them") == {"ana"}
    sim.advance(5 * DAY - 1)
    assert sim.members("them") == {"ana"}
    sim.advance(1)
    assert sim.members("them") == set(), "the first of the three is a week ago"
    assert audience_outcomes(sim) == [
        ("MATCHED", 'did "Paid" 3 times within 7 d (last 2026-01-03T00:00:00Z)'),
        ("UNMATCHED", 'did not do "Paid" 3 times within 7 d (2 so far)'),
    ]


def test_an_event_counts_only_where_its_condition_holds():
    sim = sim_of(Did("Paid", "event.properties.amount > 100"))
    sim.track("ana", "Paid", properties={"amount": 50})
    sim.track("ana", "Paid")
    assert sim.members("them") == set()
    sim.track("ana", "Paid", properties={"amount": 500})
    assert sim.members("them") == {"ana"}


def test_who_signed_up_and_did_not_use_it_for_three_days_comes_in_by_time_alone():
    sim = Sim([], audiences=[UNUSED])
    sim.track("ana", "Signed Up")
    sim.track("bob", "Signed Up")
    sim.advance(DAY)
    sim.track("bob", "Feature Used")
    sim.advance(2 * DAY - 1)
    assert sim.members("unused") == set()
    sim.advance(1)
    assert sim.members("unused") == {"ana"}
    sim.advance(DAY)
    sim.track("ana", "Feature Used")
    assert audience_outcomes(sim) == [
        (
            "MATCHED",
            'did "Signed Up" 3 d ago (at 2026-01-01T00:00:00Z) and did not do "Feature Used"',
        ),
        ("UNMATCHED", 'did "Feature Used" (at 2026-01-05T00:00:00Z)'),
    ]


def test_of_what_must_be_long_ago_the_reason_does_not_call_the_last_what_happened_again():
    sim = sim_of(Did("Paid", often=Often(at_least=2, ago_us=3 * DAY)))
    for _ in range(3):
        sim.track("ana", "Paid")
        sim.advance(DAY)
    sim.advance(DAY)
    ((_, text),) = audience_outcomes(sim)
    assert text == 'did "Paid" 2 times 3 d ago (by 2026-01-02T00:00:00Z)'


def test_who_did_nothing_is_in_the_audience_of_those_who_did_not_from_the_first_event_on():
    sim = sim_of(Not(Did("Paid", often=Often(within_us=30 * DAY))))
    sim.identify("ana")
    assert sim.members("them") == {"ana"}
    sim.track("ana", "Paid")
    assert sim.members("them") == set()
    sim.advance(30 * DAY)
    assert sim.members("them") == {"ana"}


def test_what_happened_long_ago_and_comes_late_counts_for_when_it_happened():
    sim = sim_of(Did("Paid", often=Often(within_us=DAY)))
    sim.track("ana", "Paid", event_us=START - 2 * DAY)
    assert sim.members("them") == set()
    sim.track("ana", "Paid", event_us=START - DAY // 2)
    assert sim.members("them") == {"ana"}
    sim.track("ana", "Paid", event_us=START - DAY // 4)
    sim.track("ana", "Paid", event_us=START - DAY // 3)
    sim.advance(DAY // 2)
    assert sim.members("them") == {"ana"}, "the newest counts, in whatever order they came"
    sim.advance(DAY // 4)
    assert sim.members("them") == set()


def test_our_own_outcomes_and_pages_are_nothing_that_a_person_did():
    sim = sim_of(Did("Message Opened"))
    sim.track("ana", "Message Opened", event_id="upshot-1")
    sim.event(Event("p", EventType.PAGE, "ana", name="Message Opened"))
    assert sim.members("them") == set()


def test_who_opened_or_ignored_messages_is_found_by_them():
    waiting = wait_engagement()
    opened = Engaged((EngagementKind.OPENED,), workflow_id="flow")
    ignored = Engaged(ignored=True, often=Often(within_us=DAY))
    sim = Sim(
        [track("Go", email(), waiting)],
        audiences=[Audience("opened", opened), Audience("ignored", ignored)],
    )
    for who in ("ana", "bob"):
        sim.identify(who, email=f"{who}@example.com", first_name=who)
        sim.track(who, "Go")
        sim.answer()
    message_id = next(m.message_id for m in sim.state.messages.values() if "ana" in m.recipient)
    sim.engage(message_id, EngagementKind.OPENED, machine=True)
    assert sim.members("opened") == set(), "software did that"
    sim.engage(message_id, EngagementKind.OPENED)
    assert sim.members("opened") == {"ana"}
    sim.advance(DAY)
    assert sim.members("ignored") == {"bob"}
    assert audience_outcomes(sim)[0][1].startswith("opened messages of flow (at 2026")
    assert audience_outcomes(sim)[1][1].startswith("ignored messages within 1 d (at 2026")
    sim.advance(DAY)
    assert sim.members("ignored") == set()


def test_any_of_several_is_enough_and_the_reason_names_the_first():
    sim = sim_of(AnyOf((Holds("traits.vip == true"), Did("Paid"))))
    sim.track("ana", "Paid")
    sim.identify("bob", vip=True)
    assert audience_outcomes(sim)[0][1].startswith('did "Paid"')
    assert audience_outcomes(sim)[1][1] == "traits.vip == true, where traits.vip is true"


def test_an_event_that_no_audience_counts_writes_and_looks_at_none():
    sim = sim_of(AllOf((Did("Paid"), Holds("traits.vip == true"))))
    sim.identify("ana")
    sim.track("ana", "Seen")
    assert not sim.changes.memberships
    assert not sim.changes.profiles
    assert not sim.changes.consents


def test_what_changes_nothing_is_not_written_but_relies_on_the_person():
    sim = sim_of(Holds("traits.vip == true"))
    sim.identify("ana")
    sim.identify("ana", city="Lisbon")
    assert not sim.changes.memberships
    assert sim.changes.consents


# -- people -----------------------------------------------------------------------------------


def test_two_who_are_one_have_done_together_what_each_did():
    sim = sim_of(Did("Paid", often=Often(at_least=3)))
    sim.track("ana", "Paid")
    sim.track("", "Paid", anonymous_id="a1")
    sim.track("", "Paid", anonymous_id="a1")
    assert sim.members("them") == set()
    sim.track("ana", "Linked", anonymous_id="a1")
    assert sim.members("them") == {"ana"}
    gone = [key for key, row in sim.changes.memberships.items() if row is None]
    assert len(gone) == 1, "the row of who was anonymous is gone"


def test_a_stranger_in_the_audience_who_turns_out_to_be_ana_brings_her_in():
    sim = sim_of(Did("Paid"))
    sim.identify("ana")
    sim.track("", "Paid", anonymous_id="a1")
    sim.event(Event("al", EventType.ALIAS, "ana", previous_id="a1"))
    assert sim.members("them") == {"ana"}
    assert [o.user_id for o in sim.outcomes] == ["", "ana"]


def test_nothing_is_left_of_who_is_erased_and_who_comes_back_begins_anew():
    sim = sim_of(Not(Did("Paid")))
    sim.track("ana", "Paid")
    sim.identify("bob")
    for who in ("ana", "bob"):
        sim.do(EraseRequested((IdKind.USER, who)))
    assert not any(sim.state.memberships.values())
    sim.advance(1)
    sim.identify("ana")
    assert sim.members("them") == {"ana"}


def test_who_first_chooses_something_is_a_person_too():
    sim = sim_of(Not(Did("Paid")))
    sim.definitions = replace(sim.definitions, topics={"news": Topic("news")})
    for wanted in (False, True):
        sim.do(PreferenceSet((IdKind.USER, "ana"), "news", wanted))
    assert sim.members("them") == {"ana"}
    assert sim.kinds.count("AUDIENCE_USER_MATCHED") == 1


@pytest.mark.parametrize("late", [0, 5 * DAY])
def test_a_moment_that_nobody_looked_at_is_passed_over(late: int) -> None:
    """A server that was down looks at people as they are when it is back."""
    sim = sim_of(Did("Paid", often=Often(within_us=DAY)))
    sim.track("ana", "Paid")
    sim.now += DAY + late
    sim.advance(0)
    assert sim.members("them") == set()


# -- Segment's Engage --------------------------------------------------------------------------


@pytest.mark.parametrize("call", [EventType.IDENTIFY, EventType.TRACK])
def test_an_audience_of_segments_is_a_trait_in_whichever_call_it_comes(call: EventType) -> None:
    sim = sim_of(Holds("traits.first_time_shopper == true"))
    personas = {"computation_class": "audience", "computation_key": "first_time_shopper"}
    for n, inside in enumerate((True, False)):
        said = {"first_time_shopper": inside, "audience_key": "first_time_shopper"}
        event = Event(f"e{n}", call, "ana", context={"personas": personas})
        fields = {"traits": said} if call is EventType.IDENTIFY else {"properties": said}
        sim.event(event._replace(name="" if fields.get("traits") else "Audience Entered", **fields))
        assert sim.members("them") == ({"ana"} if inside else set())


def test_a_computed_trait_that_is_no_membership_is_left_to_the_identify() -> None:
    sim = sim_of(Holds("traits.spent > 5"))
    context = {"personas": {"computation_key": "spent"}}
    sim.track("ana", "Trait Computed", properties={"spent": 9}, context=context)
    assert sim.profile("ana").traits == {}


# -- what is left behind -----------------------------------------------------------------------


def test_a_moment_of_somebody_who_is_gone_or_of_an_audience_that_is_comes_once():
    sim = sim_of(Did("Paid", often=Often(within_us=DAY)))
    sim.track("ana", "Paid")
    profile_id = sim.profile("ana").profile_id
    sim.now += DAY
    nobody = replace(sim.state.memberships[profile_id]["them"], profile_id="gone")
    sim.state.memberships["gone"] = {"them": nobody}
    sim.do(AudienceDue("them", "gone"))
    assert sim.state.memberships["gone"] == {}
    sim.definitions = replace(sim.definitions, audiences=audiences_of())
    sim.do(AudienceDue("them", profile_id))
    row = sim.state.memberships[profile_id]["them"]
    assert (row.member, row.due_us) == (True, None)


def test_what_was_gathered_for_somebody_who_is_erased_or_nobody_is_thrown_away():
    sim = sim_of(Did("Paid"))
    sim.track("ana", "Paid")
    profile_id = sim.profile("ana").profile_id
    left = sim.state.memberships[profile_id]["them"]
    sim.do(EraseRequested((IdKind.USER, "ana")))
    happened = dict(left.happened)
    sim.do(AudienceFill("them", 1, profile_id, happened))
    assert not sim.state.memberships[profile_id]
    sim.state.memberships[profile_id] = {"them": left}
    sim.do(AudienceFill("them", 1, profile_id, {}, last=True))
    assert not sim.state.memberships[profile_id]
    sim.do(AudienceFill("them", 1, "nobody", happened))
    assert not sim.state.memberships["nobody"]["them"].ready
    sim.do(AudienceFill("them", 1, "nobody", {}, last=True))
    assert not sim.state.memberships["nobody"]


def test_what_an_erased_person_did_before_is_not_theirs_when_they_are_back():
    sim = sim_of(Did("Paid"))
    sim.track("ana", "Paid")
    profile_id = sim.profile("ana").profile_id
    known = sim.state.memberships[profile_id]["them"].happened
    sim.do(EraseRequested((IdKind.USER, "ana")))
    sim.advance(1)
    sim.identify("ana", city="Lisbon")
    sim.do(AudienceFill("them", 1, profile_id, known, ("never-seen",)))
    assert sim.members("them") == set()
