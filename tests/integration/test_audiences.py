"""Audiences over the wire and from the command line: defined, filled, looked at, asked why."""

import json
import re
from pathlib import Path

import grpc
import pytest

from tests.integration.cli_world import Ask, event, jsonl
from tests.wire import Watch, Wire, identify, kinds, mail, track, workflow
from upshot.v1 import admin_pb2, audience_pb2, event_pb2, outcome_pb2, workflow_pb2

EXAMPLE = Path(__file__).parents[2] / "examples" / "not-used.yaml"
PAID = audience_pb2.AudienceRule(event=audience_pb2.EventRule(event="Paid"))
ENTER = audience_pb2.AUDIENCE_TRANSITION_ENTER


async def define(wire: Wire, audience_id: str, rule: audience_pb2.AudienceRule) -> int:
    audience = audience_pb2.Audience(audience_id=audience_id, rule=rule)
    asked = admin_pb2.DefineAudienceRequest(audience=audience)
    return (await wire.admin.DefineAudience(asked)).version


async def filled(wire: Wire, audience_id: str) -> audience_pb2.AudienceVersion:
    """Return an audience once everybody was looked at."""
    request = admin_pb2.GetAudienceRequest(audience_id=audience_id)
    while True:
        found = (await wire.admin.GetAudience(request)).audience_version
        if found.progress.done:
            return found


async def test_an_audience_starts_a_workflow_and_the_log_says_why(
    wire: Wire, watched_stream: Watch
) -> None:
    await wire.ingest(identify("i0", "old"), track("p0", "Paid", "old"))
    assert await define(wire, "paid", PAID) == 1
    assert await define(wire, "paid", PAID) == 1
    found = await filled(wire, "paid")
    assert (found.version, found.members) == (1, 1)
    progress = found.progress
    assert (progress.events, progress.people, progress.moved) == (2, 1, 1)
    flow = workflow("thanks", "never", mail())
    flow.trigger.audience.audience_id = "paid"
    flow.trigger.audience.transition = ENTER
    await wire.define(flow)
    await wire.ingest(identify("i1"), track("p1", "Paid"))
    await wire.advance()
    came = await watched_stream.all(wire)
    assert kinds(came) == [
        "AUDIENCE_USER_MATCHED",
        "AUDIENCE_USER_MATCHED",
        "RUN_STARTED",
        "MESSAGE_SENT",
        "RUN_COMPLETED",
    ]
    assert [o.reason for o in came[:2]] == ["BACKFILLED", ""]
    assert came[1].properties["audience_id"] == "paid"
    assert came[1].properties["reason"].startswith('did "Paid" (at 20')
    members = await wire.admin.ListAudienceMembers(
        admin_pb2.ListAudienceMembersRequest(audience_id="paid", page_size=1)
    )
    assert [one.user_id for one in members.members] == ["old"]
    rest = await wire.admin.ListAudienceMembers(
        admin_pb2.ListAudienceMembersRequest(
            audience_id="paid", page_size=1, page_token=members.next_page_token
        )
    )
    assert [one.user_id for one in rest.members] == ["ana"]
    assert rest.next_page_token == ""
    listed = await wire.admin.ListAudiences(admin_pb2.ListAudiencesRequest())
    assert [one.audience.audience_id for one in listed.audience_versions] == ["paid"]
    kept = await wire.admin.GetEvent(admin_pb2.GetEventRequest(event_id=came[2].event_id))
    assert kept.event.audience_changed.transition == ENTER


async def test_whoever_asks_for_what_is_not_there_is_told(wire: Wire) -> None:
    await define(wire, "paid", PAID)
    for call, request in (
        (wire.admin.GetAudience, admin_pb2.GetAudienceRequest(audience_id="no")),
        (wire.admin.ListAudienceMembers, admin_pb2.ListAudienceMembersRequest(audience_id="no")),
        (
            wire.admin.GetAudienceMember,
            admin_pb2.GetAudienceMemberRequest(audience_id="no", user_id="ana"),
        ),
        (
            wire.admin.GetAudienceMember,
            admin_pb2.GetAudienceMemberRequest(audience_id="paid", anonymous_id="nobody"),
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await define(wire, "Not An Id", audience_pb2.AudienceRule(condition="now > now"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    text = refused.value.details() or ""
    assert "audience.audience_id" in text


async def test_what_only_the_server_says_is_refused_from_outside(wire: Wire) -> None:
    said = event_pb2.Event(event_id="x", user_id="ana")
    said.audience_changed.audience_id = "paid"
    (result,) = await wire.ingest(said)
    assert result.reason == "MISSING_CALL"


async def test_a_workflow_that_names_an_audience_that_is_not_there_is_warned_of(
    wire: Wire,
) -> None:
    flow = workflow("late", "never", mail())
    flow.trigger.schedule.cron = "0 9 * * *"
    flow.trigger.schedule.audience_id = "soon"
    flow.exits.add().audience.audience_id = "gone"
    flow.exits[0].audience.transition = ENTER
    wait = flow.steps.add(step_id="w").wait
    wait.timeout.seconds = 60
    wait.audience.audience_id = "later"
    wait.audience.transition = ENTER
    answer = await wire.define(flow)
    assert {warning.field: warning.description for warning in answer.warnings} == {
        "workflow.trigger.schedule.audience_id": "there is no audience 'soon' yet",
        "workflow.exits[0].audience.audience_id": "there is no audience 'gone' yet",
        "workflow.steps[1].wait": "there is no audience 'later' yet",
    }
    faulty = workflow_pb2.Workflow()
    faulty.CopyFrom(flow)
    faulty.exits[0].audience.transition = 0
    faulty.trigger.audience.audience_id = "No Id"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wire.define(faulty)
    assert "workflow.exits[0].audience.transition" in (refused.value.details() or "")
    assert outcome_pb2.OUTCOME_KIND_AUDIENCE_USER_MATCHED == 12


def test_the_command_line_defines_shows_lists_and_tells_why(ask: Ask, tmp_path: Path) -> None:
    assert "no audience is defined" in ask("audience", "show").stderr
    said = ask("define", str(EXAMPLE)).stdout.splitlines()
    assert said == ["audience not-used  version 1", "not-used  version 1"]
    people = [event("ana", "s1"), event("ben", "s2")]
    ask("ingest", jsonl(tmp_path / "signups.jsonl", people))
    ask("advance", "3d")
    shown = ask("audience", "show", "not-used").stdout
    assert "# version 1, defined " in shown
    assert re.search(r"# 2 in it; of before, \d+ events? and \d+ people were looked at", shown)
    assert ask("define", "-", given=shown).stdout == "audience not-used  version 1  (unchanged)\n"
    used = [{**event("ben", "u1"), "event": "Feature Used"}]
    ask("ingest", jsonl(tmp_path / "used.jsonl", used))
    rows = ask("audience", "members", "not-used").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["WHO", "ana"]
    assert 'did "Signed Up" 3 d ago' in rows[1]
    (one,) = ask("audience", "members", "not-used", "--json").stdout.splitlines()
    assert json.loads(one)["member"] is True
    assert "audiences   not-used\n" in ask("profile", "ana").stdout
    assert "audiences" not in ask("profile", "ben").stdout
    said = ask("audience", "why", "not-used", "ben").stdout
    assert re.match(r'ben is not in not-used since .* UTC: did "Feature Used" \(at ', said)
    said = ask("audience", "why", "not-used", "ana").stdout
    assert said.startswith("ana is in not-used since ")
    (listed,) = ask("audience", "show").stdout.splitlines()[1:]
    assert listed.split()[:2] == ["not-used", "1"]
    assert json.loads(ask("audience", "show", "--json").stdout)["version"] == "1"
    assert json.loads(ask("audience", "show", "not-used", "--json").stdout)["members"] == "1"
    assert json.loads(ask("audience", "why", "not-used", "ana", "--json").stdout)["member"]
    runs = ask("runs", "--workflow", "not-used", "--json").stdout.splitlines()
    event_id = json.loads(runs[-1])["event_id"]
    said = ask("why", event_id).stdout.splitlines()
    assert said[0].startswith(f"event {event_id}: ana came into the audience not-used, received ")
    assert said[1].startswith('  because: did "Signed Up" 3 d ago')
    assert "audience 'not-used' enter" in ask("workflows").stdout
    told = ask("tail", "--from-start", "--once").stdout
    assert re.search(r"ana +Audience User Matched +- +not-used +did \"Signed Up\" 3 d ago", told)
    ask("audience", "show", "--version", "2", code=2)
    ask("audience", "show", "nothing", code=1)
