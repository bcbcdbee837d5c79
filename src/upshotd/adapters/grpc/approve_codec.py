"""Approve steps: of the contract <-> of the domain, but for the steps inside of them."""

from typing import Final

from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc import fetch_codec, send_codec
from upshotd.adapters.grpc.reading import Reading
from upshotd.adapters.grpc.times import duration
from upshotd.domain.message import Channel, Webhook
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.fetch import FetchStep
from upshotd.domain.steps.send import Send

#: Stands where the request is missing, which has been told already.
_HARMLESS: Final = Send(Channel.WEBHOOK, (Webhook("-"),))


def approve(message: pb.Approve, path: str, reading: Reading) -> Approve:
    """Return the approve step at *path*; faults go into *reading*."""
    default = None
    if message.default_decision:
        at, instead = f"{path}.default_decision", ApprovalDecision.DENIED
        default = reading.enum(ApprovalDecision, message.default_decision, at, instead)
    return Approve(
        levels=tuple(
            _level(level, f"{path}.levels[{index}]", reading)
            for index, level in enumerate(message.levels)
        ),
        request=_request(message, f"{path}.request", reading),
        summary=message.summary,
        timeout_us=reading.span_us(message.timeout, f"{path}.timeout"),
        context=_context(message, f"{path}.context", reading),
        reminders_us=tuple(
            reading.span_us(span, f"{path}.reminders[{index}]")
            for index, span in enumerate(message.reminders)
        ),
        answer=_answer(message, f"{path}.answer", reading),
        notice=_notice(message, f"{path}.notice", reading),
        default=default,
    )


def _level(message: pb.ReviewerLevel, path: str, reading: Reading) -> ReviewerLevel:
    escalate_us = None
    if message.HasField("escalate_after"):
        escalate_us = reading.span_us(message.escalate_after, f"{path}.escalate_after")
    # Where none of them is set the domain says what is missing.
    return ReviewerLevel(
        message.audience_id, message.group_id, tuple(message.users.user_ids), escalate_us
    )


def _request(message: pb.Approve, path: str, reading: Reading) -> Send:
    if not message.HasField("request"):
        reading.fault(path, "is required")
        return _HARMLESS
    return _send(message.request, path, reading)


def _answer(message: pb.Approve, path: str, reading: Reading) -> Send | None:
    return _send(message.answer, path, reading) if message.HasField("answer") else None


def _notice(message: pb.Approve, path: str, reading: Reading) -> Send | None:
    return _send(message.notice, path, reading) if message.HasField("notice") else None


def _send(message: pb.Send, path: str, reading: Reading) -> Send:
    _no_failure(message, path, reading)
    return send_codec.send(message, path, reading)


def _context(message: pb.Approve, path: str, reading: Reading) -> FetchStep | None:
    if not message.HasField("context"):
        return None
    _no_failure(message.context, path, reading)
    return fetch_codec.fetch(message.context, path, reading)


def _no_failure(message: pb.Send | pb.Fetch, path: str, reading: Reading) -> None:
    if message.on_failure:
        text = "is never taken: an approve step goes on when it is decided, or not in time"
        reading.fault(f"{path}.on_failure", text)


def message(approve: Approve) -> pb.Approve:
    """Return *approve* as a message, without the steps inside of it."""
    written = pb.Approve(
        levels=map(_level_message, approve.levels),
        request=send_codec.message(approve.request),
        summary=approve.summary,
        reminders=map(duration, approve.reminders_us),
        timeout=duration(approve.timeout_us),
        default_decision=pb.ApprovalDecision.ValueType(approve.default or 0),
    )
    if approve.context is not None:
        written.context.CopyFrom(fetch_codec.fetch_message(approve.context))
    if approve.answer is not None:
        written.answer.CopyFrom(send_codec.message(approve.answer))
    if approve.notice is not None:
        written.notice.CopyFrom(send_codec.message(approve.notice))
    return written


def _level_message(level: ReviewerLevel) -> pb.ReviewerLevel:
    written = pb.ReviewerLevel()
    if level.audience_id:
        written.audience_id = level.audience_id
    elif level.group_id:
        written.group_id = level.group_id
    elif level.user_ids:
        written.users.user_ids.extend(level.user_ids)
    if level.escalate_us is not None:
        written.escalate_after.CopyFrom(duration(level.escalate_us))
    return written
