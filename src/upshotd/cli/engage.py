"""`upshot engage`: what a provider's callback would say, said by hand."""

import sys
from collections.abc import Mapping
from uuid import uuid4

import click

from upshot.v1 import engagement_pb2, outcome_pb2, service_pb2
from upshotd.cli import client, output

_PREFIX = "ENGAGEMENT_KIND_"
_KINDS = {
    name.removeprefix(_PREFIX).lower(): number
    for name, number in engagement_pb2.EngagementKind.items()
    if number
}


@click.command(
    epilog=f"""\b
    KIND is one of
      {", ".join(list(_KINDS)[:7])},
      {", ".join(list(_KINDS)[7:])}

    \b
    Exit codes: 0 recorded, duplicate or pending, 1 refused, 2 usage, 3 no server, 4 rejected.

    \b
    Examples:
      upshot engage 0197a0c4-... opened
      upshot engage 0197a0c4-... clicked --link https://example.com/plan
      upshot engage bounced --provider mail --provider-message-id 250-abc --reason "no such user"
      upshot engage replied --to +15550001 --body STOP
    """
)
@click.argument("words", nargs=-1, required=True, metavar="[MESSAGE_ID] KIND")
@click.option("--link", default="", metavar="URL", help="The link that was followed.")
@click.option("--reason", default="", metavar="TEXT", help="The provider's words.")
@click.option("--machine", is_flag=True, help="By software, as prefetching; satisfies no wait.")
@click.option("--engagement-id", default="", metavar="ID", help="Key by which a repeat is known.")
@click.option("--provider", default="", metavar="NAME", help="With --provider-message-id.")
@click.option("--provider-message-id", default="", metavar="ID", help="In place of MESSAGE_ID.")
@click.option("--to", default="", metavar="NUMBER", help="In place of MESSAGE_ID: who answers.")
@click.option("--body", default="", metavar="TEXT", help="The text of an answer.")
@client.json_option
@client.server_option
def engage(
    words: tuple[str, ...],
    link: str,
    reason: str,
    machine: bool,
    engagement_id: str,
    provider: str,
    provider_message_id: str,
    to: str,
    body: str,
    as_json: bool,
    server: str,
) -> None:
    """Record what became of a message, or what a person did with it.

    The message is named by our id, or by the provider's: --provider and --provider-message-id; or
    it is the last text message to a number that answers: --to.
    """
    if bool(provider) != bool(provider_message_id):
        raise click.UsageError("--provider and --provider-message-id go together")
    if provider and to:
        raise click.UsageError("give either --to or --provider and --provider-message-id")
    message_id, kind = _target_and_kind(words, named=bool(provider or to))
    if to and not engagement_id:
        engagement_id = f"cli-{uuid4()}"
    fact = engagement_pb2.Engagement(
        engagement_id=engagement_id,
        kind=engagement_pb2.EngagementKind.ValueType(_KINDS[kind]),
        link_url=link,
        reason=reason,
        machine=machine,
    )
    if body:
        fact.data["body"] = body
    if message_id:
        fact.message_id = message_id
    elif to:
        fact.recipient.channel = outcome_pb2.CHANNEL_SMS
        fact.recipient.address = to
    else:
        fact.provider_message.provider = provider
        fact.provider_message.provider_message_id = provider_message_id

    record(fact, server, as_json=as_json)


def record(
    fact: engagement_pb2.Engagement,
    server: str,
    *,
    as_json: bool,
    words: Mapping[str, str] | None = None,
) -> None:
    """Record one fact, and tell what became of it; where it was rejected the program ends.

    *words* say what a reason means here.
    """

    async def work(at: client.Client) -> service_pb2.EngagementResult:
        request = service_pb2.RecordEngagementRequest(engagements=[fact])
        answer = await at.upshot.RecordEngagement(request, timeout=client.CALL_SECONDS)
        return answer.results[0]

    _tell(client.run(server, work), words or {}, as_json=as_json)


def _target_and_kind(words: tuple[str, ...], *, named: bool) -> tuple[str, str]:
    """Return the message id, empty where options have *named* the message, and the kind."""
    if len(words) != (1 if named else 2):
        wanted = "KIND alone" if named else "MESSAGE_ID and KIND"
        raise click.UsageError(f"give {wanted}")
    kind = words[-1].lower()
    if kind not in _KINDS:
        raise click.UsageError(f"{words[-1]!r} is no KIND; there are {', '.join(_KINDS)}")
    if not named and not words[0]:
        raise click.UsageError("MESSAGE_ID is empty")
    return ("" if named else words[0]), kind


def _tell(result: service_pb2.EngagementResult, words: Mapping[str, str], *, as_json: bool) -> None:
    rejected = result.state == service_pb2.ENGAGEMENT_STATE_REJECTED
    if as_json:
        output.json_lines([result])
    else:
        state = output.word(service_pb2.EngagementState, result.state, "ENGAGEMENT_STATE_")
        meant = f": {words[result.reason]}" if result.reason in words else ""
        why = f" ({result.reason}{meant})" if result.reason else ""
        click.echo(output.clean(f"{state}{why}"), err=rejected)
        for fault in result.violations:
            click.echo(output.clean(f"  {fault.field}: {fault.description}"), err=rejected)
        for run_id in result.resumed_run_ids:
            click.echo(f"  run {run_id} went on")
    if rejected:
        sys.exit(output.EXIT_PARTLY)
