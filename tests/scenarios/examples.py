"""The workflows and templates of `examples/`, read as `upshot define` reads them."""

from pathlib import Path
from typing import NamedTuple

from upshot.v1 import admin_pb2, audience_pb2, workflow_pb2
from upshotd.adapters.grpc import audience_codec, template_codec, topic_codec, workflow_codec
from upshotd.cli import yamlfile
from upshotd.cli.definitions import kind_of
from upshotd.cli.reading import Reader
from upshotd.domain.audience import Audience
from upshotd.domain.consent import Topic
from upshotd.domain.errors import Violation
from upshotd.domain.template import Template
from upshotd.domain.workflow import Workflow

EXAMPLES = Path(__file__).parents[2] / "examples"


class Documents(NamedTuple):
    """What a file defines."""

    topics: list[Topic]
    templates: list[Template]
    workflows: list[Workflow]
    audiences: list[Audience]


def documents_of(name: str) -> Documents:
    """Return what an example defines."""
    found = Documents([], [], [], [])
    for node in yamlfile.documents((EXAMPLES / f"{name}.yaml").read_text()):
        faults: tuple[Violation, ...] = ()
        match kind_of(node):
            case "template":
                written = workflow_pb2.Template()
                Reader().message(node, written, "template")
                template, faults = template_codec.template(written)
                found.templates.append(template)
            case "topic":
                said = admin_pb2.Topic()
                Reader().message(node, said, "topic")
                topic, faults = topic_codec.topic(said)
                found.topics.append(topic)
            case "audience":
                people = audience_pb2.Audience()
                Reader().message(node, people, "audience")
                audience, faults = audience_codec.audience(people)
                found.audiences.append(audience)
            case _:
                message = workflow_pb2.Workflow()
                Reader().message(node, message, "workflow")
                workflow, faults = workflow_codec.workflow(message)
                found.workflows.append(workflow)
        assert not faults
    return found


def workflow_of(name: str) -> Workflow:
    """Return the workflow of an example."""
    (workflow,) = documents_of(name).workflows
    return workflow
