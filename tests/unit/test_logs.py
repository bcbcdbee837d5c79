"""Logs: one JSON line per event on the given stream, without what belongs to a person."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from upshotd import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_request_it_belongs_to() -> None:
    stream = io.StringIO()
    logs.set_up("info", "auto", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("run.started", run_id="x", ms=0.5)
    structlog.get_logger().debug("too.quiet")
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "run.started",
        "level": "info",
        "request_id": "r1",
        "run_id": "x",
        "ms": 0.5,
    }


def test_personal_fields_are_blanked() -> None:
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    structlog.get_logger().info("message.sent", recipient="ana@example.com", traits={"a": "Ana"})
    (line,) = lines(stream)
    assert (line["recipient"], line["traits"]) == (logs.REDACTED, logs.REDACTED)


def test_a_trace_stays_one_line() -> None:
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    try:
        raise ValueError("deep inside")
    except ValueError as error:
        structlog.get_logger().error("rpc.broke", exc_info=error)
    (line,) = lines(stream)
    assert "deep inside" in str(line["exception"])


def test_others_loggers_come_out_the_same_way_from_warning_on() -> None:
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    logging.getLogger("grpc").warning("odd %s", "thing")
    logging.getLogger("grpc").info("chatter")
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("odd thing", "warning")


def test_people_get_words() -> None:
    stream = io.StringIO()
    logs.set_up("debug", "console", stream)
    structlog.get_logger().debug("run.started", run_id="x")
    assert "run.started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("style", ["json", "console"])
def test_traces_show_no_local_variables(style: str) -> None:
    stream = io.StringIO()
    logs.set_up("info", style, stream)
    recipient = "ana" + stream.getvalue() + "@example.com"  # no literal in the trace
    try:
        raise ValueError(f"{len(recipient)} characters")
    except ValueError as error:
        structlog.get_logger().error("rpc.broke", exc_info=error)
    assert "15 characters" in stream.getvalue()
    assert "ana@example.com" not in stream.getvalue()


def test_a_full_log_disk_stops_no_work_and_is_told_when_there_is_room():
    class FullDisk(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(28, "No space left on device")

    stream = FullDisk()
    logs.set_up("info", "json", stream)
    structlog.get_logger().info("one")
    structlog.get_logger().info("two")
    stream.full = False
    stream.truncate(0)
    stream.seek(0)
    structlog.get_logger().info("three")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first) == {"event": "log.lost", "lines": 2}
    assert json.loads(second)["event"] == "three"
