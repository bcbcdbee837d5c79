"""Errors of gRPC as people read them: one line that helps, and every fault by its field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from upshotd.cli import output

#: The server could not be asked, or did not answer.
_UNREACHED: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
#: What may be over in a moment: the same request may be sent again.
PASSING: Final = _UNREACHED | {grpc.StatusCode.RESOURCE_EXHAUSTED}
#: gRPC's own words for a message that is too long: no matter of time.
_TOO_LONG: Final = "larger than max"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed."""

    code: grpc.StatusCode
    #: Text of the server, or of gRPC.
    text: str
    #: Reason word of the contract's ErrorReason; empty when the server never answered.
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Field and what is wrong with it.
    violations: tuple[tuple[str, str], ...] = ()
    #: What the server asks to wait, in microseconds; 0 when it does not say.
    retry_after_us: int = 0

    @property
    def passing(self) -> bool:
        """Whether the same request may well go through later."""
        return self.code in PASSING and _TOO_LONG not in self.text

    @property
    def exit_code(self) -> int:
        """The exit code that says it."""
        unreached = self.code in _UNREACHED
        return output.EXIT_UNREACHABLE if unreached else output.EXIT_REFUSED


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Return what *error* says, with the details that the server sent."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it serves aio as well
    except ValueError:
        status = None  # details that contradict the code: of something that is no Upshot
    for detail in status.details if status is not None else ():
        # Each of them unpacks only what is of its own type.
        if not detail.Unpack(info) and not detail.Unpack(bad):
            detail.Unpack(retry)
    return Failure(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        tuple((fault.field, fault.description) for fault in bad.field_violations),
        retry.retry_delay.ToMicroseconds(),
    )


def lines(failure: Failure, server: str) -> list[str]:
    """Return what to tell: a line, then one for each fault."""
    if failure.code is grpc.StatusCode.UNAVAILABLE and not failure.reason:
        return [
            f"cannot reach {server}: is `upshot serve` running there? (--server, UPSHOT_SERVER)"
        ]
    if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and not failure.reason:
        return [f"{server} did not answer in time; it may have done what was asked"]
    if failure.code is grpc.StatusCode.UNIMPLEMENTED:
        return [f"the server at {server} does not know this call: it is older, or no Upshot"]
    reason = failure.reason or failure.code.name
    faults = [f"  {at or 'request'}: {text}" for at, text in failure.violations]
    head = "the request has faults" if faults else failure.text or "refused without a word"
    if earliest := failure.metadata.get("earliest_cursor"):
        faults.append(f"  what is kept begins at cursor {earliest}")
    return [f"{head} ({reason})", *faults]


def show(failure: Failure, server: str) -> None:
    """Tell what went wrong, to stderr."""
    output.complain("\n".join(map(output.clean, lines(failure, server))))
