"""Ingest over the wire: what is taken, what is refused, and what it leaves behind."""

import asyncio
import json
import time
from collections import Counter, defaultdict

import grpc
import pytest

from tests.wire import (
    ACCEPTED,
    DAY_S,
    DUPLICATE,
    HOUR_S,
    REJECTED,
    Watch,
    Wire,
    connected,
    identify,
    kinds,
    mail,
    pause,
    refused,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, event_pb2, outcome_pb2
from upshot.v1 import service_pb2 as pb


def welcome() -> object:
    return workflow("welcome", "Signed Up", mail(), sms(), pause())


async def refusals(wire: Wire) -> list[admin_pb2.RejectedEvent]:
    request = admin_pb2.ListRejectedEventsRequest()
    return list((await wire.admin.ListRejectedEvents(request)).rejected_events)


async def test_an_unknown_user_is_not_found_until_an_event_names_them(wire: Wire) -> None:
    code, info, _ = await refused(wire.profile(user_id="nobody"))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    await wire.define(welcome())

    (result,) = await wire.ingest(track("e1", user_id="nobody"))
    assert result.state == ACCEPTED
    assert [run.workflow_id for run in result.started_runs] == ["welcome"]
    profile = await wire.profile(user_id="nobody")
    assert (profile.user_id, dict(profile.contact)) == ("nobody", {})


async def test_a_bad_address_is_a_warning_and_the_message_unroutable(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(welcome())
    first, second = await wire.ingest(identify("i1", email="ana at home", plan="gold"), track("e1"))
    assert first.state == second.state == ACCEPTED
    (warning,) = first.violations
    assert warning.field.endswith("traits.email")
    profile = await wire.profile(user_id="ana")
    assert profile.traits["email"] == "ana at home"
    assert "email" not in profile.contact

    await wire.advance()
    came = await watched_stream.all(wire)
    assert kinds(came) == ["RUN_STARTED", "MESSAGE_UNROUTABLE", "MESSAGE_UNROUTABLE"]
    assert {(o.step_id, o.reason) for o in came[1:]} == {
        ("mail", "NO_ADDRESS"),
        ("text", "NO_ADDRESS"),
    }
    messages = await wire.messages()
    assert {m.state for m in messages} == {admin_pb2.MESSAGE_STATE_UNROUTABLE}


async def test_a_large_event_is_rejected_alone_and_kept_for_people(wire: Wire) -> None:
    await wire.define(welcome())
    large = track("large", text="x" * 40_000)
    before, rejected, after = await wire.ingest(track("e1"), large, track("e2", user_id="ben"))
    assert [before.state, rejected.state, after.state] == [ACCEPTED, REJECTED, ACCEPTED]
    assert (rejected.event_id, rejected.reason) == ("large", "EVENT_TOO_LARGE")
    (violation,) = rejected.violations
    assert violation.field == "event"
    assert "32768" in violation.description
    assert not rejected.started_runs

    (kept,) = await refusals(wire)
    assert (kept.event_id, kept.reason) == ("large", "EVENT_TOO_LARGE")
    assert [v.field for v in kept.violations] == ["event"]
    assert json.loads(kept.payload)["track"]["event"] == "Signed Up"

    # Its id has stayed free.
    (again,) = await wire.ingest(track("large", user_id="cleo"))
    assert (again.state, len(again.started_runs)) == (ACCEPTED, 1)


async def test_an_event_of_32_kib_is_taken_and_one_of_a_byte_more_is_not(wire: Wire) -> None:
    sized = track("sized", text="")
    room = 32 * 1024 - track("sized", text="x" * 30_000).ByteSize()
    sized.track.properties.update({"text": "x" * (30_000 + room)})
    assert sized.ByteSize() == 32 * 1024
    larger = track("large", text="x" * (30_000 + room + 1))
    assert larger.ByteSize() == 32 * 1024 + 1
    assert [r.state for r in await wire.ingest(sized, larger)] == [ACCEPTED, REJECTED]


async def test_ids_have_at_most_100_characters(wire: Wire) -> None:
    fits, rejected, unnamed = await wire.ingest(track("i" * 100), track("i" * 101), track(""))
    assert (fits.state, fits.event_id) == (ACCEPTED, "i" * 100)
    assert (rejected.state, rejected.reason) == (REJECTED, "INVALID_EVENT_ID")
    assert [v.field for v in rejected.violations] == ["event.event_id"]
    # One without an id is given one.
    assert unnamed.state == ACCEPTED
    assert unnamed.event_id
    assert [kept.event_id for kept in await refusals(wire)] == ["i" * 101]


async def test_every_event_that_cannot_be_taken_says_why(wire: Wire) -> None:
    faceless, junk, far, nameless = track("1"), track("2"), track("3"), track("4", name="")
    faceless.user_id = ""
    junk.user_id, far.user_id = "null", "u" * 256
    empty = event_pb2.Event(event_id="5", user_id="ana")
    results = await wire.ingest(faceless, junk, far, nameless, empty)
    assert [(r.state, r.reason, r.violations[0].field) for r in results] == [
        (REJECTED, "MISSING_USER_ID", "event.user_id"),
        (REJECTED, "INVALID_USER_ID", "event.user_id"),
        (REJECTED, "INVALID_USER_ID", "event.user_id"),
        (REJECTED, "MISSING_EVENT", "event.track.event"),
        (REJECTED, "MISSING_CALL", "event.call"),
    ]
    # The newest first.
    assert [kept.event_id for kept in await refusals(wire)] == ["5", "4", "3", "2", "1"]


async def test_the_list_of_refused_events_has_pages(wire: Wire) -> None:
    await wire.ingest(*(track(str(number), name="") for number in range(5)))
    seen, token = [], ""
    while True:
        request = admin_pb2.ListRejectedEventsRequest(page_size=2, page_token=token)
        page = await wire.admin.ListRejectedEvents(request)
        seen.append([kept.event_id for kept in page.rejected_events])
        token = page.next_page_token
        if not token:
            break
    assert seen == [["4", "3"], ["2", "1"], ["0"]]


async def test_an_event_of_last_year_is_taken_and_starts_nothing(wire: Wire) -> None:
    await wire.define(welcome())
    old, yesterday, tomorrow = track("old"), track("late", user_id="b"), track("soon", user_id="c")
    now_s = int(time.time())
    old.event_time.FromSeconds(now_s - 365 * DAY_S)
    yesterday.event_time.FromSeconds(now_s - 23 * HOUR_S)
    tomorrow.event_time.FromSeconds(now_s + DAY_S)
    results = await wire.ingest(old, yesterday, tomorrow)
    assert [(r.state, len(r.started_runs)) for r in results] == [
        (ACCEPTED, 0),
        (ACCEPTED, 1),
        (ACCEPTED, 1),
    ]
    assert (await wire.profile(user_id="ana")).user_id == "ana"
    (again,) = await wire.ingest(old)
    assert again.state == DUPLICATE


async def test_a_senders_wrong_clock_is_corrected(wire: Wire) -> None:
    await wire.define(welcome())
    event = track("e1")
    # A year behind, but sent a minute after it happened.
    event.event_time.FromSeconds(int(time.time()) - 365 * DAY_S)
    event.sent_time.FromSeconds(event.event_time.seconds + 60)
    (result,) = await wire.ingest(event)
    assert len(result.started_runs) == 1


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_request_of_no_or_too_many_events_fails_as_a_whole(wire: Wire, count: int) -> None:
    events = [track(f"e{number}", user_id=f"u{number}") for number in range(count)]
    code, info, faults = await refused(wire.ingest(*events))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert set(faults) == {"events"}
    assert str(count) in faults["events"]
    assert not await refusals(wire)
    code, _, _ = await refused(wire.profile(user_id="u0"))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_1000_events_are_taken_in_their_order(wire: Wire) -> None:
    events = [identify(f"i{number}", n=str(number)) for number in range(1000)]
    results = await wire.ingest(*events)
    assert [r.event_id for r in results] == [event.event_id for event in events]
    assert {r.state for r in results} == {ACCEPTED}
    assert (await wire.profile(user_id="ana")).traits["n"] == "999"


async def test_a_duplicate_has_no_effect_and_names_the_runs_of_the_first_time(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.define(welcome())
    first, within = await wire.ingest(track("e1"), track("e1"))
    (again,) = await wire.ingest(track("e1", name="Something Else"))
    assert [first.state, within.state, again.state] == [ACCEPTED, DUPLICATE, DUPLICATE]
    (started,) = first.started_runs
    assert (started.workflow_id, started.version) == ("welcome", 1)
    assert list(within.started_runs) == list(again.started_runs) == [started]
    await wire.advance()
    came = await watched_stream.all(wire)
    assert kinds(came).count("RUN_STARTED") == 1
    assert {o.run_id for o in came} == {started.run_id}
    assert {o.event_id for o in came} == {"e1"}


async def test_alias_and_group_work_on_the_same_person(wire: Wire) -> None:
    stranger = event_pb2.Event(event_id="1", anonymous_id="anon-1")
    stranger.identify.traits.update({"plan": "free"})
    alias = event_pb2.Event(event_id="2", user_id="ana")
    alias.alias.previous_id = "anon-1"
    group = event_pb2.Event(event_id="3", user_id="ana")
    group.group.group_id = "acme"
    known = event_pb2.Event(event_id="4", user_id="ben")
    known.alias.previous_id = "ana"
    results = await wire.ingest(stranger, alias, group, known)
    assert [r.state for r in results] == [ACCEPTED, ACCEPTED, ACCEPTED, REJECTED]
    profile = await wire.profile(anonymous_id="anon-1")
    assert profile == await wire.profile(user_id="ana")
    assert (profile.user_id, list(profile.anonymous_ids)) == ("ana", ["anon-1"])
    assert (profile.traits["plan"], list(profile.group_ids)) == ("free", ["acme"])


async def test_our_own_outcomes_come_back_and_trigger_nothing(wire: Wire) -> None:
    await wire.define(workflow("echo", "Message Opened", mail()))
    by_id, by_library = track("upshot-1", "Message Opened"), track("e2", "Message Opened")
    by_library.context.update({"library": {"name": "upshot"}})
    results = await wire.ingest(by_id, by_library, track("e3", "Message Opened"))
    assert [(r.state, len(r.started_runs)) for r in results] == [
        (ACCEPTED, 0),
        (ACCEPTED, 0),
        (ACCEPTED, 1),
    ]


async def test_channels_and_kinds_of_outcomes_are_told(wire: Wire, watched_stream: Watch) -> None:
    await wire.define(welcome())
    await wire.ingest(identify("i1"), track("e1"))
    await wire.advance(2 * HOUR_S)
    came = await watched_stream.all(wire)
    assert kinds(came) == ["RUN_STARTED", "MESSAGE_SENT", "MESSAGE_SENT", "RUN_COMPLETED"]
    email, text = came[1:3]
    assert (email.channel, email.recipient, email.event) == (
        outcome_pb2.CHANNEL_EMAIL,
        "ana@home.example",
        "Message Sent",
    )
    assert (text.channel, text.recipient) == (outcome_pb2.CHANNEL_SMS, "+4915112345678")
    assert {(o.user_id, o.workflow_id, o.workflow_version) for o in came} == {("ana", "welcome", 1)}
    assert [(o.partition, o.position) for o in came] == [(0, 1), (0, 2), (0, 3), (0, 4)]


async def test_eight_clients_with_the_same_ids_start_each_run_once(
    wire: Wire, watched_stream: Watch
) -> None:
    """A tenth of what each client sends, another one sends too; somebody reads all the while."""
    await wire.define(workflow("welcome", "Signed Up", mail()))
    stream = watched_stream(wire)
    reading = asyncio.create_task(stream.until(3 * 720))

    async def client(number: int) -> list[pb.IngestResult]:
        # 100 people each, of whom the last 10 are the first 10 of the next client.
        people = [at % 720 for at in range(number * 90, number * 90 + 100)]
        found = []
        async with connected(wire.app.grpc_address) as own:
            for at in range(0, 100, 20):
                chosen = people[at : at + 20]
                events = [identify(f"i{n}", f"u{n}") for n in chosen]
                events += [track(f"e{n}", user_id=f"u{n}") for n in chosen]
                found += await own.ingest(*events)
        return found

    answers = await asyncio.gather(*map(client, range(8)))
    await wire.advance()
    came = await reading
    results = [result for answer in answers for result in answer]
    assert Counter(result.state for result in results) == {ACCEPTED: 1440, DUPLICATE: 160}
    runs: dict[str, set[str]] = defaultdict(set)
    for result in results:
        runs[result.event_id] |= {run.run_id for run in result.started_runs}
    assert all(len(found) == 1 for id_, found in runs.items() if id_.startswith("e"))
    assert Counter(kinds(came)) == {"RUN_STARTED": 720, "MESSAGE_SENT": 720, "RUN_COMPLETED": 720}
    assert len({outcome.run_id for outcome in came}) == 720


async def test_an_explanation_is_given_where_it_is_asked_for_and_can_be_looked_up_later(
    wire: Wire,
) -> None:
    pro = workflow("pro", {"track": {"event": "Signed Up"}}, pause())
    pro.trigger.condition = 'traits.plan == "pro"'
    await wire.define(pro)
    await wire.define(workflow("welcome", "Signed Up", pause()))
    (silent,) = await wire.ingest(track("e0"))
    assert not silent.explanations
    await wire.ingest(identify("i1", plan="free"))
    request = pb.IngestRequest(events=[track("e1")], explain=True)
    (told,) = (await wire.upshot.Ingest(request)).results
    by_id = {e.workflow_id: e for e in told.explanations}
    assert by_id["pro"].reason == "CONDITION_FALSE"
    assert by_id["pro"].detail == 'traits.plan == "pro", where traits.plan is "free"'
    assert (by_id["welcome"].started, by_id["welcome"].reason) == (False, "ACTIVE")
    assert silent.started_runs[0].run_id in by_id["welcome"].detail
    (again,) = (await wire.upshot.Ingest(request)).results
    assert not again.explanations
    kept = await wire.admin.GetEvent(admin_pb2.GetEventRequest(event_id="e1"))
    assert kept.event.track.event == "Signed Up"
    assert list(kept.explanations) == list(told.explanations)
    first = await wire.admin.GetEvent(admin_pb2.GetEventRequest(event_id="e0"))
    assert [(e.reason, e.run_id) for e in first.explanations if e.started] == [
        ("STARTED", silent.started_runs[0].run_id)
    ]
    unknown = wire.admin.GetEvent(admin_pb2.GetEventRequest(event_id="nobody"))
    code, info, _ = await refused(unknown)
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
