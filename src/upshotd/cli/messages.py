"""`upshot messages`, `upshot message`: what was sent, and what became of it."""

from dataclasses import dataclass
from typing import Final

import click
from google.protobuf.timestamp_pb2 import Timestamp

from upshot.v1 import admin_pb2, engagement_pb2, outcome_pb2
from upshotd.cli import client, output

_KINDS: Final = tuple(
    name.removeprefix("ENGAGEMENT_KIND_").lower()
    for name in dict(engagement_pb2.EngagementKind.items())
)
#: Facts as they follow each other, what the provider says first.
_ORDER: Final = ("sent", *_KINDS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages; empty means any."""

    run_id: str = ""
    user_id: str = ""
    workflow_id: str = ""
    #: Most of them.
    limit: int = 50


async def found(at: client.Client, wanted: Wanted) -> list[admin_pb2.Message]:
    """Return messages, the newest first."""

    async def fetch(size: int, token: str) -> admin_pb2.ListMessagesResponse:
        request = admin_pb2.ListMessagesRequest(
            page_size=size,
            page_token=token,
            run_id=wanted.run_id,
            user_id=wanted.user_id,
            workflow_id=wanted.workflow_id,
        )
        return await at.admin.ListMessages(request, timeout=client.CALL_SECONDS)

    return await client.rows(wanted.limit, fetch, lambda page: page.messages)


def state(message: admin_pb2.Message) -> str:
    """Return where a message is, and why."""
    said = output.word(admin_pb2.MessageState, message.state, "MESSAGE_STATE_")
    why = ": ".join(filter(None, (message.reason, message.detail)))
    return f"{said} ({why})" if why else said


def facts(message: admin_pb2.Message) -> list[tuple[str, Timestamp]]:
    """Return what became of a message, in order of time."""
    known = message.facts.items()
    return sorted(known, key=lambda fact: (fact[1].seconds, fact[1].nanos, *_place(fact[0])))


def _place(what: str) -> tuple[int, str]:
    """Return where a fact stands among others of the same instant: a map has no order."""
    return (_ORDER.index(what) if what in _ORDER else len(_ORDER)), what


@click.command(
    epilog="""\b
    Examples:
      upshot messages
      upshot messages --user ana
      upshot messages --workflow welcome --limit 200 --json
    """
)
@click.option("--run", "run_id", default="", metavar="ID", help="Only of this run.")
@click.option("--user", "user_id", default="", metavar="ID", help="Only to this person.")
@click.option("--workflow", "workflow_id", default="", metavar="ID", help="Only of this one.")
@client.limit_option
@client.json_option
@client.server_option
def messages(
    run_id: str, user_id: str, workflow_id: str, limit: int, as_json: bool, server: str
) -> None:
    """List messages, the newest first."""
    wanted = Wanted(run_id, user_id, workflow_id, limit)
    listed = client.run(server, lambda at: found(at, wanted))
    if as_json:
        output.json_lines(listed)
        return
    headers = ("MESSAGE", "WORKFLOW/STEP", "CHANNEL", "TO", "STATE", "CREATED (UTC)", "FACTS")
    output.table(headers, map(_row, listed), "no messages")


def _row(message: admin_pb2.Message) -> tuple[object, ...]:
    said = output.word(admin_pb2.MessageState, message.state, "MESSAGE_STATE_")
    return (
        message.message_id,
        f"{message.workflow_id}/{message.step_id}",
        output.word(outcome_pb2.Channel, message.channel, "CHANNEL_"),
        message.recipient,
        f"{said} {message.reason}" if message.reason else said,
        output.moment(message.create_time),
        ", ".join(what for what, _ in facts(message)),
    )


@click.command(
    epilog="""\b
    Examples:
      upshot message 0197a0c4-...
    """
)
@click.argument("message_id")
@client.json_option
@client.server_option
def message(message_id: str, as_json: bool, server: str) -> None:
    """Show a message: its content, and what became of it."""
    request = admin_pb2.GetMessageRequest(message_id=message_id)

    async def work(at: client.Client) -> admin_pb2.Message:
        answer = await at.admin.GetMessage(request, timeout=client.CALL_SECONDS)
        return answer.message

    shown = client.run(server, work)
    if as_json:
        output.json_lines([shown])
        return
    output.fields(_fields(shown))
    for what, time in facts(shown):
        click.echo(f"  {output.moment(time)}  {output.clean(what)}")
    for name, text in sorted(shown.content.items()):
        click.echo(f"\n{output.painted(f'[{output.clean(name)}]', 'cyan')}")
        for line in str(text).splitlines():
            click.echo(output.clean(line))


def _fields(shown: admin_pb2.Message) -> list[tuple[str, object]]:
    return [
        ("message", shown.message_id),
        ("run", shown.run_id),
        ("step", f"{shown.workflow_id} v{shown.workflow_version}/{shown.step_id}"),
        ("approval", shown.ask.lower()),
        ("channel", output.word(outcome_pb2.Channel, shown.channel, "CHANNEL_")),
        ("to", shown.recipient),
        ("state", state(shown)),
        ("provider", " ".join(filter(None, (shown.provider, shown.provider_message_id)))),
        ("attempts", shown.attempt),
        ("twice", "an earlier attempt may have arrived too" if shown.possible_duplicate else ""),
        ("created", f"{output.moment(shown.create_time)} UTC"),
        ("next attempt", output.moment(shown.due_time)),
    ]
