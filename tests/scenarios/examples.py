"""The workflows and templates of `examples/`, read as `upshot define` reads them."""

from pathlib import Path

from upshot.v1 import workflow_pb2
from upshotd.adapters.grpc import template_codec, workflow_codec
from upshotd.cli import yamlfile
from upshotd.cli.define import kind_of
from upshotd.cli.reading import Reader
from upshotd.domain.template import Template
from upshotd.domain.workflow import Workflow

EXAMPLES = Path(__file__).parents[2] / "examples"


def documents_of(name: str) -> tuple[list[Template], list[Workflow]]:
    """Return the templates and the workflows of an example."""
    templates: list[Template] = []
    workflows: list[Workflow] = []
    for node in yamlfile.documents((EXAMPLES / f"{name}.yaml").read_text()):
        if kind_of(node) == "template":
            written = workflow_pb2.Template()
            Reader().message(node, written, "template")
            template, faults = template_codec.template(written)
            templates.append(template)
        else:
            message = workflow_pb2.Workflow()
            Reader().message(node, message, "workflow")
            workflow, faults = workflow_codec.workflow(message)
            workflows.append(workflow)
        assert not faults
    return templates, workflows


def workflow_of(name: str) -> Workflow:
    """Return the workflow of an example."""
    (workflow,) = documents_of(name)[1]
    return workflow
