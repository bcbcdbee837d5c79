"""Domain errors as gRPC answers: one table from error to status code and details.

Every status carries one google.rpc.ErrorInfo with domain "upshot". Trailers are small (clients
take 8 KiB by default), so that texts are cut and a very long list of faults ends with their count.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2

from upshot.v1 import error_reason_pb2
from upshotd.domain.errors import (
    AlreadyExists,
    CursorExpired,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UpshotError,
    VersionMismatch,
    Violation,
)

DOMAIN: Final = "upshot"
#: Trailer that carries the serialized google.rpc.Status.
STATUS_TRAILER: Final = "grpc-status-details-bin"
#: Most bytes of a text once it is percent-encoded in the trailer `grpc-message`.
_TEXT_BYTES = 1_000
#: Most bytes of the faults in one status; base64 makes a third more of them.
_FAULTS_BYTES = 4_000
#: Most characters of a value in the metadata; a cursor must fit whole.
_VALUE_LENGTH = 1_500
_NAME_LENGTH = 200

Details: TypeAlias = Callable[[UpshotError], list[Message]]
Trailers: TypeAlias = tuple[tuple[str, bytes], ...]


def _nothing(_error: UpshotError) -> list[Message]:
    return []


def _faults(error: UpshotError) -> list[Message]:
    violations = error.violations if isinstance(error, InvalidArgument) else ()
    return [_bad_request(violations)] if violations else []


def _bad_request(violations: tuple[Violation, ...]) -> rpc.BadRequest:
    answer, size = rpc.BadRequest(), 0
    for done, violation in enumerate(violations):
        size += len(violation.field.encode()) + len(violation.description.encode()) + 8
        if size > _FAULTS_BYTES:
            left = f"and {len(violations) - done} more faults; mend the ones above first"
            answer.field_violations.add(field="", description=left)
            break
        answer.field_violations.add(field=violation.field, description=violation.description)
    return answer


def _resource(error: UpshotError) -> list[Message]:
    return [
        rpc.ResourceInfo(
            resource_type=error.metadata.get("resource_type", ""),
            resource_name=error.metadata.get("resource_name", "")[:_NAME_LENGTH],
            description=_text(str(error)),
        )
    ]


def _precondition(error: UpshotError) -> list[Message]:
    failure = rpc.PreconditionFailure()
    subject = error.metadata.get("subject", "")[:_NAME_LENGTH]
    failure.violations.add(type=error.reason, subject=subject, description=_text(str(error)))
    return [failure]


def _retry(error: UpshotError) -> list[Message]:
    info = rpc.RetryInfo()
    if isinstance(error, ResourceExhausted | Unavailable):
        info.retry_delay.FromMicroseconds(error.retry_after_us)
    return [info]


#: What is not here never leaves the server as itself: it is a fault of ours, INTERNAL.
TABLE: Mapping[type[UpshotError], tuple[grpc.StatusCode, Details]] = MappingProxyType(
    {
        InvalidArgument: (grpc.StatusCode.INVALID_ARGUMENT, _faults),
        NotFound: (grpc.StatusCode.NOT_FOUND, _resource),
        AlreadyExists: (grpc.StatusCode.ALREADY_EXISTS, _nothing),
        VersionMismatch: (grpc.StatusCode.ABORTED, _nothing),
        FailedPrecondition: (grpc.StatusCode.FAILED_PRECONDITION, _precondition),
        CursorExpired: (grpc.StatusCode.OUT_OF_RANGE, _nothing),
        ResourceExhausted: (grpc.StatusCode.RESOURCE_EXHAUSTED, _retry),
        DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, _nothing),
        Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, _nothing),
        PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, _nothing),
        Unavailable: (grpc.StatusCode.UNAVAILABLE, _retry),
    }
)


class Answer:
    """A status that a call ends with."""

    __slots__ = ("code", "reason", "status")

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        text: str,
        metadata: Mapping[str, str] | None = None,
        details: list[Message] | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        number: int = code.value[0]
        self.status = status_pb2.Status(code=number, message=_text(text))
        info = rpc.ErrorInfo(reason=reason, domain=DOMAIN)
        for key, value in (metadata or {}).items():
            info.metadata[key] = value[:_VALUE_LENGTH]
        for detail in (info, *(details or ())):
            packed = any_pb2.Any()
            packed.Pack(detail)
            self.status.details.append(packed)

    @property
    def text(self) -> str:
        """What people read."""
        return str(self.status.message)

    @property
    def trailers(self) -> Trailers:
        """The trailing metadata with the details."""
        return ((STATUS_TRAILER, self.status.SerializeToString()),)


#: The words of the ErrorReason enum.
REASONS: Final = frozenset(
    name.removeprefix("ERROR_REASON_") for name, _ in error_reason_pb2.ErrorReason.items()
)


def answer_to(error: UpshotError) -> Answer | None:
    """Return what *error* is answered with, or None when it should never have come this far.

    A finer reason than the contract has (the store's own) is told as the general one.
    """
    for kind in type(error).__mro__:
        if kind in TABLE:
            code, details = TABLE[kind]
            general: str = getattr(kind, "reason", UpshotError.reason)
            reason = error.reason if error.reason in REASONS else general
            return Answer(code, reason, str(error), error.metadata, details(error))
    return None


def internal(incident_id: str) -> Answer:
    """Return the answer to a fault of ours: an id to look up in the log, and nothing else."""
    text = f"internal error; the server's log has it under incident {incident_id}"
    return Answer(grpc.StatusCode.INTERNAL, "INTERNAL", text, {"incident_id": incident_id})


def _text(text: str) -> str:
    """Cut *text* so that it fits into a trailer, percent-encoded as it will be."""
    while len(quote(text)) > _TEXT_BYTES:
        text = text[: len(text) * 3 // 4] + "…"
    return text
