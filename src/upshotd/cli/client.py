"""The way to a server: a channel, the stubs of the contract, and errors that end the command."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import click
import grpc

from upshot.v1.admin_pb2_grpc import AdminServiceStub
from upshot.v1.key_pb2_grpc import KeyServiceStub
from upshot.v1.lab_pb2_grpc import LabServiceStub
from upshot.v1.service_pb2_grpc import UpshotServiceStub
from upshot.v1.subscription_pb2_grpc import SubscriptionServiceStub
from upshotd.cli import failures, keyed, output

if TYPE_CHECKING:
    from upshot.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from upshot.v1.key_pb2_grpc import KeyServiceAsyncStub
    from upshot.v1.lab_pb2_grpc import LabServiceAsyncStub
    from upshot.v1.service_pb2_grpc import UpshotServiceAsyncStub
    from upshot.v1.subscription_pb2_grpc import SubscriptionServiceAsyncStub

#: Where `upshot serve` listens unless told otherwise.
SERVER_DEFAULT: Final = "127.0.0.1:7070"
#: Most of a unary call, in seconds.
CALL_SECONDS: Final = 30.0
#: Most rows that one call of a list asks for; the server's own limit.
_PAGE_ROWS: Final = 500
_PORT_MAX: Final = 65_535

_OPTIONS: Final = (
    # A page of the stream may be larger than gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # The server is on this machine: a proxy of the environment cannot know it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that is back is found soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

T = TypeVar("T")
RowT = TypeVar("RowT")
Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Client:
    """The services of one server."""

    upshot: "UpshotServiceAsyncStub"
    admin: "AdminServiceAsyncStub"
    subscriptions: "SubscriptionServiceAsyncStub"
    lab: "LabServiceAsyncStub"
    keys: "KeyServiceAsyncStub"


#: What is done with a server.
Work: TypeAlias = Callable[[Client], Awaitable[T]]


class _ServerParam(click.ParamType[str]):
    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and int(port) <= _PORT_MAX):
            self.fail(f"{value!r} is no HOST:PORT, as {SERVER_DEFAULT}", param, ctx)
        return value


def server_option(command: Command) -> Command:
    """Give a command `--server`."""
    return click.option(
        "--server",
        envvar="UPSHOT_SERVER",
        type=_ServerParam(),
        default=SERVER_DEFAULT,
        metavar="HOST:PORT",
        help=f"The Upshot server. [{SERVER_DEFAULT}; env: UPSHOT_SERVER]",
    )(command)


def json_option(command: Command) -> Command:
    """Give a command `--json`."""
    text = "Print protobuf JSON, one line each, instead of a table."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def limit_option(command: Command) -> Command:
    """Give a command `--limit`."""
    return click.option(
        "--limit",
        type=click.IntRange(1),
        default=50,
        metavar="N",
        help="Most rows to print, the newest first. [50]",
    )(command)


def attempt(server: str, work: Work[None]) -> failures.Failure | None:
    """Do *work*; return why a call of it failed, or None."""
    try:
        asyncio.run(_work(server, work))
    except grpc.aio.AioRpcError as error:
        return failures.failure_of(error)
    return None


def run(server: str, work: Work[T], hints: Mapping[grpc.StatusCode, str] | None = None) -> T:
    """Return what *work* returns; a failed call is told and ends the program.

    *hints* are words for codes that mean something particular here.
    """
    try:
        return asyncio.run(_work(server, work))
    except grpc.aio.AioRpcError as error:
        failure = failures.failure_of(error)
    hint = (hints or {}).get(failure.code)
    if hint is None:
        failures.show(failure, server)
    else:
        output.complain(hint)
    sys.exit(failure.exit_code)


async def _work(server: str, work: Work[T]) -> T:
    async with keyed.channel(server, _OPTIONS) as channel:
        client = Client(
            UpshotServiceStub(channel),
            AdminServiceStub(channel),
            SubscriptionServiceStub(channel),
            LabServiceStub(channel),
            KeyServiceStub(channel),
        )
        return await work(client)


class _Page(Protocol):
    @property
    def next_page_token(self) -> str:
        """Where the next page starts; empty at the end."""


PageT = TypeVar("PageT", bound=_Page)


async def rows(
    limit: int,
    fetch: Callable[[int, str], Awaitable[PageT]],
    items: Callable[[PageT], Sequence[RowT]],
) -> list[RowT]:
    """Return up to *limit* rows of a paged list. *fetch* takes a page's size and token."""
    found: list[RowT] = []
    token = ""
    while len(found) < limit:
        page = await fetch(min(limit - len(found), _PAGE_ROWS), token)
        found += items(page)
        token = page.next_page_token
        if not token:
            break
    return found[:limit]
