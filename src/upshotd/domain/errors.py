"""Every error Upshot raises on purpose.

* UpshotError
  x InvalidArgument       the request names what is wrong, field by field
  x NotFound              no such workflow, run, message, profile, subscription
  x AlreadyExists         an id is taken by something else
  x VersionMismatch       `expected_version` is not the current one
  x FailedPrecondition    the thing exists, but not in a state that allows this
  x CursorExpired         the cursor is older than the retention of the log
  x ResourceExhausted     refused for now: the inbox is full, a quota used up
  x Unauthenticated       the credential is not known
  x PermissionDenied      the credential is known, and not for this
  x DeadlineExceeded      the call took longer than the server allows
  x Unavailable           draining, or the database cannot be reached
    x LeaseLost           another replica has taken over what this one had
  x ConditionError        a CEL expression has no usable value
  x TemplateError         a template cannot be rendered with these names
  x Conflict              rows changed under a decision: load and decide again
  x ConstraintFailure     one item of a batch breaks a constraint: split it
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request: where it is and what is wrong there."""

    #: Path from the request's root, as `workflow.steps[2].wait.timeout`.
    field: str
    #: What is wrong and what would be right, in one sentence.
    description: str


class UpshotError(Exception):
    """The root of the tree. `reason` is for programs, the text for people."""

    reason = "INTERNAL"

    def __init__(self, text: str, *, reason: str | None = None, **metadata: str) -> None:
        super().__init__(text)
        if reason is not None:
            self.reason = reason
        self.metadata = metadata


class InvalidArgument(UpshotError):
    """The request cannot be accepted as it is; every fault is named at once."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        text: str,
        violations: tuple[Violation, ...] = (),
        *,
        reason: str | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(text, reason=reason, **metadata)
        self.violations = violations

    @classmethod
    def of(cls, violations: Iterable[Violation]) -> "InvalidArgument":
        """Return the refusal that tells *violations*, one behind the other."""
        found = tuple(violations)
        return cls("; ".join(f"{fault.field} {fault.description}" for fault in found), found)


class NotFound(UpshotError):
    """Nothing has this id in this workspace."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str = "") -> None:
        """Tell the *name* by which it was asked for, unless that may say who somebody is."""
        text = f"no {kind} {name!r}" if name else f"no such {kind}"
        super().__init__(text, resource_type=kind, resource_name=name)


class AlreadyExists(UpshotError):
    """The id is taken by something else."""

    reason = "ALREADY_EXISTS"


class VersionMismatch(UpshotError):
    """The caller expected another current version."""

    reason = "VERSION_MISMATCH"


class FailedPrecondition(UpshotError):
    """The thing exists, but its state does not allow this."""

    reason = "FAILED_PRECONDITION"


class CursorExpired(UpshotError):
    """The cursor is older than the log's retention; `earliest_cursor` is in the metadata."""

    reason = "CURSOR_EXPIRED"


class ResourceExhausted(UpshotError):
    """Refused for now, nothing was accepted; try again after `retry_after_us`."""

    reason = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        text: str,
        *,
        reason: str | None = None,
        retry_after_us: int = 1_000_000,
        **metadata: str,
    ) -> None:
        super().__init__(text, reason=reason, **metadata)
        self.retry_after_us = retry_after_us


class Unavailable(UpshotError):
    """Draining, or the database cannot be reached; try again after `retry_after_us`."""

    reason = "UNAVAILABLE"

    def __init__(self, text: str, *, reason: str | None = None, retry_after_us: int = 1_000_000):
        super().__init__(text, reason=reason)
        self.retry_after_us = retry_after_us


class LeaseLost(Unavailable):
    """This process was taken for dead: nothing it began under its lease can be committed."""

    reason = "LEASE_LOST"


class DeadlineExceeded(UpshotError):
    """The call had no deadline and took longer than the server allows; it may have committed."""

    reason = "DEADLINE_EXCEEDED"


class Unauthenticated(UpshotError):
    """The call carries a credential that nobody here has given out."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(UpshotError):
    """The call carries a credential that may not do this."""

    reason = "PERMISSION_DENIED"


class ConditionError(UpshotError):
    """A CEL expression has no usable value: a missing field, a wrong type, a spent budget."""

    reason = "CONDITION_ERROR"


class TemplateError(UpshotError):
    """A template cannot be rendered; `variable` is the missing name, empty for other faults."""

    reason = "TEMPLATE_ERROR"

    def __init__(self, text: str, *, variable: str = "") -> None:
        super().__init__(text, variable=variable)
        self.variable = variable


class Conflict(UpshotError):
    """Rows changed between load and commit: load and decide again."""

    reason = "CONFLICT"


class ConstraintFailure(UpshotError):
    """One item of a batch breaks a constraint of the store: the batch must be split."""

    reason = "CONSTRAINT_FAILURE"
