"""`upshot providers`: whether the providers are asked."""

import click

from upshot.v1 import outcome_pb2, provider_pb2
from upshotd.cli import client, output


@click.command(
    epilog="""\b
    Examples:
      upshot providers
      upshot providers --json
    """
)
@client.json_option
@client.server_option
def providers(as_json: bool, server: str) -> None:
    """List the providers of a server, and whether it asks them at the moment.

    One that failed several times in a row is left alone for a while (open), then tried with one
    message (half_open). Each server of a database finds out by itself: ask the one you mean.
    """

    async def work(at: client.Client) -> provider_pb2.ListProvidersResponse:
        request = provider_pb2.ListProvidersRequest()
        return await at.admin.ListProviders(request, timeout=client.CALL_SECONDS)

    found = client.run(server, work).providers
    if as_json:
        output.json_lines(found)
        return
    headers = ("PROVIDER", "CHANNELS", "BREAKER", "SINCE (UTC)", "NEXT TRIAL", "FAILURES", "LAST")
    output.table(headers, map(_row, found), "no providers")


def _row(one: provider_pb2.Provider) -> tuple[object, ...]:
    words = (output.word(outcome_pb2.Channel, c, "CHANNEL_") for c in one.channels)
    return (
        one.provider,
        " ".join(words),
        output.word(provider_pb2.BreakerState, one.state, "BREAKER_STATE_"),
        output.moment(one.open_time),
        output.moment(one.probe_time),
        one.failures or output.NOTHING,
        one.detail,
    )
