"""`upshot counts`, `upshot subscriptions`: how much of what, and who has read it."""

import click

from upshot.v1 import admin_pb2, outcome_pb2, subscription_pb2
from upshotd.cli import client, durations, output


@click.command(
    epilog="""\b
    Examples:
      upshot counts
      upshot counts --workflow welcome
    """
)
@click.option("--workflow", "workflow_id", default="", metavar="ID", help="Only of this one.")
@client.json_option
@client.server_option
def counts(workflow_id: str, as_json: bool, server: str) -> None:
    """Count outcomes by workflow, step, channel and kind; kept in the outcomes' own commit."""
    request = admin_pb2.CountOutcomesRequest(workflow_id=workflow_id)

    async def work(at: client.Client) -> list[admin_pb2.OutcomeCount]:
        answer = await at.admin.CountOutcomes(request, timeout=client.CALL_SECONDS)
        return list(answer.counts)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    headers = ("WORKFLOW", "STEP", "CHANNEL", "KIND", "COUNT")
    output.table(headers, map(_row, found), "no outcomes")


def _row(count: admin_pb2.OutcomeCount) -> tuple[object, ...]:
    return (
        count.workflow_id,
        count.step_id,
        output.word(outcome_pb2.Channel, count.channel, "CHANNEL_"),
        output.word(outcome_pb2.OutcomeKind, count.kind, "OUTCOME_KIND_"),
        count.count,
    )


@click.command(
    epilog="""\b
    Examples:
      upshot subscriptions
    """
)
@client.json_option
@client.server_option
def subscriptions(as_json: bool, server: str) -> None:
    """List the readers of the outcome log, and how far each is behind."""

    async def work(at: client.Client) -> list[subscription_pb2.Subscription]:
        request = subscription_pb2.ListSubscriptionsRequest()
        timeout = client.CALL_SECONDS
        answer = await at.subscriptions.ListSubscriptions(request, timeout=timeout)
        return list(answer.subscriptions)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    headers = ("SUBSCRIPTION", "BEHIND", "OLDEST", "COMMITTED (UTC)", "CURSOR")
    output.table(headers, map(_subscription_row, found), "no subscriptions")


def _subscription_row(found: subscription_pb2.Subscription) -> tuple[object, ...]:
    return (
        found.subscription,
        found.lag,
        durations.written(found.lag_duration) if found.lag else output.NOTHING,
        output.moment(found.commit_time),
        found.cursor,
    )
