"""AdminService over the wire: runs with their timeline, cancellation, lists, counts."""

from collections import Counter
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.wire import (
    ACCEPTED,
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
from upshot.v1 import admin_pb2, outcome_pb2


async def enrolled(wire: Wire, *user_ids: str, name: str = "Signed Up") -> dict[str, str]:
    """Let *user_ids* start a run each; return the runs by person."""
    found = {}
    for user_id in user_ids:
        event = track(f"{name}-{user_id}", name, user_id)
        (_, result) = await wire.ingest(identify(f"{name}-i-{user_id}", user_id), event)
        found[user_id] = result.started_runs[0].run_id
    await wire.advance()
    return found


async def cancel(wire: Wire, **by: str) -> list[str]:
    answer = await wire.admin.CancelRuns(admin_pb2.CancelRunsRequest(**by))
    return list(answer.canceled_run_ids)


async def paged(call: Any, request: Any, name: str) -> list[list[Any]]:
    """Return all pages of a list."""
    pages = []
    while True:
        answer = await call(request)
        pages.append(list(getattr(answer, name)))
        if not answer.next_page_token:
            return pages
        request.page_token = answer.next_page_token


async def test_a_run_tells_each_step_when_and_why(wire: Wire) -> None:
    skipped = {**sms("skipped"), "condition": 'traits.plan == "gold"'}
    await wire.define(
        workflow("welcome", "Signed Up", mail(), skipped, opened(on_timeout=[sms()]), pause())
    )
    run_id = (await enrolled(wire, "ana"))["ana"]
    waiting = await wire.run(run_id)
    assert (waiting.state, waiting.step_id, waiting.user_id) == (
        admin_pb2.RUN_STATE_ACTIVE,
        "opened",
        "ana",
    )
    assert waiting.event_id == "Signed Up-ana"
    assert waiting.due_time.seconds - waiting.start_time.seconds in range(86_399, 86_402)
    assert waiting.steps["mail"]["sent"] is True

    await wire.advance(30 * HOUR_S)
    run = await wire.run(run_id)
    told = [(entry.step_id, entry.what) for entry in run.timeline]
    assert told == [
        ("", "started"),
        ("mail", "sending"),
        ("mail", "sent"),
        ("skipped", "condition_failed"),
        ("skipped", "skipped"),
        ("opened", "waiting"),
        ("opened", "timed_out"),
        ("text", "sending"),
        ("text", "sent"),
        ("pause", "delayed"),
        ("pause", "went_on"),
        ("", "ended"),
    ]
    times = [entry.time.ToNanoseconds() for entry in run.timeline]
    assert times == sorted(times)
    assert run.timeline[6].time.seconds - run.timeline[5].time.seconds in (86_400, 86_401)
    assert "plan" in run.timeline[3].detail
    assert (run.state, run.step_id) == (admin_pb2.RUN_STATE_COMPLETED, "")
    assert run.HasField("end_time")
    assert not run.HasField("due_time")


async def test_one_run_is_canceled_by_its_id(wire: Wire, watched_stream: Watch) -> None:
    await wire.define(workflow("welcome", "Signed Up", pause(), mail()))
    runs = await enrolled(wire, "ana", "ben")
    assert await cancel(wire, run_id=runs["ana"]) == [runs["ana"]]
    assert await cancel(wire, run_id=runs["ana"]) == [], "it has ended"
    run = await wire.run(runs["ana"])
    assert (run.state, run.reason) == (admin_pb2.RUN_STATE_CANCELED, "CANCELED")
    await wire.advance(2 * HOUR_S)
    came = await watched_stream.all(wire)
    assert kinds([o for o in came if o.user_id == "ana"]) == ["RUN_STARTED", "RUN_CANCELED"]
    assert "MESSAGE_SENT" in kinds([o for o in came if o.user_id == "ben"])


async def test_all_runs_of_a_cancellation_key_are_canceled(
    wire: Wire, watched_stream: Watch
) -> None:
    keyed = {"cancellation_key": "event.properties.project"}
    await wire.define(workflow("welcome", "Signed Up", pause(), mail(), **keyed))
    started = {}
    for user_id, project in (("ana", "p1"), ("ben", "p1"), ("cleo", "p2")):
        (result,) = await wire.ingest(track(f"e-{user_id}", user_id=user_id, project=project))
        started[user_id] = result.started_runs[0].run_id
    assert set(await cancel(wire, cancellation_key="p1")) == {started["ana"], started["ben"]}
    assert await cancel(wire, cancellation_key="p1") == []
    assert await cancel(wire, cancellation_key="nothing") == []
    listed = await wire.admin.ListRuns(
        admin_pb2.ListRunsRequest(state=admin_pb2.RUN_STATE_CANCELED)
    )
    assert {run.user_id for run in listed.runs} == {"ana", "ben"}
    assert {run.cancellation_key for run in listed.runs} == {"p1"}
    assert Counter(kinds(await watched_stream.all(wire)))["RUN_CANCELED"] == 2
    # A canceled run stands in the way of no new one.
    (again,) = await wire.ingest(track("e-again", user_id="ana", project="p1"))
    assert (again.state, len(again.started_runs)) == (ACCEPTED, 1)


async def test_a_cancellation_names_one_thing_that_is_there(wire: Wire) -> None:
    for wrong in ({}, {"run_id": "r", "cancellation_key": "k"}):
        code, _, faults = await refused(cancel(wire, **wrong))
        assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {"run_id"})
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await cancel(wire, run_id="no-run")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    status, resource = rpc_status.from_call(raised.value), error_details_pb2.ResourceInfo()
    assert status is not None
    assert status.details[1].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("run", "no-run")


async def test_runs_are_listed_in_pages_with_filters(wire: Wire) -> None:
    for workflow_id in ("welcome", "tour"):
        await wire.define(workflow(workflow_id, "Signed Up", pause()))
    people = ["ana", "ben", "cleo", "dan", "eve"]
    await enrolled(wire, *people)
    await cancel(wire, run_id=(await enrolled(wire, "fay"))["fay"])

    request = admin_pb2.ListRunsRequest(page_size=5)
    pages = await paged(wire.admin.ListRuns, request, "runs")
    assert [len(page) for page in pages] == [5, 5, 2]
    runs = [run for page in pages for run in page]
    assert len({run.run_id for run in runs}) == 12
    assert [run.run_id for run in runs] == sorted((r.run_id for r in runs), reverse=True)
    assert not any(run.timeline for run in runs)

    tour = admin_pb2.ListRunsRequest(workflow_id="tour", page_size=4)
    pages = await paged(wire.admin.ListRuns, tour, "runs")
    assert [len(page) for page in pages] == [4, 2]
    assert {run.workflow_id for page in pages for run in page} == {"tour"}
    ben = admin_pb2.ListRunsRequest(user_id="ben", state=admin_pb2.RUN_STATE_ACTIVE)
    assert [len(page) for page in await paged(wire.admin.ListRuns, ben, "runs")] == [2]
    nobody = admin_pb2.ListRunsRequest(user_id="nobody")
    assert await paged(wire.admin.ListRuns, nobody, "runs") == [[]]
    canceled = admin_pb2.ListRunsRequest(state=admin_pb2.RUN_STATE_CANCELED)
    (page,) = await paged(wire.admin.ListRuns, canceled, "runs")
    assert [run.user_id for run in page] == ["fay"]


async def test_messages_are_listed_in_pages_with_filters(wire: Wire) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail(), sms()))
    await wire.define(workflow("tour", "Tour Begun", mail()))
    runs = await enrolled(wire, "ana", "ben", "cleo")
    await enrolled(wire, "ana", name="Tour Begun")

    request = admin_pb2.ListMessagesRequest(page_size=3)
    pages = await paged(wire.admin.ListMessages, request, "messages")
    assert [len(page) for page in pages] == [3, 3, 1]
    found = [message for page in pages for message in page]
    assert [m.message_id for m in found] == sorted((m.message_id for m in found), reverse=True)
    assert not any(message.content.fields for message in found)
    assert len(await wire.messages(workflow_id="tour")) == 1
    assert [m.step_id for m in await wire.messages(run_id=runs["ben"])] == ["mail", "text"]
    assert len(await wire.messages(user_id="ana")) == 3
    assert await wire.messages(user_id="nobody") == []

    asked = admin_pb2.GetMessageRequest(message_id=found[0].message_id)
    shown = (await wire.admin.GetMessage(asked)).message
    assert shown.content["subject"] == "Hello"
    assert (shown.state, shown.provider, shown.attempt) == (
        admin_pb2.MESSAGE_STATE_ACCEPTED,
        "nowhere",
        1,
    )
    assert "sent" in shown.facts


async def test_counts_equal_the_stream(wire: Wire, watched_stream: Watch) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail(), opened(on_timeout=[sms()])))
    await wire.define(workflow("tour", "Tour Begun", mail("hello")))
    await enrolled(wire, "ana", "ben", "cleo", "dan")
    await enrolled(wire, "ana", name="Tour Begun")
    for number, message in enumerate((await wire.messages(workflow_id="welcome"))[:2]):
        await wire.engage(
            fact("DELIVERED", message.message_id, f"d{number}"),
            fact("OPENED", message.message_id, f"o{number}"),
        )
    await wire.advance(26 * HOUR_S)

    def key(thing: Any) -> tuple[Any, ...]:
        return thing.workflow_id, thing.step_id, thing.channel, thing.kind

    expected = Counter(key(outcome) for outcome in await watched_stream.all(wire))
    assert expected["welcome", "mail", outcome_pb2.CHANNEL_EMAIL, 8] == 2, "two were ignored"
    answer = await wire.admin.CountOutcomes(admin_pb2.CountOutcomesRequest())
    assert {key(count): count.count for count in answer.counts} == expected

    of_tour = await wire.admin.CountOutcomes(admin_pb2.CountOutcomesRequest(workflow_id="tour"))
    told = {key(count): count.count for count in of_tour.counts}
    assert told == {k: n for k, n in expected.items() if k[0] == "tour"}


async def test_counts_have_a_window_of_whole_hours(wire: Wire) -> None:
    await wire.define(workflow("welcome", "Signed Up", mail(), pause("long", 10 * HOUR_S), sms()))
    await enrolled(wire, "ana")
    begin = (await wire.advance()).now
    await wire.advance(11 * HOUR_S)

    async def counted(**window: int) -> set[str]:
        request = admin_pb2.CountOutcomesRequest()
        for name, hours in window.items():
            getattr(request, name).FromSeconds(begin.seconds + hours * HOUR_S)
        answer = await wire.admin.CountOutcomes(request)
        return {count.step_id for count in answer.counts if count.step_id}

    assert await counted(end_time=2) == {"mail"}
    assert await counted(start_time=5) == {"text"}
    assert await counted(start_time=0, end_time=11) == {"mail", "text"}
    assert await counted(start_time=2, end_time=5) == set()
    code, _, faults = await refused(counted(start_time=5, end_time=2))
    assert (code, set(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, {"end_time"})
