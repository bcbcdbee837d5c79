"""Profiles: traits, contacts, groups, and the linking of anonymous people to known ones."""

from tests.flows import DAY, delay, email, sms, track
from tests.sim import START, WORKSPACE, Sim
from upshotd.domain.event import Event, EventType
from upshotd.domain.profile import Suppression
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes, IdKind
from upshotd.domain.stimulus import IngestState
from upshotd.domain.values import replace
from upshotd.domain.workflow import Reentry, ReentryMode


def anonymous(sim: Sim, name: str, anonymous_id: str = "anon", user_id: str = "", **fields: object):
    event = Event(sim._event_id(), EventType.TRACK, user_id, anonymous_id, name=name, **fields)
    return sim.event(event)


def join(sim: Sim, group_id: str, user_id: str = "", anonymous_id: str = ""):
    return sim.event(
        Event(sim._event_id(), EventType.GROUP, user_id, anonymous_id, group_id=group_id)
    )


def alias(sim: Sim, previous_id: str, user_id: str):
    event = Event(sim._event_id(), EventType.ALIAS, user_id, previous_id=previous_id)
    return sim.event(event)


# traits and contacts


def test_identify_merges_traits_and_null_removes_one():
    sim = Sim([])
    sim.identify("u", plan="free", city="Oslo")
    sim.identify("u", plan="pro", city=None)
    assert sim.profile("u").traits == {"plan": "pro"}


def test_an_older_identify_only_fills_gaps():
    sim = Sim([])
    sim.identify("u", plan="pro")
    old = Event("old", EventType.IDENTIFY, "u", traits={"plan": "free", "city": "Oslo", "x": None},
                event_us=START - DAY)  # fmt: skip
    sim.event(old)
    assert sim.profile("u").traits == {"plan": "pro", "city": "Oslo"}
    sim.event(Event("older", EventType.IDENTIFY, "u", traits={"plan": "x"}, event_us=START - DAY))
    assert sim.profile("u").traits == {"plan": "pro", "city": "Oslo"}


def test_contact_fields_come_from_traits():
    sim = Sim([])
    sim.identify(
        "u", email="u@example.com", phone="+1 555 0000", firstName="Una", zoneinfo="Europe/Oslo"
    )
    assert sim.profile("u").contact == {
        "email": "u@example.com",
        "phone_number": "+15550000",
        "given_name": "Una",
        "timezone": "Europe/Oslo",
    }


def test_a_trait_that_is_no_contact_stays_a_trait_and_is_reported():
    sim = Sim([])
    answer = sim.identify("u", email="nobody", phone="12", sms="+15550000")
    assert answer.state is IngestState.ACCEPTED
    assert [v.field for v in answer.violations] == [
        "event.identify.traits.email",
        "event.identify.traits.phone",
    ]
    assert sim.profile("u").contact == {"phone_number": "+15550000"}
    assert sim.profile("u").traits["email"] == "nobody"


def test_a_removed_trait_takes_its_contact_with_it():
    sim = Sim([])
    sim.identify("u", email="u@example.com")
    sim.identify("u", email=None)
    assert sim.profile("u").contact == {}


def test_the_context_fills_time_zone_and_locale_until_a_trait_says_otherwise():
    sim = Sim([])
    sim.track("u", "Seen", context={"timezone": "Europe/Oslo", "locale": ""})
    assert sim.profile("u").contact == {"timezone": "Europe/Oslo"}
    sim.identify("u", plan="pro")
    assert sim.profile("u").contact == {"timezone": "Europe/Oslo"}
    sim.identify("u", timezone="Europe/Rome")
    sim.track("u", "Seen", context={"timezone": "Europe/Oslo"})
    assert sim.profile("u").contact == {"timezone": "Europe/Rome"}


def test_groups_keep_their_own_traits():
    sim = Sim([])
    for traits in ({"plan": "team"}, {"seats": 3}):
        sim.event(Event(sim._event_id(), EventType.GROUP, "u", group_id="acme", traits=traits))
    assert sim.state.groups["acme"].traits == {"plan": "team", "seats": 3}
    assert sim.profile("u").group_ids == ("acme",)


def test_who_joins_a_group_is_found_by_it_and_joining_again_writes_nothing():
    sim = Sim([])
    join(sim, "acme", "u")
    assert sim.changes.group_members == {("acme", sim.profile("u").profile_id): True}
    join(sim, "acme", "u")
    sim.identify("u", plan="pro")
    assert sim.changes.group_members == {}


# refusals


def test_what_is_wrong_with_an_event_is_named_field_by_field():
    sim = Sim([])
    answer = sim.event(Event("x" * 101, EventType.TRACK, "null", "0000", size=40_000))
    assert answer.state is IngestState.REJECTED
    assert answer.reason == "EVENT_TOO_LARGE"
    assert [v.field for v in answer.violations] == [
        "event",
        "event.event_id",
        "event.user_id",
        "event.anonymous_id",
        "event.track.event",
    ]
    assert sim.state.profiles == {}


def test_every_call_needs_its_own_fields():
    sim = Sim([])

    def reason(event: Event) -> str:
        return sim.event(event).reason

    assert reason(Event("1", EventType.UNSPECIFIED, "u")) == "MISSING_CALL"
    assert reason(Event("2", EventType.TRACK, name="x")) == "MISSING_USER_ID"
    assert reason(Event("3", EventType.GROUP, "u")) == "MISSING_GROUP_ID"
    assert reason(Event("4", EventType.GROUP, "u", group_id="g" * 256)) == "INVALID_GROUP_ID"
    assert reason(Event("5", EventType.ALIAS, "u")) == "MISSING_PREVIOUS_ID"
    assert reason(Event("6", EventType.ALIAS, "", "a", previous_id="a")) == "MISSING_USER_ID"
    assert reason(Event("7", EventType.ALIAS, "u", previous_id="-1")) == "INVALID_PREVIOUS_ID"
    assert reason(Event("8", EventType.TRACK, "u\n", name="x")) == "INVALID_USER_ID"
    assert reason(Event("9", EventType.TRACK, "u", name="x" * 256)) == "INVALID_EVENT"
    assert reason(Event("10", EventType.PAGE, "u")) == ""


# linking


def test_a_person_is_anonymous_first_and_known_later():
    sim = Sim([track("Go", delay())])
    anonymous(sim, "Go")
    before = sim.profile(anonymous_id="anon")
    anonymous(sim, "Seen", user_id="u")
    after = sim.profile("u")
    assert after.profile_id == before.profile_id
    assert (after.user_id, after.anonymous_ids) == ("u", ("anon",))
    assert sim.run().profile_id == after.profile_id


def test_an_anonymous_profile_becomes_part_of_a_known_one_whose_traits_win():
    sim = Sim([track("Go", sms(), delay())])
    sim.identify("u", plan="pro")
    event = Event(
        "i", EventType.IDENTIFY, "", "anon", traits={"plan": "free", "phone": "+15550000"}
    )
    sim.event(event)
    gone = sim.profile(anonymous_id="anon").profile_id
    anonymous(sim, "Go")
    message = sim.answer()
    anonymous(sim, "Seen", user_id="u")
    known = sim.profile("u")
    assert known.traits == {"plan": "pro", "phone": "+15550000"}
    assert known.contact == {"phone_number": "+15550000"}
    assert sim.profile(anonymous_id="anon") == known
    assert gone not in sim.state.profiles
    assert sim.run().profile_id == known.profile_id
    from upshotd.domain.outcome import EngagementKind

    sim.engage(message.message_id, EngagementKind.REPLIED)
    assert sim.outcomes[-1].user_id == "u"


def test_of_two_active_runs_under_one_key_the_older_stays():
    sim = Sim([track("Go", delay())])
    anonymous(sim, "Go")
    sim.now += 1
    sim.track("u", "Go")
    anonymous(sim, "Seen", user_id="u")
    older, younger = sim.state.runs.values()
    assert (older.state, older.profile_id) == (RunState.ACTIVE, sim.profile("u").profile_id)
    assert (younger.state, younger.reason) == (RunState.CANCELED, "MERGED")


def test_the_anonymous_run_goes_when_it_is_the_younger_one():
    sim = Sim([track("Go", delay())])
    sim.track("u", "Go")
    sim.now += 1
    anonymous(sim, "Go")
    anonymous(sim, "Seen", user_id="u")
    older, younger = sim.state.runs.values()
    assert older.state is RunState.ACTIVE
    assert (younger.state, younger.reason) == (RunState.CANCELED, "MERGED")


def test_runs_without_a_shared_key_all_move():
    sim = Sim([track("Go", delay(), reentry=Reentry(ReentryMode.ALWAYS))])
    sim.track("u", "Go")
    anonymous(sim, "Go")
    anonymous(sim, "Seen", user_id="u")
    assert [r.state for r in sim.state.runs.values()] == [RunState.ACTIVE] * 2
    assert {r.profile_id for r in sim.state.runs.values()} == {sim.profile("u").profile_id}


def test_suppressions_follow_and_the_known_ones_stay():
    sim = Sim([])
    sim.identify("u")
    anonymous(sim, "Seen")
    known, other = sim.profile("u").profile_id, sim.profile(anonymous_id="anon").profile_id
    forever, short = Suppression(topic="a"), Suppression(topic="a", until_us=START + 1)
    sim.state.suppressions = {
        known: {"topic:a": forever},
        other: {"topic:a": short, "topic:b": Suppression(topic="b")},
    }
    anonymous(sim, "Seen", user_id="u")
    assert sim.state.suppressions[known] == {
        "topic:a": forever,
        "topic:b": Suppression(topic="b"),
    }


def test_an_anonymous_id_is_linked_to_the_first_user_only():
    sim = Sim([])
    anonymous(sim, "Seen", user_id="first")
    anonymous(sim, "Seen", user_id="second")
    assert sim.profile(anonymous_id="anon").user_id == "first"
    assert sim.profile("second").anonymous_ids == ()


def test_groups_of_an_anonymous_person_find_the_user_whom_they_become():
    sim = Sim([])
    join(sim, "acme", "u")
    for group_id in ("acme", "labs"):
        join(sim, group_id, anonymous_id="anon")
    former = sim.profile(anonymous_id="anon").profile_id
    alias(sim, "anon", "u")
    known = sim.profile("u")
    assert known.group_ids == ("acme", "labs")
    for group_id in known.group_ids:
        assert sim.changes.group_members[group_id, former] is False
        assert sim.changes.group_members[group_id, known.profile_id] is True


def test_joining_before_a_merge_in_one_batch_leaves_nobody_behind():
    sim, batch = Sim([]), Changes(WORKSPACE)
    sim.identify("u")
    join(sim, "acme", anonymous_id="anon")
    batch.extend(sim.changes)
    former = sim.profile(anonymous_id="anon").profile_id
    alias(sim, "anon", "u")
    batch.extend(sim.changes)
    found = {("acme", former): False, ("acme", sim.profile("u").profile_id): True}
    assert batch.group_members == found


def test_a_merge_relies_on_what_was_known_of_the_anonymous_person():
    sim = Sim([])
    sim.identify("u")
    anonymous(sim, "Seen")
    former = replace(sim.profile(anonymous_id="anon"), row_version=7)
    sim.state.profiles[former.profile_id] = former
    alias(sim, "anon", "u")
    assert sim.changes.consents[former.profile_id] == 7


def test_two_known_users_are_never_merged():
    sim = Sim([])
    sim.identify("a")
    sim.identify("b")
    answer = alias(sim, "a", "b")
    assert (answer.state, answer.reason) == (IngestState.REJECTED, "ALIAS_OF_KNOWN_USER")
    assert sim.profile("a").profile_id != sim.profile("b").profile_id


def test_alias_links_the_previous_id():
    sim = Sim([])
    anonymous(sim, "Seen")
    alias(sim, "anon", "u")
    assert sim.profile("u") == sim.profile(anonymous_id="anon")


def test_alias_of_an_id_nobody_saw_links_it_for_later():
    sim = Sim([])
    alias(sim, "anon", "u")
    anonymous(sim, "Seen")
    assert (IdKind.ANONYMOUS, "anon") in sim.state.identities
    assert sim.profile(anonymous_id="anon").user_id == "u"


def test_an_anonymous_person_gets_outcomes_under_the_anonymous_id():
    sim = Sim([track("Go", email())])
    anonymous(sim, "Go")
    assert sim.outcomes[0].anonymous_id == "anon"
    assert sim.outcomes[1].kind.name == "MESSAGE_UNROUTABLE"
