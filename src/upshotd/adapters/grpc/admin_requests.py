"""What requests of AdminService name, with a clear error where they name nothing."""

from upshot.v1 import admin_pb2 as pb
from upshotd.domain.errors import InvalidArgument, Violation
from upshotd.domain.message import Channel
from upshotd.domain.run import RunState
from upshotd.domain.state import Identity, IdKind


def run_state(number: int) -> RunState | None:
    """Return the state to look for, None for all."""
    if number == pb.RUN_STATE_UNSPECIFIED:
        return None
    try:
        return RunState(number)
    except ValueError:
        raise refused("state", f"{number} is no state of a run") from None


def names_a_message(request: pb.GetApprovalRequest) -> bool:
    """Return whether an approval is named by a message, else it is by run and step."""
    if request.message_id and (request.run_id or request.step_id):
        raise refused("message_id", "give either message_id, or run_id and step_id")
    if request.message_id:
        return True
    for field in ("run_id", "step_id"):
        if not getattr(request, field):
            raise refused(field, "is required without message_id")
    return False


def wanted(status: int) -> bool | None:
    """Return whether somebody wants a topic, None where it is not said."""
    if status not in pb.PreferenceStatus.values():
        raise refused("status", f"{status} is no value this server knows")
    return status == pb.PREFERENCE_STATUS_OPTED_IN if status else None


def channel(number: int) -> Channel:
    """Return a channel that is switched off."""
    try:
        return Channel(number)
    except ValueError:
        raise refused("channels.off", f"{number} is no value this server knows") from None


def identity(
    request: pb.GetProfileRequest
    | pb.EraseProfileRequest
    | pb.GetPreferencesRequest
    | pb.SetPreferenceRequest
    | pb.GetAudienceMemberRequest,
) -> Identity:
    """Return who is named."""
    if request.user_id:
        return IdKind.USER, request.user_id
    if request.anonymous_id:
        return IdKind.ANONYMOUS, request.anonymous_id
    raise refused("user_id", "user_id or anonymous_id is required")


def refused(field: str, description: str) -> InvalidArgument:
    """Return the refusal of a request for one field of it."""
    return InvalidArgument(f"{field}: {description}", (Violation(field, description),))
