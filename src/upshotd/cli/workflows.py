"""`upshot workflows`: what is defined."""

import click

from upshot.v1 import admin_pb2
from upshotd.cli import client, output, yamlfile


@click.command(
    epilog="""\b
    Examples:
      upshot workflows
      upshot workflows welcome > welcome.yaml
      upshot workflows welcome --version 2
    """
)
@click.argument("workflow_id", metavar="[ID]", default="")
@click.option("--version", type=click.IntRange(1), default=None, metavar="N", help="[current]")
@client.limit_option
@client.json_option
@client.server_option
def workflows(
    workflow_id: str, version: int | None, limit: int, as_json: bool, server: str
) -> None:
    """List workflows; with ID print that one as YAML, as `upshot define` takes it."""
    if not workflow_id:
        if version is not None:
            raise click.UsageError("--version is for one workflow")
        _list(server, limit, as_json)
        return
    request = admin_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=version or 0)

    async def work(at: client.Client) -> admin_pb2.WorkflowVersion:
        answer = await at.admin.GetWorkflow(request, timeout=client.CALL_SECONDS)
        return answer.workflow_version

    found = client.run(server, work)
    if as_json:
        output.json_lines([found])
        return
    defined = output.moment(found.create_time)
    click.echo(f"# version {found.version}, defined {defined} UTC")
    click.echo(yamlfile.dump(found.workflow), nl=False)


def _list(server: str, limit: int, as_json: bool) -> None:
    async def fetch_with(at: client.Client) -> list[admin_pb2.WorkflowVersion]:
        async def fetch(size: int, token: str) -> admin_pb2.ListWorkflowsResponse:
            request = admin_pb2.ListWorkflowsRequest(page_size=size, page_token=token)
            return await at.admin.ListWorkflows(request, timeout=client.CALL_SECONDS)

        return await client.rows(limit, fetch, lambda page: page.workflow_versions)

    found = client.run(server, fetch_with)
    if as_json:
        output.json_lines(found)
        return
    headers = ("WORKFLOW", "VERSION", "TRIGGER", "STEPS", "DEFINED (UTC)")
    output.table(headers, map(_row, found), "no workflows are defined")


def _row(found: admin_pb2.WorkflowVersion) -> tuple[object, ...]:
    workflow = found.workflow
    source = workflow.trigger.WhichOneof("source") or output.NOTHING
    event = workflow.trigger.track.event
    return (
        workflow.workflow_id,
        found.version,
        f"{source} {event!r}" if event else source,
        len(workflow.steps),
        output.moment(found.create_time),
    )
