"""`upshot runs`, `upshot run`, `upshot cancel`: people on their way through workflows."""

import click
from google.protobuf.duration_pb2 import Duration

from upshot.v1 import admin_pb2, outcome_pb2
from upshotd.cli import client, durations, messages, output

_PREFIX = "RUN_STATE_"
_STATES = {
    name.removeprefix(_PREFIX).lower(): number
    for name, number in admin_pb2.RunState.items()
    if number
}
#: Most messages of one run that are shown.
_MESSAGES_MAX = 200


@click.command(
    epilog="""\b
    Examples:
      upshot runs
      upshot runs --workflow welcome --state active
      upshot runs --user ana --limit 5
    """
)
@click.option("--workflow", "workflow_id", default="", metavar="ID", help="Only of this one.")
@click.option("--user", "user_id", default="", metavar="ID", help="Only of this person.")
@click.option("--state", type=click.Choice(list(_STATES)), help="Only in this state.")
@client.limit_option
@client.json_option
@client.server_option
def runs(
    workflow_id: str, user_id: str, state: str | None, limit: int, as_json: bool, server: str
) -> None:
    """List runs, the newest first."""
    number = admin_pb2.RunState.ValueType(_STATES[state] if state else 0)

    async def work(at: client.Client) -> list[admin_pb2.Run]:
        async def fetch(size: int, token: str) -> admin_pb2.ListRunsResponse:
            request = admin_pb2.ListRunsRequest(
                page_size=size,
                page_token=token,
                workflow_id=workflow_id,
                user_id=user_id,
                state=number,
            )
            return await at.admin.ListRuns(request, timeout=client.CALL_SECONDS)

        return await client.rows(limit, fetch, lambda page: page.runs)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    headers = ("RUN", "WORKFLOW", "USER", "STATE", "STEP", "STARTED (UTC)", "DUE (UTC)")
    output.table(headers, map(_row, found), "no runs")


def _row(run: admin_pb2.Run) -> tuple[object, ...]:
    return (
        run.run_id,
        f"{run.workflow_id} v{run.workflow_version}",
        run.user_id or run.anonymous_id,
        _state(run),
        run.step_id,
        output.moment(run.start_time),
        output.moment(run.due_time),
    )


def _state(run: admin_pb2.Run) -> str:
    state = output.word(admin_pb2.RunState, run.state, _PREFIX)
    return f"{state} {run.reason}" if run.reason else state


@click.command(
    epilog="""\b
    Examples:
      upshot run 0197a0c4-...
      upshot run 0197a0c4-... --json
    """
)
@click.argument("run_id")
@client.json_option
@client.server_option
def run(run_id: str, as_json: bool, server: str) -> None:
    """Show a run: each step, when and why, its messages and what became of them."""

    async def work(at: client.Client) -> tuple[admin_pb2.Run, list[admin_pb2.Message]]:
        asked = admin_pb2.GetRunRequest(run_id=run_id)
        answer = await at.admin.GetRun(asked, timeout=client.CALL_SECONDS)
        wanted = messages.Wanted(run_id=run_id, limit=_MESSAGES_MAX)
        return answer.run, await messages.found(at, wanted)

    found, sent = client.run(server, work)
    if as_json:
        output.json_lines([found, *reversed(sent)])
        return
    output.fields(_head(found))
    click.echo()
    _timeline(found)
    for message in reversed(sent):
        _message(message)


def _head(run: admin_pb2.Run) -> list[tuple[str, object]]:
    due = output.moment(run.due_time)
    return [
        ("run", run.run_id),
        ("workflow", f"{run.workflow_id} v{run.workflow_version}"),
        ("person", run.user_id or run.anonymous_id),
        ("state", _state(run)),
        ("started by", f"event {run.event_id}" if run.event_id else ""),
        ("stands at", run.step_id),
        ("due", "" if due == output.NOTHING else f"{due} UTC"),
        ("key", run.cancellation_key),
    ]


def _timeline(run: admin_pb2.Run) -> None:
    start = run.start_time.seconds
    rows = []
    for entry in run.timeline:
        later = Duration(seconds=max(entry.time.seconds - start, 0))
        since = f"+{durations.written(later)}"
        detail = output.readable(entry.detail) or " "
        rows.append((output.moment(entry.time), since, entry.step_id, entry.what, detail))
    output.table(("TIME (UTC)", "AFTER", "STEP", "WHAT", "WHY"), rows, "nothing has happened yet")


def _message(message: admin_pb2.Message) -> None:
    channel = output.word(outcome_pb2.Channel, message.channel, "CHANNEL_")
    click.echo(f"\n{output.painted('message', 'cyan')} {message.message_id}")
    state = messages.state(message)
    who = f" to {message.recipient}" if message.recipient else ""
    through = f" through {message.provider}" if message.provider else ""
    click.echo(output.clean(f"  {message.step_id}: {channel}{who}{through}: {state}"))
    for what, time in messages.facts(message):
        click.echo(f"  {output.moment(time)}  {output.clean(what)}")


@click.command(
    epilog="""\b
    Examples:
      upshot cancel 0197a0c4-...
      upshot cancel --key order-17
    """
)
@click.argument("run_id", default="", metavar="[RUN_ID]")
@click.option("--key", default="", metavar="KEY", help="Every active run with this key.")
@client.json_option
@client.server_option
def cancel(run_id: str, key: str, as_json: bool, server: str) -> None:
    """Cancel one run, or every active run that carries a cancellation key.

    Runs that have ended stay as they are.
    """
    if bool(run_id) == bool(key):
        raise click.UsageError("give RUN_ID or --key")
    request = admin_pb2.CancelRunsRequest(run_id=run_id, cancellation_key=key)

    async def work(at: client.Client) -> admin_pb2.CancelRunsResponse:
        return await at.admin.CancelRuns(request, timeout=client.CALL_SECONDS)

    answer = client.run(server, work)
    if as_json:
        output.json_lines([answer])
    elif not answer.canceled_run_ids:
        click.echo("nothing to cancel: no run of this is active")
    for canceled in () if as_json else answer.canceled_run_ids:
        click.echo(f"run {canceled} canceled")
