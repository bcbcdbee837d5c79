"""What went wrong once in a decision, or between two of a batch."""

from tests.flows import DAY, delay, email, sms, track, wait_engagement, wait_event
from tests.sim import HOUR, MINUTE, START, WORKSPACE, Sim
from upshotd.domain.engine import decide
from upshotd.domain.event import Event, EventType
from upshotd.domain.message import (
    Accepted,
    Channel,
    Deferred,
    MessageState,
    Purpose,
    Refused,
    Unknown,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.profile import Suppression
from upshotd.domain.run import RunState
from upshotd.domain.state import Changes
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.stimulus import CancelRequested, EngagementState, EventArrived, RunBroke
from upshotd.domain.values import replace
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger, Workflow

EVER = Reentry(ReentryMode.ONCE_EVER)
REACHABLE = {"email": "u@example.com", "phone": "+15550000", "first_name": "U"}


def told(sim: Sim, kind: EventType, user_id: str, anonymous_id: str, **fields: object) -> None:
    sim.event(Event(sim._event_id(), kind, user_id, anonymous_id, **fields))


def started(*steps: Step, **fields: object) -> Sim:
    sim = Sim([track("Go", *steps, **fields)])
    sim.identify("u", **REACHABLE)
    sim.track("u", "Go")
    return sim


# linking


def test_a_run_that_had_ended_before_its_person_was_linked_still_has_a_person():
    sim = Sim([track("Go", email(), exits=(ExitRule("Stop"),))])
    sim.identify("u")
    told(sim, EventType.IDENTIFY, "", "anon", traits=REACHABLE)
    told(sim, EventType.TRACK, "", "anon", name="Go")
    told(sim, EventType.TRACK, "", "anon", name="Stop")
    told(sim, EventType.IDENTIFY, "u", "anon")
    message = sim.answer()
    assert message.profile_id == sim.run().profile_id == sim.profile("u").profile_id
    assert sim.engage(message.message_id, EngagementKind.OPENED).state is EngagementState.RECORDED
    assert {o.user_id for o in sim.outcomes if o.kind.name == "MESSAGE_OPENED"} == {"u"}


def test_an_opt_out_of_an_anonymous_person_outlives_a_shorter_one_of_the_known():
    for known_until, kept in ((START - 1, None), (START + DAY, None), (None, None)):
        sim = Sim([])
        sim.identify("u")
        told(sim, EventType.TRACK, "", "anon", name="x")
        ended = Suppression(Channel.EMAIL, until_us=known_until)
        for_good = Suppression(Channel.EMAIL, reason="UNSUBSCRIBED")
        sim.state.suppressions[sim.profile("u").profile_id] = {ended.scope: ended}
        anonymous_id = sim.profile(anonymous_id="anon").profile_id
        sim.state.suppressions[anonymous_id] = {for_good.scope: for_good}
        told(sim, EventType.TRACK, "u", "anon", name="y")
        (held,) = sim.state.suppressions[sim.profile("u").profile_id].values()
        assert held.until_us is kept


def test_a_short_suppression_before_a_merge_in_one_batch_does_not_undo_an_opt_out():
    sim = Sim([])
    sim.identify("u")
    told(sim, EventType.TRACK, "", "anon", name="x")
    known_id, batch = sim.profile("u").profile_id, Changes(WORKSPACE)
    short = Suppression(Channel.EMAIL, until_us=START + 1)
    batch.suppressions[sim.profile(anonymous_id="anon").profile_id, short.scope] = short
    sim.state.absorb(batch)
    for_good = Suppression(Channel.EMAIL, reason="UNSUBSCRIBED")
    sim.state.suppressions[known_id] = {for_good.scope: for_good}
    linking = EventArrived(Event("link", EventType.TRACK, "u", "anon", name="y"))
    merge = decide(WORKSPACE, sim.definitions, sim.state, linking, sim.now, sim.ids)
    batch.extend(merge.changes)
    assert batch.suppressions == {(known_id, for_good.scope): for_good}


def test_a_person_who_ran_once_ever_while_anonymous_does_not_run_again_when_known():
    sim = Sim([track("Go", delay(), reentry=EVER)])
    sim.identify("u")
    told(sim, EventType.TRACK, "", "anon", name="Go")
    told(sim, EventType.TRACK, "u", "anon", name="Go")
    assert len(sim.state.runs) == 1


def test_a_cooldown_goes_on_when_an_anonymous_person_becomes_known():
    cooling = Reentry(ReentryMode.ALWAYS, cooldown_us=HOUR)
    sim = Sim([track("Go", sms(), reentry=cooling)])
    sim.identify("u")
    told(sim, EventType.TRACK, "", "anon", name="Go")
    sim.now += MINUTE
    told(sim, EventType.TRACK, "u", "anon", name="Go")
    assert len(sim.state.runs) == 1
    sim.now += HOUR
    sim.track("u", "Go")
    assert len(sim.state.runs) == 2


def test_an_identify_older_than_what_the_anonymous_person_told_only_fills_gaps():
    sim = Sim([])
    sim.track("u", "x")
    told(sim, EventType.IDENTIFY, "", "anon", traits={"plan": "pro"})
    told(sim, EventType.TRACK, "u", "anon", name="y")
    old = {"plan": "free", "city": "Oslo"}
    told(sim, EventType.IDENTIFY, "u", "", traits=old, event_us=START - DAY)
    assert sim.profile("u").traits == {"plan": "pro", "city": "Oslo"}


def test_runs_that_moved_to_a_known_person_stand_in_order_of_their_start():
    sim = Sim([track("Go", delay(), reentry=Reentry(ReentryMode.ALWAYS))])
    sim.identify("u")
    told(sim, EventType.TRACK, "", "anon", name="Go")
    sim.now += 1
    sim.track("u", "Go")
    told(sim, EventType.TRACK, "u", "anon", name="x")
    assert list(sim.state.active[sim.profile("u").profile_id]) == list(sim.state.runs)


def test_a_bad_trait_of_long_ago_is_not_reported_again():
    sim = Sim([])
    assert sim.identify("u", email="nobody").violations
    assert sim.identify("u", plan="pro").violations == ()


# waits and events


def test_a_run_enrolled_by_an_event_does_not_wait_for_that_event_itself():
    more = Step("more", Enroll("other"))
    other = Workflow("other", Trigger(None), (wait_event("paid", "Paid", timeout=DAY), delay()))
    sim = Sim([track("Go", wait_event("paid", "Paid", timeout=DAY, on_match=(more,))), other])
    sim.track("u", "Go")
    sim.track("u", "Paid")
    assert sim.run().workflow_id == "other"
    assert sim.run().step_id == "paid"
    sim.track("u", "Paid")
    assert sim.run().step_id == "pause"


def test_a_condition_that_fails_with_every_event_does_not_fill_the_timeline():
    sim = started(delay(), exits=(ExitRule("Paid", "event.properties.total > 3"),))
    for _ in range(1200):
        sim.track("u", "Paid")
    sim.advance(DAY)
    assert sim.whats().count("condition_failed") == 1
    assert sim.whats()[-1] == "ended"


def test_a_detail_without_bound_is_cut():
    sim = Sim([track("Go", delay(), exits=(ExitRule("Paid", f"event.{'x' * 2000} == 1"),))])
    sim.track("u", "Go")
    sim.track("u", "Paid")
    assert max(len(entry.detail) for entry in sim.run().timeline) == 1000


def test_how_it_ended_is_in_a_timeline_that_is_full():
    sim = started(delay(), email())
    full = sim.run().timeline * 1000
    sim.state.runs[sim.run().run_id] = replace(sim.run(), timeline=full[:1000])
    sim.advance(DAY)
    sim.answer()
    assert sim.whats()[1000:] == ["ended"]


def test_who_unsubscribes_by_a_message_has_not_ignored_it():
    for kind in (EngagementKind.UNSUBSCRIBED, EngagementKind.COMPLAINED):
        sim = started(email(), wait_engagement())
        sim.engage(sim.answer().message_id, kind)
        sim.advance(DAY)
        assert "timed_out" in sim.whats()
        assert "MESSAGE_IGNORED" not in sim.kinds


# sends


def test_an_answer_after_its_lease_still_counts():
    sim = started(email(), delay())
    message = sim.sent[0]
    sim.advance(2 * MINUTE)
    assert sim.sent == []
    sim.settle(message, Accepted("p-1"))
    assert sim.kinds.count("MESSAGE_SENT") == 1
    assert sim.run().step_id == "pause"
    sim.advance(DAY)
    assert "MESSAGE_UNDELIVERABLE" not in sim.kinds


def test_who_knows_repetitions_is_asked_again_at_once_after_a_lease():
    """Its sender died; the lease was pause enough, and the provider has refused nothing."""
    sim = started(sms(), delay())
    first = sim.sent[0]
    sim.advance(2 * MINUTE)
    (second,) = sim.sent
    assert (second.message_id, second.attempt) == (first.message_id, first.attempt + 1)
    assert not second.possible_duplicate
    # The late answer to the first attempt is stale; the second one will be answered the same.
    sim.settle(first, Accepted("p-1"))
    assert "MESSAGE_SENT" not in sim.kinds
    sim.settle(second, Accepted("p-1"))
    assert sim.kinds.count("MESSAGE_SENT") == 1
    assert sim.run().step_id == "pause"


def test_a_message_whose_senders_die_for_a_day_is_given_up():
    sim = started(sms(), delay())
    for _ in range(24 * 60 // 2 + 2):
        sim.advance(2 * MINUTE)
    assert "MESSAGE_UNDELIVERABLE" in sim.kinds


def test_a_refusal_after_its_lease_still_counts_and_no_answer_does_not():
    sim = started(email(), delay())
    message = sim.sent[0]
    sim.advance(2 * MINUTE)
    due_us = sim.state.messages[message.message_id].due_us
    sim.settle(message, Unknown("late"))
    assert sim.state.messages[message.message_id].due_us == due_us
    sim.settle(message, Refused("BOUNCED"))
    assert sim.state.messages[message.message_id].reason == "BOUNCED"


def test_a_put_off_after_its_lease_is_tried_again_once():
    sim = started(email(), delay())
    message = sim.sent[0]
    sim.advance(2 * MINUTE)
    sim.settle(message, Deferred("later"))
    retrying = sim.state.messages[message.message_id]
    assert retrying.state is MessageState.RETRYING
    sim.now += 1
    sim.settle(message, Deferred("later"))
    assert sim.state.messages[message.message_id] == retrying


def test_what_was_given_up_and_came_all_the_same_was_sent_first():
    sim = started(email(), delay(), wait_engagement("opened", "welcome", timeout=DAY))
    message = sim.sent[0]
    sim.settle(message, Unknown())
    sim.advance(HOUR)
    assert sim.state.messages[message.message_id].reason == "UNKNOWN"
    sim.engage(message.message_id, EngagementKind.DELIVERED)
    assert sim.kinds[-2:] == ["MESSAGE_SENT", "MESSAGE_DELIVERED"]
    found = sim.state.messages[message.message_id]
    assert (found.state, found.reason) == (MessageState.ACCEPTED, "")
    sim.advance(DAY)
    assert sim.run().step_id == "opened", "somebody may open it"


def test_stop_in_reply_to_a_message_that_was_held_back_in_doubt_is_heard():
    sim = started(sms(), exits=(ExitRule("Stop"),))
    message = sim.sent[0]
    sim.settle(message, Unknown())
    sim.track("u", "Stop")
    assert sim.state.messages[message.message_id].state is MessageState.SUPPRESSED
    answer = sim.engage(message.message_id, EngagementKind.UNSUBSCRIBED)
    assert answer.state is EngagementState.RECORDED
    assert sim.state.suppressions[sim.profile("u").profile_id]
    assert sim.kinds.count("MESSAGE_SENT") == 1


def test_a_bounce_of_a_message_that_was_refused_is_no_proof_that_it_was_sent():
    sim = started(email())
    message = sim.answer(Refused("BOUNCED"))
    sim.engage(message.message_id, EngagementKind.BOUNCED)
    assert "MESSAGE_SENT" not in sim.kinds


def test_a_message_whose_timer_breaks_is_given_up_with_its_run():
    sim = started(email(), purpose=Purpose.TRANSACTIONAL)
    message = sim.sent[0]
    sim.do(RunBroke(sim.run().run_id, "incident-1", message.message_id))
    assert sim.run().state is RunState.FAILED
    found = sim.state.messages[message.message_id]
    assert (found.state, found.reason, found.due_us) == (
        MessageState.UNDELIVERABLE,
        "INTERNAL",
        None,
    )


# cancellation


def test_a_key_cancels_a_run_that_started_in_the_same_batch():
    sim = Sim([track("Go", delay(), cancellation_key="'all'")])
    sim.track("u", "Go")
    answer = sim.do(CancelRequested(cancellation_key="all"))
    assert answer.canceled == (sim.run().run_id,)
