"""The command line when the server has troubles: what is tried again, and what is told."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import click
import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from upshot.v1 import lab_pb2_grpc, outcome_pb2, subscription_pb2, subscription_pb2_grpc
from upshot.v1 import service_pb2 as pb
from upshot.v1.service_pb2_grpc import UpshotServiceServicer, add_UpshotServiceServicer_to_server
from upshotd.cli import main, output

Trouble = Callable[[grpc.ServicerContext], None]


def trouble(
    code: grpc.StatusCode, text: str, reason: str = "", retry_ms: int = 0, **metadata: str
) -> Trouble:
    """Return what ends a call with a status as the server's."""

    def end(context: grpc.ServicerContext) -> None:
        if not reason:
            context.abort(code, text)
        status = status_pb2.Status(code=code.value[0], message=text)
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_ms)
        info = error_details_pb2.ErrorInfo(reason=reason, domain="upshot", metadata=metadata)
        for detail in (info, retry):
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        context.abort_with_status(rpc_status.to_status(status))

    return end


class Scripted(UpshotServiceServicer, subscription_pb2_grpc.SubscriptionServiceServicer):
    """Does to each call what the script says: troubles first, then answers."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.requests: list[Any] = []
        self.commits: list[str] = []

    def Ingest(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if self.script:
            self.script.pop(0)(context)
        state = pb.INGEST_STATE_ACCEPTED
        return pb.IngestResponse(
            results=[pb.IngestResult(event_id=e.event_id, state=state) for e in request.events]
        )

    def StreamOutcomes(self, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append(request)
        for act in self.script.pop(0):
            if isinstance(act, pb.StreamOutcomesResponse):
                yield act
            else:
                act(context)

    def CommitCursor(self, request: Any, context: Any) -> Any:
        self.commits.append(request.cursor)
        return subscription_pb2.CommitCursorResponse(cursor=request.cursor)

    def DefineWorkflow(self, request: Any, context: Any) -> Any:
        self.script.pop(0)(context)

    def RecordEngagement(self, request: Any, context: Any) -> Any:
        self.script.pop(0)(context)

    def ListSubscriptions(self, request: Any, context: Any) -> Any:
        self.script.pop(0)(context)

    def DeleteSubscription(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


@contextmanager
def served(servicer: Scripted) -> Iterator[Callable[..., Result]]:
    """Yield what runs a command against *servicer*."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        add_UpshotServiceServicer_to_server(servicer, server)
        subscription_pb2_grpc.add_SubscriptionServiceServicer_to_server(servicer, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()

        def ask(*words: str, given: str | None = None, code: int = 0) -> Result:
            done = CliRunner().invoke(main, [*words, "--server", address], input=given)
            assert done.exit_code == code, (done.output, done.exception)
            return done

        yield ask
        server.stop(None).wait()


LINES = '{"type":"track","userId":"a","event":"E"}\n{"type":"track","userId":"b","event":"E"}\n'
DRAINING = trouble(grpc.StatusCode.UNAVAILABLE, "the server is going down", "DRAINING", 10)
BUSY = trouble(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", "RESOURCE_EXHAUSTED", 10)
BROKEN = trouble(grpc.StatusCode.INTERNAL, "internal error; incident i-1", "INTERNAL")


def test_events_are_sent_again_with_the_same_ids_until_they_are_taken() -> None:
    servicer = Scripted(DRAINING, BUSY)
    with served(servicer) as ask:
        said = ask("ingest", "-", given=LINES)
    assert said.stdout == "2 accepted, 0 duplicate, 0 rejected; 0 runs started\n"
    assert "the server is going down (DRAINING); trying again for 30 s" in said.stderr
    assert "2 calls had to be sent again; nothing counts twice" in said.stderr
    first, *again = servicer.requests
    assert again == [first, first]
    ids = [event.event_id for event in first.events]
    assert len(set(ids)) == 2
    assert all(len(one) == 45 and one.startswith("line-") for one in ids)


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (BROKEN, 1, "upshot: internal error; incident i-1 (INTERNAL)"),
        (DRAINING, 3, "upshot: the server is going down (DRAINING)"),
        (
            trouble(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (1 vs 0)"
            ),
            1,
            "larger than max",
        ),
    ],
)
def test_a_call_that_is_not_taken_ends_it_with_what_was_done(
    ending: Trouble, code: int, said: str
) -> None:
    servicer = Scripted(lambda _context: None, ending)
    many = "".join(LINES.replace('"E"', f'"E{n}"') for n in range(300))
    with served(servicer) as ask:
        done = ask("ingest", "-", "--retry-for", "0", given=many, code=code)
    assert done.stdout.startswith("500 accepted, 0 duplicate, 0 rejected")
    assert said in done.stderr


def page(cursor: str, *outcome_ids: str) -> pb.StreamOutcomesResponse:
    outcomes = [outcome_pb2.Outcome(outcome_id=one, event="E", user_id=one) for one in outcome_ids]
    return pb.StreamOutcomesResponse(outcomes=outcomes, cursor=cursor)


def test_a_stream_that_breaks_is_gone_on_with_from_the_last_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("upshotd.cli.tail._PAUSE_US", 1_000)
    streams = (
        [page("c0"), page("c1", "one"), DRAINING],
        [page("c1"), page("c2", "two")],  # and it ends without a word
        [trouble(grpc.StatusCode.UNAVAILABLE, "no connection")],
        [page("c2"), page("c3", "three"), page("c4"), page("c4")],
    )
    servicer = Scripted(*streams)
    with served(servicer) as ask:
        said = ask("tail", "--subscription", "s", "--from-start", "--once")
    assert [line.split()[1] for line in said.stdout.splitlines()] == ["one", "two", "three"]
    assert [request.after_cursor for request in servicer.requests] == ["", "c1", "c2", "c2"]
    assert servicer.commits == ["c0", "c1", "c2", "c3", "c4"]
    assert said.stderr.count("trying again") == 3
    assert "the stream has ended; trying again" in said.stderr


def test_a_cursor_that_is_too_old_ends_it_and_the_earliest_is_told() -> None:
    gone = trouble(
        grpc.StatusCode.OUT_OF_RANGE, "older than kept", "CURSOR_EXPIRED", earliest_cursor="c9"
    )
    with served(Scripted([gone])) as ask:
        said = ask("tail", "--after", "c1", code=1).stderr
    assert said == (
        "upshot: older than kept (CURSOR_EXPIRED)\n  what is kept begins at cursor c9\n"
    )


def test_a_clock_that_cannot_be_moved_says_how_it_could() -> None:
    assert lab_pb2_grpc  # the service is not served
    with served(Scripted()) as ask:
        said = ask("advance", "1h", code=1).stderr
        assert said.endswith("start it with `upshot serve --lab`\n")
        assert "does not know this call" in ask("runs", code=1).stderr


def test_a_call_that_takes_too_long_and_one_that_fails_are_told() -> None:
    late = trouble(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    strange = trouble(grpc.StatusCode.UNKNOWN, "")
    workflow = "workflow_id: a\n"
    with served(Scripted(late, strange, BROKEN, late)) as ask:
        assert "did not answer in time" in ask("engage", "m", "opened", code=3).stderr
        assert "refused without a word (UNKNOWN)" in ask("subscriptions", code=1).stderr
        assert "incident i-1" in ask("define", "-", given=workflow, code=1).stderr
        faulty = ask("define", "-", given=workflow + "b: c", code=1).stderr
    assert "only the files were looked at" in faulty
    assert "-:2: workflow.b: is no field of Workflow" in faulty


def test_colors_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.painted("a", "red") == click.style("a", fg="red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.painted("a", "red") == "a"
    assert output.clean("a\x1b[2J\nü") == "a\\x1b[2J\\nü"
    assert output.word(outcome_pb2.Channel, 99, "CHANNEL_") == "99"
    with served(Scripted()) as ask:
        assert "\x1b" not in ask("runs", code=1).stderr
