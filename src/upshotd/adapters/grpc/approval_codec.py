"""What came of an approve step, as a message."""

from collections.abc import Iterable

from upshot.v1 import admin_pb2 as pb
from upshot.v1 import workflow_pb2
from upshotd.adapters.grpc.times import timestamp
from upshotd.application.approvals import ApprovalView, Asked
from upshotd.domain.approval import Question


def message(view: ApprovalView, reviewers: Iterable[Asked]) -> pb.Approval:
    """Return an approval, and who was asked."""
    run, approval = view.run, view.approval
    end_us, timeout_us = view.end_us, view.timeout_us
    return pb.Approval(
        run_id=run.run_id,
        step_id=view.step_id,
        workflow_id=run.workflow_id,
        state=pb.ApprovalState.ValueType(view.state),
        summary=approval.summary,
        decision=workflow_pb2.ApprovalDecision.ValueType(approval.decision or 0),
        decided_by=approval.decided_by,
        comment=approval.comment,
        end_time=timestamp(end_us) if end_us else None,
        timeout_time=timestamp(timeout_us) if timeout_us else None,
        questions=map(_question, approval.questions),
        reviewers=map(_reviewer, reviewers),
    )


def _question(question: Question) -> pb.ApprovalQuestion:
    return pb.ApprovalQuestion(
        question_id=question.question_id,
        message_id=question.message_id,
        asked_by=question.asked_by,
        question=question.question,
        ask_time=timestamp(question.ask_us),
        answer=question.answer,
        answer_time=timestamp(question.answer_us) if question.answer_us else None,
    )


def _reviewer(reviewer: Asked) -> pb.Reviewer:
    return pb.Reviewer(
        user_id=reviewer.user_id,
        level=reviewer.level,
        ask_time=timestamp(reviewer.ask_us),
        message_ids=reviewer.message_ids,
    )
