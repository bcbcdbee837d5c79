"""`upshot workflows`: what is defined."""

import click

from upshot.v1 import admin_pb2, audience_pb2, service_pb2, workflow_pb2
from upshotd.cli import client, output, versions, yamlfile

_TRANSITION = "AUDIENCE_TRANSITION_"


@click.command(
    epilog="""\b
    Examples:
      upshot workflows
      upshot workflows welcome > welcome.yaml
      upshot workflows welcome --version 2
      upshot workflows welcome --versions
      upshot workflows welcome --since 2
    """
)
@click.argument("workflow_id", metavar="[ID]", default="")
@click.option("--version", type=click.IntRange(1), default=None, metavar="N", help="[current]")
@click.option("--versions", "all_versions", is_flag=True, help="List the versions of ID.")
@click.option(
    "--since", type=click.IntRange(1), metavar="N", help="Show what changed since version N."
)
@client.limit_option
@client.json_option
@client.server_option
def workflows(
    workflow_id: str,
    version: int | None,
    all_versions: bool,
    since: int | None,
    limit: int,
    as_json: bool,
    server: str,
) -> None:
    """List workflows; with ID print that one as YAML, as `upshot define` takes it."""
    if not workflow_id and (version or all_versions or since):
        raise click.UsageError("--version, --versions and --since are for one workflow")
    if not workflow_id or all_versions:
        _list(server, workflow_id, limit, as_json)
        return
    found = client.run(server, lambda at: _get(at, workflow_id, version or 0))
    if since is not None:
        before = client.run(server, lambda at: _get(at, workflow_id, since))
        names = (f"version {before.version}", f"version {found.version}")
        texts = (yamlfile.dump(before.workflow), yamlfile.dump(found.workflow))
        for line in versions.changes(*texts, names):
            click.echo(line)
        return
    if as_json:
        output.json_lines([found])
        return
    defined = output.moment(found.create_time)
    archived = ", archived" if found.archived else ""
    click.echo(f"# version {found.version}, defined {defined} UTC{archived}")
    if found.HasField("in_flight"):
        click.echo(f"# {_in_flight(found.in_flight)}")
    click.echo(yamlfile.dump(found.workflow), nl=False)


async def _get(at: client.Client, workflow_id: str, version: int) -> admin_pb2.WorkflowVersion:
    request = admin_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=version)
    answer = await at.admin.GetWorkflow(request, timeout=client.CALL_SECONDS)
    return answer.workflow_version


def _in_flight(done: admin_pb2.InFlight) -> str:
    policy = output.word(service_pb2.InFlightPolicy, done.policy, "IN_FLIGHT_POLICY_")
    so_far = "" if done.done else " so far"
    runs = output.counted(done.moved, "run")
    return f"runs in flight: {policy}; {runs} so changed{so_far}, {done.pinned} stay on theirs"


def _list(server: str, workflow_id: str, limit: int, as_json: bool) -> None:
    """List the current version of each workflow, or all versions of one."""

    async def fetch_with(at: client.Client) -> list[admin_pb2.WorkflowVersion]:
        async def fetch(
            size: int, token: str
        ) -> admin_pb2.ListWorkflowsResponse | admin_pb2.ListWorkflowVersionsResponse:
            seconds = client.CALL_SECONDS
            if not workflow_id:
                listed = admin_pb2.ListWorkflowsRequest(page_size=size, page_token=token)
                return await at.admin.ListWorkflows(listed, timeout=seconds)
            request = admin_pb2.ListWorkflowVersionsRequest(
                workflow_id=workflow_id, page_size=size, page_token=token
            )
            return await at.admin.ListWorkflowVersions(request, timeout=seconds)

        return await client.rows(limit, fetch, lambda page: page.workflow_versions)

    found = client.run(server, fetch_with)
    if as_json:
        output.json_lines(found)
        return
    headers = ("WORKFLOW", "VERSION", "TRIGGER", "STEPS", "DEFINED (UTC)")
    output.table(headers, map(_row, found), "no workflows are defined")


def _row(found: admin_pb2.WorkflowVersion) -> tuple[object, ...]:
    workflow = found.workflow
    return (
        workflow.workflow_id,
        found.version,
        _trigger(workflow.trigger),
        len(workflow.steps),
        output.moment(found.create_time) + (" archived" if found.archived else ""),
    )


def _trigger(trigger: workflow_pb2.Trigger) -> str:
    """Return what starts a workflow, with the name that it is about."""
    source = trigger.WhichOneof("source") or output.NOTHING
    named = {
        "track": trigger.track.event,
        "page": trigger.page.name,
        "screen": trigger.screen.name,
        "schedule": trigger.schedule.cron,
        "audience": trigger.audience.audience_id,
    }
    name = named.get(source)
    way = output.word(audience_pb2.AudienceTransition, trigger.audience.transition, _TRANSITION)
    return f"{source} {name!r}{f' {way}' if source == 'audience' else ''}" if name else source
