"""`upshot define`: workflows from files, with every fault of all of them at once."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import click
import grpc

from upshot.v1 import admin_pb2, audience_pb2, service_pb2, workflow_pb2
from upshotd.cli import client, definitions, failures, output, versions, yamlfile
from upshotd.cli.definitions import KINDS, Definition, Message
from upshotd.cli.failures import Failure
from upshotd.cli.reading import Fault

_Answer: TypeAlias = (
    service_pb2.DefineWorkflowResponse
    | admin_pb2.DefineTemplateResponse
    | admin_pb2.DefineTopicResponse
    | admin_pb2.DefineAudienceResponse
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the server is asked for."""

    validate_only: bool
    expected_version: int | None
    #: A value of the contract's InFlightPolicy.
    in_flight: int


@click.command(
    epilog="""\b
    Exit codes: 0 defined or valid, 1 faults or refused, 2 usage, 3 no server.

    \b
    Examples:
      upshot define welcome.yaml
      upshot define examples/*.yaml --validate-only
      upshot define welcome.yaml --expected-version 3
      upshot define workflows/ --prune
      upshot define welcome.yaml --in-flight migrate
      upshot workflows welcome | upshot define -
    """
)
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...")
@click.option("--validate-only", is_flag=True, help="Check everything, store nothing.")
@click.option(
    "--expected-version",
    type=click.IntRange(0),
    metavar="N",
    help="Refuse unless N is current; 0: unless there is none yet. For one workflow.",
)
@click.option("--prune", is_flag=True, help="Archive the workflows that no DIR has.")
@click.option(
    "--in-flight",
    type=click.Choice(list(versions.IN_FLIGHT)),
    default="pin",
    help="What becomes of runs on older versions. [pin: they stay]",
)
@client.server_option
def define(
    files: tuple[str, ...],
    validate_only: bool,
    expected_version: int | None,
    prune: bool,
    in_flight: str,
    server: str,
) -> None:
    """Store workflows, templates, topics and audiences; what is changed is a new version.

    A FILE is YAML, with one or several (---), or protobuf JSON; - is standard input. Of a
    DIR all such files are taken, and what they change is shown; files that have nothing of it are
    left out, and named. Durations may be written as 24h.
    With a fault in any of them nothing is stored, and all faults are told.
    """
    folders = [Path(name) for name in files if Path(name).is_dir()]
    if prune and not folders:
        raise click.UsageError("--prune is for a DIR")
    found = [definition for name in files for definition in _load(name)]
    # Workflows last: what they send and name is there by then.
    found.sort(key=lambda one: one.kind == "workflow")
    _check_ids(found)
    plan = _Plan(validate_only, expected_version, versions.IN_FLIGHT[in_flight])
    if expected_version is not None and len(found) != 1:
        raise click.UsageError("--expected-version is for one workflow")
    work = _work(found, plan, compare=bool(folders), prune=prune)
    if not any(one.reader.faults for one in found):
        client.run(server, work)
    else:
        _ask_about_faulty(server, work)
    _tell_faults(found)


def _work(found: list[Definition], plan: _Plan, *, compare: bool, prune: bool) -> client.Work[None]:
    """Return what asks a server to define what was *found*, unless any of it has faults."""

    async def work(at: client.Client) -> None:
        answers = [await _ask(at, one, replace(plan, validate_only=True)) for one in found]
        if any(one.reader.faults for one in found):
            return
        before = await versions.current(at) if compare else {}
        for one, answer in zip(found, answers, strict=True):
            if compare and answer is not None and not answer.unchanged:
                _show(one, before.get(one.id))
            if not plan.validate_only:
                answer = await _ask(at, one, plan)
            if answer is not None:
                _tell(one, answer, found, stored=not plan.validate_only)
        if prune:
            kept = {one.id for one in found if one.kind == "workflow"}
            await _prune(at, sorted(before.keys() - kept), plan)

    return work


def _load(name: str) -> list[Definition]:
    """Return what a name on the command line stands for: a file, or all those of a folder but what
    is none of ours."""
    if not Path(name).is_dir():
        return definitions.load(name)
    found: list[Definition] = []
    for file in definitions.files_in(Path(name)):
        there = definitions.load(file)
        if any(one.node is None or definitions.defines(one.node) for one in there):
            found += there
        else:
            output.note(output.clean(f"{file} defines nothing: left out"))
    if not found:
        raise click.UsageError(f"{name} has no .yaml, .yml or .json file that defines anything")
    return found


def _show(one: Definition, before: admin_pb2.WorkflowVersion | None) -> None:
    """Print what a workflow changes."""
    if not isinstance(one.message, workflow_pb2.Workflow):
        return
    known = yamlfile.dump(before.workflow) if before is not None else ""
    name = f"version {before.version}" if before is not None else "nothing"
    names = (f"{one.id} {name}", f"{one.id} new")
    for line in versions.changes(known, yamlfile.dump(definitions.canonical(one.message)), names):
        click.echo(line)


async def _prune(at: client.Client, workflow_ids: list[str], plan: _Plan) -> None:
    """Archive what no folder has."""
    canceling = plan.in_flight == service_pb2.IN_FLIGHT_POLICY_CANCEL
    policy = plan.in_flight if canceling else service_pb2.IN_FLIGHT_POLICY_PIN
    for workflow_id in workflow_ids:
        if plan.validate_only:
            click.echo(f"{workflow_id}  would be archived")
        else:
            version = await versions.archived(at, workflow_id, policy)
            click.echo(f"{workflow_id}  archived, version {version}")


def _ask_about_faulty(server: str, work: client.Work[None]) -> None:
    """Let the server say what else is wrong; without one our own faults are told alone."""
    failure = client.attempt(server, work)
    if failure is not None:
        output.note(f"only the files were looked at: {failures.lines(failure, server)[0]}")


def _check_ids(found: list[Definition]) -> None:
    """Note what is given twice: the second would at once replace the first."""
    first: dict[tuple[str, str], Definition] = {}
    for one in found:
        path = f"{one.kind}.{KINDS[one.kind][1]}"
        if not one.id:
            continue
        other = first.setdefault((one.kind, one.id), one)
        if other is not one:
            text = f"{one.id!r} is defined in {other.file}:{other.reader.line(path)} already"
            one.reader.faults.append(Fault(path, text, one.reader.line(path)))


async def _ask(at: client.Client, one: Definition, plan: _Plan) -> _Answer | None:
    """Return the server's answer, or None when it has noted faults."""
    if not one.reader.lines:
        return None  # could not be read at all
    try:
        return await _asked(at, one.message, plan)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        _merge(one, failures.failure_of(error))
        return None


async def _asked(at: client.Client, message: Message, plan: _Plan) -> _Answer:
    if isinstance(message, workflow_pb2.Template):
        only = plan.validate_only
        asked = admin_pb2.DefineTemplateRequest(template=message, validate_only=only)
        return await at.admin.DefineTemplate(asked, timeout=client.CALL_SECONDS)
    if isinstance(message, admin_pb2.Topic):
        topic = admin_pb2.DefineTopicRequest(topic=message, validate_only=plan.validate_only)
        return await at.admin.DefineTopic(topic, timeout=client.CALL_SECONDS)
    if isinstance(message, audience_pb2.Audience):
        people = admin_pb2.DefineAudienceRequest(audience=message, validate_only=plan.validate_only)
        return await at.admin.DefineAudience(people, timeout=client.CALL_SECONDS)
    request = service_pb2.DefineWorkflowRequest(
        workflow=message,
        validate_only=plan.validate_only,
        expected_version=plan.expected_version,
        in_flight=service_pb2.InFlightPolicy.ValueType(plan.in_flight),
    )
    return await at.upshot.DefineWorkflow(request, timeout=client.CALL_SECONDS)


def _merge(one: Definition, failure: Failure) -> None:
    """Add the server's faults to our own, without those that ours have caused."""
    own = tuple(one.reader.faults)
    for path, text in failure.violations or (("", failure.text),):
        if not any(_follows(path, text, fault) for fault in own):
            one.reader.faults.append(Fault(path, text, one.reader.line(path)))


def _follows(path: str, text: str, fault: Fault) -> bool:
    """Return whether a fault that the server found only follows from one that we found."""
    if path == fault.path or path.startswith((f"{fault.path}.", f"{fault.path}[")):
        return True
    # What we could not read is missing for the server, which tells it of the message around it
    # or of a field beside it.
    around = fault.path.rpartition(".")[0]
    return "required" in text and around in (path, path.rpartition(".")[0])


def _tell(one: Definition, answer: _Answer, together: list[Definition], *, stored: bool) -> None:
    """Tell what a definition has become; or would, were it *stored* with what comes *together*."""
    version = f"version {answer.version}"
    if not stored:
        version = "valid" if answer.unchanged else f"valid, would become version {answer.version}"
    unchanged = "  (unchanged)" if answer.unchanged else ""
    name = one.id if one.kind == "workflow" else f"{one.kind} {one.id}"
    click.echo(f"{name}  {version}{unchanged}")
    if not isinstance(answer, service_pb2.DefineWorkflowResponse):
        return
    coming = {f"there is no {other.kind} {other.id!r} yet" for other in together}
    for warning in answer.warnings:
        if warning.description in coming:
            continue
        at = f"{one.file}:{one.reader.line(warning.field)}"
        output.note(output.clean(f"{at}: warning: {warning.field}: {warning.description}"))


def _tell_faults(found: list[Definition]) -> None:
    """Print all faults and end the program, if there are any."""
    count = 0
    for one in found:
        for fault in sorted(one.reader.faults, key=lambda fault: fault.line):
            count += 1
            at = f"{one.file}:{fault.line}" if fault.line else one.file
            parts = [part for part in (at, fault.path, fault.text) if part]
            click.echo(output.clean(": ".join(parts)), err=True)
    if count:
        output.complain(f"{output.counted(count, 'fault')}; nothing was defined")
        sys.exit(output.EXIT_REFUSED)
