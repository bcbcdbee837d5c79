"""Every trigger and every step, defined over the wire and run by the whole server on SQLite."""

from collections.abc import Sequence

import pytest

from tests.wire import (
    DAY_S,
    HOUR_S,
    Watch,
    Wire,
    fact,
    identify,
    kinds,
    mail,
    opened,
    pause,
    refused,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, event_pb2

COMPLETED, ACTIVE = admin_pb2.RUN_STATE_COMPLETED, admin_pb2.RUN_STATE_ACTIVE


async def runs(wire: Wire, *events: event_pb2.Event) -> list[str]:
    """Send events; return the runs they started."""
    results = await wire.ingest(*events)
    return [run.run_id for result in results for run in result.started_runs]


def paid(event: str = "Paid", condition: str = "", since: str = "ENTRY") -> dict[str, str]:
    return {"event": event, "condition": condition, "since": f"WAIT_SINCE_{since}"}


async def test_identify_and_group_start_runs_too(wire: Wire, watched_stream: Watch) -> None:
    gold = {"identify": {}, "condition": 'traits.plan == "gold"'}
    await wire.define(workflow("gold", gold, mail()))
    hello = mail("hello", subject="{{ group.name }} welcomes you")
    await wire.define(workflow("joined", {"group": {}}, hello))
    member = event_pb2.Event(event_id="g1", user_id="ana")
    member.group.group_id = "acme"
    member.group.traits.update({"name": "Acme"})
    contact = {"email": "ana@home.example"}
    started = await runs(
        wire, identify("i1", plan="free", **contact), identify("i2", plan="gold"), member
    )
    assert len(started) == 2
    await wire.advance()
    assert [m.step_id for m in await wire.messages()] == ["mail", "hello"]
    (_, message) = await wire.messages()
    shown = await wire.admin.GetMessage(admin_pb2.GetMessageRequest(message_id=message.message_id))
    assert shown.message.content["subject"] == "Acme welcomes you"
    assert {o.workflow_id for o in await watched_stream.all(wire)} == {"gold", "joined"}


@pytest.mark.parametrize(
    ("reentry", "counts"),
    [
        ({}, (1, 0, 1)),
        ({"mode": "REENTRY_MODE_ALWAYS"}, (1, 1, 1)),
        ({"mode": "REENTRY_MODE_ONCE_EVER"}, (1, 0, 0)),
        ({"mode": "REENTRY_MODE_ONCE_ACTIVE", "cooldown": "36000s"}, (1, 0, 0)),
        ({"key": "event.properties.order"}, (1, 1, 1)),
    ],
)
async def test_the_same_person_starts_again_as_re_entry_says(
    wire: Wire, reentry: dict[str, str], counts: tuple[int, ...]
) -> None:
    await wire.define(workflow("order", "Ordered", pause(), reentry=reentry))
    first = await runs(wire, track("e1", "Ordered", order="a"))
    meanwhile = await runs(wire, track("e2", "Ordered", order="b"))
    await wire.advance(2 * HOUR_S)
    later = await runs(wire, track("e3", "Ordered", order="a"))
    assert (len(first), len(meanwhile), len(later)) == counts


async def test_two_starts_in_one_request_are_one_where_re_entry_says_so(wire: Wire) -> None:
    await wire.define(workflow("order", "Ordered", pause()))
    events = [track(f"e{n}", "Ordered", f"u{n % 5}") for n in range(50)]
    assert len(await runs(wire, *events)) == 5


async def test_an_exit_ends_a_run_wherever_it_waits(wire: Wire, watched_stream: Watch) -> None:
    rule = {"track": {"event": "Bought"}, "condition": "event.properties.total > 10"}
    await wire.define(workflow("nudge", "Signed Up", opened_after(mail()), exits=[rule]))
    await wire.define(workflow("long", "Signed Up", pause(), mail(), exits=[rule]))
    started = await runs(wire, identify("i1"), track("e1"))
    await wire.advance()
    await wire.ingest(track("b1", "Bought", total=5))
    assert [(await wire.run(run)).state for run in started] == [ACTIVE] * 2
    await wire.ingest(track("b2", "Bought", total=50))
    ended = [await wire.run(run) for run in started]
    assert [(run.state, run.reason) for run in ended] == [(COMPLETED, "EXITED")] * 2
    await wire.advance(2 * DAY_S)
    assert "MESSAGE_IGNORED" not in kinds(await watched_stream.all(wire))


def opened_after(first: dict[str, object]) -> dict[str, object]:
    """A branch that always takes its only case: *first*, then a wait for its opening."""
    case = {"condition": "true", "steps": [first, opened()]}
    return {"step_id": "choose", "branch": {"cases": [case]}}


async def test_a_branch_takes_the_first_case_that_holds(wire: Wire) -> None:
    cases = [
        {"condition": "event.properties.total > 100", "steps": [mail("large")]},
        {"condition": "event.properties.total > 10", "steps": [mail("medium")]},
    ]
    branch = {"cases": cases, "otherwise": [mail("small")]}
    steps = ({"step_id": "choose", "branch": branch}, sms("after"))
    await wire.define(workflow("paid", "Paid", *steps, reentry={"mode": "REENTRY_MODE_ALWAYS"}))
    await wire.ingest(identify("i1"))
    taken = []
    for number, properties in enumerate(({"total": 500}, {"total": 50.5}, {"total": 1}, {})):
        (run,) = await runs(wire, track(f"p{number}", "Paid", **properties))
        await wire.advance()
        taken.append([message.step_id for message in await wire.messages(run_id=run)])
    assert taken == [["large", "after"], ["medium", "after"], ["small", "after"]] + [
        ["small", "after"]
    ], "a field that is missing makes a condition false"


async def test_what_does_not_pass_a_throttle_rolls_into_one_digest(
    wire: Wire, watched_stream: Watch
) -> None:
    digest = {"step_id": "later", "digest": {"window": f"{HOUR_S}s", "keep": {"count": 2}}}
    summary = mail("summary", subject="{{ steps.later.count }}: {{ steps.later.items[1].id }}")
    limit = {"max": 1, "period": f"{DAY_S}s", "on_throttled": [digest, summary]}
    steps = ({"step_id": "few", "throttle": limit}, mail("at_once"))
    await wire.define(workflow("news", "News", *steps, reentry={"mode": "REENTRY_MODE_ALWAYS"}))
    await wire.ingest(identify("i1"))
    started = await runs(wire, *(track(f"e{n}", "News") for n in range(4)))
    await wire.advance(HOUR_S)
    shown = [
        (await wire.admin.GetMessage(admin_pb2.GetMessageRequest(message_id=m.message_id))).message
        for m in await wire.messages()
    ]
    assert [m.step_id for m in shown] == ["at_once", "summary"]
    assert shown[1].content["subject"] == "3: e2"
    ended = [(await wire.run(run)).reason for run in started]
    assert ended == ["", "", "DIGESTED", "DIGESTED"]
    told = [o.reason for o in await watched_stream.all(wire) if o.reason]
    assert told == ["DIGESTED", "DIGESTED"]


async def test_a_wait_for_an_event_counts_from_entry_or_from_the_start(
    wire: Wire, watched_stream: Watch
) -> None:
    def waiting(since: str) -> dict[str, object]:
        event = paid(condition="event.properties.total > 10", since=since)
        lists = {"on_match": [sms("thanks")], "on_timeout": [sms("reminder")]}
        return {"step_id": "paid", "wait": {"event": event, "timeout": "3600s", **lists}}

    for since in ("ENTRY", "RUN_STARTED"):
        await wire.define(workflow(since.lower().replace("_", "-"), "Go", pause(), waiting(since)))
    await wire.ingest(identify("i1"), track("e1", "Go"), track("p1", "Paid", total=50))
    await wire.advance(3 * HOUR_S)
    told = {m.workflow_id: m.step_id for m in await wire.messages()}
    assert told == {"entry": "reminder", "run-started": "thanks"}

    (_, again) = await runs(wire, track("e2", "Go", "ben"))
    await wire.advance(HOUR_S + 60)
    unmoved, moved = await wire.ingest(
        track("p2", "Paid", "ben", total=5), track("p3", "Paid", "ben", total=11)
    )
    assert not unmoved.resumed_run_ids
    assert again in moved.resumed_run_ids
    assert len(moved.resumed_run_ids) == 2
    await watched_stream.all(wire)


async def test_any_of_several_ends_a_wait(wire: Wire) -> None:
    engagement = {"step_id": "mail", "kinds": ["ENGAGEMENT_KIND_CLICKED"]}
    conditions = [{"engagement": engagement}, {"event": paid()}]
    waiting = {"any_of": {"conditions": conditions}, "timeout": "3600s"}
    step = {"step_id": "either", "wait": {**waiting, "on_match": [sms("thanks")]}}
    await wire.define(workflow("either", "Go", mail(), step))
    for user_id in ("ana", "ben", "cleo"):
        await wire.ingest(identify(f"i-{user_id}", user_id), track(f"g-{user_id}", "Go", user_id))
    await wire.advance()
    (ana,) = await wire.messages(user_id="ana")
    (clicked,) = await wire.engage(fact("CLICKED", ana.message_id, "c1"))
    (came,) = await wire.ingest(track("p1", "Paid", "ben"))
    assert len(clicked.resumed_run_ids) == len(came.resumed_run_ids) == 1
    await wire.advance(2 * HOUR_S)
    thanked = [m.recipient for m in await wire.messages() if m.step_id == "thanks"]
    assert len(thanked) == 2


async def test_a_delay_until_a_moment_and_one_that_is_past(wire: Wire) -> None:
    until = {"expression": 'timestamp(event.properties.starts_at) - duration("1h")'}
    await wire.define(workflow("trial", "Trial", {"step_id": "until", "delay": {"until": until}}))
    now = (await wire.advance()).now.ToDatetime()
    ahead = now.replace(year=now.year + 1).strftime("%Y-%m-%dT%H:%M:%SZ")
    (waiting,) = await runs(wire, track("e1", "Trial", starts_at=ahead))
    (past,) = await runs(wire, track("e2", "Trial", "ben", starts_at="2020-01-01T00:00:00Z"))
    (never,) = await runs(wire, track("e3", "Trial", "cleo", starts_at="soon"))
    await wire.advance()
    first = await wire.run(waiting)
    assert (first.state, first.step_id) == (ACTIVE, "until")
    assert (await wire.run(past)).state == COMPLETED
    assert any("past" in entry.detail for entry in (await wire.run(past)).timeline)
    failed = await wire.run(never)
    assert (failed.state, failed.reason) == (admin_pb2.RUN_STATE_FAILED, "NO_MOMENT")
    await wire.advance(366 * DAY_S)
    assert (await wire.run(waiting)).state == COMPLETED


async def test_emit_enroll_suppress_and_exit(wire: Wire, watched_stream: Watch) -> None:
    steps = [
        {
            "step_id": "tell",
            "emit": {
                "event": "Trial Ignored",
                "properties": {"plan": "{{ event.properties.plan }}", "days": 3},
            },
        },
        {
            "step_id": "mute",
            "suppress": {"channel": "CHANNEL_EMAIL", "duration": f"{2 * DAY_S}s"},
        },
        {"step_id": "more", "enroll": {"workflow_id": "win-back"}},
        {"step_id": "leave", "exit": {"reason": "GAVE_UP"}},
        mail("never"),
    ]
    await wire.define(workflow("trial", "Trial", *steps))
    comeback = workflow("win-back", {"invoke": {}}, mail("first"), pause("p", 3 * DAY_S), mail())
    await wire.define(comeback)
    (run, *_) = await runs(wire, identify("i1"), track("e1", "Trial", plan="gold"))
    await wire.advance()
    (held,) = (await wire.profile(user_id="ana")).suppressions
    assert (held.reason, held.HasField("until_time")) == ("SUPPRESSED", True)
    await wire.advance(4 * DAY_S)
    ended = await wire.run(run)
    assert (ended.state, ended.reason) == (COMPLETED, "GAVE_UP")
    came = await watched_stream.all(wire)
    (custom,) = [o for o in came if kinds([o]) == ["CUSTOM"]]
    assert (custom.event, custom.step_id) == ("Trial Ignored", "tell")
    assert dict(custom.properties.items()) == {"plan": "gold", "days": 3}
    of_comeback = [(kinds([o])[0], o.step_id) for o in came if o.workflow_id == "win-back"]
    assert of_comeback == [
        ("RUN_STARTED", ""),
        ("MESSAGE_SUPPRESSED", "first"),
        ("MESSAGE_SENT", "mail"),
        ("RUN_COMPLETED", ""),
    ], "the suppression has ended by itself"


@pytest.mark.parametrize("event", ["Message Sent", "Run Started", "Message Opened"])
async def test_the_names_of_our_own_outcomes_cannot_be_emitted(wire: Wire, event: str) -> None:
    step = {"step_id": "tell", "emit": {"event": event}}
    _, _, faults = await refused(wire.define(workflow("w", "Go", step)))
    assert list(faults) == ["workflow.steps[0].emit.event"]


@pytest.mark.parametrize(
    "condition",
    [
        "[1, 2].filter(x, x > 1).size() > 0",
        "traits.tags.map(t, t)",
        "1 + 1",
        "unknown_name == 1",
        "'x' * 3",
        "true" + " && true" * 2_000,
    ],
)
async def test_conditions_that_cannot_be_taken_are_named(wire: Wire, condition: str) -> None:
    step = {**mail(), "condition": condition}
    _, _, faults = await refused(wire.define(workflow("w", "Go", step)))
    assert list(faults) == ["workflow.steps[0].condition"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{% for x in range(9) %}{{ x }}{% endfor %}{% include 'x' %}",
        "{{ unclosed",
        "{{ traits.name | no_such_filter }}",
    ],
)
async def test_templates_that_cannot_be_taken_are_named(wire: Wire, text: str) -> None:
    _, _, faults = await refused(wire.define(workflow("w", "Go", mail(text=text))))
    assert list(faults) == ["workflow.steps[0].send.email.text"]


async def test_what_a_stranger_began_goes_on_when_they_are_known(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause(), mail()))
    stranger = track("e1")
    stranger.user_id, stranger.anonymous_id = "", "anon-1"
    (run,) = await runs(wire, stranger)
    both = identify("i1", email="ana@home.example")
    both.anonymous_id = "anon-1"
    (result,) = await wire.ingest(both)
    assert not result.violations
    await wire.advance(2 * HOUR_S)
    assert (await wire.run(run)).user_id == "ana"
    came = await watched_stream.all(wire)
    assert [(kinds([o])[0], o.user_id or o.anonymous_id) for o in came] == [
        ("RUN_STARTED", "anon-1"),
        ("MESSAGE_SENT", "ana"),
        ("RUN_COMPLETED", "ana"),
    ]


async def test_of_two_runs_that_become_one_the_younger_gives_way(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause(), mail()))
    stranger = track("e1")
    stranger.user_id, stranger.anonymous_id = "", "anon-1"
    (older,) = await runs(wire, stranger)
    (younger,) = await runs(wire, identify("i1"), track("e2"))
    alias = event_pb2.Event(event_id="a1", user_id="ana")
    alias.alias.previous_id = "anon-1"
    await wire.ingest(alias)
    assert await states(wire, (older, younger)) == [
        (ACTIVE, ""),
        (admin_pb2.RUN_STATE_CANCELED, "MERGED"),
    ]
    await wire.advance(2 * HOUR_S)
    assert kinds(await watched_stream.all(wire)).count("MESSAGE_SENT") == 1


async def states(wire: Wire, run_ids: Sequence[str]) -> list[tuple[int, str]]:
    found = [await wire.run(run_id) for run_id in run_ids]
    return [(run.state, run.reason) for run in found]
