"""What an approve step knows of its approval, and leaves under its step: plain JSON values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple, Self

from upshotd.domain.message import Ask, Message
from upshotd.domain.outcome import Engagement, EngagementKind
from upshotd.domain.run import Run
from upshotd.domain.steps.approve import ApprovalDecision

#: Most questions in one approval.
QUESTIONS_MAX: Final = 20
#: `steps.<id>.decision` where nobody decided in time and nothing counts in place of it.
TIMED_OUT: Final = "TIMED_OUT"
_DECISIONS = frozenset(ApprovalDecision.__members__)


class Question(NamedTuple):
    """A question of a reviewer."""

    question_id: str
    #: The message that it came by.
    message_id: str
    #: A user_id.
    asked_by: str
    question: str
    #: When, in microseconds.
    ask_us: int
    #: Empty while there is none.
    answer: str = ""
    answer_us: int = 0


class Asking(NamedTuple):
    """Something that one reviewer gets."""

    profile_id: str
    ask: Ask
    #: The level that the reviewer was asked with, from 1.
    level: int
    #: When the reviewer is to get it, in microseconds.
    time_us: int
    #: The question that it answers.
    question_id: str = ""
    #: On each channel that was tried, in order.
    message_ids: tuple[str, ...] = ()
    #: Channels that could not reach the reviewer when it was their turn.
    passed_over: tuple[str, ...] = ()
    #: When a message of it is begun, in microseconds: later than `time_us` in quiet hours. 0: what
    #: there is to try has been tried, or is under way.
    due_us: int = 0


class Phase(StrEnum):
    """What the step waits for."""

    #: A decision, or the next thing that is due.
    DECISION = ""
    #: The answer of its context.
    CONTEXT = "CONTEXT"
    #: Who is asked next.
    REVIEWERS = "REVIEWERS"


class ApprovalState(IntEnum):
    """Whether an approval waits for a decision; the contract's numbers."""

    OPEN = 1
    DECIDED = 2
    TIMED_OUT = 3
    CANCELED = 4


class Approval(NamedTuple):
    """What has come of an approval so far."""

    phase: Phase = Phase.DECISION
    #: Levels that were asked.
    level: int = 0
    #: When the last of them was, in microseconds.
    level_us: int = 0
    #: Attempts that counted before what it waits for now.
    attempts: int = 0
    summary: str = ""
    asked: tuple[Asking, ...] = ()
    questions: tuple[Question, ...] = ()
    decision: ApprovalDecision | None = None
    #: A user_id; empty where nobody decided.
    decided_by: str = ""
    comment: str = ""
    #: Whether nobody decided in time.
    timed_out: bool = False
    #: When it was decided or ended, in microseconds; 0: it goes on.
    end_us: int = 0

    @property
    def open(self) -> bool:
        """Whether it waits for a decision."""
        return not self.end_us

    def with_asking(self, asking: Asking) -> Self:
        """Return it with something more that a reviewer gets."""
        return self._replace(asked=(*self.asked, asking))

    def with_asking_at(self, index: int, asking: Asking) -> Self:
        """Return it with *asking* in place of the one at *index*."""
        return self._replace(asked=(*self.asked[:index], asking, *self.asked[index + 1 :]))

    def with_answer(self, question: Question, answer: str, answer_us: int) -> Self:
        """Return it with the answer to one of its questions."""
        answered = question._replace(answer=answer, answer_us=answer_us)
        kept = tuple(answered if one == question else one for one in self.questions)
        return self._replace(questions=kept)

    def question(self, question_id: str) -> Question | None:
        """Return a question by its id, or None."""
        return next((one for one in self.questions if one.question_id == question_id), None)

    def unanswered(self, message_id: str, data: Mapping[str, object]) -> Question | None:
        """Return which open question of a message an answer with *data* is for, or None."""
        named = data.get("question_id") or ""  # also where it is said, but empty
        for one in self.questions:
            if (
                one.message_id == message_id
                and not one.answer_us
                and named in ("", one.question_id)
            ):
                return one
        return None

    @classmethod
    def of(cls, left: Mapping[str, Any]) -> Self:
        """Return what a step *left* of its approval."""
        known = {name: left[name] for name in cls._fields if name in left}
        decision = known.get("decision")
        known["phase"] = Phase(known.get("phase", ""))
        known["asked"] = tuple(map(_asking, known.get("asked", ())))
        known["questions"] = tuple(Question(**one) for one in known.get("questions", ()))
        known["decision"] = ApprovalDecision[decision] if decision in _DECISIONS else None
        return cls(**known)

    def left(self) -> dict[str, object]:
        """Return what the step leaves of it, for `of` and for conditions and templates."""
        undecided = TIMED_OUT if self.timed_out else ""
        return {
            **self._asdict(),
            "phase": self.phase.value,
            "asked": [_row(one) for one in self.asked],
            "questions": [one._asdict() for one in self.questions],
            "decision": self.decision.name if self.decision is not None else undecided,
            "message_ids": [name for one in self.asked for name in one.message_ids],
        }


def _asking(row: Sequence[Any]) -> Asking:
    profile_id, ask, level, time_us, question_id, ids, passed_over, due_us = row
    asked = (profile_id, Ask(ask), level, time_us, question_id)
    return Asking(*asked, tuple(ids), tuple(passed_over), due_us)


def _row(asking: Asking) -> list[object]:
    return [list(part) if isinstance(part, tuple) else part for part in asking]


def state_of(run: Run, step_id: str, approval: Approval) -> ApprovalState:
    """Return how the *approval* of a step of *run* stands."""
    if approval.timed_out:
        return ApprovalState.TIMED_OUT
    if approval.decision is not None:
        return ApprovalState.DECIDED
    waits = run.active and run.step_id == step_id and approval.open
    return ApprovalState.OPEN if waits else ApprovalState.CANCELED


def refusal(run: Run | None, message: Message, engagement: Engagement) -> str:
    """Return why a decision, a question or an answer about *message* cannot be taken: an upper-case
    word, empty where it can."""
    if message.ask is None or message.ask is Ask.NOTICE or run is None:
        return "NO_APPROVAL"
    approval = Approval.of(run.steps.get(message.step_id, {}))
    state = state_of(run, message.step_id, approval)
    if state is not ApprovalState.OPEN:
        return "ALREADY_DECIDED" if state is ApprovalState.DECIDED else "APPROVAL_ENDED"
    if engagement.kind is EngagementKind.ASKED and len(approval.questions) >= QUESTIONS_MAX:
        return "TOO_MANY_QUESTIONS"
    if engagement.kind is EngagementKind.ANSWERED:
        found = approval.unanswered(message.message_id, engagement.data)
        return "" if found is not None else "NO_QUESTION"
    return ""


def asked(runs: Iterable[Run], messages: Iterable[Message]) -> set[str]:
    """Return whom *runs* have asked for a decision, by profile_id: by *messages* of theirs, and by
    what they keep of whom no message names, as it comes after quiet hours or they are erased."""
    found = {message.profile_id for message in messages if message.ask}
    for run in runs:
        found.update(reviewers(run))
    return found - {""}


def reviewers(run: Run) -> Iterator[str]:
    """Yield who was asked by the step that *run* stands at, by profile_id."""
    # Looked at with every load, for every run of a person: nothing else of it is read.
    rows: Any = run.steps.get(run.step_id, {}).get("asked") or ()
    yield from dict.fromkeys(profile_id for profile_id, *_ in rows)
