"""`upshot ingest`: a file of Segment events into a server, once, however often it is asked."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Protocol

import click
import grpc

from upshot.v1 import service_pb2
from upshotd.adapters.clock import SystemClock, UuidIds
from upshotd.cli import client, failures, output
from upshotd.cli.segmentfile import Call, Refused, calls

#: Rejected lines that are shown one by one.
_SHOWN: Final = 10
_PAUSE_FIRST_US: Final = 200_000
_PAUSE_LONGEST_US: Final = 5_000_000


class _Bar(Protocol):
    def update(self, n_steps: int) -> None:
        """Note that bytes are done."""


@dataclass(slots=True)
class _Summary:
    """What became of everything so far."""

    states: Counter[int] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    warned: Counter[str] = field(default_factory=Counter)
    started_runs: int = 0
    made_ids: int = 0
    #: Calls that were sent again.
    repeated: int = 0

    def add(self, call: Call, results: list[service_pb2.IngestResult]) -> None:
        """Count the results of a call."""
        self.refused += call.refused
        self.made_ids += call.made_ids
        for line, result in zip(call.lines, results, strict=True):
            self.states[result.state] += 1
            faults = tuple(f"{at.field}: {at.description}" for at in result.violations)
            if result.state == service_pb2.INGEST_STATE_REJECTED:
                self.refused.append(Refused(line, result.event_id, result.reason, faults))
            elif result.state == service_pb2.INGEST_STATE_ACCEPTED:
                self.started_runs += len(result.started_runs)
                self.warned.update(faults)


@click.command(
    epilog="""\b
    Exit codes: 0 all taken, 1 refused as a whole, 2 usage, 3 the server went away (ask again: what
    was taken is recognised), 4 some were rejected.

    \b
    Examples:
      upshot ingest events.jsonl
      upshot ingest events.jsonl --concurrency 4
      zcat archive.jsonl.gz | upshot ingest -
    """
)
@click.argument("file", metavar="FILE.jsonl", type=click.File("rb"))
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Calls under way at once. More than 1 gives up the order of the lines. [1]",
)
@click.option(
    "--retry-for",
    type=click.FloatRange(0),
    default=30.0,
    metavar="SECONDS",
    help="How long to try again while the server is away or has too much to do. [30]",
)
@client.server_option
def ingest(file: BinaryIO, concurrency: int, retry_for: float, server: str) -> None:
    """Send raw Segment events, one JSON object in each line, or batches of them.

    They are what Segment's SDKs post: type, userId, messageId, properties ... 500 go in one call. A
    line without a messageId gets one made from its text, so that the same line counts once, however
    often the file is sent. - is standard input.
    """
    summary = _Summary()
    try:
        with _progress(file) as bar:
            source = _Source(calls(file), bar)
            sender = _Sender(source, summary, server, int(retry_for * 1_000_000))
            client.run(server, lambda at: sender.run(at, concurrency))
    finally:
        _tell(summary)
    if summary.refused:
        sys.exit(output.EXIT_PARTLY)


class _Source:
    """The calls of a file, for several that send."""

    def __init__(self, found: Iterator[Call], bar: _Bar | None) -> None:
        self._found = found
        self._bar = bar
        self._turn = asyncio.Lock()

    async def next(self) -> Call | None:
        """Return the next call, None at the end. A slow pipe holds nobody up."""
        async with self._turn:
            return await asyncio.to_thread(next, self._found, None)

    def done(self, call: Call) -> None:
        """Note that a call is through."""
        if self._bar is not None:
            self._bar.update(call.read_bytes)


class _Sender:
    """Sends calls, each until it is through."""

    def __init__(self, source: _Source, summary: _Summary, server: str, patience_us: int) -> None:
        self._server = server
        self._source = source
        self._summary = summary
        self._patience_us = patience_us
        self._clock = SystemClock()
        self._ids = UuidIds()

    async def run(self, at: client.Client, concurrency: int) -> None:
        """Send everything. Raises AioRpcError when the server will not take a call."""
        await asyncio.gather(*(self._send_all(at) for _ in range(concurrency)))

    async def _send_all(self, at: client.Client) -> None:
        while (call := await self._source.next()) is not None:
            results = await self._send(at, call) if call.lines else []
            self._summary.add(call, results)
            self._source.done(call)

    async def _send(self, at: client.Client, call: Call) -> list[service_pb2.IngestResult]:
        begin_us = self._clock.monotonic_us()
        pause_us = _PAUSE_FIRST_US
        while True:
            try:
                answer = await at.upshot.Ingest(call.request, timeout=client.CALL_SECONDS)
                return list(answer.results)
            except grpc.aio.AioRpcError as error:
                failure = failures.failure_of(error)
                if not failure.passing or self._out_of_patience(begin_us):
                    raise
            if not self._summary.repeated:
                patience = f"{self._patience_us / 1e6:g} s"
                why = failures.lines(failure, self._server)[0]
                output.note(f"{why}; trying again for {patience}")
            self._summary.repeated += 1
            # Jitter, or all that send would come back in the same moment.
            wait_us = max(failure.retry_after_us, round(pause_us * (0.5 + self._ids.fraction())))
            pause_us = min(2 * pause_us, _PAUSE_LONGEST_US)
            await self._clock.sleep(wait_us)

    def _out_of_patience(self, begin_us: int) -> bool:
        return self._clock.monotonic_us() - begin_us >= self._patience_us


def _progress(file: BinaryIO) -> AbstractContextManager[Any]:
    """Return a bar over the bytes of a file, where there is a terminal and a length to show."""
    try:
        length = os.fstat(file.fileno()).st_size
    except OSError:
        length = 0  # no file of the system
    if not length or not sys.stderr.isatty():
        return nullcontext()
    return click.progressbar(length=length, label="ingesting", file=sys.stderr)


def _tell(summary: _Summary) -> None:
    taken = summary.states[service_pb2.INGEST_STATE_ACCEPTED]
    again = summary.states[service_pb2.INGEST_STATE_DUPLICATE]
    click.echo(
        f"{taken} accepted, {again} duplicate, {len(summary.refused)} rejected; "
        f"{output.counted(summary.started_runs, 'run')} started"
    )
    if summary.made_ids:
        events = output.counted(summary.made_ids, "event")
        output.note(
            f"{events} without a messageId got one made from the line: the same line again is a "
            "duplicate"
        )
    if summary.repeated:
        output.note(
            f"{output.counted(summary.repeated, 'call')} had to be sent again; nothing counts twice"
        )
    for text, count in summary.warned.most_common(_SHOWN):
        output.note(output.clean(f"warning, {output.counted(count, 'time')}: {text}"))
    _tell_refused(summary.refused)


def _tell_refused(refused: list[Refused]) -> None:
    for reason, count in Counter(one.reason for one in refused).most_common():
        click.echo(f"  {count} {reason}", err=True)
    for one in sorted(refused, key=lambda one: one.line)[:_SHOWN]:
        said = "; ".join(one.faults)
        named = f" ({one.event_id})" if one.event_id else ""
        click.echo(output.clean(f"  line {one.line}{named}: {one.reason}: {said}"), err=True)
    if len(refused) > _SHOWN:
        click.echo(f"  and {len(refused) - _SHOWN} more; see `upshot rejected`", err=True)
