"""`upshot export`: everything that is defined, written to or kept in a folder."""

import json
from pathlib import Path
from typing import Final

import click

from upshot.v1 import admin_pb2
from upshotd.cli import client, definitions, output, versions, yamlfile
from upshotd.cli.definitions import Definition, Message

#: Most templates, topics or audiences that are written.
_ALL: Final = 100_000


@click.command(
    epilog="""\b
    Examples:
      upshot export workflows/
      upshot export workflows/ --force
    """
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over what files say otherwise, and only that.")
@client.server_option
def export(folder: Path, force: bool, server: str) -> None:
    """Write everything that is defined to DIR, as `upshot define DIR` takes it.

    What a file of DIR has already stays there; anything else goes to a file of its own: ID.yaml
    for a workflow, ID.template.yaml, ID.topic.yaml and ID.audience.yaml. What is archived is left
    out.
    """
    found = client.run(server, _everything)
    folder.mkdir(parents=True, exist_ok=True)
    held = _held(folder)
    written: dict[Path, None] = {}
    refused = []
    for message in found:
        known = held.get((definitions.kind_of_message(message), definitions.id_of(message)))
        if known is not None and _says_the_same(known, message):
            continue
        path = Path(known.file) if known is not None else folder / _name(message)
        try:
            _put(path, message, known, force=force)
            written[path] = None
        except _Refused as error:
            refused.append(str(error))
    _tell(folder, list(written), refused)


class _Refused(Exception):
    """A definition was not written, for the reason that the text gives."""


async def _everything(at: client.Client) -> list[Message]:
    """Return what is defined at present, without what is archived."""
    seconds = client.CALL_SECONDS

    async def templates(size: int, token: str) -> admin_pb2.ListTemplatesResponse:
        request = admin_pb2.ListTemplatesRequest(page_size=size, page_token=token)
        return await at.admin.ListTemplates(request, timeout=seconds)

    async def topics(size: int, token: str) -> admin_pb2.ListTopicsResponse:
        request = admin_pb2.ListTopicsRequest(page_size=size, page_token=token)
        return await at.admin.ListTopics(request, timeout=seconds)

    async def audiences(size: int, token: str) -> admin_pb2.ListAudiencesResponse:
        request = admin_pb2.ListAudiencesRequest(page_size=size, page_token=token)
        return await at.admin.ListAudiences(request, timeout=seconds)

    flows = (await versions.current(at)).values()
    texts = await client.rows(_ALL, templates, lambda page: page.template_versions)
    people = await client.rows(_ALL, audiences, lambda page: page.audience_versions)
    return [
        *(one.workflow for one in flows),
        *(one.template for one in texts),
        *await client.rows(_ALL, topics, lambda page: page.topics),
        *(one.audience for one in people),
    ]


def _held(folder: Path) -> dict[tuple[str, str], Definition]:
    """Return what the files of a folder define, by kind and id; the first where there are two."""
    found: dict[tuple[str, str], Definition] = {}
    for file in definitions.files_in(folder):
        for one in definitions.load(file):
            found.setdefault((one.kind, one.id), one)
    return found


def _name(message: Message) -> str:
    """Return the name of a file of its own; no id has a dot, so that no two have the same."""
    kind = definitions.kind_of_message(message)
    return definitions.id_of(message) + (".yaml" if kind == "workflow" else f".{kind}.yaml")


def _says_the_same(known: Definition, message: Message) -> bool:
    """Return whether a file, with comments and defaults left out perhaps, defines the same."""
    if known.reader.faults:
        return False
    return definitions.canonical(known.message) == definitions.canonical(message)


def _put(path: Path, message: Message, known: Definition | None, *, force: bool) -> None:
    """Write a definition where it belongs, over nothing else. Raises _Refused."""
    name = f"{definitions.kind_of_message(message)} {definitions.id_of(message)}"
    text = yamlfile.dump(message)
    if path.exists():
        if known is None:
            raise _Refused(f"{path} is there and has no {name}: move it away")
        if not force:
            raise _Refused(f"{path} says something else of {name}; --force writes over that")
        text = _changed(path, message, known)
    path.write_text(text, encoding="utf-8")


def _changed(path: Path, message: Message, known: Definition) -> str:
    """Return the text of a file with *message* in place of what it says of it. Raises _Refused."""
    there = definitions.load(str(path))  # as it is now: what is written moves what stands behind
    if path.suffix == ".json" and len(there) == 1:
        return json.dumps(output.plain(message), ensure_ascii=False, indent=2) + "\n"
    place = next(one.node for one in there if (one.kind, one.id) == (known.kind, known.id))
    assert place is not None  # it has an id, so that it could be read
    text = yamlfile.replaced(definitions.read(str(path)), place, yamlfile.dump(message))
    if not _only(text, there, known):
        raise _Refused(f"{path} cannot be written over without a loss; change {known.id} in it")
    return text


def _only(text: str, there: list[Definition], known: Definition) -> bool:
    """Return whether nothing but what is *known* is another than in what was *there*."""
    try:
        nodes = yamlfile.documents(text)
    except yamlfile.Unreadable:
        return False
    kept = [one for one in there if (one.kind, one.id) != (known.kind, known.id)]
    found = (definitions.of(known.file, node) for node in nodes)
    now = [one for one in found if (one.kind, one.id) != (known.kind, known.id)]
    return [one.message for one in kept] == [one.message for one in now]


def _tell(folder: Path, written: list[Path], refused: list[str]) -> None:
    for path in written:
        click.echo(f"{path}  written")
    for text in refused:
        output.complain(output.clean(text))
    if refused:
        raise click.exceptions.Exit(output.EXIT_REFUSED)
    if not written:
        output.note(f"nothing to write: {folder} has it all")
