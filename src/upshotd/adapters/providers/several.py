"""One message to several devices: what all of it is, by what each of them is. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from upshotd.domain.message import Accepted, Deferred, Refused, SendResult, Unknown

#: Why a device takes nothing any more: it comes off the profile.
GONE: Final = "DEVICE_GONE"
#: Where an app finds the id to report openings by, among the data that it gets.
MESSAGE_ID: Final = "upshot_message_id"


def together(results: Mapping[str, SendResult]) -> SendResult:
    """Return the result of a message by the results of its devices, of which there is one at least.

    One device that took it is enough: another attempt would reach that one twice. Else it is not
    known where it is not known of one, and tried again where one may take it later.
    """
    gone = tuple(device for device, result in results.items() if _is_gone(result))
    told = list(results.values())
    return _one_of(told)._replace(gone=gone)


def _one_of(told: Sequence[SendResult]) -> SendResult:
    taken = [result for result in told if isinstance(result, Accepted)]
    if taken:
        missed = [result.detail for result in told if not isinstance(result, Accepted)]
        detail = f"{len(taken)} of {len(told)} devices: {missed[0]}" if missed else ""
        return taken[0]._replace(detail=detail)
    unknown = [result for result in told if isinstance(result, Unknown)]
    if unknown:
        return unknown[0]
    later = [result for result in told if isinstance(result, Deferred)]
    if later:
        return max(later, key=lambda result: result.retry_after_us)
    never = [result for result in told if isinstance(result, Refused)]
    return next((result for result in never if not _is_gone(result)), never[0])


def _is_gone(result: SendResult) -> bool:
    return isinstance(result, Refused) and result.reason == GONE
