"""What changes between two definitions; which are current; and to archive them."""

import difflib
from collections.abc import Iterator
from typing import Final

import click

from upshot.v1 import admin_pb2, service_pb2
from upshotd.cli import client, output

IN_FLIGHT: Final = {
    "pin": service_pb2.IN_FLIGHT_POLICY_PIN,
    "migrate": service_pb2.IN_FLIGHT_POLICY_MIGRATE,
    "cancel": service_pb2.IN_FLIGHT_POLICY_CANCEL,
}
#: Most workflows that a folder is compared with.
_ALL: Final = 100_000
_COLORS: Final = {"+": "green", "-": "red", "@": "cyan"}


def changes(before: str, after: str, names: tuple[str, str]) -> Iterator[str]:
    """Yield the lines of a unified diff, painted."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="", n=2)
    for line in lines:
        color = _COLORS.get(line[:1], "")
        clean = output.clean(line)
        yield output.painted(clean, color) if color else clean


async def current(at: client.Client) -> dict[str, admin_pb2.WorkflowVersion]:
    """Return the current version of every workflow that is not archived."""

    async def fetch(size: int, token: str) -> admin_pb2.ListWorkflowsResponse:
        request = admin_pb2.ListWorkflowsRequest(page_size=size, page_token=token)
        return await at.admin.ListWorkflows(request, timeout=client.CALL_SECONDS)

    found = await client.rows(_ALL, fetch, lambda page: page.workflow_versions)
    return {one.workflow.workflow_id: one for one in found}


async def archived(at: client.Client, workflow_id: str, in_flight: int) -> int:
    """Archive a workflow; return the version that does."""
    policy = service_pb2.InFlightPolicy.ValueType(in_flight)
    request = admin_pb2.ArchiveWorkflowRequest(workflow_id=workflow_id, in_flight=policy)
    answer = await at.admin.ArchiveWorkflow(request, timeout=client.CALL_SECONDS)
    return answer.version


@click.command(
    epilog="""\b
    Examples:
      upshot archive welcome
      upshot archive welcome --cancel-runs
    """
)
@click.argument("workflow_id")
@click.option("--cancel-runs", is_flag=True, help="Cancel its runs; else they go on.")
@client.server_option
def archive(workflow_id: str, cancel_runs: bool, server: str) -> None:
    """Let a workflow start nothing any more, until it is defined again."""
    policy = IN_FLIGHT["cancel" if cancel_runs else "pin"]
    version = client.run(server, lambda at: archived(at, workflow_id, policy))
    click.echo(f"{workflow_id}  archived, version {version}")
