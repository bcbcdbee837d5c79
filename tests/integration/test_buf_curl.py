"""A client that knows nothing of us but the address: `buf curl`, by reflection."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

from tests.grpc_session import Exchange, Session, shape
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "grpc-session.md"
FAULTS = [
    "workflow.workflow_id",
    "workflow.trigger.track.event",
    "workflow.steps[0].condition",
    "workflow.steps[1].step_id",
    "workflow.steps[1].wait.timeout",
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, lab=True) as server:
        server.start()
        yield server


def test_a_foreign_client_sees_what_the_page_says(server: Server) -> None:
    exchanges = list(Session(server, PAGE.read_text(encoding="utf-8")).exchanges())
    for page, came in exchanges:
        assert shape(came.output) == shape(page.output), page.command

    by_method = {came.command.split()[1].rpartition("/")[2]: came for _, came in exchanges}
    assert {"Ingest", "RecordEngagement", "StreamOutcomes"} <= by_method.keys()
    assert "OUTCOME_KIND_RUN_COMPLETED" in by_method["StreamOutcomes"].output
    (refusal,) = [came for _, came in exchanges if '"code"' in came.output]
    check_refusal(refusal)


def check_refusal(came: Exchange) -> None:
    """All five faults are named by path, in the words and in the details."""
    answer = json.loads(came.output)
    assert answer["code"] == "invalid_argument"
    assert all(path in answer["message"] for path in FAULTS)
    details = {detail["type"]: detail["value"] for detail in answer["details"]}
    bad = error_details_pb2.BadRequest.FromString(_decoded(details["google.rpc.BadRequest"]))
    assert [violation.field for violation in bad.field_violations] == FAULTS
    info = error_details_pb2.ErrorInfo.FromString(_decoded(details["google.rpc.ErrorInfo"]))
    assert (info.domain, info.reason) == ("upshot", "INVALID_ARGUMENT")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def test_a_shape_forgives_other_ids_but_no_other_story() -> None:
    one, two = (f"01a20b9a-52c2-7c67-9c00-25812d56298{end}" for end in "bc")
    told = f'"runId": "{one}", "messageId": "{two}", "at": "2026-11-24T03:29:55.70Z"'
    other = told.replace("01a2", "01a3").replace("55.70Z", "59Z")
    assert shape(other) == shape(told)
    assert shape(told.replace(two, one)) != shape(told)
    assert shape(told.replace("runId", "run")) != shape(told)
