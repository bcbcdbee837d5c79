"""`upshot keys`: who may call what, and in which workspace."""

from typing import Any

import click

from upshot.v1 import key_pb2
from upshotd.cli import client, output
from upshotd.domain.quota import rate_of

_SCOPES = {
    name.removeprefix("SCOPE_").lower(): number for name, number in key_pb2.Scope.items() if number
}


_HEADERS = ("KEY", "SCOPES", "RATE", "MADE (UTC)", "STATE", "LABEL")


class _RateParam(click.ParamType[int]):
    name = "N/s"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else rate_of(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


@click.group(
    epilog="""\b
    Examples:
      UPSHOT_KEY=$ROOT upshot keys create --workspace acme --scope admin
      upshot keys create --scope ingest --label "the shop's servers"
      upshot keys list
      upshot keys revoke 0123456789abcdef
    """
)
def keys() -> None:
    """Make, list and revoke API keys.

    The caller's own key is that in UPSHOT_KEY: one of scope admin for its workspace, or the root
    key of the server's settings, which names one by --workspace.
    """


def _workspace_option(command: client.Command) -> client.Command:
    text = "The workspace; that of your own key by default."
    return click.option("--workspace", default="", metavar="ID", help=text)(command)


@keys.command(
    epilog="""\b
    Examples:
      upshot keys create --scope ingest --label "the shop's servers" --rate 100/s
      UPSHOT_KEY=$ROOT upshot keys create --workspace acme --scope admin
    """
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(list(_SCOPES)),
    help="What it may do; may be given several times.",
)
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@click.option(
    "--rate",
    default=0,
    type=_RateParam(),
    help="Its quota at each server: events of Ingest and other calls, as 100/s. [the server's]",
)
@_workspace_option
@client.server_option
def create(scopes: tuple[str, ...], label: str, rate: int, workspace: str, server: str) -> None:
    """Make a key and print it: the only time that it can be seen."""
    request = key_pb2.CreateKeyRequest(
        scopes=[_SCOPES[scope] for scope in scopes],
        label=label,
        workspace_id=workspace,
        rate=rate,
    )

    async def work(at: client.Client) -> key_pb2.CreateKeyResponse:
        return await at.keys.CreateKey(request, timeout=client.CALL_SECONDS)

    made = client.run(server, work)
    key = made.key
    click.echo(f"key {key.key_id} of workspace {key.workspace_id}, {', '.join(scopes)}:", err=True)
    click.echo(made.secret)


@keys.command("list")
@_workspace_option
@client.json_option
@client.server_option
def list_keys(workspace: str, as_json: bool, server: str) -> None:
    """List the keys of a workspace."""

    async def work(at: client.Client) -> key_pb2.ListKeysResponse:
        request = key_pb2.ListKeysRequest(workspace_id=workspace)
        return await at.keys.ListKeys(request, timeout=client.CALL_SECONDS)

    found = list(client.run(server, work).keys)
    if as_json:
        output.json_lines(found)
    else:
        output.table(_HEADERS, map(_row, found), "no keys")


def _row(key: key_pb2.Key) -> tuple[str, ...]:
    scopes = " ".join(output.word(key_pb2.Scope, scope, "SCOPE_").lower() for scope in key.scopes)
    revoked = key.HasField("revoke_time")
    state = f"revoked {output.moment(key.revoke_time)}" if revoked else "works"
    rate = f"{key.rate}/s" if key.rate else output.NOTHING
    return key.key_id, scopes, rate, output.moment(key.create_time), state, key.label


@keys.command()
@click.argument("key_id", metavar="KEY")
@_workspace_option
@client.server_option
def revoke(key_id: str, workspace: str, server: str) -> None:
    """Let a key work no more, within 5 seconds."""
    # The whole text is what people have at hand.
    key_id = key_id.split("_")[1] if key_id.startswith("up_") and key_id.count("_") > 1 else key_id

    async def work(at: client.Client) -> key_pb2.RevokeKeyResponse:
        request = key_pb2.RevokeKeyRequest(key_id=key_id, workspace_id=workspace)
        return await at.keys.RevokeKey(request, timeout=client.CALL_SECONDS)

    client.run(server, work)
    click.echo(f"key {key_id} is revoked")
