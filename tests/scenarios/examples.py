"""The workflows of `examples/`, read as `upshot define` reads them."""

from pathlib import Path

from upshot.v1 import workflow_pb2
from upshotd.adapters.grpc import workflow_codec
from upshotd.cli import yamlfile
from upshotd.cli.reading import Reader
from upshotd.domain.workflow import Workflow

EXAMPLES = Path(__file__).parents[2] / "examples"


def workflow_of(name: str) -> Workflow:
    """Return the workflow of an example."""
    (node,) = yamlfile.documents((EXAMPLES / f"{name}.yaml").read_text())
    message = workflow_pb2.Workflow()
    Reader().message(node, message, "workflow")
    workflow, faults = workflow_codec.workflow(message)
    assert not faults
    return workflow
