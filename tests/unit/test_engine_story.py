"""The case the system was described with, told for five people on the pure engine."""

from tests.flows import feature_not_used, win_back
from tests.sim import DAY, HOUR, Sim
from upshotd.domain.message import Channel
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.run import RunState


def story(user_id: str, **traits: object) -> Sim:
    sim = Sim([feature_not_used(), win_back()])
    sim.identify(user_id, **traits)
    answer = sim.track(user_id, "Feature Not Used")
    assert [run.workflow_id for run in answer.started] == ["feature-not-used"]
    return sim


def test_ana_opens_the_email_and_nothing_more_is_sent():
    sim = story("ana", first_name="Ana", email="ana@example.com", phone="+15550001")
    message = sim.answer()
    assert message.content.subject == "Hello Ana"
    sim.advance(HOUR)
    sim.engage(message.message_id, EngagementKind.OPENED)
    assert sim.run().state is RunState.COMPLETED
    sim.advance(5 * DAY)
    assert sim.messages_kinds() == ["SENT EMAIL", "OPENED EMAIL"]


def test_ben_ignores_the_email_and_clicks_the_sms():
    sim = story("ben", first_name="Ben", email="ben@example.com", phone="+15550002")
    sim.answer()
    sim.advance(DAY)
    message = sim.answer(channel=Channel.SMS)
    sim.engage(message.message_id, EngagementKind.CLICKED, link_url="https://example.com")
    assert sim.messages_kinds() == ["SENT EMAIL", "IGNORED EMAIL", "SENT SMS", "CLICKED SMS"]
    assert sim.run().state is RunState.COMPLETED


def test_cleo_ignores_all_is_muted_on_email_and_won_back_by_sms():
    sim = story("cleo", first_name="Cleo", email="cleo@example.com", phone="+15550003")
    sim.answer()
    sim.advance(DAY)
    sim.answer()
    sim.advance(DAY)
    sim.answer()
    assert sim.messages_kinds() == [
        "SENT EMAIL",
        "IGNORED EMAIL",
        "SENT SMS",
        "IGNORED SMS",
        "SUPPRESSED EMAIL",
        "SENT SMS",
    ]
    assert sim.run(1).workflow_id == "win-back"
    assert sim.run(0).steps["more"] == {"run_id": sim.run(1).run_id}


def test_dan_has_no_email_and_gets_the_sms_at_once():
    sim = story("dan", first_name="Dan", phone="+15550004")
    assert [m.channel for m in sim.sent] == [Channel.SMS]
    assert sim.whats()[:4] == ["started", "unroutable", "undeliverable", "sending"]
    sim.answer()
    sim.advance(DAY)
    sim.answer()
    assert sim.messages_kinds() == [
        "UNROUTABLE EMAIL",
        "SENT SMS",
        "IGNORED SMS",
        "UNROUTABLE EMAIL",
        "SENT SMS",
    ]


def test_eve_uses_the_feature_and_the_run_exits():
    sim = story("eve", first_name="Eve", email="eve@example.com", phone="+15550005")
    sim.answer()
    sim.advance(HOUR)
    sim.track("eve", "Feature Used")
    run = sim.run()
    assert (run.state, run.reason, run.due_us) == (RunState.COMPLETED, "EXITED", None)
    sim.advance(5 * DAY)
    assert sim.messages_kinds() == ["SENT EMAIL"]
