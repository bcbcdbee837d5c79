"""Domain errors as gRPC answers: one table, documented reasons, details that help."""

import ast
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc

import upshotd
from upshotd.adapters.grpc.errors import (
    DOMAIN,
    REASONS,
    TABLE,
    Answer,
    answer_to,
    internal,
)
from upshotd.domain import errors
from upshotd.domain.errors import (
    AlreadyExists,
    Conflict,
    CursorExpired,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UpshotError,
    VersionMismatch,
    Violation,
)

#: The store's own words: at start, and told to callers as the general word.
INNER_REASONS = {
    "DATABASE_LOCKED",
    "DATABASE_NEWER",
    "DATABASE_FULL",
    "DATABASE_FAILED",
    "DATABASE_NOT_DURABLE",
    "LEASE_LOST",
}
DETAILS: list[type[Message]] = [
    rpc.ErrorInfo,
    rpc.BadRequest,
    rpc.RetryInfo,
    rpc.ResourceInfo,
    rpc.PreconditionFailure,
]


def details(answer: Answer) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for packed in answer.status.details:
        for kind in DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                assert kind.DESCRIPTOR.name not in found, "at most one of each"
                found[kind.DESCRIPTOR.name] = message
    return found


def answered(error: UpshotError) -> Answer:
    answer = answer_to(error)
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("error", "code", "reason", "detail"),
    [
        (InvalidArgument("x", (Violation("a", "b"),)), "INVALID_ARGUMENT", "", "BadRequest"),
        (InvalidArgument("x", reason="CURSOR_AHEAD"), "INVALID_ARGUMENT", "CURSOR_AHEAD", ""),
        (NotFound("run", "r1"), "NOT_FOUND", "", "ResourceInfo"),
        (AlreadyExists("x"), "ALREADY_EXISTS", "", ""),
        (VersionMismatch("x"), "ABORTED", "VERSION_MISMATCH", ""),
        (FailedPrecondition("x"), "FAILED_PRECONDITION", "", "PreconditionFailure"),
        (CursorExpired("x", earliest_cursor="c"), "OUT_OF_RANGE", "CURSOR_EXPIRED", ""),
        (ResourceExhausted("x"), "RESOURCE_EXHAUSTED", "", "RetryInfo"),
        (DeadlineExceeded("x"), "DEADLINE_EXCEEDED", "", ""),
        (Unauthenticated("x"), "UNAUTHENTICATED", "", ""),
        (Unavailable("x", reason="DRAINING"), "UNAVAILABLE", "DRAINING", "RetryInfo"),
    ],
)
def test_each_error_has_its_code_and_details(
    error: UpshotError, code: str, reason: str, detail: str
) -> None:
    answer = answered(error)
    assert answer.code is grpc.StatusCode[code]
    assert answer.status.code == answer.code.value[0]
    found = details(answer)
    info = found.pop("ErrorInfo")
    assert isinstance(info, rpc.ErrorInfo)
    assert (info.domain, info.reason) == (DOMAIN, reason or code)
    assert info.reason in REASONS
    assert list(found) == ([detail] if detail else [])


def test_every_error_for_callers_is_in_the_table() -> None:
    inner = {"ConditionError", "TemplateError", "Conflict", "ConstraintFailure"}
    tree = {kind.__name__ for kind in UpshotError.__subclasses__()}
    assert {kind.__name__ for kind in TABLE} == tree - inner
    assert answer_to(Conflict("rows moved on")) is None, "inner errors never leave as themselves"


def test_every_reason_that_is_raised_is_documented() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    used = {kind.reason for kind in TABLE} | {"INTERNAL"}
    for path in Path(upshotd.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds:
                used |= {
                    keyword.value.value
                    for keyword in node.keywords
                    if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
                }
    assert used <= REASONS | INNER_REASONS


def test_callers_hear_documented_reasons_only() -> None:
    assert "ALREADY_EXISTS" in REASONS
    full = answered(ResourceExhausted("the disk is full", reason="DATABASE_FULL"))
    assert full.reason == "RESOURCE_EXHAUSTED"


def test_what_helps_is_in_the_details() -> None:
    faults = (Violation("workflow.steps[2].wait.timeout", "must be positive"),)
    bad = details(answered(InvalidArgument("x", faults)))["BadRequest"]
    assert isinstance(bad, rpc.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("workflow.steps[2].wait.timeout", "must be positive")
    ]
    missing = details(answered(NotFound("run", "r1")))["ResourceInfo"]
    assert isinstance(missing, rpc.ResourceInfo)
    assert (missing.resource_type, missing.resource_name) == ("run", "r1")
    retry = details(answered(Unavailable("x", retry_after_us=2_500_000)))["RetryInfo"]
    assert isinstance(retry, rpc.RetryInfo)
    assert retry.retry_delay.ToMicroseconds() == 2_500_000
    gone = details(answered(CursorExpired("x", earliest_cursor="c" * 1_000)))["ErrorInfo"]
    assert isinstance(gone, rpc.ErrorInfo)
    assert gone.metadata["earliest_cursor"] == "c" * 1_000, "a cursor is of no use in pieces"


def test_trailers_stay_below_what_clients_take() -> None:
    faults = tuple(Violation(f"workflow.steps[{n}].send", "ü" * 80) for n in range(500))
    answer = answered(InvalidArgument("ü" * 10_000, faults))
    ((name, value),) = answer.trailers
    assert name == "grpc-status-details-bin"
    assert len(value) * 4 / 3 + 3 * len(answer.text.encode()) < 8_000
    bad = details(answer)["BadRequest"]
    assert isinstance(bad, rpc.BadRequest)
    shown = len(bad.field_violations) - 1
    assert shown >= 15
    assert bad.field_violations[-1].description.startswith(f"and {500 - shown} more faults")


def test_a_bug_says_nothing_but_its_incident() -> None:
    answer = internal("i-1")
    assert answer.code is grpc.StatusCode.INTERNAL
    info = details(answer)["ErrorInfo"]
    assert isinstance(info, rpc.ErrorInfo)
    assert dict(info.metadata) == {"incident_id": "i-1"}
    assert info.reason in REASONS
