"""`upshot tail`: the outcome log on a terminal or in a pipe, over connections that break."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import click
import grpc
from google.protobuf.duration_pb2 import Duration

from upshot.v1 import outcome_pb2, service_pb2, subscription_pb2
from upshotd.adapters.clock import SystemClock
from upshotd.cli import client, failures, output

_PREFIX = "OUTCOME_KIND_"
_KINDS = {
    name.removeprefix(_PREFIX).lower(): number
    for name, number in outcome_pb2.OutcomeKind.items()
    if number
}
_PAUSE_US = 1_000_000
_COLORS = {
    outcome_pb2.OUTCOME_KIND_MESSAGE_SENT: "green",
    outcome_pb2.OUTCOME_KIND_MESSAGE_UNDELIVERABLE: "red",
    outcome_pb2.OUTCOME_KIND_MESSAGE_UNROUTABLE: "red",
    outcome_pb2.OUTCOME_KIND_RUN_FAILED: "red",
    outcome_pb2.OUTCOME_KIND_MESSAGE_IGNORED: "yellow",
    outcome_pb2.OUTCOME_KIND_MESSAGE_SUPPRESSED: "yellow",
}


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be printed, and how."""

    request: service_pb2.StreamOutcomesRequest
    as_json: bool
    commit: bool
    #: Most outcomes; 0 is no limit.
    limit: int
    #: End at the end of the log.
    once: bool


@click.command(
    epilog=f"""\b
    Kinds:
      {", ".join(list(_KINDS)[:5])},
      {", ".join(list(_KINDS)[5:9])},
      {", ".join(list(_KINDS)[9:])}

    \b
    Exit codes: 0 Ctrl-C, or done (--once, --limit), 1 refused, 2 usage, 3 no server at first.

    \b
    Examples:
      upshot tail
      upshot tail --from-start --user ana
      upshot tail --kind message_sent --kind message_opened --json
      upshot tail --subscription billing --from-start --once --json
    """
)
@client.json_option
@click.option("--after", default="", metavar="CURSOR", help="Start after this cursor.")
@click.option("--from-start", is_flag=True, help="Start with the oldest outcome, not with now.")
@click.option("--subscription", default="", metavar="NAME", help="Go on where NAME has been.")
@click.option(
    "--commit/--no-commit",
    default=True,
    help="With --subscription: whether what was printed counts as read. [--commit]",
)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(_KINDS)), metavar="KIND")
@click.option("--workflow", "workflows", multiple=True, metavar="ID", help="Only of these.")
@click.option("--user", "users", multiple=True, metavar="ID", help="Only of these people.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N outcomes.")
@click.option("--once", is_flag=True, help="End when everything in the log is printed.")
@client.server_option
def tail(
    as_json: bool,
    after: str,
    from_start: bool,
    subscription: str,
    commit: bool,
    kinds: tuple[str, ...],
    workflows: tuple[str, ...],
    users: tuple[str, ...],
    limit: int | None,
    once: bool,
    server: str,
) -> None:
    """Print outcomes as they happen, one in each line.

    With --json each line is {"outcomes": [ONE], "cursor": CURSOR}, and --after CURSOR goes on
    behind it. A server that goes away is waited for, and nothing is left out or told twice.
    """
    earliest = service_pb2.START_POSITION_EARLIEST
    request = service_pb2.StreamOutcomesRequest(
        after_cursor=after,
        subscription=subscription,
        start=earliest if from_start else service_pb2.START_POSITION_NOW,
        filter=service_pb2.OutcomeFilter(
            kinds=[outcome_pb2.OutcomeKind.ValueType(_KINDS[kind]) for kind in kinds],
            workflow_ids=workflows,
            user_ids=users,
        ),
        # A line has the cursor of its page: one that stands for itself alone can be gone on from.
        max_batch=1 if as_json or limit else 0,
        heartbeat_interval=Duration(seconds=1 if once else 10),
    )
    wish = _Wish(request, as_json, bool(subscription) and commit, limit or 0, once)
    try:
        client.run(server, lambda at: _Tail(at, wish, server).run())
    except KeyboardInterrupt:
        return  # that is how it ends


class _Tail:
    """One log, printed."""

    def __init__(self, at: client.Client, wish: _Wish, server: str) -> None:
        self._client = at
        self._wish = wish
        self._server = server
        self._clock = SystemClock()
        self._left = wish.limit
        #: Whether the server has ever answered.
        self._met = False

    async def run(self) -> None:
        """Print until it is done. Raises AioRpcError if the server refuses, or was never there."""
        while True:
            why = "the stream has ended"
            pause_us = _PAUSE_US
            try:
                if await self._print():
                    return
            except grpc.aio.AioRpcError as error:
                failure = failures.failure_of(error)
                if not failure.passing or not self._met:
                    raise
                why = failures.lines(failure, self._server)[0]
                pause_us = max(pause_us, failure.retry_after_us)
            output.note(f"{why}; trying again")
            await self._clock.sleep(pause_us)

    async def _print(self) -> bool:
        """Print one stream; return whether that is all."""
        before = None
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                for outcome in page.outcomes:
                    _print_outcome(outcome, page.cursor, self._wish.as_json)
                await self._read(page)
                self._left -= len(page.outcomes)
                if self._wish.limit and self._left <= 0:
                    return True
                # A checkpoint that has not moved: nothing passed since, and a heartbeat is over.
                if self._wish.once and not page.outcomes and page.cursor == before:
                    return True
                before = page.cursor
        return False

    async def _pages(self) -> AsyncGenerator[service_pb2.StreamOutcomesResponse, None]:
        call = self._client.upshot.StreamOutcomes(self._wish.request)
        try:
            async for page in call:
                self._met = True
                yield page
        finally:
            call.cancel()

    async def _read(self, page: service_pb2.StreamOutcomesResponse) -> None:
        """Remember that a page is printed."""
        moved = page.cursor != self._wish.request.after_cursor
        self._wish.request.after_cursor = page.cursor
        if self._wish.commit and moved:
            name = self._wish.request.subscription
            request = subscription_pb2.CommitCursorRequest(subscription=name, cursor=page.cursor)
            timeout = client.CALL_SECONDS
            await self._client.subscriptions.CommitCursor(request, timeout=timeout)


#: Which properties of a kind are worth a place in its line; of other kinds of ours the detail is.
_TOLD = {
    outcome_pb2.OUTCOME_KIND_AUDIENCE_USER_MATCHED: ("reason",),
    outcome_pb2.OUTCOME_KIND_AUDIENCE_USER_UNMATCHED: ("reason",),
    outcome_pb2.OUTCOME_KIND_APPROVAL_REQUESTED: ("summary",),
    outcome_pb2.OUTCOME_KIND_APPROVAL_DECIDED: ("decision", "decided_by", "comment"),
    outcome_pb2.OUTCOME_KIND_APPROVAL_ASKED: ("asked_by", "question"),
    outcome_pb2.OUTCOME_KIND_APPROVAL_ANSWERED: ("answer",),
    outcome_pb2.OUTCOME_KIND_CUSTOM: (),
}


def _print_outcome(outcome: outcome_pb2.Outcome, cursor: str, as_json: bool) -> None:
    if as_json:
        page = service_pb2.StreamOutcomesResponse(outcomes=[outcome], cursor=cursor)
        click.echo(output.json_line(page))
        return
    who = outcome.user_id or outcome.anonymous_id or output.NOTHING
    at = "/".join(filter(None, (outcome.workflow_id, outcome.step_id)))
    channel = output.word(outcome_pb2.Channel, outcome.channel, "CHANNEL_")
    more = [outcome.reason, outcome.link_url, "machine" if outcome.machine else ""]
    said = output.plain(outcome).get("properties", {})
    assert isinstance(said, dict)  # a Struct is an object
    more += [str(said.get(name, "")) for name in _TOLD.get(outcome.kind, ("detail",))]
    at = at or str(said.get("audience_id", ""))
    time = output.moment(outcome.occur_time)
    text = f"{who:<12}  {outcome.event:<22}  {channel:<7}  {at}  {' '.join(filter(None, more))}"
    color = _COLORS.get(outcome.kind)
    text = output.clean(text).rstrip()
    click.echo(f"{time}  {output.painted(text, color) if color else text}")
