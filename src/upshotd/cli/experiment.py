"""`upshot experiment`: what came of the variants, and how sure that is."""

import click

from upshot.v1 import admin_pb2, engagement_pb2, workflow_pb2
from upshotd.cli import client, durations, output

_HEADERS = ("VARIANT", "RUNS", "REACHED", "RATE", "95 % WITHIN", "OVER HOLDOUT", "95 % WITHIN")


@click.command(
    epilog="""\b
    Examples:
      upshot experiment first-project
      upshot experiment first-project/nudge --json
    """
)
@click.argument("place", metavar="WORKFLOW[/STEP]")
@client.json_option
@client.server_option
def experiment(place: str, as_json: bool, server: str) -> None:
    """Show what came of the experiments of a workflow: each variant with how many runs took it and
    how many of those reached the goal."""
    workflow_id, _, step_id = place.partition("/")
    request = admin_pb2.ListExperimentsRequest(workflow_id=workflow_id, step_id=step_id)

    async def work(at: client.Client) -> list[admin_pb2.ExperimentReport]:
        answer = await at.admin.ListExperiments(request, timeout=client.CALL_SECONDS)
        return list(answer.experiments)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    if not found:
        output.note(f"no experiments in {workflow_id}")
    for index, report in enumerate(found):
        if index:
            click.echo()
        click.echo(output.clean(_about(report)))
        output.table(_HEADERS, map(_row, report.variants), "no variants")


def _about(report: admin_pb2.ExperimentReport) -> str:
    """Return what is tried, in one line."""
    said = report.experiment
    parts = [f"{report.workflow_id}/{report.step_id}"]
    if said.HasField("optimize"):
        optimize = said.optimize
        parts.append(f"{_goal(optimize.goal)} within {durations.written(optimize.window)}")
    else:
        parts.append("no goal")
    moves = said.HasField("optimize") and not said.optimize.measure_only
    parts.append("shares move" if moves else "shares are the weights")
    return ", ".join(parts)


def _goal(goal: workflow_pb2.Goal) -> str:
    if goal.HasField("event"):
        return f"{goal.event.event!r}" + (" with a condition" if goal.event.condition else "")
    kinds = engagement_pb2.EngagementKind
    return " or ".join(
        output.word(kinds, kind, "ENGAGEMENT_KIND_") for kind in goal.engagement.kinds
    )


def _row(variant: admin_pb2.VariantReport) -> tuple[object, ...]:
    compared = variant.HasField("uplift")
    name = f"{variant.variant_id} (retired)" if variant.retired else variant.variant_id
    return (
        name,
        variant.exposures,
        variant.successes,
        f"{100 * variant.rate:.1f} %" if variant.exposures else output.NOTHING,
        _between(variant.rate_interval, "", "%") if variant.exposures else output.NOTHING,
        # Points, not per cent: it is a difference of two rates.
        f"{100 * variant.uplift:+.1f} points" if compared else output.NOTHING,
        _between(variant.uplift_interval, "+", "points") if compared else output.NOTHING,
    )


def _between(interval: admin_pb2.Interval, sign: str, unit: str) -> str:
    return f"{100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f} {unit}"
