"""`upshot suppressions`, `upshot suppress`: who and what gets nothing, also from and to CSV."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import IO, Final

import click

from upshot.v1 import admin_pb2, outcome_pb2
from upshotd.cli import client, output

#: The columns of a file, in their order; of the first four one is filled.
COLUMNS: Final = (
    "user_id",
    "anonymous_id",
    "email",
    "phone_number",
    "channel",
    "topic",
    "reason",
    "until",
)
_OWNERS: Final = COLUMNS[:4]
#: Entries of one call.
_CHUNK: Final = 1_000


@click.command(
    epilog="""\b
    Examples:
      upshot suppressions
      upshot suppressions --csv > suppressions.csv
    """
)
@click.option("--csv", "as_csv", is_flag=True, help="Print all as CSV, as `upshot suppress` reads.")
@client.limit_option
@client.json_option
@client.server_option
def suppressions(as_csv: bool, limit: int, as_json: bool, server: str) -> None:
    """List what is held back from people and from addresses."""
    most = sys.maxsize if as_csv else limit

    async def work(at: client.Client) -> list[admin_pb2.SuppressionEntry]:
        async def fetch(size: int, token: str) -> admin_pb2.ListSuppressionsResponse:
            request = admin_pb2.ListSuppressionsRequest(page_size=size, page_token=token)
            return await at.admin.ListSuppressions(request, timeout=client.CALL_SECONDS)

        return await client.rows(most, fetch, lambda page: page.entries)

    found = client.run(server, work)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_record, found))
    elif as_json:
        output.json_lines(found)
    else:
        headers = ("WHO", "HELD BACK", "UNTIL (UTC)", "REASON")
        output.table(headers, map(_row, found), "nothing is held back from anybody")


def _word(number: outcome_pb2.Channel.ValueType) -> str:
    return output.word(outcome_pb2.Channel, number, "CHANNEL_").lower() if number else ""


def _record(entry: admin_pb2.SuppressionEntry) -> tuple[str, ...]:
    held = entry.suppression
    until = held.until_time.ToJsonString() if held.HasField("until_time") else ""
    owners = (getattr(entry, name) for name in _OWNERS)
    channel = _word(held.on_channel if held.topic else held.channel)
    return (*owners, channel, held.topic, held.reason, until)


def _row(entry: admin_pb2.SuppressionEntry) -> tuple[str, ...]:
    *owners, channel, topic, reason, _ = _record(entry)
    what = f"{topic} on {channel}" if topic and channel else topic or channel
    until = entry.suppression.until_time
    ends = output.moment(until) if entry.suppression.HasField("until_time") else "for good"
    return "".join(owners) or "somebody erased", what, ends, reason


@click.command(
    epilog="""\b
    Examples:
      upshot suppress ana@example.com +15550001
      upshot suppress --file bounces.csv --reason BOUNCED
      upshot suppress --file suppressions.csv --remove
    """
)
@click.argument("addresses", nargs=-1, metavar="[EMAIL|PHONE_NUMBER]...")
@click.option(
    "--file",
    "source",
    type=click.File(encoding="utf-8-sig"),
    help="CSV with a header: email, phone_number, user_id or anonymous_id, and if wanted channel, "
    "topic, reason and until. Other columns are left out.",
)
@click.option("--reason", metavar="WORD", help="The reason of all; else the file's, or SUPPRESSED.")
@click.option("--remove", is_flag=True, help="Take them off the list.")
@client.server_option
def suppress(
    addresses: tuple[str, ...],
    source: IO[str] | None,
    reason: str | None,
    remove: bool,
    server: str,
) -> None:
    """Hold back from addresses and people whatever would be sent to them."""
    if not addresses and source is None:
        raise click.UsageError("give addresses, or a --file")
    named = [_named(address) for address in addresses]
    entries = [*named, *(_read(source) if source is not None else ())]
    if reason is not None:
        for entry in entries:
            entry.suppression.reason = reason.upper()

    async def work(at: client.Client) -> int:
        changed = 0
        for some in _chunks(entries):
            request = admin_pb2.SetSuppressionsRequest(entries=some, remove=remove)
            answer = await at.admin.SetSuppressions(request, timeout=client.CALL_SECONDS)
            changed += answer.changed
        return changed

    changed = client.run(server, work)
    verb = "taken off the list" if remove else "put on the list"
    click.echo(f"{changed} {verb}, {len(entries) - changed} as they were")


def _chunks(
    entries: Sequence[admin_pb2.SuppressionEntry],
) -> Iterator[list[admin_pb2.SuppressionEntry]]:
    left = iter(entries)
    while some := list(islice(left, _CHUNK)):
        yield some


def _named(address: str) -> admin_pb2.SuppressionEntry:
    if "@" in address:
        return admin_pb2.SuppressionEntry(email=address)
    return admin_pb2.SuppressionEntry(phone_number=address)


def _read(source: IO[str]) -> Iterable[admin_pb2.SuppressionEntry]:
    """Yield the entries of a file; ends the program at a line that is none."""
    reader, name = csv.DictReader(source), getattr(source, "name", "<stdin>")
    if not set(_OWNERS).intersection(reader.fieldnames or ()):
        output.complain(f"{name}: the first line names none of {', '.join(_OWNERS)}")
        sys.exit(2)
    for record in reader:
        try:
            yield _entry(record)
        except ValueError as error:
            output.complain(f"{name}, line {reader.line_num}: {error}")
            sys.exit(2)


def _entry(record: dict[str, str]) -> admin_pb2.SuppressionEntry:
    given = {name: value.strip() for name in COLUMNS if (value := record.get(name) or "").strip()}
    owners = [name for name in _OWNERS if name in given]
    if len(owners) != 1:
        raise ValueError(f"{len(owners)} of {', '.join(_OWNERS)} are given; it must be one")
    entry = admin_pb2.SuppressionEntry()
    setattr(entry, owners[0], given[owners[0]])
    held = entry.suppression
    held.reason = given.get("reason", "")
    if "topic" in given:
        held.topic = given["topic"]
    if "channel" in given:
        name = f"CHANNEL_{given['channel'].upper()}"
        if name not in outcome_pb2.Channel.keys():  # noqa: SIM118
            raise ValueError(f"{given['channel']!r} is no channel")
        setattr(held, "on_channel" if held.topic else "channel", outcome_pb2.Channel.Value(name))
    if "until" in given:
        until = datetime.fromisoformat(given["until"])
        if until.tzinfo is None:
            raise ValueError(f"{given['until']!r} does not say its offset from UTC")
        held.until_time.FromDatetime(until)
    return entry
