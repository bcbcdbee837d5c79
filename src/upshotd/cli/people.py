"""`upshot profile`, `upshot rejected`: people, and events that told us nothing about them."""

import json

import click

from upshot.v1 import admin_pb2, outcome_pb2
from upshotd.cli import client, output


@click.command(
    epilog="""\b
    Examples:
      upshot profile ana
      upshot profile 8b2f... --anonymous
    """
)
@click.argument("person", metavar="USER_ID")
@click.option("--anonymous", is_flag=True, help="USER_ID is an anonymous id.")
@client.json_option
@client.server_option
def profile(person: str, anonymous: bool, as_json: bool, server: str) -> None:
    """Show what is known about a person, and what is held back from them."""
    request = admin_pb2.GetProfileRequest()
    if anonymous:
        request.anonymous_id = person
    else:
        request.user_id = person

    async def work(at: client.Client) -> admin_pb2.Profile:
        answer = await at.admin.GetProfile(request, timeout=client.CALL_SECONDS)
        return answer.profile

    shown = client.run(server, work)
    if as_json:
        output.json_lines([shown])
        return
    output.fields(_fields(shown))


def _fields(shown: admin_pb2.Profile) -> list[tuple[str, object]]:
    traits = output.plain(shown).get("traits", {})
    assert isinstance(traits, dict)  # a Struct is an object
    return [
        ("profile", shown.profile_id),
        ("user", shown.user_id),
        ("anonymous", ", ".join(shown.anonymous_ids)),
        ("seen since", f"{output.moment(shown.create_time)} UTC"),
        *((("erased", f"{output.moment(shown.erase_time)} UTC"),) if _erased(shown) else ()),
        ("groups", ", ".join(shown.group_ids)),
        ("audiences", ", ".join(shown.audience_ids)),
        *((f"contact {name}", value) for name, value in sorted(shown.contact.items())),
        *(
            (f"trait {name}", json.dumps(value, ensure_ascii=False))
            for name, value in sorted(traits.items())
        ),
        *(("held back", _suppression(held)) for held in shown.suppressions),
    ]


def _erased(shown: admin_pb2.Profile) -> bool:
    return shown.HasField("erase_time")


@click.command(
    epilog="""\b
    Examples:
      upshot erase ana --yes
      upshot erase 8b2f... --anonymous
    """
)
@click.argument("person", metavar="USER_ID")
@click.option("--anonymous", is_flag=True, help="USER_ID is an anonymous id.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client.server_option
def erase(person: str, anonymous: bool, yes: bool, server: str) -> None:
    """Erase a person: profile, addresses, what was written to them. There is no way back."""
    if not yes:
        click.confirm(f"Erase {person} for good?", abort=True)
    request = admin_pb2.EraseProfileRequest()
    setattr(request, "anonymous_id" if anonymous else "user_id", person)

    async def work(at: client.Client) -> admin_pb2.EraseProfileResponse:
        return await at.admin.EraseProfile(request, timeout=client.CALL_SECONDS)

    erased = client.run(server, work)
    click.echo(
        f"{person} was erased, with what happened until {output.moment(erased.erase_time)} UTC"
    )


def _suppression(held: admin_pb2.Suppression) -> str:
    what = f"topic {held.topic}" if held.topic else ""
    if held.on_channel:
        what += f" on {output.word(outcome_pb2.Channel, held.on_channel, 'CHANNEL_')}"
    if held.reason == "OPTED_IN":
        return f"{what}: asked for"
    if held.channel:
        what = f"channel {output.word(outcome_pb2.Channel, held.channel, 'CHANNEL_')}"
    until = output.moment(held.until_time)
    until = "for good" if until == output.NOTHING else f"until {until} UTC"
    return f"{what or 'everything'} {until} ({held.reason})"


@click.command(
    epilog="""\b
    Examples:
      upshot rejected
      upshot rejected --limit 500 --json
    """
)
@client.limit_option
@client.json_option
@client.server_option
def rejected(limit: int, as_json: bool, server: str) -> None:
    """List events that were refused in the last 7 days: Segment's SDKs never look at answers."""

    async def work(at: client.Client) -> list[admin_pb2.RejectedEvent]:
        async def fetch(size: int, token: str) -> admin_pb2.ListRejectedEventsResponse:
            request = admin_pb2.ListRejectedEventsRequest(page_size=size, page_token=token)
            return await at.admin.ListRejectedEvents(request, timeout=client.CALL_SECONDS)

        return await client.rows(limit, fetch, lambda page: page.rejected_events)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    headers = ("CAME (UTC)", "EVENT", "REASON", "FAULTS")
    output.table(headers, map(_row, found), "no events were refused in the last 7 days")


def _row(event: admin_pb2.RejectedEvent) -> tuple[object, ...]:
    faults = "; ".join(f"{at.field}: {at.description}" for at in event.violations)
    return output.moment(event.receive_time), event.event_id, event.reason, faults


@click.command(
    epilog="""\b
    Examples:
      upshot preferences ana
      upshot preferences ana --topic news --out
      upshot preferences ana --topic news --in --off sms --off push
    """
)
@click.argument("person", metavar="USER_ID")
@click.option("--anonymous", is_flag=True, help="USER_ID is an anonymous id.")
@click.option("--topic", "topic_id", default="", metavar="ID", help="The topic to choose for.")
@click.option("--in/--out", "wanted", default=None, help="They want it, or do not.")
@click.option("--off", "off", multiple=True, metavar="CHANNEL", help="Not on this channel.")
@click.option("--all-channels", is_flag=True, help="On every channel again.")
@client.json_option
@client.server_option
def preferences(
    person: str,
    anonymous: bool,
    topic_id: str,
    wanted: bool | None,
    off: tuple[str, ...],
    all_channels: bool,
    as_json: bool,
    server: str,
) -> None:
    """Show what a person wants to hear about, or choose in their name."""
    choosing = wanted is not None or bool(off) or all_channels
    if choosing != bool(topic_id):
        raise click.UsageError("give --topic with --in, --out, --off or --all-channels")
    request = admin_pb2.SetPreferenceRequest(topic_id=topic_id)
    asked = admin_pb2.GetPreferencesRequest()
    for one in (request, asked):
        setattr(one, "anonymous_id" if anonymous else "user_id", person)
    if wanted is not None:
        request.status = _STATUS[wanted]
    if off or all_channels:
        request.channels.off.extend(map(_channel, off))
        request.channels.SetInParent()

    async def work(at: client.Client) -> list[admin_pb2.Preference]:
        if choosing:
            done = await at.admin.SetPreference(request, timeout=client.CALL_SECONDS)
            return list(done.preferences)
        found = await at.admin.GetPreferences(asked, timeout=client.CALL_SECONDS)
        return list(found.preferences)

    found = client.run(server, work)
    if as_json:
        output.json_lines(found)
        return
    headers = ("TOPIC", "WANTED", "BY", "NOT ON")
    output.table(headers, map(_preference, found), "no topics are defined")


_STATUS = {
    True: admin_pb2.PREFERENCE_STATUS_OPTED_IN,
    False: admin_pb2.PREFERENCE_STATUS_OPTED_OUT,
}


def _channel(word: str) -> outcome_pb2.Channel.ValueType:
    try:
        return outcome_pb2.Channel.Value(f"CHANNEL_{word.upper()}")
    except ValueError:
        raise click.UsageError(f"{word!r} is no channel") from None


def _preference(found: admin_pb2.Preference) -> tuple[object, ...]:
    default = output.word(admin_pb2.TopicDefault, found.topic.default, "TOPIC_DEFAULT_")
    wanted = found.status == admin_pb2.PREFERENCE_STATUS_OPTED_IN
    off = (output.word(outcome_pb2.Channel, c, "CHANNEL_") for c in found.channels_off)
    return (
        found.topic.topic_id,
        "yes" if wanted else "no",
        "their choice" if found.chosen else f"default: {default}",
        ", ".join(off),
    )
