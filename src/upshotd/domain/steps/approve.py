"""approve: ask people for a decision, and go on with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from upshotd.domain.message import Ask

if TYPE_CHECKING:
    from upshotd.domain.steps.fetch import FetchStep
    from upshotd.domain.steps.send import Send
    from upshotd.domain.workflow import Step

#: Most people that one level asks.
REVIEWERS_MAX: Final = 25


class ApprovalDecision(IntEnum):
    """What was decided; the contract's numbers."""

    APPROVED = 1
    DENIED = 2


@dataclass(frozen=True, slots=True)
class ReviewerLevel:
    """People who are asked at the same time: one of the three."""

    audience_id: str = ""
    #: Template.
    group_id: str = ""
    #: Templates.
    user_ids: tuple[str, ...] = ()
    #: Microseconds from when they were asked to when the next level is asked too; None: never.
    escalate_us: int | None = None


@dataclass(frozen=True, slots=True)
class Approve:
    """Asks level after level until somebody decides, or until the timeout."""

    levels: tuple[ReviewerLevel, ...]
    #: What each reviewer gets.
    request: Send
    #: Template of what the page says.
    summary: str
    #: Microseconds from entering the step.
    timeout_us: int
    #: Asked just before people are.
    context: FetchStep | None = None
    #: Microseconds from when somebody was asked.
    reminders_us: tuple[int, ...] = ()
    #: What whoever asked a question gets with its answer; None: the request again.
    answer: Send | None = None
    #: What everybody who was asked gets with the decision; None: nothing.
    notice: Send | None = None
    #: What counts where nobody decides; None: nothing does.
    default: ApprovalDecision | None = None
    on_approved: tuple[Step, ...] = ()
    on_denied: tuple[Step, ...] = ()
    on_timeout: tuple[Step, ...] = ()


def sent_by(approve: Approve, ask: Ask | None) -> Send | None:
    """Return by what a reviewer is asked, reminded, answered or told; None: not at all."""
    match ask:
        case Ask.ANSWER:
            return approve.answer or approve.request
        case Ask.NOTICE:
            return approve.notice
        case _:
            return approve.request
