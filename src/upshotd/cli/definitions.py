"""What files define: workflows, templates, topics and audiences, each with its faults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import click
from yaml.nodes import MappingNode, Node

from upshot.v1 import admin_pb2, audience_pb2, workflow_pb2
from upshotd.adapters.grpc import audience_codec, template_codec, topic_codec, workflow_codec
from upshotd.cli import yamlfile
from upshotd.cli.reading import Fault, Reader

#: What a document defines, and how its id is called, by which it is told.
KINDS: Final = {
    "workflow": (workflow_pb2.Workflow, "workflow_id"),
    "template": (workflow_pb2.Template, "template_id"),
    "topic": (admin_pb2.Topic, "topic_id"),
    "audience": (audience_pb2.Audience, "audience_id"),
}
Message: TypeAlias = (
    workflow_pb2.Workflow | workflow_pb2.Template | admin_pb2.Topic | audience_pb2.Audience
)
#: What tells a workflow from other YAML and JSON, also without its id.
_OF_WORKFLOWS: Final = frozenset({"workflow_id", "workflowId", "trigger", "steps"})
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


@dataclass(slots=True)
class Definition:
    """One workflow, template, topic or audience of one file."""

    #: As it was named on the command line.
    file: str
    #: `workflow`, `template`, `topic` or `audience`.
    kind: str
    message: Message
    reader: Reader
    #: Where it stands; None in a file that could not be read.
    node: Node | None

    @property
    def id(self) -> str:
        """Its id."""
        return id_of(self.message)


def id_of(message: Message) -> str:
    """Return the id of what is defined."""
    return str(getattr(message, KINDS[kind_of_message(message)][1]))


def kind_of_message(message: Message) -> str:
    """Return `workflow`, `template`, `topic` or `audience`."""
    return next(kind for kind, (made, _) in KINDS.items() if isinstance(message, made))


def kind_of(node: Node) -> str:
    """Return what a document defines: anything but a workflow by its id, else a workflow."""
    keys = {key.value for key, _ in node.value} if isinstance(node, MappingNode) else set()
    others = (kind for kind in KINDS if keys & {f"{kind}_id", f"{kind}Id"})
    return next(others, "workflow")


def defines(node: Node) -> bool:
    """Return whether a document is meant to define something: it has an id or what runs need."""
    keys = {key.value for key, _ in node.value} if isinstance(node, MappingNode) else set()
    return kind_of(node) != "workflow" or bool(keys & _OF_WORKFLOWS)


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder that can define something, at any depth."""
    found = (path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())
    return sorted(map(str, found))


def read(file: str) -> str:
    """Return the text of a file, or of standard input: as much as may be read of it.

    Raises click.UsageError when it cannot be read, UnicodeDecodeError when it is no text.
    """
    try:
        with click.open_file(file, encoding="utf-8-sig") as source:
            return str(source.read(yamlfile.TEXT_MAX + 1))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None


def load(file: str) -> list[Definition]:
    """Return what a file defines; a file that cannot be read is one with a fault."""
    try:
        nodes = yamlfile.documents(read(file))
        if not nodes:
            raise yamlfile.Unreadable("is empty", 0)
    except (UnicodeDecodeError, yamlfile.Unreadable) as error:
        line = error.line if isinstance(error, yamlfile.Unreadable) else 0
        text = str(error) if isinstance(error, yamlfile.Unreadable) else "is no UTF-8"
        broken = Reader([Fault("", text, line)])
        return [Definition(file, "workflow", workflow_pb2.Workflow(), broken, None)]
    return [of(file, node) for node in nodes]


def of(file: str, node: Node) -> Definition:
    """Return what one document of a file defines."""
    kind = kind_of(node)
    one = Definition(file, kind, KINDS[kind][0](), Reader(), node)
    one.reader.message(node, one.message, kind)
    return one


def canonical(message: Message) -> Message:
    """Return a definition with its defaults written out, as the server does."""
    match message:
        case workflow_pb2.Workflow():
            return workflow_codec.message(workflow_codec.workflow(message)[0])
        case workflow_pb2.Template():
            return template_codec.message(template_codec.template(message)[0])
        case admin_pb2.Topic():
            return topic_codec.message(topic_codec.topic(message)[0])
        case _:
            return audience_codec.message(audience_codec.audience(message)[0])
