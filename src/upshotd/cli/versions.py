"""What changes between two definitions, and workflows that are written to or kept like a folder."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from upshot.v1 import admin_pb2, service_pb2, workflow_pb2
from upshotd.adapters.grpc import workflow_codec
from upshotd.cli import client, output, yamlfile
from upshotd.cli.reading import Reader

IN_FLIGHT: Final = {
    "pin": service_pb2.IN_FLIGHT_POLICY_PIN,
    "migrate": service_pb2.IN_FLIGHT_POLICY_MIGRATE,
    "cancel": service_pb2.IN_FLIGHT_POLICY_CANCEL,
}
#: Most workflows that a folder is compared with.
_ALL: Final = 100_000
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_COLORS: Final = {"+": "green", "-": "red", "@": "cyan"}


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder that can define workflows, at any depth."""
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(map(str, found))


def canonical(workflow: workflow_pb2.Workflow) -> str:
    """Return a workflow as YAML, with its defaults written out as the server does."""
    read, _ = workflow_codec.workflow(workflow)
    return yamlfile.dump(workflow_codec.message(read))


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


@click.command(
    epilog="""\b
    Examples:
      upshot export workflows/
      upshot export workflows/ --force
    """
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over files that say something else.")
@client.server_option
def export(folder: Path, force: bool, server: str) -> None:
    """Write every workflow to DIR/ID.yaml, as `upshot define DIR` takes them."""
    found = client.run(server, current)
    folder.mkdir(parents=True, exist_ok=True)
    written, other = [], []
    for workflow_id, version in sorted(found.items()):
        path = folder / f"{workflow_id}.yaml"
        text = yamlfile.dump(version.workflow)
        known = path.read_text() if path.exists() else ""
        if known == text:
            continue
        if known and not force and not _says_the_same(known, text):
            other.append(path)
            continue
        if not known or force:
            path.write_text(text)
            written.append(path)
    for path in written:
        click.echo(f"{path}  written")
    for path in other:
        output.complain(f"{path} says something else; --force writes over it")
    if other:
        raise click.exceptions.Exit(output.EXIT_REFUSED)
    if not written:
        output.note(f"nothing to write: {folder} has it all")


def _says_the_same(text: str, exported: str) -> bool:
    """Return whether a file, with comments and defaults left out perhaps, defines the same."""
    try:
        nodes = yamlfile.documents(text)
    except yamlfile.Unreadable:
        return False
    if len(nodes) != 1:
        return False
    workflow = workflow_pb2.Workflow()
    reader = Reader()
    reader.message(nodes[0], workflow, "workflow")
    return not reader.faults and canonical(workflow) == exported
