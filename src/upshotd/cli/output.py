"""What people and programs read: tables, times, words of enums, JSON lines, errors."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import click
from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

#: Exit codes of the clients of a server; in `upshot --help` and docs/cli.md.
EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
EXIT_PARTLY: Final = 4

#: A time of ours in UTC, as it stands in details.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d{6})?\+00:00")
#: What a cell says that has nothing to say.
NOTHING: Final = "-"


class EnumType(Protocol):
    """A generated enum."""

    def Name(self, number: Any, /) -> str:  # noqa: N802  # protobuf's name
        """Return the name of a value. Raises ValueError for one that it does not know."""


def clean(text: str) -> str:
    """Return *text* with control characters shown as such: ids of strangers reach terminals."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def painted(text: str, color: str) -> str:
    """Return *text* in a color; what is no terminal gets none, by click, nor does NO_COLOR."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=color)


def moment(time: Timestamp) -> str:
    """Return a time in UTC to the second; an unset one is nothing."""
    if not time.seconds:
        return NOTHING
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}"


def readable(text: str) -> str:
    """Return what a server says of itself with its times as `moment` writes them."""
    return _TIME.sub(r"\1 \2 UTC", text)


def word(kind: EnumType, number: int, prefix: str) -> str:
    """Return the word of an enum value: CHANNEL_EMAIL is email; 0 is nothing."""
    if not number:
        return NOTHING
    try:
        return kind.Name(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)  # of a newer server


def counted(count: int, noun: str) -> str:
    """Return a number of things: 1 run, 2 runs."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their headers, or *empty* to stderr when there is none."""
    cells = [[clean(str(cell)) or NOTHING for cell in row] for row in rows]
    if not cells:
        click.echo(empty, err=True)
        return
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    click.echo(painted(_line(headers, widths), "cyan"))
    for row in cells:
        click.echo(_line(row, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values below each other, without those that say nothing."""
    said = [(name, clean(str(value))) for name, value in pairs if str(value) not in ("", NOTHING)]
    width = max((len(name) for name, _ in said), default=0)
    for name, value in said:
        click.echo(f"{painted(name.ljust(width), 'cyan')}  {value}")


def plain(message: Message) -> dict[str, object]:
    """Return a message as plain values, in the contract's names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def json_line(message: Message) -> str:
    """Return a message as protobuf JSON in one line, in the contract's names."""
    return MessageToJson(message, preserving_proto_field_name=True, indent=None)


def json_lines(messages: Iterable[Message]) -> None:
    """Print messages, one line each."""
    for message in messages:
        click.echo(json_line(message))


def complain(text: str) -> None:
    """Print what went wrong, to stderr."""
    click.echo(f"{painted('upshot:', 'red')} {text}", err=True)


def note(text: str) -> None:
    """Print what is worth knowing and no error, to stderr."""
    click.echo(f"upshot: {text}", err=True)
