"""Experiments over the wire: defined, lived through, and told by ListExperiments."""

import grpc
import pytest

from tests.wire import (
    DAY_S,
    Watch,
    Wire,
    fact,
    identify,
    mail,
    pause,
    refused,
    running,
    sms,
    track,
    workflow,
)
from upshot.v1 import admin_pb2, outcome_pb2

CLICKED = {"goal": {"engagement": {"kinds": ["ENGAGEMENT_KIND_CLICKED"]}}, "window": "172800s"}
PAID = {"goal": {"event": {"event": "Paid"}}, "window": "172800s"}


def trying(**fields: object) -> dict[str, object]:
    variants = [{"variant_id": "mail", "steps": [mail()]}, {"variant_id": "text", "steps": [sms()]}]
    return {"step_id": "try", "experiment": {"variants": variants, **fields}}


async def reports(wire: Wire, **by: str) -> list[admin_pb2.ExperimentReport]:
    answer = await wire.admin.ListExperiments(admin_pb2.ListExperimentsRequest(**by))
    return list(answer.experiments)


async def test_variants_are_told_with_what_came_of_them_through_a_restart(
    wire: Wire, watched_stream: Watch, database
) -> None:
    await wire.define(workflow("welcome", "Signed Up", trying(optimize=CLICKED), pause()))
    people = [f"u{number}" for number in range(30)]
    for who in people:
        contact = {"email": f"{who}@home.example", "phone": f"+1555000{who[1:]:0>4}"}
        await wire.ingest(identify(f"i-{who}", who, **contact), track(f"e-{who}", "Signed Up", who))
    await wire.advance()
    mails = [m for m in await wire.messages(page_size=100) if m.step_id == "mail"]
    for message in mails[:5]:
        for number in range(2):
            await wire.engage(fact("CLICKED", message.message_id, f"{message.message_id}-{number}"))
    (report,) = await reports(wire, workflow_id="welcome")
    assert (report.workflow_id, report.step_id) == ("welcome", "try")
    assert report.experiment.optimize.explore == 0.1
    assert [len(variant.steps) for variant in report.experiment.variants] == [0, 0]
    by_id = {variant.variant_id: variant for variant in report.variants}
    assert list(by_id) == ["mail", "text"]
    assert by_id["mail"].exposures == len(mails)
    assert by_id["text"].exposures == len(people) - len(mails)
    assert by_id["mail"].successes == 5
    assert by_id["mail"].rate == 5 / len(mails)
    assert 0 < by_id["mail"].rate_interval.low < 5 / len(mails) < by_id["mail"].rate_interval.high
    assert not by_id["mail"].HasField("uplift")
    outcomes = await watched_stream.all(wire)
    clicked = [o.variant for o in outcomes if o.kind == outcome_pb2.OUTCOME_KIND_MESSAGE_CLICKED]
    assert clicked == ["try/mail"] * 10
    assert {o.variant for o in outcomes if not o.message_id} == {""}
    await wire.advance(5 * DAY_S)
    assert await reports(wire, workflow_id="welcome", step_id="try") == [report]


async def test_what_was_counted_is_there_when_the_server_comes_back(tmp_path) -> None:
    database = tmp_path / "upshot.db"
    async with running(database) as wire:
        await wire.define(workflow("welcome", "Signed Up", trying(optimize=PAID), pause()))
        await wire.ingest(track("e", "Signed Up", "ana"))
    async with running(database) as wire:
        await wire.ingest(track("p", "Paid", "ana"), track("q", "Paid", "ana"))
        (report,) = await reports(wire, workflow_id="welcome")
    counted = [(variant.exposures, variant.successes) for variant in report.variants]
    assert sorted(counted) == [(0, 0), (1, 1)]


async def test_those_held_out_get_nothing_and_say_what_the_variants_are_worth(wire: Wire) -> None:
    measured = {**PAID, "measure_only": True}
    await wire.define(
        workflow("welcome", "Signed Up", trying(holdout=0.4, optimize=measured), pause())
    )
    started = {}
    for number in range(40):
        (result,) = await wire.ingest(track(f"e{number}", "Signed Up", f"u{number}"))
        run = await wire.run(result.started_runs[0].run_id)
        started[f"u{number}"] = next(e for e in run.timeline if e.what == "assigned").detail
    treated = [who for who, why in started.items() if not why.startswith("holdout: ")]
    assert 10 < len(treated) < 36
    await wire.ingest(*(track(f"p-{who}", "Paid", who) for who in treated))
    (report,) = await reports(wire, workflow_id="welcome")
    mailed, texted, holdout = report.variants
    assert (holdout.variant_id, holdout.exposures) == ("holdout", 40 - len(treated))
    assert holdout.successes == 0
    assert (mailed.uplift, texted.uplift) == (1, 1)
    assert mailed.uplift_interval.low > 0
    assert not holdout.HasField("uplift")


async def test_faults_are_told_by_path_and_what_is_none_is_not_found(wire: Wire) -> None:
    fields = {"holdout": 2, "optimize": {"goal": {}, "explore": 3}}
    code, _, faults = await refused(wire.define(workflow("w", "Go", trying(**fields))))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert set(faults) == {
        f"workflow.steps[0].experiment.{field}"
        for field in ("holdout", "optimize.goal", "optimize.window", "optimize.explore")
    }
    await wire.define(workflow("plain", "Go", pause()))
    assert await reports(wire, workflow_id="plain") == []
    for by in ({"workflow_id": "nothing"}, {"workflow_id": "plain", "step_id": "pause"}):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await reports(wire, **by)
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_definition_comes_back_as_it_was_written(wire: Wire) -> None:
    written = workflow("welcome", "Go", trying(holdout=0.25, key="traits.team", optimize=CLICKED))
    assert (await wire.define(written)).version == 1
    request = admin_pb2.GetWorkflowRequest(workflow_id="welcome")
    stored = (await wire.admin.GetWorkflow(request)).workflow_version.workflow
    assert (await wire.define(stored)).unchanged
    assert (await wire.define(written)).unchanged
    experiment = stored.steps[0].experiment
    assert (experiment.holdout, experiment.key) == (0.25, "traits.team")
    assert [variant.weight for variant in experiment.variants] == [1, 1]
