"""Whatever happens around an approval, in any order, it is decided once and ends."""

from collections import Counter, deque
from datetime import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.asking import BOSS, FINANCE, PAY, PEOPLE, REQUEST, ROUTED, Room, paying, propose, room
from tests.sim import DAY, HOUR, MINUTE, SECOND
from upshotd.domain.definitions import Policy
from upshotd.domain.fetching import Fetched, HttpRequest, Unfetched
from upshotd.domain.message import Accepted, Ask, Deferred, Purpose, Refused, Unknown
from upshotd.domain.outcome import EngagementKind, OutcomeKind
from upshotd.domain.state import IdKind
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.stimulus import EraseRequested
from upshotd.domain.values import replace
from upshotd.domain.window import Window

BUSY = Unfetched("HTTP_ERROR", "answered 503", again=True)
RESULTS = (Accepted("x"), Refused("BOUNCED"), Deferred("busy"), Unknown("cut off"), None)
KINDS = (
    *(EngagementKind.APPROVED, EngagementKind.DENIED, EngagementKind.ASKED),
    *(EngagementKind.ANSWERED, EngagementKind.BOUNCED, EngagementKind.UNDELIVERED),
    *(EngagementKind.OPENED, EngagementKind.DELIVERED, EngagementKind.UNSUBSCRIBED),
)
SPANS = (SECOND, MINUTE, 20 * MINUTE, HOUR, 5 * HOUR, DAY)
KIND = replace(
    PAY,
    levels=(FINANCE, replace(BOSS, escalate_us=HOUR), replace(FINANCE, group_id="all")),
    request=ROUTED,
    notice=REQUEST,
    reminders_us=(HOUR, 3 * HOUR),
    context=FetchStep("https://a.example"),
)
NAMES = st.sampled_from(PEOPLE)
STEPS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from(SPANS)),
    st.tuples(st.just("outage"), st.sampled_from(SPANS)),
    st.tuples(st.just("says"), NAMES, st.sampled_from(RESULTS)),
    st.tuples(st.just("settle"), st.sampled_from(RESULTS[:-1])),
    st.tuples(st.just("tell"), NAMES, st.integers(0, 5), st.sampled_from(KINDS)),
    st.tuples(st.just("context"), st.sampled_from((Fetched({}), BUSY))),
    st.tuples(st.just("find"), st.sampled_from((None, BUSY))),
    st.tuples(st.just("erase"), NAMES.filter("pia".__ne__)),
)


def happens(room: Room, step: tuple[object, ...]) -> None:  # noqa: C901
    match step:
        case "advance", int(span_us):
            room.advance(span_us)
        case "outage", int(span_us):
            room.now += span_us
        case "says", str(name), result:
            room.says[f"{name}@example.com"] = result  # type: ignore[assignment]
        case "settle", result:
            for message in room.sent[:1]:
                room.settle(message, result)  # type: ignore[arg-type]
        case "tell", str(name), int(index), EngagementKind() as kind:
            for message in room.of(name)[index : index + 1]:
                room.engage(message.message_id, kind, data={"body": "x"})
        case "context", result:
            for fetch in [f for f in room.fetches if isinstance(f.request, HttpRequest)][-1:]:
                room.fetched(result, fetch)  # type: ignore[arg-type]
        case "find", result:
            room.finds.append(result)  # type: ignore[arg-type]
        case "erase", str(name):
            room.do(EraseRequested((IdKind.USER, name)))


def sound(room: Room) -> None:
    decided = [o for o in room.outcomes if o.kind is OutcomeKind.APPROVAL_DECIDED]
    assert len(decided) <= 1
    run = room.run()
    assert bool(decided) is not run.active
    assert len(room.emitted) == len(decided)
    asked = [message for message in room.state.messages.values() if message.ask is Ask.REQUEST]
    again = Counter((m.profile_id, m.channel) for m in asked if m.profile_id)
    assert all(count == 1 for count in again.values()), "nobody is asked twice on one channel"
    late = [m for m in room.state.messages.values() if run.end_us and m.create_us > run.end_us]
    assert not late, "nobody is asked, reminded or told after the end"
    apart(room)
    if run.active:
        assert run.due_us is not None
        assert run.due_us <= run.enter_us + KIND.timeout_us


def apart(room: Room) -> None:
    """Reminders of one reviewer come after the request has had its time, and never together."""
    asked = room.approval.asked
    reminders = [one for one in asked if one.ask is Ask.REMINDER]
    assert len({(one.profile_id, one.time_us) for one in reminders}) == len(reminders)
    most = Counter(one.profile_id for one in reminders)
    assert all(count <= len(KIND.reminders_us) for count in most.values())
    for one in reminders:
        requests = (a for a in asked if (a.ask, a.profile_id) == (Ask.REQUEST, one.profile_id))
        made = [room.state.messages[name] for request in requests for name in request.message_ids]
        taken = [message.facts["sent"] for message in made if "sent" in message.facts]
        assert not taken or one.time_us >= min(taken) + HOUR


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(STEPS, max_size=30))
# Somebody is erased while nobody looks, after the approval should have timed out.
@example(False, [("advance", SECOND), ("advance", DAY), ("outage", DAY), ("erase", "ann")])
def test_it_is_decided_once_and_ends_in_its_time(
    quiet: bool, steps: list[tuple[object, ...]]
) -> None:
    hours = {Purpose.PRODUCT: Window(time(8), time(20))} if quiet else {}
    groups = {"finance": ("ann", "ben"), "all": PEOPLE}
    made = room(paying(KIND), policy=Policy(hours=hours), groups=groups, finds=deque())
    propose(made)
    for step in steps:
        happens(made, step)
        sound(made)
    made.advance(2 * DAY)
    sound(made)
    assert not made.run().active
    # What was sent by then may be attempted for another day, but nothing of it goes on for ever.
    made.advance(3 * DAY)
    assert not [m for m in made.state.messages.values() if m.due_us]
