"""`upshot audience`: who is in an audience, and why."""

import click

from upshot.v1 import admin_pb2, audience_pb2
from upshotd.cli import client, output, yamlfile


@click.group(
    epilog="""\b
    Examples:
      upshot audience show
      upshot audience show not-used
      upshot audience members not-used --limit 500
      upshot audience why not-used ana
    """
)
def audience() -> None:
    """Look at audiences. They are defined in files, by `upshot define`."""


@audience.command(
    epilog="""\b
    Examples:
      upshot audience show
      upshot audience show not-used > not-used.yaml
    """
)
@click.argument("audience_id", metavar="[ID]", default="")
@click.option("--version", type=click.IntRange(1), default=None, metavar="N", help="[current]")
@client.limit_option
@client.json_option
@client.server_option
def show(audience_id: str, version: int | None, limit: int, as_json: bool, server: str) -> None:
    """List audiences, or print one as YAML.

    With ID it also says how many are in it, and how far it is filled.
    """
    if not audience_id:
        if version:
            raise click.UsageError("--version is for one audience")
        _list(server, limit, as_json)
        return
    request = admin_pb2.GetAudienceRequest(audience_id=audience_id, version=version or 0)

    async def work(at: client.Client) -> audience_pb2.AudienceVersion:
        answer = await at.admin.GetAudience(request, timeout=client.CALL_SECONDS)
        return answer.audience_version

    found = client.run(server, work)
    if as_json:
        output.json_lines([found])
        return
    click.echo(f"# version {found.version}, defined {output.moment(found.create_time)} UTC")
    click.echo(f"# {found.members} in it{_progress(found)}")
    click.echo(yamlfile.dump(found.audience), nl=False)


def _progress(found: audience_pb2.AudienceVersion) -> str:
    progress = found.progress
    if not found.HasField("progress"):
        return ""
    events, people = output.counted(progress.events, "event"), f"{progress.people} people"
    done = "" if progress.done else "; not everybody was looked at yet"
    return f"; of before, {events} and {people} were looked at, {progress.moved} moved{done}"


def _list(server: str, limit: int, as_json: bool) -> None:
    async def work(at: client.Client) -> list[audience_pb2.AudienceVersion]:
        async def fetch(size: int, token: str) -> admin_pb2.ListAudiencesResponse:
            request = admin_pb2.ListAudiencesRequest(page_size=size, page_token=token)
            return await at.admin.ListAudiences(request, timeout=client.CALL_SECONDS)

        return await client.rows(limit, fetch, lambda page: page.audience_versions)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    output.table(
        ("AUDIENCE", "VERSION", "DEFINED (UTC)", "NAME"),
        (
            (one.audience.audience_id, one.version, output.moment(one.create_time))
            + (one.audience.display_name,)
            for one in found
        ),
        "no audience is defined",
    )


@audience.command(
    epilog="""\b
    Examples:
      upshot audience members not-used
      upshot audience members not-used --limit 500 --json
    """
)
@click.argument("audience_id", metavar="ID")
@client.limit_option
@client.json_option
@client.server_option
def members(audience_id: str, limit: int, as_json: bool, server: str) -> None:
    """List who is in an audience, since when and why they came in."""

    async def work(at: client.Client) -> list[audience_pb2.AudienceMember]:
        async def fetch(size: int, token: str) -> admin_pb2.ListAudienceMembersResponse:
            request = admin_pb2.ListAudienceMembersRequest(
                audience_id=audience_id, page_size=size, page_token=token
            )
            return await at.admin.ListAudienceMembers(request, timeout=client.CALL_SECONDS)

        return await client.rows(limit, fetch, lambda page: page.members)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    rows = ((_who(one), output.moment(one.since_time), one.reason) for one in found)
    output.table(("WHO", "SINCE (UTC)", "WHY"), rows, f"nobody is in {audience_id}")


@audience.command(
    epilog="""\b
    Examples:
      upshot audience why not-used ana
      upshot audience why not-used 8b2f... --anonymous
    """
)
@click.argument("audience_id", metavar="ID")
@click.argument("person", metavar="USER_ID")
@click.option("--anonymous", is_flag=True, help="USER_ID is an anonymous id.")
@client.json_option
@client.server_option
def why(audience_id: str, person: str, anonymous: bool, as_json: bool, server: str) -> None:
    """Tell whether somebody is in an audience, and why."""
    request = admin_pb2.GetAudienceMemberRequest(audience_id=audience_id)
    setattr(request, "anonymous_id" if anonymous else "user_id", person)

    async def work(at: client.Client) -> audience_pb2.AudienceMember:
        answer = await at.admin.GetAudienceMember(request, timeout=client.CALL_SECONDS)
        return answer.member

    found = client.run(server, work)
    if as_json:
        output.json_lines([found])
        return
    inside = "is in" if found.member else "is not in"
    since = ""
    if found.HasField("since_time"):
        since = f" since {output.moment(found.since_time)} UTC"
    click.echo(f"{_who(found)} {inside} {audience_id}{since}: {output.clean(found.reason)}")
    if found.HasField("due_time"):
        click.echo(f"time alone changes that at {output.moment(found.due_time)} UTC")


def _who(one: audience_pb2.AudienceMember) -> str:
    return one.user_id or one.anonymous_id
