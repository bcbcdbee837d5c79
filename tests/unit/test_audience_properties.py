"""Whatever happens in whatever order: an audience says what a look at the whole history says."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.sim import DAY, HOUR, START, Sim, audiences_of
from upshotd.domain.audience import (
    AllOf,
    AnyOf,
    Audience,
    Did,
    Facts,
    Happening,
    Holds,
    Not,
    Often,
    Rule,
    evaluate,
    key_of,
)
from upshotd.domain.audiences import AudiencePlan
from upshotd.domain.event import Event, EventType
from upshotd.domain.profile import Profile
from upshotd.domain.stimulus import AudienceFill
from upshotd.domain.values import replace

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPANS = st.sampled_from((0, HOUR, 5 * HOUR, DAY, 3 * DAY))
OFTEN = st.one_of(
    st.builds(Often, st.integers(1, 3), within_us=SPANS),
    st.builds(Often, st.integers(1, 3), ago_us=SPANS),
)
TIMES = st.integers(0, 5 * 24).map(lambda hours: START + hours * HOUR)
HAPPENINGS = st.lists(st.tuples(TIMES, st.text("abc", min_size=1, max_size=2)), max_size=12)
DONE = st.sampled_from(("A", "B"))
LEAVES = st.one_of(
    st.builds(Did, DONE, st.sampled_from(("", "event.properties.n > 1")), OFTEN),
    st.just(Holds('traits.plan == "pro"')),
)
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AllOf(tuple(some))),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AnyOf(tuple(some))),
    ),
    max_leaves=5,
)


def counted(often: Often, times: list[int], at_us: int) -> int:
    """Count over everything, as somebody would who keeps all of it."""
    after_us = at_us - often.within_us if often.within_us else -1
    return sum(after_us < t <= at_us - often.ago_us for t in times)


@QUICK
@given(OFTEN, HAPPENINGS, st.data())
def test_what_is_remembered_decides_now_and_at_any_later_time(
    often: Often, happened: list[Happening], data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.lists(st.sampled_from(happened)), max_size=4)) if happened else []
    known: tuple[Happening, ...] = ()
    for part in [*parts, happened, *parts]:
        known = often.added(known, part)
    assert known == often.added((), happened), "in any order, and however often"
    assert len(known) <= often.at_least
    now_us = max((t for t, _ in happened), default=START)
    times = [t for t, _ in set(happened)]
    for hours in range(24 * 5):
        at_us = now_us + hours * HOUR
        count = counted(often, times, at_us)
        assert often.met(known, at_us) is (count >= often.at_least)
        assert often.count(known, at_us) == min(count, often.at_least)


@QUICK
@given(RULES, st.dictionaries(st.sampled_from("AB"), st.lists(TIMES, max_size=4)), st.booleans())
def test_the_moment_it_names_is_the_first_at_which_time_alone_changes_the_answer(
    rule: Rule, times: dict[str, list[int]], pro: bool
) -> None:
    plan = AudiencePlan.of(Audience("them", rule), filled=True)
    happened = {
        key_of(did): did.often.added((), [(t, "") for t in times.get(did.event, [])])
        for did in plan.did
    }
    facts = Facts(Profile("p"), lambda _: pro, happened)
    now_us = START + 5 * DAY
    first = evaluate(rule, facts, now_us)
    hours = [now_us + h * HOUR for h in range(1, 24 * 5)]
    changing = [at for at in hours if evaluate(rule, facts, at).member is not first.member]
    assert first.due_us == (changing[0] if changing else None)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(("ana", "ben", "anonymous", "anonymous", "link")),
        st.sampled_from(("A", "B", "identify")),
        st.integers(0, 3),
        # Hours that pass before it, and hours by which it comes late.
        st.integers(0, 30),
        st.sampled_from((0, 0, 2, 40)),
    ),
    max_size=25,
)


class Living:
    """A workspace with one audience, and all that happened in it."""

    def __init__(self, rule: Rule, *, from_the_start: bool) -> None:
        self.audience = Audience("them", rule)
        self.sim = Sim([], audiences=[self.audience] if from_the_start else [])
        self.kept: list[tuple[str, Event]] = []
        self.count = self.strangers = 0

    @property
    def stranger(self) -> str:
        return f"a{self.strangers}"

    def act(self, who: str, what: str, number: int, pass_h: int, late_h: int) -> None:
        sim = self.sim
        sim.advance(pass_h * HOUR)
        self.count += 1
        event = Event(f"e{self.count}", EventType.TRACK, who, name=what)
        event = replace(event, properties={"n": number}, event_us=sim.now - late_h * HOUR)
        if who == "link":  # who was not known is ana; the next one is somebody else
            event = Event(event.event_id, EventType.ALIAS, "ana", previous_id=self.stranger)
            sim.event(event)
            self.strangers += 1
            return
        if who == "anonymous":
            event = event._replace(user_id="", anonymous_id=self.stranger)
        if what == "identify" and event.user_id:
            plan = "pro" if number > 1 else "free"
            event = Event(event.event_id, EventType.IDENTIFY, who, traits={"plan": plan})
            sim.event(event)
            return
        sim.event(event)
        profile_id = sim.changes.events[event.event_id].profile_id
        self.kept.append((profile_id, event))

    def fill(self) -> None:
        """Define the audience now, and fill it as the background work does."""
        sim = self.sim
        unfilled = audiences_of(self.audience, filled=False)
        sim.definitions = replace(sim.definitions, audiences=unfilled)
        (plan,) = unfilled.plans.values()
        version = plan.audience.version
        for profile_id, event in self.kept:
            happened = plan.done(event, sim.definitions.conditions)
            sim.do(AudienceFill("them", version, profile_id, happened))
        for profile in tuple(sim.state.profiles.values()):
            former = profile.former_ids
            sim.do(AudienceFill("them", version, profile.profile_id, {}, former, last=True))
        sim.definitions = replace(sim.definitions, audiences=audiences_of(self.audience))

    def check(self) -> None:
        """Hold what the audience says against all that is kept."""
        sim = self.sim
        for profile in sim.state.profiles.values():
            ids = {profile.profile_id, *profile.former_ids}
            theirs = [event for whose, event in self.kept if whose in ids]
            wanted = self.meets(self.audience.rule, profile, theirs)
            row = sim.state.memberships.get(profile.profile_id, {}).get("them")
            assert (row is not None and row.member) is wanted, (profile, row)
            assert row is None or not row.empty or not row.ready
        gone = sim.state.memberships.keys() - sim.state.profiles.keys()
        assert not any(sim.state.memberships[profile_id] for profile_id in gone)

    def meets(self, rule: Rule, profile: Profile, events: list[Event]) -> bool:
        match rule:
            case AllOf(rules):
                return all(self.meets(inner, profile, events) for inner in rules)
            case AnyOf(rules):
                return any(self.meets(inner, profile, events) for inner in rules)
            case Not(inner):
                return not self.meets(inner, profile, events)
            case Did(name, condition, often):
                times = [
                    e.event_us
                    for e in events
                    if e.name == name and (not condition or e.properties["n"] > 1)  # type: ignore[operator]
                ]
                return counted(often, times, self.sim.now) >= often.at_least
            case _:
                return profile.traits.get("plan") == "pro"


@QUICK
@given(RULES, ACTS)
def test_after_everything_that_happens_it_says_what_the_whole_history_says(
    rule: Rule, acts: list[tuple[str, str, int, int, int]]
) -> None:
    living = Living(rule, from_the_start=True)
    for act in acts:
        living.act(*act)
        living.check()
    living.sim.advance(10 * DAY)
    living.check()


@QUICK
@given(RULES, ACTS, ACTS)
# Somebody of whom nothing is remembered turns out to be somebody who belonged to it.
@example(
    Not(Holds('traits.plan == "pro"')),
    [("ana", "identify", 2, 0, 0)],
    [("anonymous", "A", 0, 0, 0), ("link", "A", 0, 0, 0)],
)
def test_defined_half_way_it_says_the_same(
    rule: Rule,
    before: list[tuple[str, str, int, int, int]],
    after: list[tuple[str, str, int, int, int]],
) -> None:
    living = Living(rule, from_the_start=False)
    for act in before:
        living.act(*act)
    living.fill()
    living.check()
    for act in after:
        living.act(*act)
        living.check()
