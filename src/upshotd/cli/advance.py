"""`upshot advance`: time travel in the lab."""

import click
import grpc
from google.protobuf.duration_pb2 import Duration

from upshot.v1 import lab_pb2
from upshotd.cli import client, output
from upshotd.cli.durations import DurationParam

#: Most of a call, in seconds: a month of many people takes its time.
_CALL_SECONDS = 600.0
_HINTS = {
    grpc.StatusCode.UNIMPLEMENTED: "the server's clock cannot be moved: start it with "
    "`upshot serve --lab`",
}


@click.command(
    epilog="""\b
    Examples:
      upshot advance 24h
      upshot advance 1h30m
      upshot advance 0s      settles what is due now
    """
)
@click.argument("duration", type=DurationParam())
@client.json_option
@client.server_option
def advance(duration: Duration, as_json: bool, server: str) -> None:
    """Move the clock of `upshot serve --lab` forward, from timer to timer.

    DURATION is written as 45s, 90m, 24h, 3d or 1h30m. Returns when nothing is due any more. The
    clock keeps its place when the server is started again.
    """
    request = lab_pb2.AdvanceTimeRequest(duration=duration)

    async def work(at: client.Client) -> lab_pb2.AdvanceTimeResponse:
        return await at.lab.AdvanceTime(request, timeout=_CALL_SECONDS)

    answer = client.run(server, work, _HINTS)
    if as_json:
        output.json_lines([answer])
        return
    timers = output.counted(answer.fired_timers, "timer")
    click.echo(f"it is {output.moment(answer.now)} UTC now; {timers} fired")
