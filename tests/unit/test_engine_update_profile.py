"""update_profile and the devices of a person: what changes a profile beside an identify."""

from tests.flows import delay, email, track
from tests.sim import Sim
from upshotd.domain.contacts import DEVICES_MAX
from upshotd.domain.event import Event, EventType
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.workflow import Reentry, ReentryMode, Step

ALWAYS = Reentry(ReentryMode.ALWAYS)


def updated(traits: dict[str, str], *after: Step, **known: object) -> Sim:
    flow = track("Go", Step("set", UpdateProfile(traits)), *after, reentry=ALWAYS)
    sim = Sim([flow])
    sim.identify("u", email="u@example.com", **known)
    sim.track("u", "Go", properties={"plan": "gold", "seats": 3})
    return sim


def test_traits_get_the_values_of_expressions():
    sim = updated({"plan": "event.properties.plan", "seats": "event.properties.seats + 1"})
    assert sim.profile("u").traits == {"email": "u@example.com", "plan": "gold", "seats": 4}
    assert sim.whats() == ["started", "updated", "ended"]


def test_later_steps_see_them():
    sim = updated({"first_name": '"Ana"'}, email())
    content = sim.sent[0].content
    assert content is not None
    assert content[0] == "Hello Ana"


def test_null_removes_a_trait():
    sim = updated({"plan": "null"}, plan="silver")
    assert "plan" not in sim.profile("u").traits


def test_what_has_no_value_is_left_as_it_is_and_noted():
    sim = updated({"plan": "event.properties.nothing", "seats": "2"}, plan="silver")
    assert sim.profile("u").traits["plan"] == "silver"
    assert sim.profile("u").traits["seats"] == 2
    notes = [(e.what, e.detail) for e in sim.run().timeline]
    assert ("no_value", "plan: event.properties.nothing is missing") in notes


def test_a_moment_becomes_its_text():
    sim = updated({"seen": 'timestamp("2026-01-02T03:04:05Z")'})
    assert sim.profile("u").traits["seen"] == "2026-01-02T03:04:05+00:00"


def test_a_contact_is_made_from_a_trait_that_was_set_and_a_wrong_one_is_noted():
    sim = updated({"phone": '"+15550000"'})
    assert sim.profile("u").contact["phone_number"] == "+15550000"
    sim = updated({"email": '"nobody"'})
    assert "no_contact" in sim.whats()
    assert "email" not in sim.profile("u").contact


def test_an_identify_from_before_does_not_turn_it_back():
    sim = updated({"plan": "event.properties.plan"}, delay(), plan="silver")
    old = Event("old", EventType.IDENTIFY, "u", traits={"plan": "bronze"}, event_us=sim.now - 1)
    sim.event(old)
    assert sim.profile("u").traits["plan"] == "gold"


def test_devices_are_kept_newest_first_each_once_and_not_without_end():
    sim = Sim([])
    for number in (1, 2, 1, *range(3, 20)):
        sim.track("u", "Opened", context={"device": {"token": f"t{number}"}})
    tokens = sim.profile("u").contact["push_tokens"].split()
    assert tokens == [f"t{number}" for number in range(19, 19 - DEVICES_MAX, -1)]
    sim.track("u", "Opened", context={"device": {"token": "two words"}})
    assert sim.profile("u").contact["push_tokens"].split() == tokens
    sim.identify("u", name="U")
    assert sim.profile("u").contact["push_tokens"].split() == tokens


def test_two_who_are_one_have_the_devices_of_both():
    sim = Sim([])
    sim.track("u", "Opened", context={"device": {"token": "phone"}})
    device = {"device": {"token": "tablet"}}
    sim.event(Event("a", EventType.TRACK, "", "anon", name="Opened", context=device))
    sim.event(Event("b", EventType.TRACK, "u", "anon", name="Signed In"))
    assert sim.profile("u").contact["push_tokens"] == "phone tablet"
